//! A Redis of one's own.

use crate::artifact;
use crate::certificates::{Authority, Certificate};
use crate::deadline::{DEADLINE, within};
use crate::machine::Machine;
use crate::port;
use crate::process::{Process, Program, read_log};
use crate::resp::{Client, Value};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How often another port is tried when somebody else was quicker.
const PORT_TRIES: usize = 5;

/// What of the shipped redis.conf a test sets itself: where things are, and which module is loaded.
const OWN_SETTINGS: [&str; 9] =
    ["loadmodule", "port", "bind", "dir", "logfile", "pidfile", "daemonize", "supervised", "unixsocket"];

/// How a server is started.
pub struct Options {
    lines: Vec<String>,
    with_module: bool,
    module_args: String,
    has_machine: bool,
    tls: Vec<String>,
    /// The port that other hosts look for it at, and not only loopback.
    port: Option<u16>,
}

/// A running redis-server, or one that was stopped and can be started again.
pub struct Redis {
    /// Its port on loopback, the same for all its lives.
    pub port: u16,
    /// The port where it speaks TLS, if it does.
    pub tls_port: Option<u16>,
    // Dropped in this order: a failing process still shows its log, which lies in the directory.
    process: Option<Process>,
    program: Program,
    directory: TempDir,
    machine: Option<Machine>,
}

impl Options {
    /// The shipped settings, with the module.
    #[must_use]
    pub fn shipped() -> Self {
        Self {
            lines: Vec::new(),
            with_module: true,
            module_args: String::new(),
            has_machine: false,
            tls: Vec::new(),
            port: None,
        }
    }

    /// A line of redis.conf, which wins over the shipped one.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Arguments of the module.
    #[must_use]
    pub fn module_args(mut self, args: &str) -> Self {
        self.module_args = args.to_owned();
        self
    }

    /// A server that does not know the module.
    #[must_use]
    pub fn without_module(mut self) -> Self {
        self.with_module = false;
        self
    }

    /// On a machine of its own, whose disk can be full and whose clock can be wrong: [`Redis::machine`].
    #[must_use]
    pub fn own_machine(mut self) -> Self {
        self.has_machine = true;
        self
    }

    /// On a second port it speaks TLS, by this certificate. What clients show is verified by the authority, if they show
    /// anything.
    #[must_use]
    pub fn tls(mut self, authority: &Authority, certificate: &Certificate) -> Self {
        self.tls = vec![
            format!("tls-ca-cert-file {}", authority.file.display()),
            format!("tls-cert-file {}", certificate.file.display()),
            format!("tls-key-file {}", certificate.key.display()),
            "tls-auth-clients optional".into(),
        ];
        self
    }

