//! The command line. An option with an environment variable is a setting.

use crate::error::{Exit, Failure};
use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, value_parser};
use coupon_core::key::KeyPattern;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::filter::Targets;

/// Rows in one batch: fewer than one write nothing, and more only make a failure dearer.
const BATCH_ROWS: RangeInclusive<i64> = 1..=50_000;

/// Beyond a day it is a mistake.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

const AFTER_LONG_HELP: &str = "\
Examples:
  coupon-reconciler migrate --database-url postgres://app@localhost/shop
  coupon-reconciler check   --database-url postgres://app@localhost/shop
  coupon-reconciler run     --database-url postgres://app@localhost/shop --issue-interval 500ms
  coupon-reconciler status  --watch
  coupon-reconciler restore --database-url postgres://app@localhost/shop 42
  coupon-reconciler completions bash > /etc/bash_completion.d/coupon-reconciler

  An application puts a coupon on offer with one row:
    insert into coupon (id, name, quantity, status) values ('42', 'Summer', 1000, 'AVAILABLE');
  or an operator by hand:
    redis-cli COUPON.OPEN 'coupon:{42}' QUANTITY 1000

Settings:
  A flag counts more than its environment variable, and that more than the default. `coupon-reconciler run --help` is the
  manual of the settings and names their variables. Others that count:
  PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE,
  PGSSLMODE, PGSSLROOTCERT, PGSSLCERT, PGSSLKEY    what the database URL leaves out
  NOTIFY_SOCKET, WATCHDOG_USEC                     set by systemd: `run` tells it how it is, and that it lives

Exit codes:
  0    done, or stopped in order by SIGTERM or SIGINT
  1    a check failed, or the work could not be done
  2    a flag or a setting is wrong
  3    Redis, PostgreSQL or the daemon could not be reached
  4    a part of the program ended by a mistake in it; start it again
  130  ended at once by a second SIGINT
  143  ended at once by a second SIGTERM";

const DEFAULT_REDIS: &str = "redis://127.0.0.1:6379";

/// On loopback: whoever wants the page to be seen from elsewhere says so.
const DEFAULT_LISTEN: &str = "127.0.0.1:9187";

/// Makes every grant of the coupon module durable in PostgreSQL
///
/// It runs beside Redis, publishes the rows of table coupon to Redis, gives coupons opened by hand a row, issues to waiting
/// users at an interval, and relays every grant into table user_coupon: once, in order, without a gap. It may be started
/// before Redis and PostgreSQL, and waits for both; killed at any moment, it goes on where it was. A Redis that lost grants, or
/// made others, gets those of the ledger back before it may grant again. Several of them share the coupons: one that is
/// killed is replaced within two seconds.
#[derive(Debug, Parser)]
#[command(name = "coupon-reconciler", version, after_long_help = AFTER_LONG_HELP)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// What to log: error, warn, info, debug, or a filter such as info,coupon_reconciler=debug
    ///
    /// Lines go to stderr. They name coupons, never users or passwords.
    #[arg(long, env = "LOG", default_value = "info,sqlx=error,redis=error", value_name = "FILTER", global = true)]
    pub log: Targets,

    /// How log lines look
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT", global = true)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise
    #[default]
    Auto,
    /// For people
    Text,
    /// One object per line, for machines
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until stopped: publish, adopt, issue, relay, audit
    Run(Run),
    /// Bring the schema to this version
    Migrate(Database),
    /// Look at both servers, the module, privileges and the schema; exit code 1 if something would not work
    Check(Servers),
    /// Ask the daemon that runs here whether it is ready; exit code 1 if not, for a container's health check
    Health(Health),
    /// Show every coupon, as the daemon that runs here sees both sides
    Status(Status),
    /// Recompute the chain over the rows, and name the first that breaks it; exit code 1 if one does
    Verify(Verify),
    /// Bring the ledger's grants of one coupon back to Redis, and open it; the daemon does so by itself where that is safe
    Restore(Restore),
    /// Compare both sides down to every grant, and name what differs; exit code 1 if something does and is not repaired
    Audit(Audit),
    /// Grants that PostgreSQL refused as rows: list, show, retry, discard
    DeadLetters(DeadLetters),
    /// Print a shell's completions of this command line
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where PostgreSQL is.
#[derive(Debug, Args)]
pub struct Database {
    /// PostgreSQL, as postgres://user:password@host:port/database
    ///
    /// By TLS: ?sslmode=verify-full, with &sslrootcert=FILE for a CA that the system does not know, and &sslcert=FILE&sslkey=FILE
    /// for a certificate of one's own. What it leaves out is taken from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE,
    /// PGSSLMODE, PGSSLROOTCERT, PGSSLCERT and PGSSLKEY. A command line can be read by every user of the machine: give a
    /// password by the environment or in a file.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = Address::given, global = true)]
    database_url: Option<Address>,

