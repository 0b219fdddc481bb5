//! How far a history goes, and which one it is.

use crate::number::{Chain, Seq};
use std::fmt;

/// How far a history goes, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The newest grant.
    pub seq: Seq,
    /// The digest of all grants up to it.
    pub chain: Chain,
}

impl Position {
    /// Reads what [`fmt::Display`] wrote, from the start of a text; the reconciler finds it in BEHIND and DIVERGED.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split([' ', ':']);
        if words.next() != Some("seq") {
            return None;
        }
        let seq = Seq(words.next()?.parse().ok()?);
        if words.next() != Some("chain") {
            return None;
        }
        Some(Self { seq, chain: Chain(words.next()?.parse().ok()?) })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {} chain {}", self.seq, self.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn a_position_reads_back_from_an_error() {
        let position = Position { seq: Seq(7), chain: Chain(-9) };
        let error = Refusal::Behind(position).to_string();
        assert_eq!(error.strip_prefix("BEHIND ").and_then(Position::parse), Some(position));
        assert_eq!(Position::parse("seq 7"), None);
    }
}
