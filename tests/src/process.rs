//! A process that never outlives its test, on this machine or in a container.

use crate::artifact;
use crate::container;
use crate::deadline::{DEADLINE, within};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// How many lines of a log a failing test shows.
const LOG_TAIL_LINES: usize = 60;

/// What to start.
pub struct Program {
    /// How it is called in messages.
    pub name: &'static str,
    /// The executable.
    pub file: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, besides the test's own.
    pub env: Vec<(String, String)>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Where its output goes, appended.
    pub log: PathBuf,
    /// The account it runs as, if not the test's own.
    pub account: Option<&'static str>,
}

/// A running process: killed when dropped, and by the kernel when the test dies.
pub struct Process {
    name: &'static str,
    life: Box<dyn Life>,
    log: PathBuf,
}

/// What a process is where it runs. Each panics if it is not told how things stand.
pub trait Life: Send + Sync {
    /// Its exit status, if it has ended.
    fn ended(&mut self) -> Option<ExitStatus>;

    /// Sends a signal, by its name without SIG.
    ///
    /// # Errors
    /// Why it cannot be sent.
    fn signal(&self, signal: &str) -> Result<(), String>;

    /// Ends it without warning, and waits until it has.
    fn kill(&mut self);

    /// What it has written that is not in its log file yet.
    fn log(&self) -> Vec<u8>;
}

impl Life for Child {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.try_wait().expect("a child can be waited for")
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        if sent.is_ok_and(|status| status.success()) { Ok(()) } else { Err(format!("kill -s {signal} {id}")) }
    }

    fn kill(&mut self) {
        // It may have ended by itself already.
        let _ = Self::kill(self);
        self.wait().expect("a child can be waited for");
    }

    fn log(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl Program {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(&self) -> Process {
        let life = container::start(self).unwrap_or_else(|| Box::new(self.spawn()));
        Process { name: self.name, life, log: self.log.clone() }
    }

    fn spawn(&self) -> Child {
        let log = open_log(&self.log);
        let mut command = self.command();
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log);
        command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.name))
    }

    /// Through setpriv(1), which becomes the program: the kernel then ends it with the thread that started it, even
    /// if the test is killed, and it can be started as another account.
    fn command(&self) -> Command {
        let Some(setpriv) = artifact::on_path("setpriv") else {
            assert!(self.account.is_none(), "setpriv is missing: run `apt-get install util-linux`, or test as a user");
            let mut command = Command::new(&self.file);
            command.args(&self.args);
            return command;
        };
        let mut command = Command::new(setpriv);
        if let Some(account) = self.account {
            command.args([format!("--reuid={account}"), format!("--regid={account}")]).arg("--init-groups");
        }
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.file).args(&self.args);
        command
    }
}

impl Process {
    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// If the kernel does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.life.ended()
    }

    /// Sends a signal, by its name without SIG.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn signal(&self, signal: &str) {
        self.life.signal(signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Ends it without warning, as `kill -9` does.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        self.life.kill();
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        within(DEADLINE, || self.ended()).unwrap_or_else(|| panic!("{} does not end:\n{}", self.name, self.log_tail()))
    }

    /// All it has written.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(&self.log) + &String::from_utf8_lossy(&self.life.log())
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} wrote last:\n{}", self.name, self.log_tail());
        }
    }
}

/// A log file, to be written on.
///
/// # Panics
/// If it cannot be opened.
#[must_use]
pub fn open_log(file: &Path) -> File {
    File::options().create(true).append(true).open(file).expect("log file")
}

/// A log file as text, whatever bytes are in it.
#[must_use]
pub fn read_log(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// Whether this test runs as root.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
