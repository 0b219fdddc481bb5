//! A PostgreSQL of one's own.

use crate::artifact;
use crate::certificates::{Authority, Certificate};
use crate::deadline::{DEADLINE, eventually, within};
use crate::machine::Machine;
use crate::port;
use crate::process::{self, Process, Program, read_log};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// The account PostgreSQL runs as when the test is root, which it refuses to be.
const ACCOUNT: &str = "postgres";

/// The database of a test: the one that initdb makes, as the whole server is the test's own.
const DATABASE: &str = "postgres";

/// A password that must never be seen in a log. The server trusts loopback and does not ask for it.
pub const PASSWORD: &str = "hunter2-postgres";

/// How often another port is tried when somebody else was quicker.
const PORT_TRIES: usize = 5;

/// Small, and without waiting for a disk: a test ends processes, not the machine.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "shared_buffers=16MB",
    "max_connections=50",
    "autovacuum=off",
    "timezone=UTC",
    "log_min_messages=warning",
];

/// A running PostgreSQL, or one that was stopped and can be started again.
pub struct Postgres {
    /// Its port on loopback, the same for all its lives.
    pub port: u16,
    // Dropped in this order: a failing process still shows its log, which lies in the directory.
    process: Option<Process>,
    program: Program,
    machine: Option<Machine>,
    directory: TempDir,
}

