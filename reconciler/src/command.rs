//! What operators type: one file for each command.

mod audit;
mod check;
mod dead_letters;
mod health;
#[cfg(test)]
mod manual;
mod restore;
mod run;
mod signal;
mod status;
mod supervisor;
mod verify;

use crate::cli::{self, Cli, Command, redact};
use crate::coupon::Tools;
use crate::daemon;
use crate::error::{Exit, Failure};
use crate::ledger::Ledger;
use crate::redis::{Certificates, Redis};
use clap::CommandFactory;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Rows in one batch of a command.
const BATCH_MAX: u32 = 5000;

/// Connections of the commands that only look.
const LOOKING_CONNECTIONS_MAX: u32 = 1;

/// Does what was typed.
pub async fn obey(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => {
            let (redis, ledger) = (open_redis(&args.redis)?, open_ledger(&args.database, daemon::CONNECTIONS_MAX)?);
            run::run(args, redis, ledger).await
        }
        Command::Migrate(database) => migrate(&open_ledger(&database, LOOKING_CONNECTIONS_MAX)?).await,
        Command::Check(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            Ok(check::check(&open_redis(&args.redis)?, &ledger, &args.redis.key).await)
        }
        Command::Health(args) => health::health(&args).await,
        Command::Status(args) => status::status(&args).await,
        Command::Verify(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            verify::verify(&ledger, args.coupon.as_deref(), args.json).await
        }
        Command::Restore(args) => {
            // The next page is read while one is being sent.
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX + 1)?;
            restore::restore(&args, tools(&args.redis, ledger)?).await
        }
        Command::Audit(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            audit::audit(&tools(&args.redis, ledger)?, &args).await
        }
        Command::DeadLetters(args) => {
            let ledger = open_ledger(&args.database, LOOKING_CONNECTIONS_MAX)?;
            dead_letters::obey(args.action, &ledger).await
        }
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "coupon-reconciler", &mut completions);
            print(|out| out.write_all(&completions)).map(|()| Exit::Ok)
        }
    }
}

async fn migrate(ledger: &Ledger) -> Result<Exit, Failure> {
    ledger.ping().await?;
    match ledger.migrate().await {
        Ok(0) => println!("the schema is current"),
        Ok(applied) => println!("applied {applied} migration(s); the schema is current"),
        Err(error) => return Err(Failure::new(Exit::Failed, error.to_string())),
    }
    Ok(Exit::Ok)
}

fn open_redis(args: &cli::Redis) -> Result<Redis, Failure> {
    let certificates = Certificates {
        ca: args.redis_tls_ca.clone(),
        cert: args.redis_tls_cert.clone(),
        key: args.redis_tls_key.clone(),
    };
    Redis::new(args.url(), certificates).map_err(|error| refused("redis-url", args.url(), &error.to_string()))
}

fn open_ledger(args: &cli::Database, connections_max: u32) -> Result<Ledger, Failure> {
    let url = args.url()?;
    Ledger::new(url, connections_max).map_err(|why| {
        refused("database-url", url, &format!("{why}; write postgres://user:password@host:port/database"))
    })
}

/// What the coupons are worked on with by a command.
fn tools(args: &cli::Redis, ledger: Ledger) -> Result<Tools, Failure> {
    let redis = Arc::new(open_redis(args)?);
    let (counters, stop) = (Arc::default(), CancellationToken::new());
    Ok(Tools { redis, ledger: Arc::new(ledger), counters, keys: args.key.clone(), batch_max: BATCH_MAX, stop })
}

/// An address cannot be. The command line's own parser would show the password in it.
fn refused(setting: &str, url: &str, why: &str) -> Failure {
    Failure::new(Exit::Usage, format!("--{setting} cannot be '{}': {why}", redact(url)))
}

/// Writes to stdout. Whoever reads may have read enough, as with `| head`.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    match write(&mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("nothing can be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON value to stdout.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    })
}
