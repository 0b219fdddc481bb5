//! How several reconcilers share the coupons: which shard a coupon is in.

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
}
