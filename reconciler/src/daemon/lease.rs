//! Holding leases: several reconcilers share the coupons, and one that is killed is replaced within two seconds.
//!
//! Leases only keep two from doing the same work. That nothing is written twice is the compare-and-set of the position,
//! whoever thinks to hold what.

use super::catalog::Catalog;
use super::presence::Servers;
use super::shards;
use crate::error::Error;
use crate::model::pause;
use std::time::Duration;
use tokio::time::timeout;

/// How long a lease holds without being renewed.
const TERM: Duration = Duration::from_secs(2);

/// Between two renewals: three may fail before a lease is lost.
const RENEW_INTERVAL: Duration = Duration::from_millis(500);

/// After the end of another's lease, so that it has ended by PostgreSQL's clock too.
const GRACE: Duration = Duration::from_millis(5);

/// For giving all back at the end; otherwise the others wait out the term.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Renews, claims and gives back, over and over.
pub async fn share(servers: &Servers, catalog: &Catalog, instance: &str) {
    let mut said = None;
    loop {
        servers.postgresql.present().await;
        let wait = take_turn(servers, catalog, instance).await;
        let problem = match &wait {
            Ok(_) => None,
            Err(error) => servers.react(error).await,
        };
        if let Some(problem) = problem.as_ref().filter(|problem| said.as_ref() != Some(*problem)) {
            tracing::error!("{problem}");
        }
        said = problem;
        tokio::time::sleep(wait.unwrap_or(RENEW_INTERVAL)).await;
        // A test that holds this process at a point wants all of it to stand still.
        while pause::is_held() {
            tokio::time::sleep(RENEW_INTERVAL).await;
        }
    }
}

/// One turn; how long until the next.
async fn take_turn(servers: &Servers, catalog: &Catalog, instance: &str) -> Result<Duration, Error> {
    let taken = servers.tools.ledger.take_leases(instance, TERM).await?;
    if catalog.hold(taken.shards.iter().copied()) {
        let (shards, instances) = (taken.shards.len(), taken.instances);
        tracing::info!(shards, of = shards::COUNT, instances, "shares the coupons");
    }
    // One that is killed is missed when its time is over, not at the next beat.
    Ok(taken.next_end.map_or(RENEW_INTERVAL, |end| RENEW_INTERVAL.min(end + GRACE)))
}

/// Gives all shards back, so that another need not wait.
pub async fn leave(servers: &Servers, instance: &str) {
    if servers.postgresql.is_up()
        && let Ok(Err(error)) = timeout(LEAVE_TIMEOUT, servers.tools.ledger.leave_leases(instance)).await
    {
        tracing::warn!(%error, "the leases are not given back; another reconciler takes them in two seconds");
    }
}

/// A name that no other process has: this machine's, the process's number, and chance.
pub fn instance_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "host".to_owned());
    format!("{}-{}-{:08x}", host.trim(), std::process::id(), fastrand::u32(..))
}