impl Postgres {
    /// A server with an empty database.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_prepared(Self::prepare)
    }

    /// As [`Postgres::start`], on a machine of its own, whose disk can be full and whose clock can be wrong.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_on_own_machine() -> Self {
        Self::start_prepared(|| {
            let mut postgres = Self::prepare();
            let machine = Machine::in_directory(postgres.directory.path());
            postgres.program.env.extend(machine.env().iter().cloned());
            postgres.machine = Some(machine);
            postgres
        })
    }

    /// As [`Postgres::start`], with TLS for those who want it, by this certificate. A user called `by_certificate` is let in
    /// by a certificate of the authority alone, and one called `by_tls` by TLS alone; everybody else as always.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_with_tls(authority: &Authority, certificate: &Certificate) -> Self {
        const ACCESS: &str = "hostssl all by_certificate 127.0.0.1/32 cert\n\
                              hostssl all by_tls 127.0.0.1/32 trust\n\
                              host all by_certificate,by_tls 127.0.0.1/32 reject\n\
                              host all all 127.0.0.1/32 trust\n";
        let postgres = Self::start_prepared(|| {
            let mut postgres = Self::prepare();
            let own = |name: &str| postgres.directory.path().join(name);
            fs::write(own("pg_hba.conf"), ACCESS).expect("a file in its directory");
            for (name, file) in
                [("ca.pem", &authority.file), ("server.pem", &certificate.file), ("server.key", &certificate.key)]
            {
                // It takes no key that others could read.
                fs::copy(file, own(name)).expect("a file in its directory");
                fs::set_permissions(own(name), fs::Permissions::from_mode(0o600)).expect("a file of one's own");
            }
            if account().is_some() {
                command("chown", &["-R".as_ref(), ACCOUNT.as_ref(), postgres.directory.path().as_ref()]);
            }
            let settings = [
                "ssl=on".to_owned(),
                format!("ssl_ca_file={}", own("ca.pem").display()),
                format!("ssl_cert_file={}", own("server.pem").display()),
                format!("ssl_key_file={}", own("server.key").display()),
                format!("hba_file={}", own("pg_hba.conf").display()),
            ];
            postgres
                .program
                .args
                .extend(settings.into_iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
            postgres
        });
        postgres.run("create role by_certificate superuser login; create role by_tls superuser login");
        postgres
    }

    fn start_prepared(prepare: impl Fn() -> Self) -> Self {
        let mut log = String::new();
        for _ in 0..PORT_TRIES {
            let mut postgres = prepare();
            match postgres.launch() {
                Ok(()) => return postgres,
                Err(ended) if ended.contains("Address already in use") => log = ended,
                Err(ended) => panic!("postgres does not start:\n{ended}"),
            }
        }
        panic!("postgres finds no free port:\n{log}");
    }

    /// A server that is not running yet, with its port and an empty database: [`Postgres::start_again`] starts it.
    ///
    /// # Panics
    /// If PostgreSQL is not installed.
    #[must_use]
    pub fn prepare() -> Self {
        Self::prepare_with(&template(), port::free())
    }

    /// As [`Postgres::start`], at this port, and for other hosts too: whoever comes from there is trusted, also to follow it.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_for_all_at(port: u16) -> Self {
        Self::start_prepared(|| Self::prepare_for_all(&template(), port))
    }

    fn prepare_for_all(content: &Path, port: u16) -> Self {
        const ACCESS: &str = "host all all all trust\nhost replication all all trust\n";
        let mut postgres = Self::prepare_with(content, port);
        let file = postgres.directory.path().join("pg_hba.conf");
        fs::write(&file, ACCESS).expect("a file in its directory");
        postgres.set("listen_addresses=*");
        postgres.set(format!("hba_file={}", file.display()));
        // Another host that does not answer any more is given up soon.
        for of_a_link in ["wal_sender_timeout=5s", "wal_receiver_timeout=5s", "wal_retrieve_retry_interval=500ms"] {
            postgres.set(of_a_link);
        }
        postgres
    }

    /// A setting that it is started with; the last word counts.
    fn set(&mut self, setting: impl Into<OsString>) {
        self.program.args.extend(["-c".into(), setting.into()]);
    }

    fn prepare_with(content: &Path, port: u16) -> Self {
        let directory = temporary_directory();
        let data = directory.path().join("data");
        copy(content, &data);
        let mut args: Vec<OsString> = vec!["-D".into(), data.into(), "-p".into(), port.to_string().into()];
        args.extend(["-k".into(), directory.path().into()]);
        args.extend(SETTINGS.iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
        let program = Program {
            name: "postgres",
            file: artifact::postgres_program("postgres"),
            args,
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: account(),
        };
        Self { port, program, machine: None, directory, process: None }
    }

    /// Its machine.
    ///
    /// # Panics
    /// If it was not started with [`Postgres::start_on_own_machine`].
    #[must_use]
    pub fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("the server has a machine of its own")
    }

    /// All the server has logged, in all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map_or_else(|| read_log(&self.program.log), Process::log)
    }

    /// The URL for clients, with a password in it.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The URL for clients who come another way, through this port.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{ACCOUNT}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}")
    }

    /// Runs SQL and hands out the result's rows, one line each, columns separated by `|`.
    ///
    /// # Panics
    /// If PostgreSQL refuses it.
    #[must_use = "use Postgres::run for SQL without a result"]
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let output = self.try_run(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
        output.lines().map(str::to_owned).collect()
    }

    /// Runs SQL whose result is one value.
    ///
    /// # Panics
    /// If PostgreSQL refuses it.
    #[must_use = "use Postgres::run for SQL without a result"]
    pub fn value(&self, sql: &str) -> String {
        self.rows(sql).join("\n")
    }

    /// Runs SQL without a result.
    ///
    /// # Panics
    /// If PostgreSQL refuses it.
    pub fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
    }

    /// Runs SQL.
    ///
    /// # Errors
    /// What PostgreSQL said.
    ///
    /// # Panics
    /// If psql cannot be started.
    pub fn try_run(&self, sql: &str) -> Result<String, String> {
        let output = Command::new(artifact::postgres_program("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", sql])
            .stdin(Stdio::null())
            .output()
            .expect("psql starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// A session that stays, for a transaction that is held open while others work.
    ///
    /// # Panics
    /// If psql cannot be started.
    #[must_use]
    pub fn session(&self) -> Session {
        let mut psql = Command::new(artifact::postgres_program("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let said = BufReader::new(psql.stdout.take().expect("its output"));
        Session { psql, said }
    }

    /// A backup of all it holds now, taken while it works.
    ///
    /// # Panics
    /// If `pg_basebackup` fails.
    #[must_use]
    pub fn base_backup(&self) -> Backup {
        let directory = temporary_directory();
        let data = directory.path().join("data");
        let url = self.url();
        let args = ["-d", &url, "-X", "stream", "--checkpoint=fast", "--no-sync", "-D"];
        let mut program = Program {
            name: "pg_basebackup",
            file: artifact::postgres_program("pg_basebackup"),
            args: args.map(Into::into).into(),
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: account(),
        };
        program.args.push(data.into());
        let status = program.start().wait();
        assert!(status.success(), "pg_basebackup failed:\n{}", read_log(&program.log));
        Backup(directory)
    }

    /// Ends the server, cutting off its clients but finishing what is on disk ("fast").
    ///
    /// # Panics
    /// If it is not running.
    pub fn stop(&mut self) {
        self.process.take().expect("the server runs").end("INT");
    }

    /// Ends the server as a crash does ("immediate").
    ///
    /// # Panics
    /// If it is not running.
    pub fn crash(&mut self) {
        self.process.take().expect("the server runs").end("QUIT");
    }

    /// Starts the server again: same port, same data.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_again(&mut self) {
        self.launch().unwrap_or_else(|log| panic!("postgres does not start again:\n{log}"));
    }

    /// Waits until it answers; if it has ended by itself, as for want of disk, it is started again. Whether it had.
    ///
    /// # Panics
    /// If it does not come back.
    pub fn revive(&mut self) -> bool {
        let mut has_ended = false;
        eventually("PostgreSQL answers", || {
            if self.process.as_mut().is_none_or(|process| process.ended().is_some()) {
                has_ended = true;
                self.start_again();
            }
            self.try_run("select 1").ok()
        });
        has_ended
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut process = self.program.start();
        let is_ready = within(DEADLINE, || match process.ended() {
            Some(_) => Some(false),
            None => self.try_run("select 1").is_ok().then_some(true),
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

/// What a server held at one moment.
pub struct Backup(TempDir);

impl Backup {
    /// A server that was restored from it, at a port of its own.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn restore(&self) -> Postgres {
        Postgres::start_prepared(|| Postgres::prepare_with(&self.0.path().join("data"), port::free()))
    }

    /// A standby that follows the server at this address from there on, without being waited for; like it in all else.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn follow(&self, primary: Ipv4Addr, port: u16) -> Postgres {
        Postgres::start_prepared(|| {
            let mut standby = Postgres::prepare_for_all(&self.0.path().join("data"), port);
            fs::write(standby.directory.path().join("data/standby.signal"), "").expect("a file in its directory");
            standby.set(format!(
                "primary_conninfo=host={primary} port={port} user={ACCOUNT} connect_timeout=2 tcp_user_timeout=5000"
            ));
            standby
        })
    }
}

/// One connection of one's own. Its transaction is rolled back when it is dropped.
pub struct Session {
    psql: Child,
    said: BufReader<ChildStdout>,
}

impl Session {
    /// Runs SQL whose result is of no interest, and waits until it is done.
    ///
    /// # Panics
    /// If PostgreSQL refuses it.
    pub fn run(&mut self, sql: &str) {
        const DONE: &str = "session-is-done";
        let input = self.psql.stdin.as_mut().expect("its input");
        writeln!(input, "{sql};\n\\echo {DONE}").expect("psql reads");
        let mut line = String::new();
        while line.trim_end() != DONE {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).expect("psql answers"), 0, "psql ended at: {sql}");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server sees the connection end, and rolls back.
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed outright, PostgreSQL would leave its children to find out by themselves.
        if let Some(process) = &mut self.process {
            process.signal("QUIT");
            let _ = within(DEADLINE, || process.ended());
        }
    }
}

pub(crate) fn account() -> Option<&'static str> {
    process::is_root().then_some(ACCOUNT)
}

/// A directory that PostgreSQL's account may use.
pub(crate) fn temporary_directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("coupon-postgres-").tempdir().expect("temporary directory");
    if account().is_some() {
        command("chown", &[ACCOUNT.as_ref(), directory.path().as_ref()]);
    }
    directory
}

/// A data directory as initdb leaves it: made once, then copied, which is ten times as fast.
fn template() -> PathBuf {
    let initdb = artifact::postgres_program("initdb");
    let version = initdb.display().to_string().replace('/', "-");
    let template = artifact::target_directory().join(format!("tmp/coupon-tests{version}"));
    // One of this process's threads makes it, the others wait. A thread that panicked here has made none.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if template.is_dir() {
        return template;
    }
    let directory = temporary_directory();
    let log = directory.path().join("log");
    let data = directory.path().join("data");
    let mut program = Program {
        name: "initdb",
        file: initdb,
        args: ["--auth=trust", "--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync", "-U", ACCOUNT, "-D"]
            .map(Into::into)
            .into(),
        env: Vec::new(),
        directory: directory.path().to_owned(),
        log: log.clone(),
        account: account(),
    };
    program.args.push(data.clone().into());
    let status = program.start().wait();
    assert!(status.success(), "initdb failed:\n{}", read_log(&log));
    // Another process may get here at the same time: whoever renames first has made the template.
    let parent = template.parent().expect("a parent");
    fs::create_dir_all(parent).expect("target directory");
    let own = tempfile::Builder::new().prefix("coupon-tests-").tempdir_in(parent).expect("target directory");
    let copied = own.path().join("data");
    copy(&data, &copied);
    let _ = fs::rename(&copied, &template);
    template
}

fn copy(from: &Path, to: &Path) {
    // With -a the owner goes with the files.
    command("cp", &["-a".as_ref(), from.as_ref(), to.as_ref()]);
}

fn command(name: &str, args: &[&std::ffi::OsStr]) {
    let status = Command::new(name).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{name} {args:?} failed");
}
