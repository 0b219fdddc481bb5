//! Who is surely not in a set, told without looking into it.

/// Bits for each member. With [`BITS_SET`] of them set, about one stranger in forty is taken for a member.
const BITS_PER_MEMBER: u64 = 12;

/// Bits that a member sets, all in one word: a look-up reads one place in memory.
const BITS_SET: u32 = 4;

/// Members of the largest set that a filter is made for: 24 MiB.
const MEMBERS_MAX: u64 = 1 << 24;

/// A Bloom filter over the hashes of a set's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// For so many members; none for more than it is worth.
    #[must_use]
    pub fn of_size(members: u64) -> Option<Self> {
        if members > MEMBERS_MAX {
            return None;
        }
        let words = members.saturating_mul(BITS_PER_MEMBER).div_ceil(64).max(1);
        Some(Self { words: vec![0; usize::try_from(words).ok()?] })
    }

    /// Notes a member by its hash.
    pub fn insert(&mut self, hash: u64) {
        let place = self.place(hash);
        if let Some(word) = self.words.get_mut(place) {
            *word |= bits(hash);
        }
    }

    /// Whether there is no member of this hash. If not, there may be one.
    #[must_use]
    pub fn lacks(&self, hash: u64) -> bool {
        self.words.get(self.place(hash)).is_some_and(|word| word & bits(hash) != bits(hash))
    }

    /// The high half of the hash chooses the word, the low half the bits in it.
    fn place(&self, hash: u64) -> usize {
        let words = self.words.len() as u64;
        ((hash >> 32).saturating_mul(words) >> 32) as usize
    }
}

fn bits(hash: u64) -> u64 {
    (0..BITS_SET).fold(0, |bits, n| bits | 1_u64.rotate_left((hash >> n.saturating_mul(6)) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look like hashes (splitmix64).
    fn hash(n: u64) -> u64 {
        let mix = |x: u64, shift: u32, factor: u64| (x ^ (x >> shift)).wrapping_mul(factor);
        let x = mix(mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 30, 0xbf58_476d_1ce4_e5b9), 27, 0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    #[test]
    fn no_member_is_ever_lacking_and_few_strangers_are_taken_for_members() {
        for members in [1_u64, 7, 1000, 100_000] {
            let filter = (0..members).fold(Filter::of_size(members), |filter, n| {
                filter.map(|mut filter| {
                    filter.insert(hash(n));
                    filter
                })
            });
            let lacks = |n: u64| filter.as_ref().is_some_and(|filter| filter.lacks(hash(n)));
            assert!(!(0..members).any(lacks), "of {members}");
            let strangers = (members..members + 10_000).filter(|n| lacks(*n)).count();
            assert!(strangers > 9_500, "of {members}: {strangers} strangers out of 10000 are known as such");
        }
    }

    #[test]
    fn an_empty_set_lacks_everybody() {
        assert!(Filter::of_size(0).is_some_and(|filter| filter.lacks(0) && filter.lacks(u64::MAX)));
    }

    #[test]
    fn a_set_too_large_has_no_filter() {
        assert!(Filter::of_size(MEMBERS_MAX).is_some());
        assert_eq!(Filter::of_size(MEMBERS_MAX + 1), None);
    }
}
