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
pub use kind::Kind;
pub use pace::Pace;
pub use tally::Tally;

use crate::coupon::Tools;
use crate::error::{Error, Remedy};
use crate::model::coupon::{Row, is_on_offer};
use crate::model::pause;
use coupon_core::position::Position;
use look::{Look, Seen};
use std::iter;
use std::time::Duration;
use tokio::sync::Mutex;

/// Before the second look, so that what was on its way at the first has arrived.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(500);

const NOT_LEVEL: &str = "the coupon is not open under the ledger's epoch, so there is nothing to compare; is `coupon-reconciler run` at work?";

const LINE_LOST: &str = "the :issued key is gone, and with it the line of those who waited; bring it back, or give them up with \
     `coupon-reconciler restore COUPON --from-start --yes`";

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

    /// Whether a coupon has to be looked at grant by grant, by its ends: one round trip to Redis and two statements.
    pub async fn is_odd(&self, id: &str) -> Result<bool, Error> {
        let Tools { redis, ledger, keys, .. } = self.tools;
        let ends = match redis.ends(&keys.key(id)).await.map_err(Error::Redis) {
            Err(error) if is_away(&error) => return Err(error),
            Err(_) => return Ok(true),
            Ok(ends) => ends,
        };
        // Read after Redis, which can only be behind with its acknowledgement.
        let Some(row) = ledger.row(id).await? else { return Ok(false) };
        let Position { seq, chain } = row.position;
        let is_whole = seq.0 == 0 || ledger.chains(id, iter::once(seq)).await?.get(&seq) == Some(&chain);
        Ok(hash::is_odd(&row, &ends, Some(seq).filter(|_| is_whole)))
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
        let restored = if self.tools.redis.has_lost_its_line(&self.tools.keys.key(id)).await? {
            Err(Error::Held(LINE_LOST.into()))
        } else {
            self.tools.coupon(id).restore(true).await.map(drop)
        };
        if let Err(error) = &restored {
            tracing::warn!(coupon = id, "Redis is not brought back to the ledger: {error}");
        }
        or_left(restored)
    }

    /// Looks once.
    async fn look(&self, id: &str, mends: bool, pace: &mut Pace) -> Result<Report, Error> {
        let (tools, key) = (self.tools, &*self.tools.keys.key(id));
        let Some(row) = &tools.ledger.row(id).await? else { return Ok(Report::skipped(id, "the ledger has no row")) };
        let look = async {
            let Some(sees_redis) = self.sees_redis(row, key).await? else { return Ok(Report::skipped(id, NOT_LEVEL)) };
            let (seen, report) = (Seen::default(), Report { seq: row.position.seq.0, ..Report::new(id) });
            let report = Look { tools, pace, row, key, sees_redis, mends, report, seen }.run().await?;
            // Resumed or restored meanwhile: what was seen were two histories.
            let is_torn = sees_redis && self.sees_redis(row, key).await?.is_none();
            Ok(if is_torn { Report::skipped(id, NOT_LEVEL) } else { report })
        };
        match look.await {
            // Something is wrong with this coupon's keys alone.
            Err(error @ Error::Redis(_)) if !is_away(&error) => Ok(Report::skipped(id, error.cause())),
            report => report,
        }
    }

    /// Whether Redis has something to compare: where it was found to continue the ledger, under the epoch at which it did. None
    /// where nothing can be compared now.
    async fn sees_redis(&self, row: &Row, key: &str) -> Result<Option<bool>, Error> {
        Ok(match self.tools.redis.info(key).await {
            // Opened by hand just now.
            Ok(_) if row.epoch.0 == 0 => Some(false),
            Ok(Some(info)) => (!info.fenced && info.epoch == row.epoch).then_some(true),
            Ok(None) => (!is_on_offer(row.offer.status)).then_some(false),
            // The hash cannot be read, which is a finding of its own; or a companion key lacks something, so that Redis does
            // not say whether the coupon is open.
            Err(error) => match (error.code(), self.tools.redis.held(key).await?.map(|held| held.coupon)) {
                (Some("ERR"), Some(Err(_))) => Some(true),
                (Some("TRYAGAIN"), Some(Ok(coupon))) if coupon.epoch == row.epoch => Some(true),
                _ => return Err(error.into()),
            },
        })
    }
}

fn is_away(error: &Error) -> bool {
    matches!(error.remedy(), Remedy::Reconnect(_))
}

/// Whether a repair was done. One that is refused, by a constraint or because somebody else moved the coupon, leaves a finding.
fn or_left(repaired: Result<(), Error>) -> Result<bool, Error> {
    match repaired {
        Err(error) if is_away(&error) => Err(error),
        repaired => Ok(repaired.is_ok()),
    }
}