    /// At this port, for other hosts too.
    #[must_use]
    pub fn for_all_at(self, port: u16) -> Self {
        Self { port: Some(port), ..self }.line("bind 0.0.0.0").line("protected-mode no")
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(self) -> Redis {
        self.try_start().unwrap_or_else(|log| panic!("redis-server does not start:\n{log}"))
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The log of a server that ended instead of answering.
    pub fn try_start(self) -> Result<Redis, String> {
        let mut log = String::new();
        for _ in 0..PORT_TRIES {
            let mut redis = self.prepare();
            match redis.launch() {
                Ok(()) => return Ok(redis),
                Err(ended) if ended.contains("Address already in use") => log = ended,
                Err(ended) => return Err(ended),
            }
        }
        Err(log)
    }

    /// A server that is not running yet, with its port: [`Redis::start_again`] starts it.
    ///
    /// # Panics
    /// If redis-server is not installed.
    #[must_use]
    pub fn prepare(&self) -> Redis {
        let directory = tempfile::Builder::new().prefix("coupon-redis-").tempdir().expect("temporary directory");
        let port = self.port.unwrap_or_else(port::free);
        let file = artifact::on_path("redis-server").expect("redis-server is missing: apt-get install redis-server");
        let config = directory.path().join("redis.conf");
        let tls_port = (!self.tls.is_empty()).then(port::free);
        fs::write(&config, self.config(port, tls_port, directory.path())).expect("write redis.conf");
        let machine = self.has_machine.then(|| Machine::in_directory(directory.path()));
        let program = Program {
            name: "redis-server",
            file,
            args: vec![config.into()],
            env: machine.as_ref().map_or_else(Vec::new, |machine| machine.env().to_vec()),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        Redis { port, tls_port, directory, program, machine, process: None }
    }

    fn config(&self, port: u16, tls_port: Option<u16>, directory: &Path) -> String {
        let shipped = fs::read_to_string(artifact::workspace().join("redis.conf")).unwrap_or_default();
        let is_own = |line: &&str| line.split_whitespace().next().is_none_or(|word| !OWN_SETTINGS.contains(&word));
        let mut lines: Vec<String> = shipped.lines().filter(is_own).map(str::to_owned).collect();
        lines.extend([
            format!("port {port}"),
            "bind 127.0.0.1".into(),
            format!("dir {}", directory.display()),
            "logfile \"\"".into(),
            "always-show-logo no".into(),
            // DEBUG is how a test asks for a digest and a reload.
            "enable-debug-command yes".into(),
            // A replica starts at once, not after waiting for others to share its snapshot.
            "repl-diskless-sync-delay 0".into(),
        ]);
        lines.extend(self.tls.iter().cloned());
        lines.extend(tls_port.map(|port| format!("tls-port {port}")));
        lines.extend(self.lines.iter().cloned());
        if self.with_module {
            lines.push(format!("loadmodule {} {}", artifact::module().display(), self.module_args));
        }
        lines.join("\n")
    }
}

impl Redis {
    /// A server with the shipped settings and the module.
    #[must_use]
    pub fn start() -> Self {
        Options::shipped().start()
    }

    /// A replica of this server.
    #[must_use]
    pub fn replica(&self) -> Self {
        Options::shipped().line(format!("replicaof 127.0.0.1 {}", self.port)).start()
    }

    /// A new connection.
    ///
    /// # Panics
    /// If the server does not take it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("redis-server does not answer: {error}"))
    }

    /// A new connection that speaks RESP3.
    ///
    /// # Panics
    /// If the server does not take it.
    #[must_use]
    pub fn client_resp3(&self) -> Client {
        let mut client = self.client();
        let hello = client.run("HELLO 3");
        assert!(!hello.is_error(), "{hello}");
        client
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The URL for clients who speak TLS, by this name of loopback.
    ///
    /// # Panics
    /// If it was not started with [`Options::tls`].
    #[must_use]
    pub fn tls_url(&self, host: &str) -> String {
        format!("rediss://{host}:{}", self.tls_port.expect("the server speaks TLS"))
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its machine.
    ///
    /// # Panics
    /// If it was not started with [`Options::own_machine`].
    #[must_use]
    pub fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("the server has a machine of its own")
    }

    /// The file that it appends to: the newest increment of its AOF.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn aof(&self) -> PathBuf {
        let directory = self.directory().join("appendonlydir");
        let files =
            fs::read_dir(directory).expect("the AOF's directory").filter_map(Result::ok).map(|file| file.path());
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("appendonly.aof.")?.strip_suffix(".incr.aof")?.parse::<u64>().ok()
        };
        files.filter_map(|path| Some((number(&path)?, path))).max().expect("an increment of the AOF").1
    }

    /// Ends the server without warning.
    ///
    /// # Panics
    /// If it is not running.
    pub fn kill(&mut self) {
        self.process.take().expect("the server runs").kill();
    }

    /// Ends the server as an operator does, which saves what it is set to save.
    ///
    /// # Panics
    /// If it is not running.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.end("TERM");
    }

    /// Starts the server again: same port, same data.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_again(&mut self) {
        let launched = self.launch().or_else(|log| {
            // As scripts/redis.sh does: the file ends in the middle of a transaction.
            if log.contains("Unexpected end of file reading the append only file") {
                self.repair_aof();
                return self.launch();
            }
            Err(log)
        });
        launched.unwrap_or_else(|log| panic!("redis-server does not start again:\n{log}"));
    }

    /// Cuts an AOF back to its last whole transaction.
    fn repair_aof(&self) {
        let tool =
            artifact::on_path("redis-check-aof").expect("redis-check-aof is missing: apt-get install redis-tools");
        let mut process = Command::new(tool)
            .arg("--fix")
            .arg(self.aof())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-check-aof starts");
        // It asks before it cuts.
        process.stdin.take().expect("its input").write_all(b"y\n").expect("redis-check-aof asks");
        assert!(process.wait().expect("redis-check-aof ends").success(), "redis-check-aof --fix failed");
    }

    /// Starts a stopped server again without the module.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_again_without_module(&mut self) {
        let file = self.directory.path().join("redis.conf");
        let config = fs::read_to_string(&file).expect("read redis.conf");
        let lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("loadmodule ")).collect();
        fs::write(&file, lines.join("\n")).expect("write redis.conf");
        self.start_again();
    }

    /// Whether the very process that was started still runs.
    ///
    /// # Panics
    /// If it was stopped by the test.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().expect("the server runs").ended().is_none()
    }

    /// All the server has logged, in all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map_or_else(|| read_log(&self.program.log), Process::log)
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut process = self.program.start();
        let port = self.port;
        let is_ready = within(DEADLINE, || match process.ended() {
            Some(_) => Some(false),
            None => is_up(port).then_some(true),
        });
        match is_ready {
            Some(true) => {
                self.process = Some(process);
                Ok(())
            }
            _ => Err(process.log()),
        }
    }
}

/// Whether the server has loaded its data and takes commands.
fn is_up(port: u16) -> bool {
    Client::connect(port).and_then(|mut client| client.try_call(&["PING"])).is_ok_and(|reply| match reply {
        Value::Error(error) => error.starts_with("NOAUTH"),
        _ => true,
    })
}
