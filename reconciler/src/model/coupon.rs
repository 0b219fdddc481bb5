//! A coupon as its row and as Redis says that it is.

use coupon_core::coupon::Definition;
use coupon_core::number::{Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::words::Status;

/// Whether requests can be accepted or their users granted.
pub const fn is_on_offer(status: Status) -> bool {
    matches!(status, Status::Available | Status::Issued)
}

/// What is on offer, as one side says it or the other was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Where the coupon is in its life.
    pub status: Status,
    /// What is defined.
    pub definition: Definition,
}

impl Offer {
    /// Whether both say the same. Whether all units are granted is what becomes of an offer, no part of it; and what has ended
    /// may be defined in any way.
    pub fn is_same(&self, other: &Self) -> bool {
        let stage = |offer: &Self| if offer.status == Status::Issued { Status::Available } else { offer.status };
        stage(self) == stage(other) && (self.status == Status::Expired || self.definition == other.definition)
    }
}

/// What Redis was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its number: it only grows, and Redis refuses an older one than it has.
    pub revision: u64,
    /// The offer.
    pub offer: Offer,
}

/// A row of table `coupon`, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The coupon.
    pub id: String,
    /// Tells one version of the row of table `coupon` from another.
    pub version: i64,
    /// What the application offers.
    pub offer: Offer,
    /// What Redis was told; none where there is no position yet.
    pub told: Option<Told>,
    /// Rows in user_coupon.
    pub granted: u64,
    /// Its life under one history of Redis.
    pub epoch: Epoch,
    /// The newest grant in the ledger.
    pub position: Position,
}

/// A row that says what no coupon can be, as where the application has words or limits of its own.
#[derive(Debug, thiserror::Error)]
#[error("the row in table coupon cannot be read: {why}; set it right, and it is looked at again")]
pub struct Unreadable {
    /// The coupon.
    pub id: String,
    /// The column, and what it holds.
    pub why: String,
}

impl Row {
    /// Whether the application offers something else than Redis was told.
    pub fn is_news(&self) -> bool {
        match &self.told {
            Some(told) => !self.offer.is_same(&told.offer),
            None => is_on_offer(self.offer.status),
        }
    }

    /// Grants that are dead letters.
    pub const fn letters(&self) -> u64 {
        self.position.seq.0.saturating_sub(self.granted)
    }

    /// The number of the newest definition.
    pub const fn revision(&self) -> u64 {
        match &self.told {
            Some(told) => told.revision,
            None => 0,
        }
    }
}

/// `COUPON.INFO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// What is on offer in Redis.
    pub offer: Offer,
    /// Users accepted.
    pub requested: u64,
    /// Users accepted and not granted.
    pub waiting: u64,
    /// The newest grant.
    pub granted: Seq,
    /// The newest grant that Redis knows to be committed.
    pub persisted: Seq,
    /// The epoch stored in Redis.
    pub epoch: Epoch,
    /// Whether the gate is shut.
    pub fenced: bool,
    /// The number of the newest definition that Redis has heard of.
    pub revision: u64,
    /// Users whom Redis tells that PostgreSQL refused their rows.
    pub refused: u64,
}
