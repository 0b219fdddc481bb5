//! The kinds of drift. Their names are API: labels of a metric and words of the command's output.

use serde::Serialize;

/// How one of the two sides differs from what was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A grant that is neither a row nor a dead letter.
    RowMissing,
    /// A row whose user, time or chain is not that of its grant.
    RowAltered,
    /// A row without a grant.
    RowExtra,
    /// The ledger's position is not where its rows end.
    PositionWrong,
    /// A granted user who is not among the granted ones of the sorted set.
    MemberMissing,
    /// A user who stands among the granted ones of the sorted set without a grant.
    MemberForeign,
    /// A granted user whose score is not the time of the request.
    ScoreWrong,
    /// A field of the status hash that cannot be.
    CounterWrong,
    /// An entry of the stream that was altered, added or taken away.
    EntryWrong,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RowMissing,
        Self::RowAltered,
        Self::RowExtra,
        Self::PositionWrong,
        Self::MemberMissing,
        Self::MemberForeign,
        Self::ScoreWrong,
        Self::CounterWrong,
        Self::EntryWrong,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// What it is, for a log: without anybody's id.
    pub const fn meaning(self) -> &'static str {
        self.words().1
    }

    /// What an operator can do where nothing is repaired.
    pub const fn advice(self) -> &'static str {
        self.words().2
    }

    /// Name, meaning and advice.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::RowMissing => (
                "row_missing",
                "a grant has no row",
                "`audit --repair` inserts it where Redis proves whose it was; else take the row from a backup",
            ),
            Self::RowAltered => (
                "row_altered",
                "a row is not what was granted",
                "set the row to what was granted; `coupon-reconciler verify` proves it",
            ),
            Self::RowExtra => (
                "row_extra",
                "a row has no grant",
                "delete the row, unless whoever inserted it can say why it is there",
            ),
            Self::PositionWrong => (
                "position_wrong",
                "the coupon's position is not where its rows end",
                "set seq and chain of the coupon's position to those of the newest row or dead letter",
            ),
            Self::MemberMissing => (
                "member_missing",
                "a granted user is missing in the :issued key",
                "`audit --repair` restores Redis from the ledger, if nothing else is wrong; the coupon is shut meanwhile",
            ),
            Self::MemberForeign => (
                "member_foreign",
                "a user without a grant stands among the granted ones of the :issued key",
                "ZREM the user from the :issued key, and let them request",
            ),
            Self::ScoreWrong => (
                "score_wrong",
                "a granted user has another score in the :issued key than was requested at",
                "`audit --repair` restores Redis from the ledger, if nothing else is wrong; the coupon is shut meanwhile",
            ),
            Self::CounterWrong => (
                "counter_wrong",
                "a field of the coupon's hash was changed by hand",
                "`audit --repair` restores Redis from the ledger, if nothing else is wrong; the coupon is shut meanwhile. \
                 COUPON.OPEN alone mends `remaining`",
            ),
            Self::EntryWrong => (
                "entry_wrong",
                "the :grants key was changed by hand",
                "XDEL an entry that is no grant; for a lost or altered one, `coupon-reconciler restore COUPON` goes back to \
                 what the ledger holds, and names who loses a grant",
            ),
        }
    }
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