    /// A file that holds the URL of PostgreSQL, in the place of --database-url
    ///
    /// It is read again before each new try to reach the server: a password that was changed needs no restart.
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE", value_parser = Address::of_file, conflicts_with = "database_url", global = true)]
    database_url_file: Option<Address>,
}

impl Database {
    /// The address, wherever it was written.
    pub fn address(&self) -> Result<&Address, Failure> {
        const MISSING: &str = "PostgreSQL's address is missing; set --database-url, DATABASE_URL or DATABASE_URL_FILE";
        let address = self.database_url_file.as_ref().or(self.database_url.as_ref());
        address.ok_or_else(|| Failure::new(Exit::Usage, MISSING))
    }
}

/// Where Redis is, and what the coupons are called there.
#[derive(Debug, Args)]
pub struct Redis {
    /// Redis, as redis://user:password@host:port; by TLS as rediss://…
    ///
    /// Of a cluster some of its nodes are named, as redis-cluster://user:password@host:port,host:port. With Sentinel all
    /// sentinels are named, and what the primary is called among them, as redis-sentinel://user:password@host:port,host:port/NAME;
    /// if the sentinels want a login themselves, ?sentinel-user=…&sentinel-password=… follows. By TLS these are
    /// rediss-cluster and rediss-sentinel. A single server has to be the primary. A command line can be read by every user
    /// of the machine: give a password by the environment or in a file.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, default_value = DEFAULT_REDIS, value_name = "URL", value_parser = Address::given)]
    redis_url: Address,

    /// A file that holds the URL of Redis, in the place of --redis-url
    ///
    /// It is read again before each new try to reach the server: a password that was changed needs no restart.
    #[arg(long, env = "REDIS_URL_FILE", value_name = "FILE", value_parser = Address::of_file, conflicts_with = "redis_url")]
    redis_url_file: Option<Address>,

    /// A PEM file with the CAs that may have signed Redis's certificate; without it the system's may have
    ///
    /// The certificate has to hold the name or address in --redis-url; in a cluster, and with Sentinel, those that the
    /// servers name. The files of these three settings are read at each connection.
    #[arg(long, env = "REDIS_TLS_CA", value_name = "FILE")]
    pub redis_tls_ca: Option<PathBuf>,

    /// A PEM file with the certificate that is shown to Redis, if it asks for one
    #[arg(long, env = "REDIS_TLS_CERT", value_name = "FILE", requires = "redis_tls_key")]
    pub redis_tls_cert: Option<PathBuf>,

    /// A PEM file with the key to that certificate
    #[arg(long, env = "REDIS_TLS_KEY", value_name = "FILE", requires = "redis_tls_cert")]
    pub redis_tls_key: Option<PathBuf>,

    /// A coupon's key in Redis; ID stands for the coupon's id
    ///
    /// The braces keep a coupon's keys in one slot of a cluster. Change it only while no coupon is on offer.
    #[arg(long, env = "COUPON_KEY", default_value = KeyPattern::DEFAULT, value_name = "PATTERN", value_parser = KeyPattern::parse)]
    pub key: KeyPattern,
}

impl Redis {
    /// The address, wherever it was written.
    pub fn address(&self) -> &Address {
        self.redis_url_file.as_ref().unwrap_or(&self.redis_url)
    }
}

/// Where both servers are.
#[derive(Debug, Args)]
pub struct Servers {
    #[command(flatten)]
    pub redis: Redis,

    #[command(flatten)]
    pub database: Database,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub servers: Servers,

    /// How often waiting users are granted what is left, as 500ms, 1s or 2m
    ///
    /// For coupons of mode QUEUE; those of mode INSTANT are granted in the request itself.
    #[arg(long, env = "ISSUE_INTERVAL", default_value = "1s", value_name = "DURATION", value_parser = interval)]
    pub issue_interval: Duration,

