//! Why a command was refused: the closed list of error codes, each with what to do next.

use crate::limit::QUOTE_BYTES_MAX;
use crate::number::{Epoch, Revision};
use crate::position::Position;
use std::fmt;

/// A refused command has written nothing and replicated nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `ERR`: the call or the stored data is malformed.
    Usage(String),
    /// `WRONGTYPE`: one of the coupon's keys holds another type.
    WrongType(&'static str),
    /// `NOCOUPON`: the key holds no coupon.
    NoCoupon,
    /// `TRYAGAIN`: nothing can be decided right now without the risk of deciding wrongly.
    TryAgain(&'static str),
    /// `CROSSSLOT`: cluster mode needs a hash tag.
    CrossSlot,
    /// `BEHIND`: Redis has granted less than the ledger holds.
    Behind(Position),
    /// `DIVERGED`: Redis and the ledger hold different histories.
    Diverged(Position),
    /// `STALEEPOCH`: the coupon lives under a later epoch than the one given.
    StaleEpoch {
        /// The epoch stored in Redis.
        stored: Epoch,
    },
    /// `STALEEPOCH` too: a newer definition than the one given was published meanwhile.
    StaleRevision {
        /// That of the definition given.
        given: Revision,
        /// The revision stored in Redis.
        stored: Revision,
    },
}

impl Refusal {
    /// All codes there are.
    pub const CODES: &'static [&'static str] =
        &["ERR", "WRONGTYPE", "NOCOUPON", "TRYAGAIN", "CROSSSLOT", "BEHIND", "DIVERGED", "STALEEPOCH"];

    /// A misuse, in a sentence that says what is allowed.
    #[must_use]
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(sentence.into())
    }

    /// Arguments are missing. The server itself turns such calls away.
    #[must_use]
    pub fn arity() -> Self {
        Self::usage("wrong number of arguments")
    }

    /// The fence is shut.
    #[must_use]
    pub const fn fenced() -> Self {
        Self::TryAgain("coupon is fenced until the reconciler has compared it with the ledger; retry in a moment")
    }

    /// The error's first word, by which clients tell errors apart.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "ERR",
            Self::WrongType(_) => "WRONGTYPE",
            Self::NoCoupon => "NOCOUPON",
            Self::TryAgain(_) => "TRYAGAIN",
            Self::CrossSlot => "CROSSSLOT",
            Self::Behind(_) => "BEHIND",
            Self::Diverged(_) => "DIVERGED",
            Self::StaleEpoch { .. } | Self::StaleRevision { .. } => "STALEEPOCH",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        match self {
            Self::Usage(sentence) => write!(f, "{code} {sentence}"),
            Self::WrongType(key) => {
                write!(f, "{code} {key} holds another type than a coupon keeps there; DEL or RENAME it")
            }
            Self::NoCoupon => write!(f, "{code} no coupon at this key; COUPON.OPEN makes one"),
            Self::TryAgain(sentence) => write!(f, "{code} {sentence}"),
            Self::CrossSlot => write!(
                f,
                "{code} in cluster mode the key needs a hash tag, as in coupon:{{42}}, so that all of its keys share a slot"
            ),
            Self::Behind(position) => write!(
                f,
                "{code} {position}: Redis holds less than the ledger; the coupon stays fenced until it is restored"
            ),
            Self::Diverged(position) => write!(
                f,
                "{code} {position}: Redis holds another history than the ledger; the coupon stays fenced until it is restored"
            ),
            Self::StaleEpoch { stored } => {
                write!(f, "{code} coupon is at epoch {stored}; read the ledger again and take the next one")
            }
            Self::StaleRevision { given, stored } => write!(
                f,
                "{code} revision {given} was given, and a newer definition is there, revision {stored}; read the ledger again"
            ),
        }
    }
}

/// A client's own bytes in an error: printable ASCII only, and not too many of them.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let shown = bytes.get(..QUOTE_BYTES_MAX).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("'{}{more}'", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Chain;
    use crate::number::Seq;

    #[test]
    fn every_error_starts_with_a_code_of_the_closed_list() {
        let position = Position { seq: Seq(5), chain: Chain(-7) };
        for refusal in [
            Refusal::usage("x"),
            Refusal::WrongType("K"),
            Refusal::NoCoupon,
            Refusal::fenced(),
            Refusal::CrossSlot,
            Refusal::Behind(position),
            Refusal::Diverged(position),
            Refusal::StaleEpoch { stored: Epoch(3) },
            Refusal::StaleRevision { given: Revision(4), stored: Revision(5) },
        ] {
            let text = refusal.to_string();
            assert!(Refusal::CODES.iter().any(|code| text.starts_with(&format!("{code} "))), "{text}");
        }
        assert!(Refusal::Behind(position).to_string().starts_with("BEHIND seq 5 chain -7: "));
    }

    #[test]
    fn quoted_bytes_are_short_and_printable() {
        assert_eq!(quote(b"a\0\r\n%n\xff"), r"'a\x00\r\n%n\xff'");
        assert_eq!(quote(&[b'x'; QUOTE_BYTES_MAX]), format!("'{}'", "x".repeat(QUOTE_BYTES_MAX)));
        assert_eq!(quote(&[b'x'; 1000]), format!("'{}...'", "x".repeat(QUOTE_BYTES_MAX)));
    }
}
