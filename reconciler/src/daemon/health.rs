//! Keeping an eye on both sides: waits for them, sees when they go, and when they came back as somebody else.

use super::backoff::SIDE;
use super::catalog::Catalog;
use super::clock::Clock;
use super::presence::{Away, Presence, Servers};
use super::scan::ScanRequest;
use crate::error::{self, Error, Remedy, Side};
use std::time::Duration;

/// Between two looks at a side that is there. A promoted replica is noticed within it, even without any traffic.
const BEAT: Duration = Duration::from_secs(1);

/// The id of a coupon that nobody has.
const PROBE_ID: &str = "coupon-reconciler-probe";

/// Keeps an eye on Redis.
pub async fn redis(servers: &Servers, catalog: &Catalog, scans: &ScanRequest, clock: &Clock) {
    watch(&servers.redis, catalog, scans, || async {
        let looked = if servers.redis.is_up() {
            beat_redis(servers, catalog, scans, clock).await
        } else {
            meet_redis(servers, clock).await
        };
        if looked.is_err() {
            servers.tools.redis.disconnect().await;
        }
        looked
    })
    .await;
}

/// Keeps an eye on PostgreSQL.
pub async fn postgresql(servers: &Servers, catalog: &Catalog, scans: &ScanRequest, migrates: bool) {
    watch(&servers.postgresql, catalog, scans, || async {
        if servers.postgresql.is_up() {
            servers.tools.ledger.beat().await.map_err(away)
        } else {
            meet_postgresql(servers, migrates).await
        }
    })
    .await;
}

/// Looks at a side, at every beat and whenever somebody doubts it; and what was left when it went is taken up when it is back.
async fn watch<Look: Future<Output = Result<(), Away>>>(
    presence: &Presence,
    catalog: &Catalog,
    scans: &ScanRequest,
    look: impl Fn() -> Look,
) {
    let mut failures = 0;
    loop {
        match look().await {
            Ok(()) => {
                failures = 0;
                if presence.came() {
                    catalog.wake_all();
                    scans.make();
                }
                tokio::select! {
                    () = tokio::time::sleep(BEAT) => {}
                    () = presence.doubted() => {}
                }
            }
            Err(why) => {
                failures += 1;
                presence.left(why);
                tokio::time::sleep(SIDE.delay(failures)).await;
            }
        }
    }
}

/// Whether this is a primary with the module.
async fn meet_redis(servers: &Servers, clock: &Clock) -> Result<(), Away> {
    let redis = &servers.tools.redis;
    redis.disconnect().await;
    if !redis.is_primary().await.map_err(away)? {
        return Err(if redis.finds_primary() {
            Away::because("this server has just become a replica")
        } else {
            Away::Unfit("this server is a replica; point --redis-url at the primary".into())
        });
    }
    // A command of the module, and one that is refused while data is being loaded.
    if let Err(error) = redis.info(&servers.tools.keys.key(PROBE_ID)).await {
        return Err(if error::is_unknown_command(&error) {
            Away::Unfit("the coupon module is not loaded; start Redis with --loadmodule libcoupon.so".into())
        } else {
            away(error)
        });
    }
    clock.set(redis.now_ms().await.map_err(away)?);
    Ok(())
}

/// Whether it still answers, and is still the process that was met: a restart, a promotion or a loaded backup
/// shuts the gate of every coupon, also of the one that is looked at.
async fn beat_redis(servers: &Servers, catalog: &Catalog, scans: &ScanRequest, clock: &Clock) -> Result<(), Away> {
    let redis = &servers.tools.redis;
    // At once: a primary that does not answer any more is left as soon as another one is named.
    let (now_ms, ()) = tokio::try_join!(redis.now_ms(), redis.check_primary()).map_err(away)?;
    clock.set(now_ms);
    if let Some(id) = catalog.sample() {
        match redis.info(&servers.tools.keys.key(&id)).await.map_err(Error::Redis) {
            Ok(Some(info)) if !info.fenced => {}
            Err(error) if error.remedy() == Remedy::Reconnect(Side::Redis) => return Err(away(error)),
            Ok(_) | Err(_) => scans.make(),
        }
    }
    Ok(())
}

/// Whether the server is there and has the schema.
async fn meet_postgresql(servers: &Servers, migrates: bool) -> Result<(), Away> {
    let ledger = &servers.tools.ledger;
    ledger.ping().await.map_err(away)?;
    ledger.forget_connections();
    if migrates {
        let applied = ledger.migrate().await.map_err(away)?;
        if applied > 0 {
            tracing::info!(applied, "migrated the schema");
        }
    }
    ledger.check_schema().await.map_err(away)
}

/// It does not answer, or not well; or something has to be set right.
fn away(error: impl Into<Error>) -> Away {
    match error.into() {
        Error::Held(advice) => Away::Unfit(advice),
        error => Away::because(error.cause()),
    }
}
