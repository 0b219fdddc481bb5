//! The audit: compares both sides of a coupon, puts right what is proved, reports the rest.
//!
//! [`look`] compares a coupon down to every grant, for the `audit` command and in the daemon's slow round. Between two of these
//! rounds [`hash`] compares the ends of what is on offer. Memory is bounded whatever the coupon's size: pages and a limited number
//! of findings.

mod finding;
mod hash;
mod kind;
mod line;
mod look;
mod pace;
mod tally;
mod trace;

pub use finding::{Finding, Report};
#[cfg(test)]
pub use kind::Kind;
pub use pace::Pace;
pub use tally::Tally;

use crate::coupon::Tools;
use crate::error::{self, Error, Remedy};
use crate::model::coupon::{Row, is_on_offer};
use crate::model::pause;
use ::redis::RedisError;
use look::{Look, Seen};
use std::time::Duration;
use tokio::sync::Mutex;

/// Before the second look, so that what was on its way at the first has arrived.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(500);

const NOT_LEVEL: &str = "the coupon is not open under the ledger's epoch, so there is nothing to compare; is `coupon-reconciler run` at work?";

/// What is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    Nothing,
    /// What the ledger lacks and Redis proves.
    Ledger,
    /// That, and what Redis lacks and the ledger proves. The coupon is shut meanwhile, which somebody has to ask for.
    Both,
}

/// An audit of both sides.
pub struct Audit<'a> {
    tools: &'a Tools,
    /// Two rounds that repair the same coupon would each find the other's rows in the way.
    second_look: Mutex<()>,
}

impl<'a> Audit<'a> {
    /// An audit of what both servers hold.
    pub fn new(tools: &'a Tools) -> Self {
        Self { tools, second_look: Mutex::default() }
    }

    /// Whether a coupon on offer has to be looked at grant by grant: one round trip to Redis and one statement.
    pub async fn is_odd(&self, row: &Row) -> Result<bool, Error> {
        if !is_on_offer(row.offer.status) {
            return Ok(false);
        }
        match self.tools.redis.ends(&self.tools.keys.key(&row.id)).await {
            // Read after Redis, which can only be behind with its acknowledgement.
            Ok(ends) => Ok(hash::is_odd(row, &ends, self.tools.ledger.whole_end(&row.id).await?)),
            Err(error) if is_away(&error) => Err(error.into()),
            Err(_) => Ok(true),
        }
    }

    /// Audits one coupon. A finding counts only if a second look, after what was on its way has arrived, sees it too.
    pub async fn coupon(&self, id: &str, scope: Scope, pace: &mut Pace) -> Result<Report, Error> {
        let first = self.look(id, false, pace).await?;
        if first.is_clean() || first.skipped.is_some() {
            return Ok(first);
        }
        pause::at("between-looks").await;
        let _alone = self.second_look.lock().await;
        pace.wait(SECOND_LOOK_AFTER).await?;
        let mut second = self.look(id, scope != Scope::Nothing, pace).await?;
        second.confirm(&first);
        if scope != Scope::Both || !second.is_mended_by_restoring() || !self.restore(id).await? {
            return Ok(second);
        }
        let mut after = self.look(id, false, pace).await?;
        after.take_over(second);
        Ok(after)
    }

    /// Puts the ledger's grants in the place of what Redis has; whether that could be done.
    async fn restore(&self, id: &str) -> Result<bool, Error> {
        let key = self.tools.keys.key(id);
        if self.tools.redis.has_lost_its_line(&key).await? {
            tracing::warn!(
                coupon = id,
                "the :issued key is gone, and with it the line of those who waited; bring it back, or give them up with \
                 `coupon-reconciler restore COUPON --from-start --yes`"
            );
            return Ok(false);
        }
        let restored = self.tools.coupon(id).restore(true).await.map(drop);
        if let Err(error) = &restored {
            tracing::warn!(coupon = id, "Redis could not be brought back to the ledger: {error}");
        }
        or_left(restored)
    }

    /// Looks once.
    async fn look(&self, id: &str, mends: bool, pace: &mut Pace) -> Result<Report, Error> {
        let Some(row) = self.tools.ledger.row(id).await? else {
            return Ok(Report::skipped(id, "the ledger has no row"));
        };
        let key = self.tools.keys.key(id);
        let look = async {
            let sees_redis = match self.sight(&row, &key).await? {
                Ok(sees_redis) => sees_redis,
                Err(why) => return Ok(Report::skipped(id, why)),
            };
            let (redis, ledger) = (&*self.tools.redis, &*self.tools.ledger);
            let report = Report { seq: row.position.seq.0, ..Report::new(id) };
            let (row, key, seen) = (&row, &*key, Seen::default());
            let look = Look { redis, ledger, pace, row, key, sees_redis, mends, report, seen };
            let report = look.run().await?;
            Ok(match self.sight(row, key).await? {
                // Resumed or restored meanwhile: what was seen were two histories.
                Err(why) if sees_redis => Report::skipped(id, why),
                _ => report,
            })
        };
        match look.await {
            // Something is wrong with this coupon's keys alone.
            Err(Error::Redis(error)) if !is_away(&error) => Ok(Report::skipped(id, error::wording(&error))),
            report => report,
        }
    }

    /// Whether Redis has something to compare, or why nothing can be compared now: it can where Redis was found to continue
    /// the ledger, under the epoch at which it did.
    async fn sight(&self, row: &Row, key: &str) -> Result<Result<bool, String>, Error> {
        Ok(match self.tools.redis.info(key).await {
            Ok(Some(info)) if row.epoch.0 > 0 && !info.fenced && info.epoch == row.epoch => Ok(true),
            Ok(None) if is_on_offer(row.offer.status) && row.epoch.0 > 0 => {
                Err("Redis does not have it; is `coupon-reconciler run` at work?".into())
            }
            Ok(None) => Ok(false),
            // Opened by hand just now.
            Ok(_) if row.epoch.0 == 0 => Ok(false),
            Ok(_) => Err(NOT_LEVEL.into()),
            // The hash cannot be read, which is a finding of its own; or a companion key lacks something, so that Redis does
            // not say whether the coupon is open.
            Err(error) => match (error.code(), self.tools.redis.held(key).await?.map(|held| held.coupon)) {
                (Some("ERR"), Some(Err(_))) => Ok(true),
                (Some("TRYAGAIN"), Some(Ok(coupon))) if coupon.epoch == row.epoch => Ok(true),
                _ => return Err(error.into()),
            },
        })
    }
}

fn is_away(error: &RedisError) -> bool {
    matches!(error::redis_remedy(error), Remedy::Reconnect(_))
}

/// Whether a repair was done. One that is refused, by a constraint or because somebody else moved the coupon, leaves a finding.
fn or_left(repaired: Result<(), Error>) -> Result<bool, Error> {
    match repaired {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.remedy(), Remedy::Reconnect(_)) => Err(error),
        Err(_) => Ok(false),
    }
}
