//! The reconciler as an operator runs it.

use crate::artifact;
use crate::deadline::{eventually, eventually_true};
use crate::http;
use crate::port;
use crate::postgres_server::Postgres;
use crate::process::{Process, Program};
use crate::redis_server::Redis;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

/// How a reconciler is run.
pub struct Options {
    env: Vec<(String, String)>,
    args: Vec<String>,
    pause_at: Option<String>,
}

/// A running `coupon-reconciler run`.
pub struct Reconciler {
    /// Where it serves health and metrics.
    pub listen_port: u16,
    // Dropped in this order: a failing process still shows its log, which lies in the directory.
    process: Process,
    directory: TempDir,
}

impl Options {
    /// Between these two servers. It issues ten times a second, so that tests are short.
    #[must_use]
    pub fn between(redis: &Redis, postgres: &Postgres) -> Self {
        Self {
            env: vec![("REDIS_URL".into(), redis.url()), ("DATABASE_URL".into(), postgres.url())],
            args: ["--issue-interval", "100ms"].map(Into::into).into(),
            pause_at: None,
        }
    }

    /// Another way to reach Redis.
    #[must_use]
    pub fn redis_url(mut self, url: String) -> Self {
        self.env[0].1 = url;
        self
    }

    /// Another way to PostgreSQL than the direct one.
    #[must_use]
    pub fn database_url(mut self, url: String) -> Self {
        self.env[1].1 = url;
        self
    }

    /// Neither way by the environment; the arguments say both.
    #[must_use]
    pub fn without_urls(mut self) -> Self {
        self.env.clear();
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// More arguments; clap lets a later one win only where the daemon says so, so do not repeat one.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Another pace of issuing.
    #[must_use]
    pub fn issue_interval(mut self, interval: &str) -> Self {
        self.args[1] = interval.to_owned();
        self
    }

    /// Holds it when it first reaches a named point.
    #[must_use]
    pub fn pause_at(mut self, point: &str) -> Self {
        self.pause_at = Some(point.to_owned());
        self
    }

    /// Starts it. It may have to wait for its servers; [`Reconciler::await_ready`] does so too.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(self) -> Reconciler {
        let directory = tempfile::Builder::new().prefix("coupon-reconciler-").tempdir().expect("temporary directory");
        let listen_port = port::free();
        let pause_file = directory.path().join("pause");
        let mut env = self.env;
        let file = match self.pause_at {
            None => artifact::reconciler(),
            Some(point) => {
                env.push(("COUPON_PAUSE_AT".into(), point));
                env.push(("COUPON_PAUSE_FILE".into(), pause_file.display().to_string()));
                artifact::reconciler_with_pause_points()
            }
        };
        let mut args = vec!["run".into(), "--listen".into(), format!("127.0.0.1:{listen_port}").into()];
        args.extend(self.args.into_iter().map(Into::into));
        let program = Program {
            name: "coupon-reconciler",
            file,
            args,
            env,
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        Reconciler { listen_port, process: program.start(), directory }
    }
}

impl Reconciler {
    /// Starts one between these two servers and waits until it is ready.
    #[must_use]
    pub fn start(redis: &Redis, postgres: &Postgres) -> Self {
        Options::between(redis, postgres).start().await_ready()
    }

    /// Waits until it says that both sides are up and the schema is there.
    ///
    /// # Panics
    /// At the deadline, or when it ends.
    #[must_use]
    pub fn await_ready(mut self) -> Self {
        eventually_true("the reconciler is ready", || {
            if let Some(status) = self.process.ended() {
                panic!("the reconciler ended ({status}) instead of getting ready");
            }
            self.is_ready()
        });
        self
    }

    /// Whether it says so now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(http::get(self.listen_port, "/readyz"), Ok((200, _)))
    }

    /// The sum of a metric over all its labels, if it is served.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = http::get(self.listen_port, "/metrics").ok()?;
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let values: Vec<f64> =
            text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// What `status` shows of it, run to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn status(&self, args: &[&str]) -> Output {
        Command::new(artifact::reconciler())
            .args(["status", "--listen", &format!("127.0.0.1:{}", self.listen_port)])
            .args(args)
            .output()
            .expect("coupon-reconciler starts")
    }

    /// Waits until it is held at its pause point.
    ///
    /// # Panics
    /// At the deadline.
    pub fn await_pause(&self) {
        eventually_true("the reconciler reaches its pause point", || self.pause_file().is_file());
    }

    /// Lets it go on from its pause point.
    ///
    /// # Panics
    /// If it is not held.
    pub fn go_on(&self) {
        std::fs::remove_file(self.pause_file()).expect("the reconciler is held at a pause point");
    }

    fn pause_file(&self) -> PathBuf {
        self.directory.path().join("pause")
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Sends a signal and waits for the end.
    pub fn end(&mut self, signal: &str) -> ExitStatus {
        self.process.end(signal)
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has logged something.
    ///
    /// # Panics
    /// At the deadline.
    pub fn await_log(&self, text: &str) {
        eventually(&format!("the reconciler logs: {text}"), || self.log().contains(text).then_some(()));
    }
}

/// A subcommand that is held when it first reaches a named point.
pub struct HeldCommand {
    child: Child,
    directory: TempDir,
}

impl HeldCommand {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(redis: &Redis, postgres: &Postgres, args: &[&str], point: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("coupon-reconciler-").tempdir().expect("temporary directory");
        let child = Command::new(artifact::reconciler_with_pause_points())
            .args(args)
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", postgres.url())
            .env("COUPON_PAUSE_AT", point)
            .env("COUPON_PAUSE_FILE", directory.path().join("pause"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("coupon-reconciler starts");
        Self { child, directory }
    }

    /// Waits until it is held.
    ///
    /// # Panics
    /// At the deadline.
    pub fn await_pause(&self) {
        eventually_true("the command reaches its pause point", || self.directory.path().join("pause").is_file());
    }

    /// Lets it go on to its end.
    ///
    /// # Panics
    /// If it is not held.
    #[must_use]
    pub fn go_on(self) -> Output {
        std::fs::remove_file(self.directory.path().join("pause")).expect("the command is held at a pause point");
        self.child.wait_with_output().expect("a child can be waited for")
    }
}

/// Runs a subcommand to its end.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn command(redis: &Redis, postgres: &Postgres, args: &[&str]) -> Output {
    command_by(&redis.url(), &postgres.url(), args)
}

/// The same by other ways than the direct ones.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn command_by(redis_url: &str, database_url: &str, args: &[&str]) -> Output {
    Command::new(artifact::reconciler())
        .args(args)
        .env("REDIS_URL", redis_url)
        .env("DATABASE_URL", database_url)
        .output()
        .expect("coupon-reconciler starts")
}

/// Whether a subcommand ended well, and all it said.
#[must_use]
pub fn outcome(output: &Output) -> (bool, String) {
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
