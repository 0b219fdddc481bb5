//! The scheduler: grants to waiting users, and ends coupons whose window has ended.

use super::catalog::{Catalog, Due, Id, Reason};
use super::clock::Clock;
use super::presence::Servers;
use crate::error::Error;
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Coupons issued at the same time. Redis does one after the other anyway; this only hides the way there.
const COUPONS_AT_ONCE: usize = 16;

/// What has become of a coupon at a beat.
enum Outcome {
    /// All that could be granted is.
    Issued,
    /// Another reconciler's to grant, or to be tried again without anybody's help.
    Passed,
    /// Nothing, until a person has mended this.
    Problem(String),
}

/// Issues at every beat.
pub async fn run(servers: &Servers, catalog: &Catalog, clock: &Clock, every: Duration) {
    Schedule { servers, catalog }.run(clock, every).await;
}

struct Schedule<'a> {
    servers: &'a Servers,
    catalog: &'a Catalog,
}

impl Schedule<'_> {
    async fn run(&self, clock: &Clock, every: Duration) {
        let mut beat = interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Tried again at each beat, but told of once.
        let mut problems = HashMap::new();
        loop {
            beat.tick().await;
            self.servers.redis.present().await;
            let due = self.catalog.take_due(clock.now_ms());
            let mut issued = stream::iter(due).map(|due| self.issue(due)).buffer_unordered(COUPONS_AT_ONCE);
            // Nothing is awaited in here: the others stand still meanwhile, perhaps with the connection's lock.
            while let Some((id, outcome)) = issued.next().await {
                match outcome {
                    Outcome::Issued => {
                        if problems.remove(&id).is_some() {
                            tracing::info!(coupon = &*id, "issued again");
                        }
                    }
                    Outcome::Problem(problem) => {
                        if problems.get(&id) != Some(&problem) {
                            tracing::error!(coupon = &*id, "waiting users are not granted: {problem}");
                            problems.insert(id, problem);
                        }
                    }
                    Outcome::Passed => {}
                }
            }
        }
    }

    async fn issue(&self, due: Due) -> (Id, Outcome) {
        if !self.catalog.holds(&due.id) {
            return (due.id, Outcome::Passed);
        }
        let key = self.servers.tools.keys.key(&due.id);
        let outcome = match self.issue_all(&due, &key).await {
            Ok(()) => {
                if due.edge {
                    self.catalog.mark(&due.id, Reason::Doubt);
                }
                Outcome::Issued
            }
            Err(error) => {
                // Not lost: noted again for the next beat.
                self.catalog.expect_waiting(&due.id);
                let problem = self.servers.react(&error).await;
                self.catalog.mark(&due.id, Reason::Doubt);
                problem.map_or(Outcome::Passed, Outcome::Problem)
            }
        };
        (due.id, outcome)
    }

    /// Every call is bounded by the server's `coupon.issue-max`; zero says that there is nothing left to grant.
    async fn issue_all(&self, due: &Due, key: &str) -> Result<(), Error> {
        loop {
            let granted = self.servers.tools.redis.issue(key).await?;
            if granted == 0 || self.servers.tools.stop.is_cancelled() {
                return Ok(());
            }
            self.servers.tools.counters.issued.inc_by(granted);
            self.catalog.mark(&due.id, Reason::Grants);
        }
    }
}
