//! What can go wrong, what is done about it, and how the process ends.

use coupon_core::number::Seq;
use redis::{ErrorKind, RedisError};
use sqlx::postgres::PgDatabaseError;

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where grants are made.
    Redis,
    /// Where they are kept.
    PostgreSql,
}

impl Side {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::PostgreSql => "PostgreSQL",
        }
    }
}

/// An error of one pass over a coupon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL, or the way to it. Whether a statement took effect is unknown unless the server answered.
    #[error("PostgreSQL: {0}")]
    Ledger(#[from] sqlx::Error),
    /// Redis, or the way to it.
    #[error("Redis: {}", wording(.0))]
    Redis(#[from] RedisError),
    /// PostgreSQL did not answer in time.
    #[error("a statement was not answered in time")]
    Unanswered,
    /// The stream does not continue the ledger.
    #[error("the stream does not continue the ledger at seq {expected}: {found}")]
    Broken {
        /// The grant that should follow.
        expected: Seq,
        /// What stands there.
        found: String,
    },
    /// The coupon has to wait for an operator; the sentence says why and what to do.
    #[error("{0}")]
    Held(String),
    /// The daemon is about to end; what is left to do is found again by the next one.
    #[error("the reconciler is stopping")]
    Stopping,
    /// Somebody else moved the coupon meanwhile: compare again.
    #[error("the coupon moved meanwhile")]
    Moved,
}

/// An error of Redis as the server worded it, with its code in front.
pub fn wording(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

/// Whether the module is missing.
pub fn is_unknown_command(error: &RedisError) -> bool {
    error.code() == Some("ERR") && error.detail().is_some_and(|text| text.starts_with("unknown command"))
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
    /// The same if other rows are taken; else an operator is needed.
    Doubt(&'static str),
    /// It takes too long: fewer rows may not.
    Shorten(&'static str),
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
            Self::Stop(advice) | Self::Doubt(advice) | Self::Shorten(advice) if !advice.is_empty() => {
                format!("{error}; {advice}")
            }
            _ => error.to_string(),
        }
    }
}

const UNKNOWN: &str = "nothing is known about this error; it is retried slowly";

/// The table's name for the limit that a lowered quantity breaks.
const HELD_WITHIN_QUANTITY: &str = "coupon_position_held_within_quantity";

impl Error {
    /// Its text, where the server that it comes from is named already.
    pub fn cause(&self) -> String {
        match self {
            Self::Ledger(error) => error.to_string(),
            Self::Redis(error) => wording(error),
            error => error.to_string(),
        }
    }

    /// Whether there is such a row already.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Ledger(sqlx::Error::Database(refusal)) if refusal.is_unique_violation())
    }

    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Ledger(error) => ledger_remedy(error),
            Self::Redis(error) => redis_remedy(error),
            Self::Unanswered => Remedy::Reconnect(Side::PostgreSql),
            Self::Moved | Self::Stopping => Remedy::Compare,
            Self::Broken { .. } => Remedy::Stop(
                "nothing was written; Redis has another past than the ledger, or its :grants key was changed by hand",
            ),
            Self::Held(_) => Remedy::Stop(""),
        }
    }
}

fn ledger_remedy(error: &sqlx::Error) -> Remedy {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Configuration(_)
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Remedy::Reconnect(Side::PostgreSql),
            // Others have all connections, or the server has no room for more. Whether it is away its keeper finds out.
            sqlx::Error::PoolTimedOut => Remedy::Retry,
            _ => Remedy::Stop(UNKNOWN),
        };
    };
    if is_of_connection(error) {
        return Remedy::Reconnect(Side::PostgreSql);
    }
    of_refusal(&database.code().unwrap_or_default(), database.table(), database.constraint())
}

/// Whether the server refuses what this connection asks, and would not refuse it on another one: it takes no writes here, or what
/// was prepared is stale or gone. What a trigger raises of its own is no such thing.
pub fn is_of_connection(error: &sqlx::Error) -> bool {
    let refusal = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    refusal.is_some_and(|refusal| match (refusal.code(), refusal.routine()) {
        (_, Some("exec_stmt_raise")) => false,
        ("25006" | "26000", _) | ("0A000", Some("RevalidateCachedQuery")) => true,
        _ => false,
    })
}

/// What to do where PostgreSQL answered with an error.
fn of_refusal(sqlstate: &str, table: Option<&str>, constraint: Option<&str>) -> Remedy {
    if constraint == Some(HELD_WITHIN_QUANTITY) {
        return Remedy::RaiseQuantity;
    }
    match sqlstate {
        _ if sqlstate == "53300" || sqlstate.starts_with("57P") => Remedy::Reconnect(Side::PostgreSql),
        "42501" => Remedy::Doubt("the reconciler's role lacks a privilege; `coupon-reconciler check` names it"),
        "53100" => Remedy::Stop("PostgreSQL is out of disk space; free some"),
        "55P03" => Remedy::Retry,
        "57014" => Remedy::Shorten("look for a lock on the table, or a trigger that is slow"),
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "08" | "28" | "3D" => Remedy::Reconnect(Side::PostgreSql),
            "40" | "53" | "58" => Remedy::Retry,
            // Mostly no row of a user is at fault: what is refused is the coupon's own.
            "22" | "23" | "P0" if matches!(table, Some("coupon" | "coupon_position")) => {
                Remedy::Doubt("a constraint of the table refuses the coupon's own row; set the row or Redis right")
            }
            "22" | "23" | "P0" => Remedy::Isolate,
            "0A" | "RC" => Remedy::Doubt("a trigger or a rule on the table keeps rows out; take it off, or mend it"),
            "42" => Remedy::Doubt("the schema is not the one expected; run `coupon-reconciler migrate`"),
            "XX" => Remedy::Doubt("PostgreSQL reports an internal error; see its log"),
            "" | "44" | "54" | "55" | "57" | "72" | "F0" | "HV" => Remedy::Doubt(UNKNOWN),
            class if class.starts_with(['0', '2', '3']) => Remedy::Doubt(UNKNOWN),
            // PostgreSQL itself has no such class: somebody raises it for a row.
            _ => Remedy::Isolate,
        },
    }
}

