//! Makes every grant of the coupon module durable in PostgreSQL.
//!
//! The guarantee is in [`relay`]; what keeps both sides together is decided in [`plan`] and done in [`compare`];
//! what is done about errors stands in [`policy`]. All SQL is in [`ledger`], all Redis commands are in [`redis`].

mod audit;
mod backoff;
mod catalog;
mod check;
mod cli;
mod clock;
mod command;
mod compare;
mod coupon;
mod daemon;
mod dead_letters;
mod error;
mod exit;
mod fetch;
mod health;
mod hear;
mod http;
mod interval;
mod issue;
mod keep;
mod lag;
mod lease;
mod ledger;
mod logging;
#[cfg(test)]
mod manual;
mod metrics;
mod overview;
mod page;
mod pass;
mod pause;
mod plan;
mod policy;
mod rates;
mod redis;
mod relay;
mod reopen;
mod restore;
mod run;
mod secret;
mod settings;
mod shards;
mod side;
mod signal;
mod status;
mod supervisor;
mod tls;
mod verify;
mod visit;

use clap::CommandFactory;
use cli::{Cli, Command};
use error::Error;
use exit::{Exit, Failure};
use ledger::Ledger;
use policy::Side;
use redis::Redis;
use settings::Wrong;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Connections of the commands that only look.
const LOOKING_CONNECTIONS_MAX: u32 = 1;

fn main() -> ExitCode {
    tls::set_provider();
    let settings = match settings::read(std::env::args_os().collect()) {
        Ok(settings) => settings,
        Err(refusal) => return refusal.show().into(),
    };
    if settings.cli.print_config {
        return print(&settings.print()).into();
    }
    let cli = settings.cli;
    if let Err(error) = logging::begin(&cli.log, cli.log_format) {
        eprintln!("error: {error}");
        return Exit::Usage.into();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            return Exit::Failed.into();
        }
    };
    let outcome = runtime.block_on(obey(cli.command));
    // Nothing that is left is worth waiting for: the workers are done, or had their time.
    runtime.shutdown_timeout(Duration::ZERO);
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            failure.exit.into()
        }
    }
}

/// To stdout. Whoever reads may have read enough, as with `| head`.
fn print(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: nothing can be written: {error}");
            Exit::Failed
        }
        _ => Exit::Ok,
    }
}

async fn obey(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => {
            let ledger = open_ledger(&args.database, daemon::CONNECTIONS_MAX)?;
            run::run(args, ledger).await
        }
        Command::Migrate(database) => migrate(&open_ledger(&database, LOOKING_CONNECTIONS_MAX)?).await,
        Command::Check(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            Ok(check::check(&open_redis(&args.redis)?, &ledger, &args.redis.key).await)
        }
        Command::Health(args) => health::health(&args).await,
        Command::Status(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            status::obey(&args, &open_redis(&args.redis)?, &ledger).await
        }
        Command::Verify(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            verify::verify(&ledger, args.coupon.as_deref(), args.json).await
        }
        Command::Restore(args) => {
            // The next page is read while one is being sent.
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX + 1)?;
            restore::obey(&args, &open_redis(&args.redis)?, &ledger).await
        }
        Command::Audit(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            command::audit::audit(&open_redis(&args.redis)?, &ledger, &args).await
        }
        Command::DeadLetters(command) => {
            let ledger = open_ledger(command.database(), LOOKING_CONNECTIONS_MAX)?;
            dead_letters::obey(command, &ledger).await
        }
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "coupon-reconciler", &mut completions);
            Ok(print(&String::from_utf8_lossy(&completions)))
        }
    }
}

async fn migrate(ledger: &Ledger) -> Result<Exit, Failure> {
    ledger.ping().await.map_err(unreachable)?;
    match ledger.migrate().await {
        Ok(0) => println!("the schema is current"),
        Ok(applied) => println!("applied {applied} migration(s); the schema is current"),
        Err(error) => return Err(Failure::new(Exit::Failed, error.to_string())),
    }
    Ok(Exit::Ok)
}

fn open_redis(args: &cli::Redis) -> Result<Redis, Failure> {
    Redis::new(&args.redis_url, args.certificates()).map_err(|wrong| refused(wrong, &args.redis_url))
}

fn open_ledger(args: &cli::Database, connections_max: u32) -> Result<Ledger, Failure> {
    let Some(url) = &args.database_url else {
        return Err(Failure::new(
            Exit::Usage,
            "PostgreSQL's address is missing; set --database-url, DATABASE_URL or DATABASE_URL_FILE: write \
             postgres://user:password@host:port/database",
        ));
    };
    Ledger::new(url, connections_max).map_err(|wrong| refused(wrong, url))
}

/// The settings were looked at before; a file may have changed since.
fn refused(Wrong { setting, why }: Wrong, url: &str) -> Failure {
    Failure::new(Exit::Usage, format!("--{setting} for {}: {why}", secret::redact(url)))
}

/// A command that does not wait found nobody.
fn unreachable(error: impl Into<Error>) -> Failure {
    let error = error.into();
    let who = match error {
        Error::Redis(_) => Side::Redis,
        _ => Side::PostgreSql,
    };
    Failure::new(Exit::Unreachable, format!("{} cannot be reached: {}", who.name(), error.cause()))
}
