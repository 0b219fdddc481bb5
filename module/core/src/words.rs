//! The words of the contract, each spelled once: statuses, modes, outcomes, states.

use std::fmt;

/// Declares an enum whose variants are words on the wire.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word as it stands on the wire and in the ledger.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads the word, in any case, as Redis reads its own.
            #[must_use]
            pub fn parse(bytes: &[u8]) -> Option<Self> {
                $(if bytes.eq_ignore_ascii_case($word.as_bytes()) { return Some(Self::$variant); })+
                None
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.word()) }
        }
    };
}

words! {
    /// Where a coupon is in its life. Only `Available` grants.
    Status {
        /// Defined, not on offer.
        Standard = "STANDARD",
        /// Can be requested and issued.
        Available = "AVAILABLE",
        /// All units are granted.
        Issued = "ISSUED",
        /// Ended.
        Expired = "EXPIRED",
    }
}

words! {
    /// When a request is decided.
    Mode {
        /// By the next ISSUE.
        Queue = "QUEUE",
        /// In the request itself, while units remain and nobody waits.
        Instant = "INSTANT",
    }
}

words! {
    /// The reply of REQUEST.
    Outcome {
        /// Accepted, not granted yet.
        Queued = "QUEUED",
        /// Granted in this call.
        Granted = "GRANTED",
        /// This user is in already and keeps the place held.
        Duplicate = "DUPLICATE",
        /// Neither a unit nor a place on the waitlist is left.
        SoldOut = "SOLDOUT",
        /// Not on offer yet.
        NotOpen = "NOTOPEN",
        /// Ended.
        Closed = "CLOSED",
    }
}

words! {
    /// Where a user stands, the reply of STATUS.
    State {
        /// Not in.
        None = "NONE",
        /// Accepted, not granted.
        Waiting = "WAITING",
        /// Granted, not known to be in PostgreSQL yet.
        Granted = "GRANTED",
        /// The grant is committed in PostgreSQL.
        Persisted = "PERSISTED",
        /// PostgreSQL refused the row; an operator retries it, or gives it up.
        Refused = "REFUSED",
    }
}

words! {
    /// The reply of LEAVE.
    Leaving {
        /// The user waited, and has given up the place.
        Left = "LEFT",
        /// Too late here: the user holds a unit, and gives it back in PostgreSQL.
        Granted = "GRANTED",
        /// The user is not in.
        None = "NONE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_in_any_case() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.word().to_lowercase().as_bytes()), Some(*status));
        }
        assert_eq!(Mode::parse(b"Instant"), Some(Mode::Instant));
        assert_eq!(Mode::parse(b"INSTANT "), None);
        assert_eq!(Outcome::parse(b""), None);
        assert_eq!(State::ALL.len(), 5);
    }
}
