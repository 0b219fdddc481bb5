//! Restoring: a Redis that lost grants, or made others, gets the ledger's history back.
//!
//! 1. The gate is shut under the epoch, even where it is fenced: nothing is granted while this goes on.
//! 2. Both histories are followed back to where they part ([`fork`]), and what Redis granted beyond is named in table
//!    `coupon_orphan`, before anything is dropped.
//! 3. The ledger's grants from there on are sent in batches ([`Restoration::send`]). Each batch says after which grant,
//!    by number and chain, it belongs, so repeating one is harmless and none fits where it does not belong. Redis takes
//!    it only while it is shut under this very epoch.
//!
//! The gate stays shut until a RESUME finds Redis level. Killed in between, the next one begins at what is there. And where
//! Redis has become another meanwhile, as by a crash that undid the shutting, it may have granted what is not named: then
//! both sides are compared anew.

use super::Coupon;
use crate::error::{self, Error};
use crate::model::grant::Link;
use crate::model::pause;
use crate::redis;
use ::redis::RedisError;
use coupon_core::limit::RESTORE_MAX;
use coupon_core::number::{Epoch, Seq};
use coupon_core::position::Position;
use std::time::{Duration, Instant};

/// Between two words on how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A coupon to restore, under an epoch that was taken and at which nobody was resumed.
pub struct Restoration<'a> {
    pub(super) coupon: &'a Coupon<'a>,
    pub(super) epoch: Epoch,
    /// The ledger's position under it.
    pub(super) ledger_at: Position,
}

impl Coupon<'_> {
    pub(super) const fn restoration(&self, epoch: Epoch, ledger_at: Position) -> Restoration<'_> {
        Restoration { coupon: self, epoch, ledger_at }
    }
}

impl Restoration<'_> {
    /// Names what Redis holds beyond the ledger's history, and puts the ledger's in its place.
    pub async fn run(&self) -> Result<(), Error> {
        let mut common = self.name_orphans().await?;
        if self.coupon.has_letters().await? {
            // Before the common part may be one that Redis has not heard of, and it may tell of one of another history.
            common = Position::default();
        }
        match self.send(common).await {
            // It was common by what the stream says; what Redis needs to go on from there is missing.
            Err(Error::Redis(refusal)) if common.seq.0 > 0 && is_refusal(&refusal) => {
                tracing::warn!(
                    coupon = self.coupon.id,
                    after = common.seq.0,
                    "cannot be restored from there, so it is from the start: {}",
                    error::wording(&refusal)
                );
                self.send(Position::default()).await
            }
            sent => sent,
        }
    }

    /// The same from the first grant on, whatever Redis holds.
    pub async fn run_from_start(&self) -> Result<(), Error> {
        self.name_orphans().await?;
        self.send(Position::default()).await
    }

    /// Shuts the gate, so that all that follows is read from a coupon that stands still; then names what lies beyond the
    /// last grant that both sides share, and returns that.
    pub async fn name_orphans(&self) -> Result<Position, Error> {
        let granted = self.coupon.redis().shut(&self.coupon.key, self.epoch).await?;
        let common = self.fork(granted).await?;
        pause::at("after-naming").await;
        Ok(common)
    }

    /// Sends the ledger's grants after a position, batch by batch.
    async fn send(&self, mut at: Position) -> Result<(), Error> {
        let Coupon { tools, id, key } = self.coupon;
        let total = self.ledger_at.seq.0.saturating_sub(at.seq.0);
        tracing::warn!(coupon = id, after = at.seq.0, grants = total, "restoring the ledger's grants in Redis");
        let begun = Instant::now();
        let mut said = begun;
        let mut batch = self.batch(at.seq).await?;
        while let Some(last) = batch.last() {
            if tools.stop.is_cancelled() {
                return Err(Error::Stopping);
            }
            let mut to = at;
            for link in &batch {
                to = link.follow(to).map_err(|broken| self.broken_ledger(&broken))?;
            }
            // The next one is read while this one is sent.
            let (sent, next) = tokio::join!(tools.redis.restore(key, self.epoch, at, &batch), self.batch(last.seq));
            if sent.as_ref().is_err_and(redis::is_unshut) {
                tracing::warn!(
                    coupon = id,
                    "Redis is not as it was shut, and may have granted since; it is compared again, before anything is dropped"
                );
                return Err(Error::Moved);
            }
            sent?;
            tools.counters.restored.inc_by(batch.len() as u64);
            pause::at("after-restore-batch").await;
            (at, batch) = (to, next?);
            if said.elapsed() >= PROGRESS_INTERVAL && !batch.is_empty() {
                said = Instant::now();
                let done = total.saturating_sub(self.ledger_at.seq.0.saturating_sub(at.seq.0));
                tracing::info!(coupon = id, done, of = total, percent = done * 100 / total.max(1), "restoring");
            }
        }
        if at != self.ledger_at {
            let ends = format!("its grants end at {at}, and the coupon stands at {}", self.ledger_at);
            return Err(self.broken_ledger(&ends));
        }
        let seconds = begun.elapsed().as_secs_f64();
        tracing::info!(coupon = id, grants = total, seconds, "restored: Redis holds the ledger's history");
        Ok(())
    }

    async fn batch(&self, after: Seq) -> Result<Vec<Link>, Error> {
        let to = Seq(after.0.saturating_add(RESTORE_MAX).min(self.ledger_at.seq.0));
        self.coupon.ledger().span(self.coupon.id, after, to).await
    }

    /// What the ledger holds is no history that Redis could go on from.
    fn broken_ledger(&self, why: &str) -> Error {
        Error::Held(format!(
            "the ledger itself is broken, so Redis cannot be restored from it and stays shut: {why}; \
             `coupon-reconciler verify {}` names the row, bring it back from a backup",
            self.coupon.id
        ))
    }
}

/// Whether Redis answered that the batch does not fit, where the answer from the start may be another.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.code(), Some("BEHIND" | "DIVERGED" | "TRYAGAIN" | "ERR"))
}
