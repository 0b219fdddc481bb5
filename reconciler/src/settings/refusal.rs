//! What is said of a wrong setting: its name, its value, where it comes from, what is allowed.

use super::{Origin, Sources, is_secret, is_setting, origin};
use crate::exit::Exit;
use crate::secret;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use std::error::Error as _;
use std::ffi::{OsStr, OsString};

/// A setting whose value cannot be.
#[derive(Debug)]
pub struct Wrong {
    /// Its name.
    pub setting: &'static str,
    /// What is the matter, and what is allowed.
    pub why: String,
}

/// Why there are no settings to work with.
#[derive(Debug)]
pub enum Refusal {
    /// One is wrong; the sentence says which.
    Wrong(String),
    /// clap has something to show: the help, the version, or what is wrong with the command line.
    Clap(Box<clap::Error>),
}

impl Refusal {
    /// Says so.
    pub fn show(&self) -> Exit {
        match self {
            Self::Wrong(sentence) => {
                eprintln!("error: {sentence}");
                Exit::Usage
            }
            Self::Clap(error) => {
                // Whoever does not read it cannot be told.
                let _ = error.print();
                if error.exit_code() == 0 { Exit::Ok } else { Exit::Usage }
            }
        }
    }
}

/// What is wrong with a value.
pub(super) fn sentence(name: &str, value: &str, origin: &Origin, why: &str) -> String {
    let shown = if is_secret(name) { secret::redact(value) } else { value.escape_debug().to_string() };
    format!("--{name} cannot be '{shown}', which {origin} says: {why}")
}

/// clap's error in those words, where it is about a setting's value.
pub(super) fn explain(error: clap::Error, command: &Command, args: &[OsString], sources: &Sources) -> Refusal {
    wrong_value(&error, command, args, sources).map_or_else(|| Refusal::Clap(Box::new(error)), Refusal::Wrong)
}

fn wrong_value(error: &clap::Error, command: &Command, args: &[OsString], sources: &Sources) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    // As clap shows an option: `--batch-max <ROWS>`.
    let name = shown.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let arg = find(command, name)?;
    let origin = origin_of(arg, name, args, sources);
    if origin == Origin::Flag && value.is_empty() {
        return None;
    }
    let why = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(why), _) => why.to_string(),
        (None, Some(ContextValue::Strings(allowed))) => format!("allowed are {}", allowed.join(", ")),
        _ => return None,
    };
    Some(sentence(name, value, &origin, &why))
}

fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let own = command.get_arguments().find(|arg| is_setting(arg) && arg.get_long() == Some(name));
    own.or_else(|| command.get_subcommands().find_map(|sub| find(sub, name)))
}

/// clap does not say where a wrong value came from, but it stops at the first place that has one.
fn origin_of(arg: &Arg, name: &str, args: &[OsString], sources: &Sources) -> Origin {
    let flag = format!("--{name}");
    let is_flag = |given: &OsString| {
        let given = given.as_encoded_bytes();
        given.strip_prefix(flag.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    };
    let is_in_environment = |variable: &OsStr| std::env::var_os(variable).is_some();
    if args.iter().any(is_flag) {
        Origin::Flag
    } else if arg.get_env().is_some_and(is_in_environment) {
        origin::of_environment(arg)
    } else {
        origin::of_files(arg, sources).unwrap_or(Origin::Default)
    }
}
