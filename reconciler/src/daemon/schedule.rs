//! The scheduler: grants to waiting users, and ends coupons whose window has ended.

use super::catalog::{Catalog, Due, Reason};
use super::presence::Servers;
use crate::error::Error;
use futures_util::{FutureExt, StreamExt, stream};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Coupons issued at the same time. Redis does one after the other anyway; this only hides the way there.
const COUPONS_AT_ONCE: usize = 16;

/// Issues at every beat: one call for each coupon that is due. Whoever may need another call has it in the next turn, at once, and
/// those that come at the beat have theirs in it: nobody waits for the end of a long line.
pub async fn run(servers: &Servers, catalog: &Catalog, every: Duration) {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Tried again at each beat, but told of once.
    let mut problems = HashMap::new();
    let mut due = HashSet::new();
    loop {
        let is_beat = if due.is_empty() {
            beat.tick().await;
            true
        } else {
            beat.tick().now_or_never().is_some()
        };
        servers.redis.present().await;
        if is_beat {
            due.extend(catalog.take_due(servers.clock.now_ms()));
        }
        let issue = async |due: Due| (issue(servers, catalog, &due).await, due.id);
        let mut issued = stream::iter(std::mem::take(&mut due)).map(issue).buffer_unordered(COUPONS_AT_ONCE);
        // Nothing is awaited in here: the others stand still meanwhile, perhaps with the connection's lock.
        while let Some((outcome, id)) = issued.next().await {
            match outcome {
                Ok(granted) => {
                    if problems.remove(&id).is_some() {
                        tracing::info!(coupon = &*id, "issued again");
                    }
                    if granted > 0 {
                        due.insert(Due { id, edge: false });
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

/// Grants what one call grants, which the server's `coupon.issue-max` bounds; zero says that there is nothing left to grant. If that
/// fails, the error is what a person has to mend before, if anything. Whose the coupon is by now does not matter: Redis decides.
async fn issue(servers: &Servers, catalog: &Catalog, due: &Due) -> Result<u64, Option<String>> {
    let issued = servers.tools.redis.issue(&servers.tools.keys.key(&due.id)).await;
    if due.edge || issued.is_err() {
        catalog.mark(&due.id, Reason::Doubt);
    }
    match issued {
        Ok(0) => Ok(0),
        Ok(granted) => {
            servers.tools.counters.issued.inc_by(granted);
            catalog.mark(&due.id, Reason::Grants);
            Ok(granted)
        }
        Err(error) => {
            // Not lost: noted again for the next beat.
            catalog.expect_waiting(&due.id);
            Err(servers.react(&Error::Redis(error)).await)
        }
    }
}
