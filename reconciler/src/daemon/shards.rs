//! How several reconcilers share the coupons: which shard a coupon is in, and how many shards one may hold.

use crate::ledger::Lease;

/// Shards in all, as many as a word has bits. Coupons never change theirs.
pub const COUNT: usize = 64;

/// The shard of a coupon: FNV-1a of its id, and Fibonacci hashing, which spreads what FNV leaves close together. The same
/// in every process and every version.
pub fn shard_of(id: &str) -> u8 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = id.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    ((hash ^ (hash >> 32)).wrapping_mul(GOLDEN) >> 58) as u8
}

/// What to do about the leases.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// To be claimed from whoever held them: nobody, or one that is gone.
    pub claim: Vec<Lease>,
    /// To be given back, so that others have their share.
    pub give_back: Vec<u8>,
}

/// The turn of one of so many instances that are alive.
pub fn turn(me: &str, instances: usize, leases: &[Lease]) -> Turn {
    let share = COUNT.div_ceil(instances.max(1));
    let is_mine = |lease: &&Lease| lease.holder.as_deref() == Some(me);
    let mine = leases.iter().filter(is_mine).count();
    let free = leases.iter().filter(|lease| !lease.is_held && !is_mine(lease));
    Turn {
        claim: free.take(share.saturating_sub(mine)).cloned().collect(),
        give_back: leases.iter().filter(is_mine).skip(share).map(|lease| lease.shard).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leases held by these, in this order; a name in brackets is of one that is gone.
    fn leases(holders: &[(&str, usize)]) -> Vec<Lease> {
        let all = holders.iter().flat_map(|(name, n)| std::iter::repeat_n(*name, *n)).zip(0..);
        all.map(|(name, shard)| Lease {
            shard,
            holder: (name != "-").then(|| name.trim_matches(['[', ']']).to_owned()),
            is_held: name != "-" && !name.starts_with('['),
        })
        .collect()
    }

    fn counts(me: &str, instances: usize, holders: &[(&str, usize)]) -> (usize, usize) {
        let turn = turn(me, instances, &leases(holders));
        (turn.claim.len(), turn.give_back.len())
    }

    #[test]
    fn one_alone_takes_all_at_once() {
        assert_eq!(counts("a", 1, &[("-", 64)]), (64, 0));
        assert_eq!(counts("a", 1, &[("[dead]", 64)]), (64, 0));
        assert_eq!(counts("a", 1, &[("a", 40), ("[dead]", 24)]), (24, 0));
        assert_eq!(counts("a", 1, &[("a", 64)]), (0, 0));
    }

    #[test]
    fn each_has_its_share() {
        assert_eq!(counts("a", 2, &[("a", 64)]), (0, 32), "one more came");
        assert_eq!(counts("b", 2, &[("a", 64)]), (0, 0), "nothing is taken from the living");
        assert_eq!(counts("b", 2, &[("a", 32), ("-", 32)]), (32, 0));
        assert_eq!(counts("c", 3, &[("a", 22), ("b", 22), ("-", 20)]), (20, 0));
        assert_eq!(counts("a", 100, &[("a", 2), ("b", 62)]), (0, 1));
    }

    #[test]
    fn a_coupon_keeps_its_shard() {
        // Computed apart from this code; a change would let two versions work on one coupon.
        for (id, shard) in [("", 33), ("a", 32), ("42", 21), ("쿠폰", 52)] {
            assert_eq!(shard_of(id), shard, "{id}");
        }
        let used: std::collections::HashSet<u8> = (0..2000).map(|n| shard_of(&format!("coupon-{n}"))).collect();
        assert_eq!(used.len(), COUNT, "ids that look alike spread over all shards");
    }
}
