//! Who is in a coupon's sorted set, learned from the set itself while users are turned away: enough to say of nearly
//! everybody who is not in that they are not. To look into the set of a large sale is to wait for memory, which took a
//! third of the time of a sold-out answer with 100,000 users in (`make bench ONLY=sold-out`).

use crate::redis::Text;
use coupon_core::filter::Filter;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;
use std::mem;
use std::sync::LazyLock;

/// Members that are read with each user who is turned away: some microseconds.
pub const MEMBERS_A_TIME: u64 = 32;

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
    /// So many members, the first ones.
    Some(Members),
    /// More members are being read; whatever comes in between makes it [`Progress::Nothing`].
    Reading(Members),
    /// All.
    All(Members),
    /// It cannot be learned: too many members.
    Never,
}

impl Progress {
    /// From which member on there is more to learn, of so many.
    pub fn begin(&mut self, members: u64) -> Option<u64> {
        let known = match mem::replace(self, Self::Never) {
            Self::Nothing | Self::Reading(_) => {
                Filter::of_size(members).map(|filter| Members { requested: 0, filter })?
            }
            Self::Some(known) => known,
            done => {
                *self = done;
                return None;
            }
        };
        let from = known.requested;
        *self = Self::Reading(known);
        Some(from)
    }

    /// Learns the next members.
    pub fn learn(&mut self, members: &[(Text, f64)]) {
        let Self::Reading(known) = mem::replace(self, Self::Nothing) else { return };
        let Members { requested, mut filter } = known;
        members.iter().for_each(|(member, _)| filter.insert(hash(member.bytes())));
        let read = members.len() as u64;
        let known = Members { requested: requested.saturating_add(read), filter };
        *self = if read < MEMBERS_A_TIME { Self::All(known) } else { Self::Some(known) };
    }
}
