//! The one table that decides what is done about an error: wait for the side, retry, isolate the row, compare
//! again, or stop with advice.

use crate::error::Error;
use redis::{ErrorKind, RedisError};

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where grants are made.
    Redis,
    /// Where they are kept.
    PostgreSql,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The side is away: wait until it answers again, then go on from what it says. Never a dead letter.
    Reconnect(Side),
    /// It passes by itself: retry the coupon with backoff.
    Retry,
    /// One row is refused: find it, and put it alone to the dead letters.
    Isolate,
    /// The row's quantity is below what Redis has granted: the promise counts, so the quantity is raised.
    RaiseQuantity,
    /// Both sides have to be compared again.
    Compare,
    /// An operator is needed; the coupon is retried slowly meanwhile.
    Stop(&'static str),
}

impl Remedy {
    /// An error as it is told to whoever has to mend it, with advice where there is some.
    pub fn worded(self, error: &Error) -> String {
        match self {
            Self::Stop(advice) if !advice.is_empty() => format!("{error}; {advice}"),
            _ => error.to_string(),
        }
    }
}

/// SQLSTATEs by prefix; the first that fits decides, so the longer ones come first.
const SQLSTATES: &[(&str, Remedy)] = &[
    ("08", Remedy::Reconnect(Side::PostgreSql)),
    ("57P", Remedy::Reconnect(Side::PostgreSql)),
    ("25006", Remedy::Stop("this PostgreSQL is read-only, perhaps a standby; point --database-url at the primary")),
    ("40", Remedy::Retry),
    ("53100", Remedy::Stop("PostgreSQL is out of disk space; free some")),
    ("53300", Remedy::Reconnect(Side::PostgreSql)),
    ("53", Remedy::Retry),
    ("55", Remedy::Retry),
    ("57", Remedy::Retry),
    ("58", Remedy::Retry),
    ("22", Remedy::Isolate),
    ("23", Remedy::Isolate),
    ("P0", Remedy::Isolate),
    ("42501", Remedy::Stop("the reconciler's role lacks a privilege; `coupon-reconciler check` names it")),
    ("42", Remedy::Stop("the schema is not the one expected; run `coupon-reconciler migrate`")),
    ("28", Remedy::Reconnect(Side::PostgreSql)),
    ("3D", Remedy::Reconnect(Side::PostgreSql)),
    ("XX", Remedy::Stop("PostgreSQL reports an internal error; see its log")),
];

/// Redis's error codes.
const REDIS_CODES: &[(&str, Remedy)] = &[
    ("TRYAGAIN", Remedy::Compare),
    ("STALEEPOCH", Remedy::Compare),
    ("NOCOUPON", Remedy::Compare),
    ("BEHIND", Remedy::Compare),
    ("DIVERGED", Remedy::Compare),
    ("LOADING", Remedy::Reconnect(Side::Redis)),
    ("READONLY", Remedy::Reconnect(Side::Redis)),
    ("MASTERDOWN", Remedy::Reconnect(Side::Redis)),
    ("CLUSTERDOWN", Remedy::Reconnect(Side::Redis)),
    ("NOAUTH", Remedy::Reconnect(Side::Redis)),
    ("WRONGPASS", Remedy::Reconnect(Side::Redis)),
    ("BUSY", Remedy::Retry),
    ("NOREPLICAS", Remedy::Retry),
    ("MISCONF", Remedy::Stop("Redis cannot write to its disk; see its log")),
    ("OOM", Remedy::Stop("Redis is over its maxmemory; raise it")),
    ("NOPERM", Remedy::Stop("the reconciler's Redis user lacks a permission; `coupon-reconciler check` names it")),
    ("WRONGTYPE", Remedy::Stop("one of the coupon's three keys holds something else; DEL or RENAME it")),
    ("CROSSSLOT", Remedy::Stop("in cluster mode --key needs a hash tag, as in coupon:{ID}")),
    (
        "MOVED",
        Remedy::Stop("this Redis is a node of a cluster; give --redis-url as redis-cluster://host:port,host:port"),
    ),
];

const UNKNOWN: Remedy = Remedy::Stop("nothing is known about this error; it is retried slowly");

/// The table's name for the limit that a lowered quantity breaks.
pub const GRANTED_WITHIN_QUANTITY: &str = "coupon_granted_within_quantity";

