//! Logs: readable on a terminal, JSON otherwise, on stderr. No passwords, no user ids.

use clap::ValueEnum;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

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

/// A filter as it is written, if it can be read.
pub fn parse_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(format!("{error}; write error, warn, info, debug or trace, or target=level, separated by commas"))
        }
    }
}

/// Begins to log.
///
/// # Errors
/// If the filter cannot be read.
pub fn begin(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log '{filter}' is no filter: {error}"))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let begun = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        lines.with_ansi(terminal).try_init()
    };
    begun.map_err(|error| error.to_string())
}