/// What to do about an error of Redis.
pub fn redis_remedy(error: &RedisError) -> Remedy {
    match error.code() {
        Some("ERR") if is_unknown_command(error) => Remedy::Reconnect(Side::Redis),
        Some(code) => of_code(code),
        None if error.kind() == ErrorKind::UnexpectedReturnType => {
            Remedy::Stop("Redis gave a reply that is not expected; is the module of this version?")
        }
        None => Remedy::Reconnect(Side::Redis),
    }
}

/// What to do about one of Redis's error codes.
fn of_code(code: &str) -> Remedy {
    match code {
        "TRYAGAIN" | "STALEEPOCH" | "NOCOUPON" | "BEHIND" | "DIVERGED" => Remedy::Compare,
        "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "NOAUTH" | "WRONGPASS" => {
            Remedy::Reconnect(Side::Redis)
        }
        "BUSY" | "NOREPLICAS" => Remedy::Retry,
        "ERR" => Remedy::Stop("Redis refuses the call; the text says why"),
        "MISCONF" => Remedy::Stop("Redis cannot write to its disk; see its log"),
        "OOM" => Remedy::Stop("Redis is over its maxmemory; raise it"),
        "NOPERM" => Remedy::Stop("the reconciler's Redis user lacks a permission; `coupon-reconciler check` names it"),
        "WRONGTYPE" => Remedy::Stop("one of the coupon's keys holds something else; DEL or RENAME it"),
        "CROSSSLOT" => Remedy::Stop("in cluster mode --key needs a hash tag, as in coupon:{ID}"),
        "MOVED" => Remedy::Stop("this is a node of a cluster; give --redis-url as redis-cluster://host:port,host:port"),
        _ => Remedy::Stop(UNKNOWN),
    }
}

/// An exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or stopped in order.
    Ok = 0,
    /// A check failed, or the work could not be done.
    Failed = 1,
    /// A flag, a setting or a subcommand is wrong.
    Usage = 2,
    /// Redis or PostgreSQL could not be reached.
    Unreachable = 3,
    /// A part of the program ended by a mistake in it.
    Broken = 4,
    /// Ended at once by a second SIGINT.
    Interrupted = 130,
    /// Ended at once by a second SIGTERM.
    Terminated = 143,
}

/// Why a command did not do its work, in a sentence for the operator.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do next.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// What a command tells that cannot go on; only `run` waits for a server that is away.
impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.remedy() {
            Remedy::Reconnect(side) => {
                Self::new(Exit::Unreachable, format!("{} cannot be reached: {}", side.name(), error.cause()))
            }
            _ => Self::new(Exit::Failed, format!("{error}; `coupon-reconciler check` says what is missing")),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// All that there are.
    pub const EXITS: [Exit; 7] =
        [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Broken, Exit::Interrupted, Exit::Terminated];

    #[test]
    fn a_connection_error_is_never_a_dead_letter() {
        for sqlstate in ["08000", "08003", "08006", "57P01", "57P02", "57P03", "53300", "28P01", "3D000"] {
            assert_eq!(of_refusal(sqlstate, None, None), Remedy::Reconnect(Side::PostgreSql), "{sqlstate}");
        }
        for error in [
            sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            sqlx::Error::Protocol("cut off".into()),
        ] {
            assert_eq!(Error::Ledger(error).remedy(), Remedy::Reconnect(Side::PostgreSql));
        }
    }

    #[test]
    fn what_passes_by_itself_is_retried() {
        for sqlstate in ["40001", "40P01", "55P03", "53200", "58030"] {
            assert_eq!(of_refusal(sqlstate, None, None), Remedy::Retry, "{sqlstate}");
        }
    }

    #[test]
    fn a_refused_row_is_isolated_but_never_the_coupons_own() {
        for sqlstate in ["22001", "22P05", "23502", "23505", "23514", "P0001", "45000", "ABC12"] {
            assert_eq!(of_refusal(sqlstate, Some("user_coupon"), Some("adults_only")), Remedy::Isolate, "{sqlstate}");
        }
        for table in ["coupon", "coupon_position"] {
            assert!(matches!(of_refusal("23514", Some(table), Some("some_check")), Remedy::Doubt(_)), "{table}");
        }
        assert_eq!(of_refusal("23514", Some("coupon_position"), Some(HELD_WITHIN_QUANTITY)), Remedy::RaiseQuantity);
    }

    #[test]
    fn what_may_be_everybodys_is_a_rows_only_in_doubt() {
        for sqlstate in ["42501", "42P01", "0A000", "25P02", "54000", "55000", "57000", "XX000", "RC001", ""] {
            let remedy = of_refusal(sqlstate, None, None);
            assert!(matches!(remedy, Remedy::Doubt(advice) if !advice.is_empty()), "{sqlstate}");
        }
    }

    #[test]
    fn the_operator_is_asked_where_the_server_cannot_go_on() {
        assert!(matches!(of_refusal("53100", None, None), Remedy::Stop(advice) if !advice.is_empty()));
    }

    #[test]
    fn every_code_of_the_module_is_known() {
        for code in coupon_core::refusal::Refusal::CODES {
            assert_ne!(of_code(code), Remedy::Stop(UNKNOWN), "{code}");
        }
    }
}
