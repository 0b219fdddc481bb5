//! A process that never outlives its test, on this machine or in a container.

use crate::artifact;
use crate::container::{self, Container, Source};
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
    life: Life,
    log: PathBuf,
}

enum Life {
    Child(Child),
    Container(Box<Container>),
}

impl Program {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(&self) -> Process {
        let log = open_log(&self.log);
        if container::is_backend()
            && let Some(source) = Source::of(self)
        {
            let container = Box::new(Container::start(self, source));
            return Process { name: self.name, life: Life::Container(container), log: self.log.clone() };
        }
        let mut command = self.command();
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        Process { name: self.name, life: Life::Child(child), log: self.log.clone() }
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
        match &mut self.life {
            Life::Child(child) => child.try_wait().expect("a child can be waited for"),
            Life::Container(container) => {
                let ended = container.ended();
                if ended.is_some() {
                    container.settle(&mut open_log(&self.log));
                }
                ended
            }
        }
    }

    /// Sends a signal, by its name without SIG.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn signal(&self, signal: &str) {
        match &self.life {
            Life::Child(child) => {
                let id = child.id();
                let sent = Command::new("kill").args(["-s", signal, &id.to_string()]).status();
                assert!(sent.is_ok_and(|status| status.success()), "kill -s {signal} {id} ({})", self.name);
            }
            Life::Container(container) => container.signal(signal),
        }
    }

    /// Ends it without warning, as `kill -9` does.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        match &mut self.life {
            Life::Child(child) => {
                // It may have ended by itself already.
                let _ = child.kill();
                child.wait().expect("a child can be waited for");
            }
            Life::Container(container) => {
                container.kill();
                container.settle(&mut open_log(&self.log));
            }
        }
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
        let before = read_log(&self.log);
        match &self.life {
            Life::Child(_) => before,
            Life::Container(container) => before + &String::from_utf8_lossy(&container.log()),
        }
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

fn open_log(file: &Path) -> File {
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
