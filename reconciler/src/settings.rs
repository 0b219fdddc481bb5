//! Settings: a flag counts more than the environment, the environment more than the file, the file more than the default.
//!
//! clap knows flags, environment and defaults. What the file says, and what a file with a secret holds, is given to clap as
//! a default, so that every value is read by the same code, wherever it comes from.

mod file;
mod origin;
mod print;
mod refusal;

use crate::cli::Cli;
use crate::ledger::Ledger;
use crate::redis::Redis;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use origin::Origin;
pub use refusal::{Refusal, Wrong};

/// The option that names the settings file, which cannot name itself.
const CONFIG: &str = "config";

/// What the name of the file with a secret adds to the secret's own.
const FILE_SUFFIX: &str = "-file";

/// Settings by their names, as a file gives them.
type Values = BTreeMap<String, String>;

/// All that was set, and where.
pub struct Settings {
    /// The command line, with everything filled in.
    pub cli: Cli,
    options: Command,
    matches: ArgMatches,
    sources: Sources,
}

/// What was read from files.
#[derive(Debug, Default)]
struct Sources {
    /// The settings file.
    file: Option<file::File>,
    /// The files that hold a secret, by the secret's name.
    secrets: BTreeMap<String, PathBuf>,
}

/// Reads all settings.
///
/// # Errors
/// What is wrong with one of them; or what has to be shown instead, as the help.
pub fn read(mut args: Vec<OsString>) -> Result<Settings, Refusal> {
    let mut command = Cli::command();
    // Complete, so that every command has the options that all have.
    let mut options = command.clone();
    options.build();
    let mut sources = Sources::default();
    if asks_only_for_settings(&command, &args) {
        args.push("run".into());
    }
    let reading = |command: &Command, sources: &Sources| {
        command.clone().try_get_matches_from(&args).map_err(|error| refusal::explain(error, &options, &args, sources))
    };
    let mut matches = reading(&command, &sources)?;
    if let Some(path) = matches.get_one::<PathBuf>(CONFIG) {
        let says = origin_of(&options, &matches, &sources, CONFIG).to_string();
        let file = file::File::read(path, &names(&options)).map_err(|why| {
            Refusal::Wrong(format!("--{CONFIG} cannot be '{}', which {says} says: {why}", path.display()))
        })?;
        command = with_defaults(command, &file.values);
        sources.file = Some(file);
        matches = reading(&command, &sources)?;
    }
    let secrets = secrets(&options, &matches, &sources)?;
    if !secrets.is_empty() {
        let values = secrets.iter().map(|(name, secret)| (name.clone(), secret.text.clone())).collect();
        command = with_defaults(command, &values);
        sources.secrets = secrets.into_iter().map(|(name, secret)| (name, secret.path)).collect();
        matches = reading(&command, &sources)?;
    }
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Refusal::Clap(Box::new(error)))?;
    let settings = Settings { cli, options, matches, sources };
    settings.check_addresses()?;
    Ok(settings)
}

impl Settings {
    /// The settings of the command at hand as a settings file, without passwords.
    pub fn print(&self) -> String {
        let (command, matches) = leaf(&self.options, &self.matches);
        let of = |arg: &Arg| origin::of(arg, matches, &self.sources);
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        let title = format!("{name}, version {}", env!("CARGO_PKG_VERSION"));
        let config = command.get_arguments().find(|arg| arg.get_id() == CONFIG);
        let config = config.and_then(|arg| Some((matches.get_one::<PathBuf>(CONFIG)?.clone(), of(arg))));
        let entries = command.get_arguments().filter(|arg| is_setting(arg)).filter_map(|arg| {
            Some(print::Entry { name: arg.get_long()?.to_owned(), value: raw(matches, arg), origin: of(arg) })
        });
        print::page(&title, config.as_ref(), entries)
    }

