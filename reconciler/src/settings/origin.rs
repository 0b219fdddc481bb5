//! Where a setting comes from.

use super::Sources;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use std::fmt;
use std::path::PathBuf;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment(String),
    /// The settings file.
    File(PathBuf),
    /// The file that holds the secret.
    Secret(PathBuf),
    /// Nobody set it.
    Default,
    /// Nobody set it, and it has no default.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the command line"),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the settings file {}", escaped(path)),
            Self::Secret(path) => write!(f, "the file {}", escaped(path)),
            Self::Default => f.write_str("the default"),
            Self::Unset => f.write_str("nobody"),
        }
    }
}

/// A path on one line, whatever is in it.
pub(super) fn escaped(path: &std::path::Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// Where an option's value comes from.
pub(super) fn of(arg: &Arg, matches: &ArgMatches, sources: &Sources) -> Origin {
    match matches.value_source(arg.get_id().as_str()) {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => of_environment(arg),
        Some(_) => of_files(arg, sources).unwrap_or(Origin::Default),
        None => Origin::Unset,
    }
}

/// The environment variable of an option.
pub(super) fn of_environment(arg: &Arg) -> Origin {
    Origin::Environment(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
}

/// The file that gives an option's default, if one does.
pub(super) fn of_files(arg: &Arg, sources: &Sources) -> Option<Origin> {
    let name = arg.get_long()?;
    if let Some(path) = sources.secrets.get(name) {
        return Some(Origin::Secret(path.clone()));
    }
    let file = sources.file.as_ref().filter(|file| file.values.contains_key(name))?;
    Some(Origin::File(file.path.clone()))
}