    /// How often everything is compared, to find what no message told of
    ///
    /// Changes are heard of at once by messages of both servers; this is for those that were lost.
    #[arg(long, env = "FULL_PASS_INTERVAL", default_value = "10s", value_name = "DURATION", value_parser = interval)]
    pub full_pass_interval: Duration,

    /// How often the audit compares what is on offer by its counts; 0 turns it off
    ///
    /// Ten intervals after the last such round it compares every grant of both sides, at a pace that takes 2 % of its time,
    /// and puts right what is proved.
    #[arg(long, env = "AUDIT_INTERVAL", default_value = "60s", value_name = "DURATION", value_parser = interval_or_off)]
    pub audit_interval: Duration,

    /// Rows written in one batch, 1 to 50000
    ///
    /// A larger batch makes more rows per second; each of them arrives a little later.
    #[arg(long, env = "BATCH_MAX", default_value_t = 5000, value_name = "ROWS", value_parser = value_parser!(u32).range(BATCH_ROWS))]
    pub batch_max: u32,

    /// Where the page, /status, /metrics, /readyz and /livez are served
    ///
    /// They are read-only, and anybody who can connect may read them: keep them on loopback or in the cluster.
    #[arg(long, env = "LISTEN", default_value = DEFAULT_LISTEN, value_name = "ADDRESS", value_parser = listen_address)]
    pub listen: SocketAddr,

    /// The name of this process among several; by default the host, the process's number and chance
    #[arg(long, env = "INSTANCE", value_name = "NAME", value_parser = instance_name)]
    pub instance: Option<String>,

    /// Leave the schema as it is, for a role that may not change it; `migrate` is run by another then
    #[arg(long, env = "NO_MIGRATE", value_parser = BoolishValueParser::new())]
    pub no_migrate: bool,
}

/// A server's address, and the file that holds it, if one does.
#[derive(Debug, Clone)]
pub struct Address {
    /// The address, perhaps with a password.
    pub url: String,
    file: Option<String>,
}

impl Address {
    /// One that was written out.
    pub fn given(url: &str) -> Result<Self, Infallible> {
        Ok(Self { url: url.to_owned(), file: None })
    }

    fn of_file(file: &str) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("the file cannot be read: {error}"))?;
        // Editors and `echo` end a file with a newline, which is no part of the secret.
        let url = text.trim_end_matches(['\r', '\n']).to_owned();
        if url.is_empty() { Err("the file is empty".to_owned()) } else { Ok(Self { url, file: Some(file.to_owned()) }) }
    }

    /// What is made of that which its file holds now, if it is something else, and can be.
    pub fn renew<T, E>(&mut self, make: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let now = Self::of_file(self.file.as_deref()?).ok().filter(|now| now.url != self.url)?;
        let made = make(&now.url).ok()?;
        *self = now;
        Some(made)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 1s or 2m"))?;
    if INTERVALS.contains(&interval) { Ok(interval) } else { Err("from 1ms to 24h is allowed".to_owned()) }
}

/// The same, or 0 for never.
fn interval_or_off(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s") { Ok(Duration::ZERO) } else { interval(text) }
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, as 127.0.0.1:9187, 0.0.0.0:9187 or [::1]:9187".to_owned())
}

fn instance_name(text: &str) -> Result<String, String> {
    // The limit of table coupon_instance.
    if (1..=255).contains(&text.len()) { Ok(text.to_owned()) } else { Err("1 to 255 bytes are allowed".to_owned()) }
}

/// `health`.
#[derive(Debug, Args)]
pub struct Health {
    /// Where the daemon serves /readyz; one that listens on 0.0.0.0 or [::] is asked on loopback
    #[arg(long, env = "LISTEN", default_value = DEFAULT_LISTEN, value_name = "ADDRESS", value_parser = listen_address)]
    pub listen: SocketAddr,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Where the daemon serves /status; one that listens on 0.0.0.0 or [::] is asked on loopback
    #[arg(long, env = "LISTEN", default_value = DEFAULT_LISTEN, value_name = "ADDRESS", value_parser = listen_address)]
    pub listen: SocketAddr,

    /// What /status answers, instead of a table; with --watch one object on each line
    #[arg(long)]
    pub json: bool,

