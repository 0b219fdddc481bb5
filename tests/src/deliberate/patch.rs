//! A patch with its head: what it breaks, and who has to notice.

use std::fs;
use std::path::{Path, PathBuf};

/// Where patches lie, in the workspace.
pub const FOLDER: &str = "tests/faults";

const NOTICED_BY: &str = "Noticed by: ";
const SAYING: &str = "Saying: ";
const HIDDEN_ON: &str = "Hidden on: ";
const PLAYED_ON: &str = "Played on: ";

/// The half of the product that a patch breaks: the folder that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// The module.
    Module,
    /// The reconciler.
    Reconciler,
}

impl Half {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Module, Self::Reconciler];

    /// Its folder.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Reconciler => "reconciler",
        }
    }

    /// What cargo is asked for.
    #[must_use]
    pub const fn build(self) -> &'static [&'static str] {
        match self {
            Self::Module => &["-p", "coupon-module"],
            Self::Reconciler => &["-p", "coupon-reconciler", "--features", "pause-points"],
        }
    }

    /// What comes of it.
    #[must_use]
    pub const fn artifact(self) -> &'static str {
        match self {
            Self::Module => "libcoupon.so",
            Self::Reconciler => "coupon-reconciler",
        }
    }

    /// The variables by which the harness takes it.
    #[must_use]
    pub const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Module => &["COUPON_MODULE"],
            Self::Reconciler => &["COUPON_RECONCILER", "COUPON_RECONCILER_PAUSE"],
        }
    }
}

/// A test that has to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The test program, as in `cargo test --test`.
    pub program: String,
    /// The test's whole name in it.
    pub test: String,
    /// What its output then contains, one of these: a test that fails for another reason has noticed nothing.
    pub sayings: Vec<String>,
}

/// A deliberate fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Half and file, as in `reconciler/no-compare-and-set`.
    pub name: String,
    /// What is built with it.
    pub half: Half,
    /// The patch.
    pub file: PathBuf,
    /// The promise it breaks.
    pub about: String,
    /// Who has to notice.
    pub witnesses: Vec<Witness>,
    /// Servers on which it cannot show, as in `Valkey 8.1`.
    pub hidden_on: Vec<String>,
    /// The one of `target/servers` on which it shows, as in `valkey-9.1`; that of the `PATH` if none.
    pub played_on: Option<String>,
}

impl Patch {
    /// All there are, by name.
    ///
    /// # Panics
    /// If one cannot be read, or its head does not say what it has to.
    #[must_use]
    pub fn all(workspace: &Path) -> Vec<Self> {
        let mut all: Vec<Self> = Half::ALL.into_iter().flat_map(|half| Self::of(half, workspace)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn of(half: Half, workspace: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(workspace.join(FOLDER).join(half.folder())) else { return Vec::new() };
        let files = entries.map(|entry| entry.expect("a folder of patches can be read").path());
        files
            .filter(|file| file.extension().is_some_and(|end| end == "patch"))
            .map(|file| Self::read(half, file))
            .collect()
    }

    fn read(half: Half, file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self::parse(half, &file, &text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    fn parse(half: Half, file: &Path, text: &str) -> Result<Self, String> {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).ok_or("its name is not UTF-8")?;
        let (head, _) = text.split_once("\ndiff --git ").ok_or("there is no diff in it, as `git diff` makes it")?;
        let (about, fields) = head.split_once("\n\n").ok_or("first what it breaks, an empty line, then who notices")?;
        let (mut witnesses, mut hidden_on, mut played_on) = (Vec::<Witness>::new(), Vec::new(), None);
        for line in fields.lines().filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_prefix(NOTICED_BY) {
                let (program, test) =
                    name.split_once(' ').ok_or("'Noticed by' names a test program, and a test in it")?;
                witnesses.push(Witness { program: program.into(), test: test.into(), sayings: Vec::new() });
            } else if let Some(saying) = line.strip_prefix(SAYING) {
                witnesses.last_mut().ok_or("'Saying' stands below 'Noticed by'")?.sayings.push(saying.into());
            } else if let Some(server) = line.strip_prefix(HIDDEN_ON) {
                hidden_on.push(server.into());
            } else if let Some(server) = line.strip_prefix(PLAYED_ON) {
                played_on = Some(server.into());
            } else {
                return Err(format!("'{line}' is none of 'Noticed by', 'Saying', 'Hidden on', 'Played on'"));
            }
        }
        if witnesses.is_empty() || witnesses.iter().any(|witness| witness.sayings.is_empty()) {
            return Err("it names no test that notices, or not what the test then says".into());
        }
        let name = format!("{}/{stem}", half.folder());
        Ok(Self { name, half, file: file.to_owned(), about: about.into(), witnesses, hidden_on, played_on })
    }

    /// Whether it cannot show on a server of the `PATH`, named as in `Valkey 8.1.6`.
    #[must_use]
    pub fn is_hidden_on(&self, server: &str) -> bool {
        let of = |version: &String| {
            server.strip_prefix(version.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.hidden_on.iter().any(of)
    }

    /// Whether it goes by this name, with its half or without.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split_once('/').is_some_and(|(_, short)| short == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Patch, String> {
        Patch::parse(Half::Module, Path::new("a/gate-open.patch"), &format!("{head}\ndiff --git a/x b/x\n"))
    }

    #[test]
    fn a_head_says_what_is_broken_and_who_notices() {
        let head = "The gate is open.\n\nNoticed by: module fence::shut\nSaying: left\nSaying: right\n\
                    Noticed by: model all\nSaying: other\nHidden on: Valkey 8.1\n";
        let patch = parse(head).expect("a head");
        assert_eq!((patch.name.as_str(), patch.about.as_str()), ("module/gate-open", "The gate is open."));
        let witness = |program: &str, test: &str, sayings: &[&str]| Witness {
            program: program.into(),
            test: test.into(),
            sayings: sayings.iter().map(|saying| (*saying).into()).collect(),
        };
        assert_eq!(
            patch.witnesses,
            [witness("module", "fence::shut", &["left", "right"]), witness("model", "all", &["other"])]
        );
        assert!(patch.is_hidden_on("Valkey 8.1.6") && patch.is_hidden_on("Valkey 8.1"));
        assert!(!patch.is_hidden_on("Valkey 8.10.1") && !patch.is_hidden_on("Redis 8.1.6"));
        assert_eq!(patch.played_on, None);
        assert!(patch.is_called("gate-open") && patch.is_called("module/gate-open") && !patch.is_called("open"));
    }

    #[test]
    fn a_head_may_name_the_server_on_which_it_shows() {
        let head = "The gate is open.\n\nNoticed by: module fence::shut\nSaying: left\nPlayed on: valkey-9.1\n";
        assert_eq!(parse(head).expect("a head").played_on.as_deref(), Some("valkey-9.1"));
    }

    #[test]
    fn a_head_that_leaves_something_out_is_refused() {
        for (head, why) in [
            ("The gate is open.", "empty line"),
            ("The gate is open.\n\n", "names no test"),
            ("The gate is open.\n\nNoticed by: module fence::shut\n", "what the test then says"),
            ("The gate is open.\n\nNoticed by: fence::shut\n", "names a test program"),
            ("The gate is open.\n\nSaying: left\n", "below"),
            ("The gate is open.\n\nNoticed: module fence::shut\n", "is none of"),
        ] {
            assert!(parse(head).is_err_and(|error| error.contains(why)), "{head}");
        }
        let no_diff = Patch::parse(Half::Module, Path::new("a.patch"), "The gate is open.\n\n");
        assert!(no_diff.is_err_and(|error| error.contains("no diff")));
    }
}
