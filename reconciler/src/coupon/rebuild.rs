//! The other way round: rows that the ledger lacks at its end, made of what Redis holds of the same history.

use super::proof::Gap;
use super::{Coupon, follow};
use crate::error::Error;
use crate::model::grant::{Batch, Progress};
use coupon_core::grant::Grant;
use coupon_core::position::Position;

impl Coupon<'_> {
    /// After PostgreSQL was restored from an old backup: makes rows of what is missing up to the oldest entry that the stream
    /// holds beyond, and of that too, if Redis proves it; whether it does.
    pub(super) async fn rebuild(&self, mut from: Progress, entry: &Grant) -> Result<bool, Error> {
        let gap = Gap {
            redis: self.redis(),
            key: &self.key,
            from: from.position,
            to: Position { seq: entry.id.seq, chain: entry.chain },
            epoch: entry.id.epoch,
        };
        let Some(mut proof) = gap.prove(&[(&*entry.user, entry.id.seq)]).await? else { return Ok(false) };
        while let Some(mut grants) = proof.next().await? {
            grants.retain(|grant| grant.id.seq < entry.id.seq);
            let Some(last) = grants.last() else { break };
            let position = Position { seq: last.id.seq, chain: last.chain };
            let to = Progress { position, entry: last.id, ..from };
            let rows = grants.len() as u64;
            self.commit(Batch { from, grants, to }, &mut None).await?;
            self.tools.counters.rebuilt.inc_by(rows);
            from = to;
        }
        // Redis can only be resumed at a grant whose entry it still holds.
        let to = Progress { position: gap.to, entry: entry.id, ..from };
        self.commit(Batch { from, grants: vec![entry.clone()], to }, &mut None).await?;
        self.tools.counters.rebuilt.inc();
        Ok(true)
    }

    /// Makes rows of what a stream without its hash still holds, as far as it continues the ledger: its users were told of
    /// a unit.
    pub(super) async fn salvage(&self, mut from: Progress) -> Result<Progress, Error> {
        loop {
            let grants = self.redis().read(&self.key, from.entry, self.tools.batch_max).await?;
            let Ok(Some(batch)) = follow(from, grants) else { return Ok(from) };
            from = batch.to;
            self.commit(batch, &mut None).await?;
        }
    }
}
