//! Keeping an eye on both sides: waits for them, sees when they go, and when they came back as somebody else.

use crate::daemon::Daemon;
use crate::daemon::backoff::SIDE;
use crate::error::{self, Error, Remedy};
use crate::side::Away;
use std::time::Duration;

/// Between two looks at a side that is there. A promoted replica is noticed within it, even without any traffic.
const BEAT: Duration = Duration::from_secs(1);

/// The id of a coupon that nobody has.
const PROBE_ID: &str = "coupon-reconciler-probe";

impl Daemon {
    /// Keeps an eye on Redis.
    pub async fn keep_redis(&self) {
        let mut failures = 0;
        loop {
            let look = if self.sides.redis.is_up() { self.beat_redis().await } else { self.meet_redis().await };
            match look {
                Ok(()) => {
                    failures = 0;
                    if self.sides.redis.came() {
                        self.catalog.wake_all();
                        self.pass.make();
                    }
                    tokio::select! {
                        () = tokio::time::sleep(BEAT) => {}
                        () = self.sides.redis.doubted() => {}
                    }
                }
                Err(why) => {
                    failures += 1;
                    self.redis.disconnect().await;
                    self.sides.redis.left(why);
                    tokio::time::sleep(SIDE.delay(failures)).await;
                }
            }
        }
    }

    /// Whether this is a primary with the module.
    async fn meet_redis(&self) -> Result<(), Away> {
        self.redis.disconnect().await;
        if !self.redis.is_primary().await.map_err(away)? {
            return Err(if self.redis.finds_primary() {
                Away::because("this server has just become a replica")
            } else {
                Away::Unfit("this server is a replica; point --redis-url at the primary".into())
            });
        }
        // A command of the module, and one that is refused while data is being loaded.
        if let Err(error) = self.redis.info(&self.keys.key(PROBE_ID)).await {
            return Err(if error::is_unknown_command(&error) {
                Away::Unfit("the coupon module is not loaded; start Redis with --loadmodule libcoupon.so".into())
            } else {
                away(error)
            });
        }
        self.clock.set(self.redis.now_ms().await.map_err(away)?);
        Ok(())
    }

    /// Whether it still answers, and is still the process that was met: a restart, a promotion or a loaded backup
    /// shuts the gate of every coupon, also of the one that is looked at.
    async fn beat_redis(&self) -> Result<(), Away> {
        // At once: a primary that does not answer any more is left as soon as another one is named.
        let (now_ms, ()) = tokio::try_join!(self.redis.now_ms(), self.redis.check_primary()).map_err(away)?;
        self.clock.set(now_ms);
        if let Some(id) = self.catalog.sample() {
            match self.redis.info(&self.keys.key(&id)).await.map_err(Error::Redis) {
                Ok(Some(info)) if !info.fenced => {}
                Ok(None) | Ok(Some(_)) => self.pass.make(),
                Err(error) if matches!(error.remedy(), Remedy::Reconnect(_)) => {
                    return Err(Away::because(error.cause()));
                }
                Err(_) => self.pass.make(),
            }
        }
        Ok(())
    }

    /// Keeps an eye on PostgreSQL.
    pub async fn keep_postgresql(&self) {
        let mut failures = 0;
        loop {
            let look = if self.sides.postgresql.is_up() {
                self.ledger.beat().await.map_err(|error| Away::because(error.cause()))
            } else {
                self.meet_postgresql().await
            };
            match look {
                Ok(()) => {
                    failures = 0;
                    if self.sides.postgresql.came() {
                        self.catalog.wake_all();
                        self.pass.make();
                    }
                    tokio::select! {
                        () = tokio::time::sleep(BEAT) => {}
                        () = self.sides.postgresql.doubted() => {}
                    }
                }
                Err(why) => {
                    failures += 1;
                    self.sides.postgresql.left(why);
                    tokio::time::sleep(SIDE.delay(failures)).await;
                }
            }
        }
    }

    /// Whether the server is there and has the schema.
    async fn meet_postgresql(&self) -> Result<(), Away> {
        self.ledger.ping().await.map_err(away)?;
        self.ledger.forget_connections();
        if self.migrates {
            match self.ledger.migrate().await {
                Ok(0) => {}
                Ok(applied) => tracing::info!(applied, "migrated the schema"),
                Err(error) => return Err(Away::Unfit(error.to_string())),
            }
        }
        self.ledger.schema().await.map_err(away)?.advice().map_or(Ok(()), |advice| Err(Away::Unfit(advice)))
    }
}

/// It does not answer, or not well.
fn away(error: impl Into<Error>) -> Away {
    Away::because(error.into().cause())
}
