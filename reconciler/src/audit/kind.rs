//! The kinds of drift. Their names are API: labels of a metric and words of the command's output.

/// How one of the two sides differs from what was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A grant that is neither a row nor a dead letter.
    RowMissing,
    /// A row whose user, time or chain is not that of its grant.
    RowAltered,
    /// A row without a grant.
    RowExtra,
    /// `coupon.granted` is not the number of rows.
    CountWrong,
    /// `coupon.seq` and `coupon.chain` are not where the rows end.
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
    pub const ALL: [Self; 10] = [
        Self::RowMissing,
        Self::RowAltered,
        Self::RowExtra,
        Self::CountWrong,
        Self::PositionWrong,
        Self::MemberMissing,
        Self::MemberForeign,
        Self::ScoreWrong,
        Self::CounterWrong,
        Self::EntryWrong,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RowMissing => "row_missing",
            Self::RowAltered => "row_altered",
            Self::RowExtra => "row_extra",
            Self::CountWrong => "count_wrong",
            Self::PositionWrong => "position_wrong",
            Self::MemberMissing => "member_missing",
            Self::MemberForeign => "member_foreign",
            Self::ScoreWrong => "score_wrong",
            Self::CounterWrong => "counter_wrong",
            Self::EntryWrong => "entry_wrong",
        }
    }

    /// What it is, for a log: without anybody's id.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::RowMissing => "a grant has no row",
            Self::RowAltered => "a row is not what was granted",
            Self::RowExtra => "a row has no grant",
            Self::CountWrong => "coupon.granted is not the number of rows",
            Self::PositionWrong => "coupon.seq and coupon.chain are not where the rows end",
            Self::MemberMissing => "a granted user is missing in the :issued key",
            Self::MemberForeign => "a user without a grant stands among the granted ones of the :issued key",
            Self::ScoreWrong => "a granted user has another score in the :issued key than was requested at",
            Self::CounterWrong => "a field of the coupon's hash was changed by hand",
            Self::EntryWrong => "the :grants key was changed by hand",
        }
    }

    /// What an operator can do where nothing is repaired.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::RowMissing => {
                "`audit --repair` inserts it where Redis proves whose it was; else take the row from a backup"
            }
            Self::RowAltered => "set the row to what was granted; `coupon-reconciler verify` proves it",
            Self::RowExtra => "delete the row, unless whoever inserted it can say why it is there",
            Self::CountWrong => "`audit --repair` counts again once the rows are whole",
            Self::PositionWrong => "set coupon.seq and coupon.chain to those of the newest row or dead letter",
            Self::MemberMissing | Self::ScoreWrong => {
                "`audit --repair` restores Redis from the ledger, if nothing else is wrong; the coupon is shut meanwhile"
            }
            Self::MemberForeign => "ZREM the user from the :issued key, and let them request",
            Self::CounterWrong => {
                "`audit --repair` restores Redis from the ledger, if nothing else is wrong; the coupon is shut meanwhile. \
                 COUPON.OPEN alone mends `remaining`"
            }
            Self::EntryWrong => {
                "XDEL an entry that is no grant; for a lost or altered one, `coupon-reconciler restore COUPON` goes \
                 back to what the ledger holds, and names who loses a grant"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_name() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert!(Kind::ALL.iter().skip(place + 1).all(|other| other.name() != kind.name()), "{kind:?}");
            assert!(kind.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{kind:?}");
        }
    }
}
