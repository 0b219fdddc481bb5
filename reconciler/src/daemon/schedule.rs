//! The scheduler: grants to waiting users, and ends coupons whose window has ended.

use super::catalog::{Catalog, Due, Reason};
use super::presence::Servers;
use crate::error::Error;
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Coupons issued at the same time. Redis does one after the other anyway; this only hides the way there.
const COUPONS_AT_ONCE: usize = 16;

/// Issues at every beat.
pub async fn run(servers: &Servers, catalog: &Catalog, every: Duration) {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Tried again at each beat, but told of once.
    let mut problems = HashMap::new();
    loop {
        beat.tick().await;
        servers.redis.present().await;
        let due = catalog.take_due(servers.clock.now_ms());
        let issue = async |due: Due| (issue(servers, catalog, &due).await, due.id);
        let mut issued = stream::iter(due).map(issue).buffer_unordered(COUPONS_AT_ONCE);
        // Nothing is awaited in here: the others stand still meanwhile, perhaps with the connection's lock.
        while let Some((outcome, id)) = issued.next().await {
            match outcome {
                Ok(()) => {
                    if problems.remove(&id).is_some() {
                        tracing::info!(coupon = &*id, "issued again");
                    }
                }
                Err(Some(problem)) if problems.get(&id) != Some(&problem) => {
                    tracing::error!(coupon = &*id, "waiting users are not granted: {problem}");
                    problems.insert(id, problem);
                }
                Err(_) => {}
            }
        }
    }
}

/// Grants what there is. If that fails, the error is what a person has to mend before, if anything. Whose the coupon is by now
/// does not matter: Redis decides.
async fn issue(servers: &Servers, catalog: &Catalog, due: &Due) -> Result<(), Option<String>> {
    let issued = issue_all(servers, catalog, &due.id).await;
    if due.edge || issued.is_err() {
        catalog.mark(&due.id, Reason::Doubt);
    }
    let Err(error) = issued else { return Ok(()) };
    // Not lost: noted again for the next beat.
    catalog.expect_waiting(&due.id);
    Err(servers.react(&error).await)
}

/// Every call is bounded by the server's `coupon.issue-max`; zero says that there is nothing left to grant.
async fn issue_all(servers: &Servers, catalog: &Catalog, id: &str) -> Result<(), Error> {
    let key = servers.tools.keys.key(id);
    loop {
        let granted = servers.tools.redis.issue(&key).await?;
        if granted == 0 || servers.tools.stop.is_cancelled() {
            return Ok(());
        }
        servers.tools.counters.issued.inc_by(granted);
        catalog.mark(id, Reason::Grants);
    }
}