/// What to do about an error.
pub fn remedy(error: &Error) -> Remedy {
    match error {
        Error::Ledger(error) => ledger_remedy(error),
        Error::Redis(error) => redis_remedy(error),
        Error::Unanswered => Remedy::Reconnect(Side::PostgreSql),
        Error::Moved | Error::Stopping => Remedy::Compare,
        Error::Broken { .. } => Remedy::Stop(
            "nothing was written; Redis has another past than the ledger, or its :grants key was changed by hand",
        ),
        Error::Held(_) => Remedy::Stop(""),
    }
}

fn ledger_remedy(error: &sqlx::Error) -> Remedy {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Remedy::Reconnect(Side::PostgreSql),
            _ => UNKNOWN,
        };
    };
    of_refusal(&database.code().unwrap_or_default(), database.table(), database.constraint())
}

/// What to do where PostgreSQL answered with an error.
fn of_refusal(sqlstate: &str, table: Option<&str>, constraint: Option<&str>) -> Remedy {
    if constraint == Some(GRANTED_WITHIN_QUANTITY) {
        return Remedy::RaiseQuantity;
    }
    let remedy = by_prefix(SQLSTATES, sqlstate);
    if remedy == Remedy::Isolate && table == Some("coupon") {
        // No row of a user is at fault: what is refused is the coupon's own.
        return Remedy::Stop("a constraint of table coupon refuses the coupon's row; set the row or Redis right");
    }
    remedy
}

/// What to do about an error of Redis.
pub fn redis_remedy(error: &RedisError) -> Remedy {
    match error.code() {
        Some("ERR") if crate::redis::is_unknown_command(error) => Remedy::Reconnect(Side::Redis),
        Some("ERR") => Remedy::Stop("Redis refuses the call; the text says why"),
        Some(code) => by_prefix(REDIS_CODES, code),
        None if error.kind() == ErrorKind::UnexpectedReturnType => {
            Remedy::Stop("Redis gave a reply that is not expected; is the module of this version?")
        }
        None => Remedy::Reconnect(Side::Redis),
    }
}

fn by_prefix(table: &[(&str, Remedy)], code: &str) -> Remedy {
    table.iter().find(|(prefix, _)| code.starts_with(prefix)).map_or(UNKNOWN, |(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_error_is_never_a_dead_letter() {
        for sqlstate in ["08000", "08003", "08006", "57P01", "57P02", "57P03", "53300", "28P01", "3D000"] {
            assert_eq!(of_refusal(sqlstate, None, None), Remedy::Reconnect(Side::PostgreSql), "{sqlstate}");
        }
        for error in [
            sqlx::Error::PoolTimedOut,
            sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            sqlx::Error::Protocol("cut off".into()),
        ] {
            assert_eq!(remedy(&Error::Ledger(error)), Remedy::Reconnect(Side::PostgreSql));
        }
    }

    #[test]
    fn what_passes_by_itself_is_retried() {
        for sqlstate in ["40001", "40P01", "55P03", "53200", "57014", "58030"] {
            assert_eq!(of_refusal(sqlstate, None, None), Remedy::Retry, "{sqlstate}");
        }
    }

    #[test]
    fn a_refused_row_is_isolated_but_never_the_coupons_own() {
        for sqlstate in ["22001", "22P05", "23502", "23505", "23514", "P0001"] {
            assert_eq!(of_refusal(sqlstate, Some("user_coupon"), Some("adults_only")), Remedy::Isolate, "{sqlstate}");
        }
        assert!(matches!(of_refusal("23514", Some("coupon"), Some("some_check")), Remedy::Stop(_)));
        assert_eq!(of_refusal("23514", Some("coupon"), Some(GRANTED_WITHIN_QUANTITY)), Remedy::RaiseQuantity);
    }

    #[test]
    fn the_operator_is_asked_for_the_rest() {
        for sqlstate in ["42501", "42P01", "53100", "25006", "XX001", "99999", ""] {
            assert!(
                matches!(of_refusal(sqlstate, None, None), Remedy::Stop(advice) if !advice.is_empty()),
                "{sqlstate}"
            );
        }
    }

    #[test]
    fn no_entry_hides_a_longer_one_below_it() {
        for table in [SQLSTATES, REDIS_CODES] {
            for (place, (prefix, _)) in table.iter().enumerate() {
                for (shorter, _) in &table[..place] {
                    assert!(!prefix.starts_with(shorter), "{prefix} is never reached");
                }
            }
        }
    }

    #[test]
    fn every_code_of_the_module_is_known() {
        for code in coupon_core::refusal::Refusal::CODES.iter().filter(|code| **code != "ERR") {
            assert_ne!(by_prefix(REDIS_CODES, code), UNKNOWN, "{code}");
        }
    }
}
