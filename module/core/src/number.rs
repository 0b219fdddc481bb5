//! Numbers that must not be mixed up, and how they are read.

use crate::limit::ARRIVAL_US_MAX;
use std::fmt;

/// Declares a number that must not be mixed up with another.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    };
}

number! {
    /// 1-based number of a grant, without gaps; 0 before the first.
    Seq
}
number! {
    /// Number of a coupon's life under one history of Redis; 0 until the ledger has adopted it.
    Epoch
}
number! {
    /// Number of a coupon's definition, as the reconciler publishes it: it only grows; 0 until it has published one.
    Revision
}
number! {
    /// When a request was accepted, in microseconds since 1970, strictly increasing within a coupon: its score.
    Arrival
}
number! {
    /// Drawn at random when the module is loaded, when data is loaded, when the role changes, and when a slot or a
    /// coupon comes from elsewhere. A coupon that carries another token than the process has a past that the process
    /// does not know.
    Token
}

/// The digest of all grants up to one, as a signed integer: see [`crate::chain`]. 0 before the first grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Chain(pub i64);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Seq {
    /// The number of the next grant.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Arrival {
    /// Reads a score; none if it is no whole number of microseconds that a double can count exactly.
    #[must_use]
    pub fn from_score(score: f64) -> Option<Self> {
        // The comparison comes first, so that the cast is exact.
        let whole = score >= 0.0 && score <= ARRIVAL_US_MAX as f64 && score.fract() == 0.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked in the line above")]
        whole.then_some(Self(score as u64))
    }

    /// The score, exact up to [`ARRIVAL_US_MAX`].
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact up to ARRIVAL_US_MAX, which every arrival keeps to")]
    pub const fn score(self) -> f64 {
        self.0 as f64
    }
}

/// The time of a command, taken once from the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since 1970.
    pub us: u64,
}

impl Now {
    /// Milliseconds since 1970.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.us / 1000
    }
}

/// Reads a plain decimal: digits only, no sign, no space, within 64 bits.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_is_a_whole_number_that_a_score_counts_exactly() {
        for good in [0, 1, 1_700_000_000_000_000, ARRIVAL_US_MAX] {
            assert_eq!(Arrival::from_score(Arrival(good).score()), Some(Arrival(good)));
        }
        for bad in [-1.0, -0.5, 0.5, 1.5, 9_007_199_254_740_994.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(Arrival::from_score(bad), None, "{bad}");
        }
    }
}
