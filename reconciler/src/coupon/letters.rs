//! Telling Redis of dead letters, so that PERSISTED is never said of one.
//!
//! Those that an ACK goes over are named in that very call. All else, as that one has become a row since, shows in that both
//! sides count differently ([`crate::model::coupon::Row::letters`]); then both lists are gone through. A restore sends the
//! list with the grants.

use super::Coupon;
use crate::error::Error;
use coupon_core::limit::REFUSED_MAX;
use coupon_core::number::{Epoch, Seq};

impl Coupon<'_> {
    /// Acknowledges the grants between, the dead letters among them by name; and all others, where Redis counts other than the
    /// ledger does.
    pub(super) async fn acknowledge_letters(&self, epoch: Epoch, acked: Seq, to: Seq) -> Result<(), Error> {
        self.refuse(epoch, acked, to).await?;
        if self.redis().count_refused(&self.key).await? == self.ledger().count_all_letters(self.id).await? {
            return Ok(());
        }
        self.refuse(epoch, Seq(0), to).await?;
        let mut rank = 0;
        loop {
            let refused = self.redis().refused(&self.key, rank, REFUSED_MAX).await?;
            if refused.is_empty() {
                return Ok(());
            }
            let rows = self.ledger().with_row(self.id, &refused).await?;
            rank += (refused.len() - rows.len()) as u64;
            if !rows.is_empty() {
                self.redis().ack(&self.key, epoch, to, &[], &rows).await?;
            }
        }
    }

    /// Acknowledges grants page by page, each up to the last dead letter that it names.
    async fn refuse(&self, epoch: Epoch, mut at: Seq, to: Seq) -> Result<(), Error> {
        loop {
            let (seqs, users): (Vec<Seq>, Vec<String>) =
                self.ledger().letters_between(self.id, at, to).await?.into_iter().unzip();
            let last = seqs.last().copied().filter(|_| seqs.len() as u64 == REFUSED_MAX);
            at = last.unwrap_or(to);
            self.redis().ack(&self.key, epoch, at, &users, &[]).await?;
            if last.is_none() {
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
