//! Grants between the stream and the rows, and where the ledger stands.

use coupon_core::grant::{EntryId, Grant};
use coupon_core::number::{Arrival, Chain, Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;

/// Where the ledger stands with a coupon, and where in the stream that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The epoch under which this reconciler works.
    pub epoch: Epoch,
    /// The newest grant in the ledger.
    pub position: Position,
    /// Its entry in the stream.
    pub entry: EntryId,
}

/// Where the relay goes on with a coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where the ledger stands.
    pub progress: Progress,
    /// What Redis is known to have heard of.
    pub acked: Seq,
    /// Whether there may be dead letters that it has not heard of, or others that it should have forgotten.
    pub has_untold: bool,
    /// The grant with whose row all units are in the ledger, unless the coupon's row says so already.
    pub last_unit: Option<Seq>,
}

/// Grants that continue the ledger, each the next of the one before; never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where the ledger has to stand for them to fit.
    pub from: Progress,
    /// The grants.
    pub grants: Vec<Grant>,
    /// Where it stands with them.
    pub to: Progress,
}

impl Batch {
    /// How many grants it holds.
    pub const fn len(&self) -> usize {
        self.grants.len()
    }

    /// Its first half and its second one; no second one if it is but one grant.
    pub fn halves(mut self) -> (Self, Option<Self>) {
        let second = self.grants.split_off(self.len().div_ceil(2));
        let Some(last) = self.grants.last().filter(|_| !second.is_empty()) else { return (self, None) };
        let position = Position { seq: last.id.seq, chain: last.chain };
        let middle = Progress { position, entry: last.id, ..self.from };
        let first = Self { from: self.from, grants: self.grants, to: middle };
        (first, Some(Self { from: middle, grants: second, to: self.to }))
    }
}

/// A grant of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: Seq,
    /// The user.
    pub user: String,
    /// When the request was accepted.
    pub requested_at: Arrival,
    /// When it was granted, Unix milliseconds.
    pub granted_at_ms: u64,
    /// The chain at this grant, as stored.
    pub chain: Chain,
    /// Whether it is a dead letter.
    pub is_dead: bool,
}

impl Link {
    /// The position with this grant after another one.
    ///
    /// # Errors
    /// What breaks the proof at this grant.
    pub fn follow(&self, at: Position) -> Result<Position, String> {
        let expected = at.seq.next();
        if self.seq == at.seq {
            return Err(format!("seq {} is both a row and a dead letter", self.seq));
        }
        if self.seq != expected {
            return Err(format!("seq {expected} is missing: {} follows {}", self.seq, at.seq));
        }
        let chain = UserId::parse(self.user.as_bytes())
            .map(|user| at.chain.next(user, self.requested_at))
            .map_err(|_| format!("seq {expected} has a user id that Redis would not have taken"))?;
        if chain != self.chain {
            return Err(format!("seq {expected} breaks the chain: it has {}, and {chain} follows", self.chain));
        }
        Ok(Position { seq: expected, chain })
    }
}

impl From<Grant> for Link {
    fn from(Grant { id, user, requested_at, granted_at_ms, chain }: Grant) -> Self {
        Self { seq: id.seq, user, requested_at, granted_at_ms, chain, is_dead: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coupon_core::refusal::Refusal;

    fn link(seq: u64, chain: i64) -> Link {
        let requested_at = Arrival(seq);
        Link { seq: Seq(seq), user: "u".into(), requested_at, granted_at_ms: 1, chain: Chain(chain), is_dead: false }
    }

    #[test]
    fn the_first_grant_that_does_not_follow_is_named() -> Result<(), Refusal> {
        let user = UserId::parse(b"u")?;
        let first = Chain::START.next(user, Arrival(1));
        let start = Position::default();
        assert_eq!(link(1, first.0).follow(start), Ok(Position { seq: Seq(1), chain: first }));
        for (bad, word) in [(link(2, 0), "missing"), (link(1, 5), "breaks the chain"), (link(0, 0), "both")] {
            assert!(bad.follow(start).is_err_and(|why| why.contains(word)), "{bad:?}");
        }
        Ok(())
    }
}