    /// Whether the addresses can be read: clap takes any text for one.
    fn check_addresses(&self) -> Result<(), Refusal> {
        let redis = || Redis::new(&self.cli.command.redis()?.redis_url, self.cli.command.redis()?.certificates()).err();
        let postgresql = || Ledger::check_url(self.cli.command.database()?.database_url.as_deref()?).err();
        let Some(Wrong { setting, why }) = redis().or_else(postgresql) else { return Ok(()) };
        let (command, matches) = leaf(&self.options, &self.matches);
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(setting));
        let value = arg.and_then(|arg| raw(matches, arg)).unwrap_or_default();
        let origin = arg.map_or(Origin::Default, |arg| origin::of(arg, matches, &self.sources));
        Err(Refusal::Wrong(refusal::sentence(setting, &value, &origin, &why)))
    }
}

/// An option that may be set in other ways than by its flag.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_long().is_some() && arg.get_id() != CONFIG
}

/// Whether a setting is secret: then there is one that names a file for it.
fn is_secret(name: &str) -> bool {
    matches!(name, "redis-url" | "database-url")
}

/// A value as it was written.
fn raw(matches: &ArgMatches, arg: &Arg) -> Option<String> {
    let mut values = matches.get_raw(arg.get_id().as_str())?;
    values.next().map(|value| value.to_string_lossy().into_owned())
}

/// `coupon-reconciler --print-config`, without a command.
fn asks_only_for_settings(command: &Command, args: &[OsString]) -> bool {
    let is_named = |arg: &OsString| command.get_subcommands().any(|sub| *arg == sub.get_name());
    args.iter().any(|arg| arg == "--print-config")
        && command.clone().try_get_matches_from(args).is_err_and(|error| {
            matches!(error.kind(), ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
        })
        && !args.iter().any(is_named)
}

/// The command that was given, down to `dead-letters list`, and what was given to it.
fn leaf<'a>(mut command: &'a Command, mut matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    while let Some((name, below)) = matches.subcommand()
        && let Some(found) = command.find_subcommand(name)
    {
        (command, matches) = (found, below);
    }
    (command, matches)
}

fn origin_of(command: &Command, matches: &ArgMatches, sources: &Sources, id: &str) -> Origin {
    let (command, matches) = leaf(command, matches);
    let arg = command.get_arguments().find(|arg| arg.get_id() == id);
    arg.map_or(Origin::Default, |arg| origin::of(arg, matches, sources))
}

/// The settings of all commands.
fn names(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter(|arg| is_setting(arg)).filter_map(Arg::get_long).map(str::to_owned);
    let mut names: Vec<String> = own.chain(command.get_subcommands().flat_map(names)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The same command line with other defaults.
fn with_defaults(command: Command, values: &Values) -> Command {
    let command =
        command.mut_args(|arg| match arg.get_long().filter(|_| is_setting(&arg)).and_then(|name| values.get(name)) {
            Some(value) => arg.default_value(value.clone()),
            None => arg,
        });
    command.mut_subcommands(|sub| with_defaults(sub, values))
}

/// A secret that a file holds.
struct Secret {
    path: PathBuf,
    text: String,
}

/// Reads the files that hold secrets, where any are given.
fn secrets(command: &Command, matches: &ArgMatches, sources: &Sources) -> Result<BTreeMap<String, Secret>, Refusal> {
    let (command, matches) = leaf(command, matches);
    let mut secrets = BTreeMap::new();
    for arg in command.get_arguments() {
        let Some(name) = arg.get_long().filter(|name| is_secret(name)) else { continue };
        let of_file = format!("{name}{FILE_SUFFIX}");
        let Some(file) = command.get_arguments().find(|arg| arg.get_long() == Some(&of_file)) else { continue };
        let Some(path) = matches.get_one::<PathBuf>(file.get_id().as_str()) else { continue };
        let (of_secret, says) = (origin::of(arg, matches, sources), origin::of(file, matches, sources));
        if !matches!(of_secret, Origin::Default | Origin::Unset) {
            return Err(Refusal::Wrong(format!(
                "--{name} and --{of_file} exclude each other: {of_secret} gives the first, {says} the second"
            )));
        }
        let text = read_secret(path)
            .map_err(|why| Refusal::Wrong(refusal::sentence(&of_file, &path.to_string_lossy(), &says, &why)))?;
        secrets.insert(name.to_owned(), Secret { path: path.clone(), text });
    }
    Ok(secrets)
}

fn read_secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    // Editors and `echo` end a file with a newline, which is no part of the secret.
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("the file is empty".to_owned()) } else { Ok(text.to_owned()) }
}