    /// Look again and again, every 2 seconds or so many, until Ctrl-C
    ///
    /// On a terminal the table is drawn over the one before, cut to the screen. Elsewhere the tables follow each other.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    pub watch: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a number from 0.1 to 3600 is allowed".to_owned())
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
    pub servers: Servers,

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
    pub servers: Servers,

    /// Only this coupon
    pub coupon: Option<String>,

    /// Put right what is proved: rows that are missing although the chain says whose they were,
    /// and granted users whom Redis lacks or holds elsewhere. For the last the coupon is shut while Redis is restored from
    /// the ledger, so the audit of `run` leaves that to this command
    #[arg(long)]
    pub repair: bool,

    /// One JSON array instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLetters {
    #[command(flatten)]
    pub database: Database,

    #[command(subcommand)]
    pub action: LetterAction,
}

/// What is done about dead letters.
#[derive(Debug, Subcommand)]
pub enum LetterAction {
    /// One line for each
    List {
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
        /// The coupon's id
        coupon: String,
        /// The grant's number
        seq: u64,
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Make a row of it, once what refused it is mended; exit code 1 if it is refused again
    #[command(group = ArgGroup::new("which").required(true).args(["seq", "all"]))]
    Retry {
        /// The coupon's id
        coupon: String,
        /// The grant's number
        seq: Option<u64>,
        /// All of this coupon that were not given up
        #[arg(long)]
        all: bool,
    },
    /// Give it up: it is not listed any more, but its row stays, as the chain runs through it
    Discard {
        /// The coupon's id
        coupon: String,
        /// The grant's number
        seq: u64,
    },
}

/// What stands in the place of a password.
const HIDDEN: &str = "***";

/// An address for logs and errors, with the password hidden, whether it stands before the `@` or among the parameters.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    let (head, parameters) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    // A password may itself hold '/' or '@' if it was not encoded; the last '@' is the one that counts.
    let (login, place) = head.split_at(head.rfind('@').unwrap_or(0));
    let login = login.split_once(':').map_or(login.to_owned(), |(user, _)| format!("{user}:{HIDDEN}"));
    let shown = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    };
    let parameters: Vec<String> = parameters.split('&').map(shown).collect();
    format!("{scheme}://{login}{place}{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::tests::EXITS;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_every_exit_code_and_every_setting() {
        for exit in EXITS {
            let code = format!("\n  {:<4} ", exit as u8);
            assert!(AFTER_LONG_HELP.contains(&code), "{exit:?}");
        }
        let mut command = Cli::command();
        command.build();
        let Some(run) = command.find_subcommand_mut("run") else { unreachable!("run is a command") };
        let help = run.render_long_help().to_string();
        for variable in run.get_arguments().filter_map(clap::Arg::get_env) {
            let variable = variable.to_string_lossy();
            assert!(help.contains(&format!("[env: {variable}")), "{variable}");
        }
        for variable in ["PGHOST", "PGSSLMODE", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
            assert!(AFTER_LONG_HELP.contains(variable), "{variable}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in [
            "--batch-max many",
            "--instance ",
            "--log info,sqlx=loud",
            "--no-migrate=perhaps",
            "--batch-max 0",
            "--batch-max 50001",
            "--issue-interval 0s",
            "--key coupon",
            "--listen here",
        ] {
            let args = ["coupon-reconciler", "run"].into_iter().chain(bad.split(' '));
            assert!(Cli::try_parse_from(args).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interval_is_a_number_with_a_unit() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(interval("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(interval("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "0", "0s", "1", "s", "-1s", "1us", "99999999999999999999s", "1440m1", "1441m", "25h"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
        assert_eq!(interval_or_off("0"), Ok(Duration::ZERO));
        assert_eq!(interval_or_off("1m"), Ok(Duration::from_secs(60)));
        assert!(interval_or_off("off").is_err());
    }

    #[test]
    fn passwords_never_show() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:secret@host/0", "redis://:***@host/0"),
            ("redis://app:secret@host", "redis://app:***@host"),
            ("redis://app@host", "redis://app@host"),
            ("postgres://app:se@cr/et@host/db", "postgres://app:***@host/db"),
            ("postgres://host/db?user=app&password=secret", "postgres://host/db?user=app&password=***"),
            ("postgres://host/db?sslpassword=secret&a", "postgres://host/db?sslpassword=***&a"),
            ("app:secret@host", "***"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
