//! Keeping an eye on both sides: waits for them, sees when they go, and when they came back as somebody else.

use super::backoff::{SIDE_MAX, delay};
use super::catalog::Catalog;
use super::presence::{Presence, Servers};
use crate::error::{self, Error, Remedy, Side};
use crate::ledger::Requirement;
use std::time::Duration;

/// Between two looks at a side that is there. A promoted replica is noticed within it, even without any traffic.
const BEAT: Duration = Duration::from_secs(1);

/// The id of a coupon that nobody has.
const PROBE_ID: &str = "coupon-reconciler-probe";

/// Keeps an eye on Redis.
pub async fn redis(servers: &Servers, catalog: &Catalog) {
    watch(&servers.redis, catalog, || async {
        if !servers.redis.is_up() {
            meet_redis(servers).await?;
        }
        beat_redis(servers, catalog).await
    })
    .await;
}

/// Keeps an eye on PostgreSQL.
pub async fn postgresql(servers: &Servers, catalog: &Catalog, migrates: bool) {
    watch(&servers.postgresql, catalog, || async {
        if !servers.postgresql.is_up() {
            meet_postgresql(servers, migrates).await?;
        }
        servers.tools.ledger.beat().await
    })
    .await;
}

/// Looks at a side, at every beat and whenever somebody doubts it; and what was left when it went is taken up when it is back.
async fn watch<Look: Future<Output = Result<(), Error>>>(side: &Presence, catalog: &Catalog, look: impl Fn() -> Look) {
    let mut failures = 0;
    loop {
        if let Err(error) = look().await {
            failures += 1;
            side.left(&error);
            tokio::time::sleep(delay(failures, SIDE_MAX)).await;
            continue;
        }
        failures = 0;
        if side.came() {
            catalog.wake_all();
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = side.doubted() => {}
        }
    }
}

/// Whether this is a primary with the module.
async fn meet_redis(servers: &Servers) -> Result<(), Error> {
    let redis = &servers.tools.redis;
    redis.disconnect().await;
    if !redis.is_primary().await? {
        return Err(Error::Held("this server is a replica; --redis-url has to lead to the primary".into()));
    }
    // A command of the module, and one that is refused while data is being loaded.
    match redis.info(&servers.tools.keys.key(PROBE_ID)).await {
        Err(error) if error::is_unknown_command(&error) => {
            Err(Error::Held("the coupon module is not loaded; start Redis with --loadmodule libcoupon.so".into()))
        }
        answer => Ok(answer.map(drop)?),
    }
}

/// Whether it still answers, and is still the process that was met: a restart, a promotion or a loaded backup
/// shuts the gate of every coupon, also of the one that is looked at.
async fn beat_redis(servers: &Servers, catalog: &Catalog) -> Result<(), Error> {
    let redis = &servers.tools.redis;
    // At once: a primary that does not answer any more is left as soon as another one is named.
    let (now_ms, ()) = tokio::try_join!(redis.now_ms(), redis.check_primary())?;
    servers.clock.set(now_ms);
    let Some(id) = catalog.sample() else { return Ok(()) };
    match redis.info(&servers.tools.keys.key(&id)).await.map_err(Error::Redis) {
        Err(error) if error.remedy() == Remedy::Reconnect(Side::Redis) => return Err(error),
        Ok(Some(info)) if !info.fenced => {}
        _ => catalog.ask_for_scan(),
    }
    Ok(())
}

/// Whether the server is there, and all that it takes.
async fn meet_postgresql(servers: &Servers, migrates: bool) -> Result<(), Error> {
    let ledger = &servers.tools.ledger;
    let has_room = ledger.ping().await?;
    if has_room {
        ledger.renew_connections().await;
    }
    // The first takes a session more.
    for requirement in Requirement::ALL.into_iter().skip(usize::from(!has_room)) {
        if migrates && requirement == Requirement::Schema {
            let applied = ledger.migrate().await?;
            if applied > 0 {
                tracing::info!(applied, "migrated the schema");
            }
        }
        ledger.require(requirement).await?;
    }
    Ok(())
}
