//! The chain: a digest of all grants up to one, so that two histories can be compared by one number.
//!
//! It is the first 8 bytes of SHA-256(previous chain ‖ length of user id ‖ user id ‖ arrival in µs), as a signed
//! integer; every integer takes 8 bytes, big-endian. 64 bits find faults and casual tampering; they are no signature.

use crate::number::{Arrival, Chain};
use crate::user::UserId;
use sha2::{Digest, Sha256};

impl Chain {
    /// The chain before the first grant.
    pub const START: Self = Self(0);

    /// The chain after one more grant.
    #[must_use]
    pub fn next(self, user: UserId<'_>, arrival: Arrival) -> Self {
        let bytes = user.as_bytes();
        let mut digest = Sha256::new();
        digest.update(self.0.to_be_bytes());
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
        digest.update(arrival.0.to_be_bytes());
        let hash: [u8; 32] = digest.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        Self(i64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(chain: i64, user: &str, arrival: u64) -> i64 {
        UserId::parse(user.as_bytes()).map_or(0, |user| Chain(chain).next(user, Arrival(arrival)).0)
    }

    /// Computed apart from this code:
    /// `python3 -c "import hashlib,struct as s; u=b'1001'; print(s.unpack('>q',hashlib.sha256(s.pack('>qQ',0,len(u))+u+s.pack('>Q',1700000000000000)).digest()[:8])[0])"`
    #[test]
    fn chain_is_the_published_formula() {
        assert_eq!(link(0, "1001", 1_700_000_000_000_000), FIRST);
        assert_eq!(link(FIRST, "쿠폰", 1_700_000_000_000_001), SECOND);
    }

    const FIRST: i64 = -2_139_397_144_681_016_713;
    const SECOND: i64 = 5_674_070_306_232_872_957;

    #[test]
    fn every_part_of_a_grant_moves_the_chain() {
        let all = [link(0, "a", 1), link(1, "a", 1), link(0, "b", 1), link(0, "a", 2), link(0, "aa", 1)];
        for (i, left) in all.iter().enumerate() {
            for right in all.iter().skip(i.saturating_add(1)) {
                assert_ne!(left, right);
            }
        }
    }
}
