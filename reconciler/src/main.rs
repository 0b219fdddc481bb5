//! Makes every grant of the coupon module durable in PostgreSQL.
//!
//! All that happens to one coupon is in [`coupon`]; what is done about errors stands in [`error`]. All SQL is in [`ledger`], all
//! Redis commands are in [`redis`].

mod audit;
mod cli;
mod command;
mod coupon;
mod daemon;
mod error;
mod ledger;
mod model;
mod redis;
mod show;

use clap::Parser;
use cli::{Cli, LogFormat};
use error::{Exit, Failure};
use rustls::crypto::ring;
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio::runtime::Runtime;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let exit = run(Cli::parse()).unwrap_or_else(|Failure { exit, message }| {
        eprintln!("error: {message}");
        exit
    });
    ExitCode::from(exit as u8)
}

fn run(Cli { command, log, log_format }: Cli) -> Result<Exit, Failure> {
    // Of everything that speaks TLS here, whatever the libraries come with. It fails where there is one already.
    let _ = ring::default_provider().install_default();
    begin_log(log, log_format);
    // A task that panics is gone, and the others would go on as if it was not. What it says may name a user.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(at = panic.location().map(tracing::field::display), "a mistake in the program ends it");
        std::process::exit(Exit::Broken as i32);
    }));
    let runtime =
        Runtime::new().map_err(|error| Failure::new(Exit::Failed, format!("the runtime cannot start: {error}")))?;
    let outcome = runtime.block_on(command::obey(command));
    // Nothing that is left is worth waiting for: the workers are done, or had their time.
    runtime.shutdown_background();
    outcome
}

/// Logs: readable on a terminal, JSON otherwise, on stderr. No passwords, no user ids.
fn begin_log(filter: Targets, format: LogFormat) {
    let is_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let is_json = format == LogFormat::Json || (format == LogFormat::Auto && !is_terminal);
    let lines = if is_json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        lines.with_ansi(is_terminal).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
}
