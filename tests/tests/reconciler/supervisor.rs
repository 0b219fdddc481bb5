//! What a service manager is told, over a socket as systemd gives one to a service of `Type=notify`.

use crate::sale::servers;
use coupon_tests::container;
use coupon_tests::deadline::DEADLINE;
use coupon_tests::reconciler::Options;
use std::os::unix::net::UnixDatagram;
use tempfile::TempDir;

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        container::show(directory.path());
        container::show(&path);
        socket.set_read_timeout(Some(DEADLINE)).expect("a time limit");
        Self { socket, heard: Vec::new(), directory }
    }

    fn path(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    /// Reads on until something is said.
    fn await_word(&mut self, word: &str) {
        while !self.heard.iter().any(|heard| heard.starts_with(word)) {
            let mut message = [0; 4096];
            let length = self
                .socket
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("the manager is not told {word} ({error}), only {:?}", self.heard));
            let text = str::from_utf8(&message[..length]).expect("text");
            assert!(text.lines().all(|line| line.contains('=')), "no assignments: {text:?}");
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }

    /// As [`Manager::await_word`], for what is yet to be said.
    fn await_next(&mut self, word: &str) {
        self.heard.clear();
        self.await_word(word);
    }

    /// Reads what is there, without waiting.
    fn drain(&mut self) {
        self.socket.set_nonblocking(true).expect("a socket that does not wait");
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            self.heard.extend(String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned));
        }
    }

    fn times(&self, word: &str) -> usize {
        self.heard.iter().filter(|heard| *heard == word).count()
    }
}

#[test]
fn it_is_ready_then_at_work_then_stopping() {
    let (redis, postgres) = servers();
    let mut manager = Manager::new();
    let mut reconciler = Options::between(&redis, &postgres).env("NOTIFY_SOCKET", &manager.path()).start();
    manager.await_word("READY=1");
    assert_eq!(manager.heard[0], "READY=1");
    let live = coupon_tests::http::get(reconciler.listen_port, "/livez").expect("/livez");
    assert_eq!(live.0, 200, "whoever is told that it is ready may ask it");
    manager.await_word("STATUS=relaying, with 64 of 64 shards");
    assert_eq!(reconciler.end("TERM").code(), Some(0));
    manager.drain();
    assert_eq!((manager.times("READY=1"), manager.times("STOPPING=1")), (1, 1), "{:?}", manager.heard);
    assert_eq!(manager.times("WATCHDOG=1"), 0, "nobody asked for signs of life");
    let last = manager.heard.iter().position(|heard| heard == "STOPPING=1").expect("it stops");
    assert_eq!(manager.heard[last + 1..], ["STATUS=ending the batches at hand"]);
}

#[test]
fn it_is_ready_without_its_servers_and_says_whom_it_waits_for() {
    let (mut redis, mut postgres) = servers();
    postgres.stop();
    let mut manager = Manager::new();
    let _reconciler = Options::between(&redis, &postgres).env("NOTIFY_SOCKET", &manager.path()).start();
    manager.await_word("READY=1");
    manager.await_word("STATUS=waiting for PostgreSQL: ");
    postgres.start_again();
    manager.await_next("STATUS=relaying");
    redis.stop();
    manager.await_next("STATUS=waiting for Redis: ");
    redis.start_again();
    manager.await_next("STATUS=relaying");
    assert_eq!(manager.times("READY=1"), 0, "it is said once");
}

#[test]
fn signs_of_life_come_to_who_asks_for_them() {
    let (redis, postgres) = servers();
    let mut manager = Manager::new();
    let _reconciler = Options::between(&redis, &postgres)
        .env("NOTIFY_SOCKET", &manager.path())
        .env("WATCHDOG_USEC", "300000")
        .start();
    for _ in 0..5 {
        manager.await_next("WATCHDOG=1");
    }
}

#[test]
fn a_reconciler_that_cannot_start_is_not_ready() {
    let (redis, postgres) = servers();
    let mut manager = Manager::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let output = std::process::Command::new(coupon_tests::artifact::reconciler())
        .args(["run", "--listen", &format!("127.0.0.1:{port}")])
        .envs([("REDIS_URL", redis.url()), ("DATABASE_URL", postgres.url()), ("NOTIFY_SOCKET", manager.path())])
        .output()
        .expect("coupon-reconciler starts");
    assert_eq!(output.status.code(), Some(1));
    manager.drain();
    assert!(manager.heard.is_empty(), "{:?}", manager.heard);
}

#[test]
fn a_manager_that_is_not_there_is_no_reason_to_stop() {
    let (redis, postgres) = servers();
    let reconciler = Options::between(&redis, &postgres).env("NOTIFY_SOCKET", "/nowhere/notify").start().await_ready();
    reconciler.await_log("NOTIFY_SOCKET is of no use");
}
