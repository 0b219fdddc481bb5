//! The scheduler: grants to waiting users, and ends coupons whose window has ended.

use crate::catalog::{Due, Id, Reason};
use crate::daemon::Daemon;
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

impl Daemon {
    /// Issues at every beat.
    pub async fn issue_at(&self, every: Duration) {
        let mut beat = interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Tried again at each beat, but told of once.
        let mut problems = HashMap::new();
        loop {
            beat.tick().await;
            self.sides.redis.present().await;
            let due = self.catalog.take_due(self.clock.now_ms());
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
        if !self.shards.hold(&due.id) {
            return (due.id, Outcome::Passed);
        }
        let key = self.keys.key(&due.id);
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
                let problem = self.react(&error).await;
                self.catalog.mark(&due.id, Reason::Doubt);
                problem.map_or(Outcome::Passed, Outcome::Problem)
            }
        };
        (due.id, outcome)
    }

    /// Every call is bounded by the server's `coupon.issue-max`; zero says that there is nothing left to grant.
    async fn issue_all(&self, due: &Due, key: &str) -> Result<(), Error> {
        loop {
            let granted = self.redis.issue(key).await?;
            if granted == 0 || self.stop.is_cancelled() {
                return Ok(());
            }
            self.counters.issued.inc_by(granted);
            self.catalog.mark(&due.id, Reason::Grants);
        }
    }
}
