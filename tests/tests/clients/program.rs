//! A program of the page as a process, with the client that scripts/clients.sh has installed for it.

use crate::go_toolchain;
use crate::page::Page;
use coupon_tests::artifact;
use coupon_tests::deadline::{DEADLINE, within};
use coupon_tests::process::{Process, Program};
use coupon_tests::redis_server::Redis;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The page.
pub const PAGE: &str = "docs/clients.md";
/// Marks a program that is run.
pub const RUN: &str = " run:";
/// Marks what it prints.
const PRINTS: &str = " prints:";

/// Tries again for 30 s by itself, and waits for a row besides.
const TIME_MAX: Duration = DEADLINE.saturating_mul(2);

/// A program as the page shows it.
pub struct Shown {
    name: &'static str,
    text: String,
    printed: String,
}

/// It runs, or has ended.
pub struct Running {
    shown: Shown,
    // Dropped in this order: the process runs in the directory.
    process: Process,
    _directory: TempDir,
}

impl Shown {
    /// Finds it by the name of its blocks.
    pub fn on_the_page(name: &'static str) -> Self {
        let page = Page::open(PAGE);
        Self { name, text: page.block(RUN, name), printed: page.block(PRINTS, name) }
    }

    /// Starts it.
    pub fn start(self, redis: &Redis) -> Running {
        let directory = self.directory();
        let (file, args) = self.command(directory.path());
        let program = Program {
            name: self.name,
            file,
            args: args.into_iter().map(Into::into).collect(),
            env: vec![
                ("REDIS_URL".into(), redis.url()),
                ("PYTHONPATH".into(), artifact::client_packages("python").display().to_string()),
            ],
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        Running { process: program.start(), shown: self, _directory: directory }
    }

    /// Node and Go find a program's packages by where the program lies.
    fn directory(&self) -> TempDir {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("coupon-client-");
        match self.name {
            "go" => builder.tempdir_in(artifact::client_packages("go").join("pages")),
            _ if self.is_node() => builder.tempdir_in(artifact::client_packages("node")),
            _ => builder.tempdir(),
        }
        .expect("temporary directory")
    }

    fn is_node(&self) -> bool {
        ["node-redis", "ioredis"].contains(&self.name)
    }

    /// What to start, with its text in a file where it is no executable.
    fn command(&self, directory: &Path) -> (PathBuf, Vec<PathBuf>) {
        let mut args: Vec<PathBuf> = Vec::new();
        let (interpreter, file) = match self.name {
            "rust" => return (env!("CARGO_BIN_EXE_page_client").into(), Vec::new()),
            "redis-cli" => ("sh", "client.sh"),
            "python" => ("python3", "client.py"),
            _ if self.is_node() => ("node", "client.mjs"),
            "go" => return (go_toolchain::build(directory, &self.text), Vec::new()),
            "jedis" => {
                // Its logger says that there is none, where what is said is compared.
                args.extend(["-Dslf4j.internal.verbosity=ERROR", "-cp"].map(Into::into));
                args.push(artifact::client_packages("jedis").join("*"));
                ("java", "Client.java")
            }
            name => panic!("{name} has no interpreter here"),
        };
        let file = directory.join(file);
        fs::write(&file, &self.text).expect("write the program");
        let interpreter =
            artifact::on_path(interpreter).unwrap_or_else(|| panic!("{interpreter} is missing: scripts/clients.sh"));
        args.push(file);
        (interpreter, args)
    }
}

impl Running {
    /// Waits for its end, and compares all it has written with what the page says.
    pub fn assert_printed(mut self) {
        let ended = within(TIME_MAX, || self.process.ended());
        let printed = self.process.log();
        // redis-cli ends an error with a blank line.
        let (printed, expected) = (printed.trim_end(), self.shown.printed.trim_end());
        assert_eq!(printed, expected, "{} prints something else than the page says", self.shown.name);
        assert!(ended.is_some_and(|status| status.success()), "{} ended with {ended:?}", self.shown.name);
    }
}
