//! The kinds of drift. Their names are API: labels of a metric and words of the command's output.

use serde::Serialize;

const RESTORE: &str =
    "`audit --repair` restores Redis from the ledger, if nothing else is wrong; the coupon is shut meanwhile";

/// Declares the kinds: for each its name, what it is in a log, without anybody's id, and what an operator can do.
macro_rules! kinds {
    ($count:literal: $($(#[$doc:meta])* $kind:ident = $name:literal, $meaning:literal, $advice:expr;)+) => {
        /// How one of the two sides differs from what was granted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $($(#[$doc])* $kind,)+ }

        impl Kind {
            /// All of them.
            pub const ALL: [Self; $count] = [$(Self::$kind,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// What it is, for a log.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$kind => $meaning,)+ }
            }

            /// What an operator can do where nothing is repaired.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$kind => $advice,)+ }
            }
        }
    };
}

kinds! { 9:
    /// A grant that is neither a row nor a dead letter.
    RowMissing = "row_missing", "a grant has no row",
        "`audit --repair` inserts it where Redis proves whose it was; else take the row from a backup";
    /// A row whose user, time or chain is not that of its grant.
    RowAltered = "row_altered", "a row is not what was granted",
        "set the row to what was granted; `coupon-reconciler verify` proves it";
    /// A row without a grant.
    RowExtra = "row_extra", "a row has no grant",
        "delete the row, unless whoever inserted it can say why it is there";
    /// The ledger's position is not where its rows end.
    PositionWrong = "position_wrong", "the coupon's position is not where its rows end",
        "set seq and chain of the coupon's position to those of the newest row or dead letter";
    /// A granted user who is not in the sorted set.
    MemberMissing = "member_missing", "a granted user is missing in the :issued key", RESTORE;
    /// A user who stands among the granted ones of the sorted set without a grant.
    MemberForeign = "member_foreign", "a user without a grant stands among the granted ones of the :issued key",
        "ZREM the user from the :issued key, and let them request";
    /// A granted user whose score is not the time of the request.
    ScoreWrong = "score_wrong", "a granted user has another score in the :issued key than was requested at", RESTORE;
    /// A field of the status hash that cannot be.
    CounterWrong = "counter_wrong", "a field of the coupon's hash was changed by hand",
        "COUPON.OPEN alone mends `remaining`; `audit --repair` restores Redis from the ledger, if nothing else is wrong, and \
         shuts the coupon meanwhile";
    /// An entry of the stream that was altered, added or taken away.
    EntryWrong = "entry_wrong", "the :grants key was changed by hand",
        "XDEL an entry that is no grant; for a lost or altered one, `coupon-reconciler restore COUPON` goes back to what the \
         ledger holds, and names who loses a grant";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_name() -> serde_json::Result<()> {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert!(Kind::ALL.iter().skip(place + 1).all(|other| other.name() != kind.name()), "{kind:?}");
            assert!(kind.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{kind:?}");
            assert_eq!(serde_json::to_string(&kind)?, format!("\"{}\"", kind.name()), "the same in JSON");
        }
        Ok(())
    }
}
