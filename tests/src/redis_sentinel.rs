//! Sentinels that watch over a primary and its replicas.

use crate::artifact;
use crate::deadline::{DEADLINE, eventually_true, within};
use crate::port;
use crate::process::{Process, Program};
use crate::redis_server::Redis;
use crate::resp::Client;
use std::fs;
use tempfile::TempDir;

/// What the primary is called among them.
pub const NAME: &str = "coupons";

/// Sentinels that agree by majority.
pub struct Sentinels {
    all: Vec<Sentinel>,
}

/// One of them.
pub struct Sentinel {
    /// Where it listens on loopback.
    pub port: u16,
    // Dropped in this order: a failing process still shows its log, which lies in the directory.
    process: Option<Process>,
    program: Program,
    _directory: TempDir,
}

impl Sentinel {
    /// Starts one, for a primary at this port of loopback; `lines` go into its settings.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start(primary: u16, quorum: usize, lines: &[String]) -> Self {
        Self::start_for("127.0.0.1", primary, quorum, lines)
    }

    /// The same, where the primary is known by another name.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start_for(host: &str, primary: u16, quorum: usize, lines: &[String]) -> Self {
        let directory = tempfile::Builder::new().prefix("coupon-sentinel-").tempdir().expect("temporary directory");
        let port = port::free();
        let config = directory.path().join("sentinel.conf");
        let settings = [
            format!("port {port}"),
            "bind 127.0.0.1".into(),
            format!("dir {}", directory.path().display()),
            "logfile \"\"".into(),
            "sentinel resolve-hostnames yes".into(),
            format!("sentinel monitor {NAME} {host} {primary} {quorum}"),
            // Soon, so that tests are short, but not so soon that a busy machine looks like a dead one.
            format!("sentinel down-after-milliseconds {NAME} 3000"),
            format!("sentinel failover-timeout {NAME} 5000"),
        ];
        fs::write(&config, [&settings, lines].concat().join("\n")).expect("write sentinel.conf");
        let program = Program {
            name: "redis-sentinel",
            file: artifact::on_path("redis-server").expect("redis-server is missing: apt-get install redis-server"),
            args: vec![config.into(), "--sentinel".into()],
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        let mut sentinel = Self { port, process: None, program, _directory: directory };
        sentinel.start_again();
        sentinel
    }

    /// Ends it without warning.
    ///
    /// # Panics
    /// If it is not running.
    pub fn kill(&mut self) {
        self.process.take().expect("the sentinel runs").kill();
    }

    /// Starts it again: it knows what it knew.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_again(&mut self) {
        let mut process = self.program.start();
        let is_up = within(DEADLINE, || match process.ended() {
            Some(_) => Some(false),
            None => {
                Client::connect(self.port).and_then(|mut client| client.try_call(&["PING"])).is_ok().then_some(true)
            }
        });
        assert_eq!(is_up, Some(true), "a sentinel does not start:\n{}", process.log());
        self.process = Some(process);
    }

    /// A new connection.
    ///
    /// # Panics
    /// If it is not taken.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("the sentinel does not answer: {error}"))
    }

    /// The port of the primary that it names.
    ///
    /// # Panics
    /// If it names none.
    #[must_use]
    pub fn primary(&self) -> u16 {
        let place = self.client().run(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"));
        place.array()[1].text().parse().expect("a port")
    }

    /// Waits until it knows so many replicas and other sentinels: before that it could not fail over.
    fn await_company(&self, replicas: i64, others: i64) {
        let mut client = self.client();
        eventually_true("the sentinel knows the others", || {
            let known = client.run(&format!("SENTINEL MASTER {NAME}"));
            let number = |name: &str| known.field(name).text().parse::<i64>().expect("a number");
            number("num-slaves") == replicas && number("num-other-sentinels") == others
        });
    }
}

impl Sentinels {
    /// Three of them, over a primary with so many replicas.
    ///
    /// # Panics
    /// If they do not come to know each other.
    #[must_use]
    pub fn start(primary: &Redis, replicas: i64) -> Self {
        let all: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(primary.port, 2, &[])).collect();
        for sentinel in &all {
            sentinel.await_company(replicas, 2);
        }
        Self { all }
    }

    /// How the reconciler finds the primary through them.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.all.iter().collect::<Vec<_>>())
    }

    /// Waits until all of them name another primary than this one; its port.
    ///
    /// # Panics
    /// At the deadline.
    #[must_use]
    pub fn await_other_than(&self, port: u16) -> u16 {
        eventually_true("all sentinels name another primary", || {
            let named: Vec<u16> = self.all.iter().map(Sentinel::primary).collect();
            named.iter().all(|named| *named != port)
        });
        self.all[0].primary()
    }

    /// One of them.
    #[must_use]
    pub fn first(&self) -> &Sentinel {
        &self.all[0]
    }
}

/// The address of a primary that these name.
#[must_use]
pub fn url(sentinels: &[&Sentinel]) -> String {
    let places: Vec<String> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
    format!("redis-sentinel://{}/{NAME}", places.join(","))
}
