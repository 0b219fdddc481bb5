//! How several reconcilers share the coupons: which shard a coupon is in.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// The shards that this process holds.
#[derive(Debug, Default)]
pub struct Shards(AtomicU64);

impl Shards {
    /// Whether a coupon is this process's to work on.
    pub fn hold(&self, id: &str) -> bool {
        self.0.load(Ordering::Acquire) & (1 << shard_of(id)) != 0
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.0.load(Ordering::Acquire).count_ones()
    }

    /// Takes over what the leases say.
    pub fn set(&self, held: impl Iterator<Item = u8>) -> Change {
        let new = held.fold(0_u64, |mask, shard| mask | 1_u64.checked_shl(shard.into()).unwrap_or(0));
        let old = self.0.swap(new, Ordering::AcqRel);
        Change { gained: (new & !old).count_ones(), lost: (old & !new).count_ones() }
    }
}

/// What became different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Shards that are new here.
    pub gained: u32,
    /// Shards that are somebody else's now.
    pub lost: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coupon_keeps_its_shard() {
        // Computed apart from this code; a change would let two versions work on one coupon.
        for (id, shard) in [("", 33), ("a", 32), ("42", 21), ("쿠폰", 52)] {
            assert_eq!(shard_of(id), shard, "{id}");
        }
        let used: std::collections::HashSet<u8> = (0..2000).map(|n| shard_of(&format!("coupon-{n}"))).collect();
        assert_eq!(used.len(), COUNT, "ids that look alike spread over all shards");
    }

    #[test]
    fn what_is_held_is_told_apart() {
        let shards = Shards::default();
        assert!(!shards.hold("a"));
        assert_eq!(shards.set(0..64), Change { gained: 64, lost: 0 });
        assert!(shards.hold("a"));
        assert_eq!(shards.set((0..64).filter(|shard| *shard != shard_of("a"))), Change { gained: 0, lost: 1 });
        assert!(!shards.hold("a"));
        assert_eq!(shards.len(), 63);
    }
}
