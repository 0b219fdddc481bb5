//! The other way round: rows that the ledger lacks at its end, made of what Redis holds of the same history.

use crate::coupon::proof::Gap;
use crate::error::Error;
use crate::ledger::{Batch, Progress};
use crate::relay::{Relay, follow};
use coupon_core::grant::Grant;
use coupon_core::position::Position;

/// A coupon whose newest rows are missing, at an epoch just taken.
pub struct Rebuild<'a> {
    /// What writes the rows.
    pub relay: &'a Relay<'a>,
    /// The coupon.
    pub id: &'a str,
    /// Its key.
    pub key: &'a str,
}

impl Rebuild<'_> {
    /// After PostgreSQL was restored from an old backup: makes rows of what is missing between it and the oldest entry that the
    /// stream holds beyond, if Redis proves it; whether it does.
    pub async fn fill(&self, mut from: Progress, entry: &Grant) -> Result<bool, Error> {
        let gap = Gap {
            redis: self.relay.redis,
            key: self.key,
            from: from.position,
            before: None,
            to: Position { seq: entry.id.seq, chain: entry.chain },
            after: Some(&entry.user),
            epoch: entry.id.epoch,
        };
        let Some(mut proof) = gap.prove(0).await? else { return Ok(false) };
        while let Some(grants) = proof.next().await? {
            let Some(last) = grants.last() else { break };
            let position = Position { seq: last.id.seq, chain: last.chain };
            let to = Progress { position, entry: last.id, ..from };
            self.relay.commit(self.id, self.key, &Batch { from, grants, to }).await?;
            from = to;
        }
        Ok(true)
    }

    /// Makes rows of what a stream without its hash still holds, as far as it continues the ledger: its users were told of
    /// a unit.
    pub async fn salvage(&self, mut from: Progress) -> Result<Progress, Error> {
        loop {
            let grants = self.relay.redis.read(self.key, from.entry, self.relay.batch_max).await?;
            let Ok(Some(batch)) = follow(from, grants) else { return Ok(from) };
            self.relay.commit(self.id, self.key, &batch).await?;
            from = batch.to;
        }
    }
}
