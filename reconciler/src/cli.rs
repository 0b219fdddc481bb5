//! The command line. Flags count more than the environment, the environment more than the defaults.

use crate::interval;
use crate::logging::LogFormat;
use clap::{Args, Parser, Subcommand};
use coupon_core::key::KeyPattern;
use std::net::SocketAddr;
use std::time::Duration;

const ABOUT: &str = "Makes every grant of the coupon module durable in PostgreSQL";

const LONG_ABOUT: &str = "\
Makes every grant of the coupon module durable in PostgreSQL.

It runs beside Redis, publishes the rows of table coupon to Redis, gives coupons opened by hand a row, issues to waiting \
users at an interval, and relays every grant into table user_coupon: once, in order, without a gap. It may be started \
before Redis and PostgreSQL, and waits for both; killed at any moment, it goes on where it was. A Redis that lost grants, or \
made others, gets those of the ledger back before it may grant again. Several of them share the coupons: one that is \
killed is replaced within two seconds.";

const AFTER_LONG_HELP: &str = "\
Examples:
  coupon-reconciler migrate --database-url postgres://app@localhost/shop
  coupon-reconciler check   --database-url postgres://app@localhost/shop
  coupon-reconciler run     --database-url postgres://app@localhost/shop --issue-interval 500ms
  coupon-reconciler status  --database-url postgres://app@localhost/shop --json
  coupon-reconciler restore --database-url postgres://app@localhost/shop 42

  An application puts a coupon on offer with one row:
    insert into coupon (id, name, quantity, status) values ('42', 'Summer', 1000, 'AVAILABLE');
  or an operator by hand:
    redis-cli COUPON.OPEN 'coupon:{42}' QUANTITY 1000

Environment:
  REDIS_URL, DATABASE_URL, COUPON_KEY, LISTEN, INSTANCE, LOG   as the flags of the same meaning
  PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE     what the database URL leaves out

Exit codes:
  0    done, or stopped in order by SIGTERM or SIGINT
  1    a check failed, or the work could not be done
  2    a flag or a setting is wrong
  3    Redis or PostgreSQL could not be reached
  130  ended at once by a second SIGINT
  143  ended at once by a second SIGTERM";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "coupon-reconciler", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_LONG_HELP)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// What to log: error, warn, info, debug, or a filter such as info,coupon_reconciler=debug
    #[arg(long, env = "LOG", default_value = "info,sqlx=error", value_name = "FILTER", global = true)]
    pub log: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", global = true)]
    pub log_format: LogFormat,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until stopped: publish, adopt, issue, relay, audit
    Run(Run),
    /// Bring the schema to this version
    Migrate(Database),
    /// Look at both servers, the module, privileges and the schema; exit code 1 if something would not work
    Check(Check),
    /// Show every coupon, as both sides see it
    Status(Status),
    /// Recompute the chain over the rows, and name the first that breaks it; exit code 1 if one does
    Verify(Verify),
    /// Bring the ledger's grants of one coupon back to Redis, and open it; the daemon does so by itself where that is safe
    Restore(Restore),
    /// Compare both sides down to every grant, and name what differs; exit code 1 if something does and is not repaired
    Audit(Audit),
    /// Grants that PostgreSQL refused as rows: list, show, retry, discard
    #[command(subcommand)]
    DeadLetters(DeadLetters),
}

/// Where PostgreSQL is.
#[derive(Debug, Args)]
pub struct Database {
    /// PostgreSQL, as postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}

/// Where Redis is, and what the coupons are called there.
#[derive(Debug, Args)]
pub struct Redis {
    /// Redis, as redis://user:password@host:port
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379",
        value_name = "URL"
    )]
    pub redis_url: String,

    /// A coupon's key in Redis; ID stands for the coupon's id
    #[arg(long, env = "COUPON_KEY", default_value = KeyPattern::DEFAULT, value_name = "PATTERN", value_parser = KeyPattern::parse)]
    pub key: KeyPattern,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub redis: Redis,

    #[command(flatten)]
    pub database: Database,

    /// How often waiting users are granted what is left, as 500ms, 1s or 2m
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = interval::parse)]
    pub issue_interval: Duration,

    /// How often everything is compared, to find what no message told of
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = interval::parse)]
    pub full_pass_interval: Duration,

    /// How long the audit rests between two rounds over all coupons, in which it compares every grant of both sides and
    /// puts right what is proved; 0 turns it off
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = interval::parse_or_off)]
    pub audit_interval: Duration,

    /// Rows written in one batch, 1 to 50000
    #[arg(long, default_value_t = 5000, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub batch_max: u32,

    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:9187", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// The name of this process among several; by default the host, the process's number and chance
    #[arg(long, env = "INSTANCE", value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub instance: Option<String>,

    /// Leave the schema as it is, for a role that may not change it; `migrate` is run by another then
    #[arg(long)]
    pub no_migrate: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub redis: Redis,

    #[command(flatten)]
    pub database: Database,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub redis: Redis,

    #[command(flatten)]
    pub database: Database,

    /// One JSON array instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub database: Database,

    /// Only this coupon
    pub coupon: Option<String>,

    /// One JSON array instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    pub redis: Redis,

    #[command(flatten)]
    pub database: Database,

    /// The coupon's id
    pub coupon: String,

    /// All grants, also where Redis holds the same history: mends a sorted set or a stream that was changed by hand
    #[arg(long)]
    pub from_start: bool,

    /// Also where the line of those who wait is lost
    #[arg(long)]
    pub yes: bool,
}

/// `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    #[command(flatten)]
    pub redis: Redis,

    #[command(flatten)]
    pub database: Database,

    /// Only this coupon
    pub coupon: Option<String>,

    /// Put right what is proved: rows that are missing although the chain says whose they were, a wrong count of rows,
    /// and granted users whom Redis lacks or holds elsewhere. For the last the coupon is shut while Redis is restored from
    /// the ledger, so the audit of `run` leaves that to this command
    #[arg(long)]
    pub repair: bool,

    /// One JSON array instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// One line for each
    List {
        #[command(flatten)]
        database: Database,
        /// Only this coupon
        coupon: Option<String>,
        /// Those that were given up too
        #[arg(long)]
        all: bool,
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
    },
    /// All there is to one of them, the user too
    Show {
        #[command(flatten)]
        database: Database,
        /// The coupon's id
        coupon: String,
        /// The grant's number
        seq: u64,
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Make a row of it, once what refused it is mended; exit code 1 if it is refused again
    Retry {
        #[command(flatten)]
        database: Database,
        /// The coupon's id
        coupon: String,
        /// The grant's number
        seq: Option<u64>,
        /// All of this coupon that were not given up
        #[arg(long, conflicts_with = "seq")]
        all: bool,
    },
    /// Give it up: it is not listed any more, but its row stays, as the chain runs through it
    Discard {
        #[command(flatten)]
        database: Database,
        /// The coupon's id
        coupon: String,
        /// The grant's number
        seq: u64,
    },
}

impl DeadLetters {
    /// Where PostgreSQL is.
    pub const fn database(&self) -> &Database {
        match self {
            Self::List { database, .. }
            | Self::Show { database, .. }
            | Self::Retry { database, .. }
            | Self::Discard { database, .. } => database,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in ["--batch-max 0", "--batch-max 50001", "--issue-interval 0s", "--key coupon", "--listen here"] {
            let args = ["coupon-reconciler", "run"].into_iter().chain(bad.split(' '));
            assert!(Cli::try_parse_from(args).is_err(), "{bad}");
        }
    }
}
