//! Telling Redis of dead letters, so that PERSISTED is never said of one.
//!
//! Those that an ACK goes over are named in that very call. All else, as that one has become a row since, shows in that both
//! sides count differently ([`crate::model::coupon::Row::letters`]); then both lists are gone through. A restore sends the
//! list with the grants.

use super::Coupon;
use crate::error::Error;
use coupon_core::ledger::option;
use coupon_core::limit::REFUSED_MAX;
use coupon_core::number::{Epoch, Seq};

impl Coupon<'_> {
    /// Acknowledges the grants between, page by page with the dead letters among them. Where Redis counts other than the ledger
    /// then, all dead letters, and who is none any more.
    pub(super) async fn acknowledge_letters(&self, epoch: Epoch, acked: Seq, to: Seq) -> Result<(), Error> {
        let (redis, ledger, key) = (self.redis(), self.ledger(), &self.key);
        for mut at in [acked, Seq(0)] {
            let mut is_full = true;
            while is_full {
                let letters = ledger.refused(self.id, at, to).await?;
                is_full = letters.len() as u64 == REFUSED_MAX;
                at = letters.last().map_or(to, |(last, _)| if is_full { *last } else { to });
                let users: Vec<String> = letters.into_iter().map(|(_, user)| user).collect();
                redis.ack(key, epoch, at, option::REFUSED, &users).await?;
            }
            if redis.count_refused(key).await? == ledger.count_all_letters(self.id).await? {
                return Ok(());
            }
        }
        let mut rank = 0;
        loop {
            let refused = redis.refused(key, rank, REFUSED_MAX).await?;
            let rows = ledger.with_row(self.id, &refused).await?;
            redis.ack(key, epoch, to, option::PERSISTED, &rows).await?;
            rank += (refused.len() - rows.len()) as u64;
            if refused.is_empty() {
                return Ok(());
            }
        }
    }

    /// Whether there is a dead letter on either side.
    pub(super) async fn has_letters(&self) -> Result<bool, Error> {
        let redis = self.redis().count_refused(&self.key).await?;
        Ok(redis > 0 || self.ledger().count_all_letters(self.id).await? > 0)
    }
}
