//! The other way round: rows that the ledger lacks, brought back from what Redis holds of the same history.
//!
//! After PostgreSQL was restored from an old backup, Redis has trimmed entries that are rows no more. But everybody who is
//! granted still stands at the front of the sorted set, in the order of the grants, with the time of the request as the
//! score: all that a link of the chain is made of. So the chain, continued from the ledger's newest row over these users,
//! either arrives exactly at an entry that the stream still holds, and then these are the grants; or it does not, and
//! nothing is written.

use super::{Coupon, follow};
use crate::error::Error;
use crate::model::grant::{Batch, Progress};
use coupon_core::grant::{EntryId, Grant};
use coupon_core::number::Arrival;
use coupon_core::position::Position;
use coupon_core::user::UserId;

/// The way from the ledger to an entry of the stream, proved.
#[derive(Debug, PartialEq, Eq)]
struct Proof {
    /// Where each batch has to arrive.
    milestones: Vec<Position>,
    /// The entry, in which the last one ends.
    entry: Grant,
}

impl Coupon<'_> {
    /// Makes rows of the grants up to an entry of the stream, if what Redis holds proves them; whether it does.
    pub(super) async fn rebuild(&self, from: Progress, entry: Grant) -> Result<bool, Error> {
        let Some(proof) = self.prove(from.position, entry).await? else { return Ok(false) };
        self.write(from, &proof).await?;
        Ok(true)
    }

    /// Follows the sorted set from the ledger to the oldest entry that the stream holds beyond it.
    async fn prove(&self, from: Position, entry: Grant) -> Result<Option<Proof>, Error> {
        let (mut at, mut milestones) = (from, Vec::new());
        while at.seq < entry.id.seq {
            let users = self.users(at, &entry).await?;
            let Some(next) = walk(at, &users) else { return Ok(None) };
            if next == at {
                return Ok(None);
            }
            at = next;
            milestones.push(at);
        }
        let arrived = at == Position { seq: entry.id.seq, chain: entry.chain };
        Ok(arrived.then_some(Proof { milestones, entry }))
    }

    /// Makes rows of what was proved. When a request was granted is not known any more; it is said to be when it was made.
    async fn write(&self, mut from: Progress, proof: &Proof) -> Result<(), Error> {
        for milestone in &proof.milestones {
            let users = self.users(from.position, &proof.entry).await?;
            let Some(batch) = batch(from, &users, &proof.entry).filter(|batch| batch.to.position == *milestone) else {
                return Err(Error::Moved);
            };
            self.commit(&batch).await?;
            from = batch.to;
        }
        Ok(())
    }

    /// Makes rows of what a stream without its hash still holds, as far as it continues the ledger: its users were told of
    /// a unit.
    pub(super) async fn salvage(&self, mut from: Progress) -> Result<Progress, Error> {
        loop {
            let grants = self.redis().read(&self.key, from.entry, self.tools.batch_max).await?;
            let Ok(Some(batch)) = follow(from, grants) else { return Ok(from) };
            self.commit(&batch).await?;
            from = batch.to;
        }
    }

    /// The users of the grants after a position, up to an entry; at most as many as make a batch.
    async fn users(&self, after: Position, entry: &Grant) -> Result<Vec<Option<(String, Arrival)>>, Error> {
        let left = entry.id.seq.0.saturating_sub(after.seq.0);
        Ok(self.redis().accepted(&self.key, after.seq.0, left.min(self.tools.batch_max.into())).await?)
    }
}

/// The position after these users; none if one of them is no user.
fn walk(mut at: Position, users: &[Option<(String, Arrival)>]) -> Option<Position> {
    for user in users {
        let (user, requested_at) = user.as_ref()?;
        at = Position { seq: at.seq.next(), chain: at.chain.next(UserId::parse(user.as_bytes()).ok()?, *requested_at) };
    }
    Some(at)
}

/// The users as grants that continue the ledger.
fn batch(from: Progress, users: &[Option<(String, Arrival)>], entry: &Grant) -> Option<Batch> {
    let mut to = from;
    let mut grants = Vec::with_capacity(users.len());
    for user in users {
        let position = walk(to.position, std::slice::from_ref(user))?;
        let (user, requested_at) = user.as_ref()?;
        // Under which epoch it was granted is not known either; this one keeps the IDs in order.
        let id = EntryId { epoch: entry.id.epoch, seq: position.seq };
        to = Progress { position, entry: id, ..to };
        grants.push(if id == entry.id {
            entry.clone()
        } else {
            let granted_at_ms = requested_at.0 / 1000;
            Grant { id, user: user.clone(), requested_at: *requested_at, granted_at_ms, chain: position.chain }
        });
    }
    (!grants.is_empty()).then_some(Batch { from, grants, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coupon_core::number::{Epoch, Seq};

    fn users(names: &[&str]) -> Vec<Option<(String, Arrival)>> {
        names.iter().zip(1..).map(|(name, at)| Some(((*name).to_owned(), Arrival(at * 5000)))).collect()
    }

    fn entry(seq: u64, users: &[Option<(String, Arrival)>]) -> Option<Grant> {
        let chain = walk(Position::default(), users)?.chain;
        let (user, requested_at) = users.last()?.clone()?;
        let id = EntryId { epoch: Epoch(4), seq: Seq(seq) };
        Some(Grant { id, user, requested_at, granted_at_ms: 99, chain })
    }

    #[test]
    fn rows_are_rebuilt_with_all_that_is_known() {
        let users = users(&["a", "b", "c"]);
        let Some(entry) = entry(3, &users) else { unreachable!("they are users") };
        let start = EntryId::default();
        let from = Progress { epoch: Epoch(9), position: Position::default(), entry: start };
        let Some(batch) = batch(from, &users, &entry) else { unreachable!("they are users") };
        let known: Vec<_> = batch.grants.iter().map(|g| (g.id.to_string(), g.granted_at_ms)).collect();
        assert_eq!(known, [("4-1".into(), 5), ("4-2".into(), 10), ("4-3".into(), 99)]);
        assert_eq!(batch.to.position, Position { seq: Seq(3), chain: entry.chain });
    }

    #[test]
    fn what_is_no_user_proves_nothing() {
        let mut users = users(&["a", "b", "c"]);
        users[1] = None;
        assert_eq!(walk(Position::default(), &users), None);
    }
}
