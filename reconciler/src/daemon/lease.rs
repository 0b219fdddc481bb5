//! Holding leases: several reconcilers share the coupons, and one that is killed is replaced within two seconds.
//!
//! Who has lost Redis gives its coupons back, as another may have it; and who is connected to another Redis than the ledger's gets none.
//! Leases only keep two from doing the same work. That nothing is written twice is the compare-and-set of the position,
//! whoever thinks to hold what.

use super::catalog::Catalog;
use super::presence::Servers;
use super::shards;
use crate::coupon::Tools;
use crate::error::Error;
use crate::model::pause;
use crate::redis::TOKEN_ID;
use redis::RedisError;
use std::time::Duration;
use std::{io, iter};
use tokio::time::timeout;

/// How long a lease holds without being renewed.
const TERM: Duration = Duration::from_secs(2);

/// Between two renewals: three may fail before a lease is lost.
const RENEW_INTERVAL: Duration = Duration::from_millis(500);

/// After the end of another's lease, so that it has ended by PostgreSQL's clock too.
const GRACE: Duration = Duration::from_millis(5);

/// For giving all back at the end; otherwise the others wait out the term.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Redis is asked at each turn. Who has no answer within this time has no Redis, whatever else it does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Renews, claims and gives back, over and over.
pub async fn share(servers: &Servers, catalog: &Catalog, instance: &str) {
    // What this Redis is called, unless it has a name; and again, should it have lost all.
    let mut token = format!("{:016x}", fastrand::u64(..));
    loop {
        servers.postgresql.present().await;
        let had_redis = servers.redis.is_up();
        let turn = take_turn(servers, catalog, instance, &mut token).await;
        match &turn {
            Ok(_) => drop(servers.share.came()),
            Err(error) if servers.react(error).await.is_some() => servers.share.left(error),
            Err(_) => {}
        }
        let turned = async { if had_redis { servers.redis.absent().await } else { servers.redis.present().await } };
        // A turn that finds Redis away is followed by the one that gives all back.
        let _ = timeout(turn.unwrap_or(RENEW_INTERVAL), turned).await;
        // A test that holds this process at a point wants all of it to stand still.
        while pause::is_held() {
            tokio::time::sleep(RENEW_INTERVAL).await;
        }
    }
}

/// One turn; how long until the next.
///
/// # Errors
/// [`Error::Held`] if there is nothing to work on here, and why.
async fn take_turn(
    servers: &Servers,
    catalog: &Catalog,
    instance: &str,
    token: &mut String,
) -> Result<Duration, Error> {
    let ledger = &servers.tools.ledger;
    if let Some(why) = refusal(servers, instance, token).await? {
        catalog.hold(iter::empty());
        ledger.leave_leases(instance).await?;
        return Err(Error::Held(why));
    }
    let taken = ledger.take_leases(instance, TERM).await?;
    let (shards, instances) = (taken.shards.len(), taken.instances);
    if catalog.hold(taken.shards.iter().copied()) {
        tracing::info!(shards, of = shards::COUNT, instances, "shares the coupons");
    }
    if shards == 0 && instances <= shards::COUNT as u64 {
        return Err(Error::Held("the others have not given any shard back yet".into()));
    }
    // One that is killed is missed when its time is over, not at the next beat.
    Ok(taken.next_end.map_or(RENEW_INTERVAL, |end| RENEW_INTERVAL.min(end + GRACE)))
}

/// Why this process may not work on any coupon: it has no Redis, or another one than the ledger.
async fn refusal(servers: &Servers, instance: &str, token: &mut String) -> Result<Option<String>, Error> {
    let Tools { redis, ledger, keys, .. } = &servers.tools;
    if !servers.redis.is_up() {
        return Ok(Some("Redis is away; another reconciler may have it".into()));
    }
    let answer = timeout(ANSWER_TIMEOUT, redis.token(&keys.key(TOKEN_ID), token)).await;
    *token = answer.map_err(|_| RedisError::from(io::Error::other("it takes connections, and does not answer")))??;
    let here = redis.place();
    let there = ledger.belong(token, &format!("{here}, by {instance}")).await?;
    Ok(there.map(|there| format!("the ledger belongs to another Redis, {there}, and this process has {here}")))
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
