//! Who is in a coupon's sorted set, learned from the set itself while users are turned away: enough to say of nearly
//! everybody who is not in that they are not. To look into the set of a large sale is to wait for memory, which took a
//! third of the time of a sold-out answer with 100,000 users in (`make bench ONLY=sold-out`).

use crate::redis::{AsRedis, SortedSet};
use coupon_core::filter::Filter;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;
use std::mem;
use std::sync::LazyLock;

/// Members that are read with each user who is turned away: some microseconds.
const MEMBERS_A_TIME: usize = 32;

/// The members of a sorted set.
pub struct Members {
    /// How many there are.
    pub requested: u64,
    filter: Filter,
}

impl Members {
    /// Whether this user is surely none of them.
    pub fn lack(&self, user: &[u8]) -> bool {
        self.filter.lacks(hash(user))
    }
}

fn hash(user: &[u8]) -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    SEED.hash_one(user)
}

/// How much has been learned of a set that has not changed since.
pub enum Progress {
    /// Nothing yet.
    Nothing,
    /// All members with lower scores than this, and some of those at it.
    Until(f64, Filter),
    /// All.
    All(Members),
    /// It cannot be learned: too many members, or too many of them at one score.
    Never,
}

impl Progress {
    /// Whether nothing was learned.
    pub const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Learns the next members of the set.
    pub fn go_on(&mut self, issued: &mut SortedSet<'_>) {
        *self = match mem::replace(self, Self::Never) {
            Self::Nothing if issued.is_to_expire() => Self::Nothing,
            Self::Nothing => match Filter::of_size(issued.companion().len()) {
                Some(filter) => learn(filter, f64::NEG_INFINITY, issued),
                None => Self::Never,
            },
            Self::Until(score, filter) => learn(filter, score, issued),
            done => done,
        };
    }
}

/// Reads on from this score. Those at the very score are read again: one of them was the last, and it may have others
/// beside it, put there by hand.
fn learn(mut filter: Filter, from: f64, issued: &mut SortedSet<'_>) -> Progress {
    let mut members = issued.since(from);
    let mut newest = from;
    for member in members.by_ref().take(MEMBERS_A_TIME) {
        filter.insert(hash(member.user.bytes()));
        newest = member.score;
    }
    let is_all = members.next().is_none();
    drop(members);
    match newest > from {
        _ if is_all => Progress::All(Members { requested: issued.companion().len(), filter }),
        true => Progress::Until(newest, filter),
        false => Progress::Never,
    }
}
