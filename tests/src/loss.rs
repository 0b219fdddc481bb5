//! How much of what was answered is gone after a crash: measured, mode by mode, on a Redis without ledger.
//!
//! A power cut is played at its worst: the process is killed, and its AOF is cut back to what was in it when the last sync that
//! came to its end began. A real one may leave more, as the kernel writes on its own too.

use crate::machine::HOUR_US;
use crate::redis_server::{Options, Redis};
use crate::resp::{Client, Value};
use std::collections::HashSet;
use std::fs::{self, File};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The coupon: INSTANT, so that each request writes all three keys; more units than anybody can ask for.
const KEY: &str = "coupon:{loss}";
const UNITS: u32 = 1_000_000_000;

/// Connections that send requests, and requests of each under way at once.
const CLIENTS: usize = 4;
const PIPELINE: usize = 8;

/// How long requests come in before the crash, in ms: some whole seconds and a part of one, as syncs come every second.
const LOAD_MS: std::ops::Range<u64> = 2_000..4_000;

/// A way to crash.
pub struct Crash {
    /// What it is called in the table.
    pub name: &'static str,
    fsync: &'static str,
    is_power_cut: bool,
    clock_back: bool,
}

/// All of them.
pub const CRASHES: [Crash; 5] = [
    Crash { name: "everysec, kill -9 of the process", fsync: "everysec", is_power_cut: false, clock_back: false },
    Crash { name: "everysec, power cut", fsync: "everysec", is_power_cut: true, clock_back: false },
    Crash {
        name: "everysec, power cut, clock set back 1 h before",
        fsync: "everysec",
        is_power_cut: true,
        clock_back: true,
    },
    Crash { name: "always, kill -9 of the process", fsync: "always", is_power_cut: false, clock_back: false },
    Crash { name: "always, power cut", fsync: "always", is_power_cut: true, clock_back: false },
];

impl Crash {
    /// Whether it may not take anything that was answered.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.fsync == "always" || !self.is_power_cut
    }
}

/// What one crash took.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// Requests that were answered before it.
    pub acknowledged: u64,
    /// How long they came in.
    pub load: Duration,
    /// Those of which nothing is left.
    pub lost: u64,
    /// From the first of them to the crash.
    pub span: Duration,
}

/// Plays one crash, after a random time.
///
/// # Panics
/// If a server does not do its part, or something is lost out of order.
#[must_use]
pub fn play(crash: &Crash, random: &mut fastrand::Rng) -> Loss {
    let mut redis = Options::shipped()
        .line(format!("appendfsync {}", crash.fsync))
        .line("auto-aof-rewrite-percentage 0")
        .own_machine()
        .start();
    let mut client = redis.client();
    assert_eq!(client.run(&format!("COUPON.OPEN {KEY} QUANTITY {UNITS} MODE INSTANT")).to_string(), "+OK");
    let answered = Mutex::new(Vec::new());
    let load = Duration::from_millis(random.u64(LOAD_MS));
    let crashed = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (answered, port) = (&answered, redis.port);
            scope.spawn(move || request_until_gone(port, number, answered));
        }
        // Here time itself is what is measured.
        if crash.clock_back {
            std::thread::sleep(load / 2);
            redis.machine().set_clock(-HOUR_US);
            std::thread::sleep(load / 2);
        } else {
            std::thread::sleep(load);
        }
        let crashed = Instant::now();
        redis.kill();
        crashed
    });
    if crash.is_power_cut {
        cut_power(&redis);
    }
    redis.start_again();
    let answered = answered.into_inner().expect("not poisoned");
    let line = redis.client().call(&["ZRANGE", &format!("{KEY}:issued"), "0", "-1"]);
    let line: HashSet<&str> = line.array().iter().map(Value::text).collect();
    let lost: Vec<Instant> =
        answered.iter().filter(|(user, _)| !line.contains(user.as_str())).map(|(_, at)| *at).collect();
    let span = lost.iter().min().map_or(Duration::ZERO, |first| crashed.saturating_duration_since(*first));
    Loss { acknowledged: answered.len() as u64, load, lost: lost.len() as u64, span }
}

fn request_until_gone(port: u16, number: usize, answered: &Mutex<Vec<(String, Instant)>>) {
    let mut client = Client::connect(port).expect("the server answers");
    let mut own = Vec::new();
    'gone: for batch in 0_u64.. {
        let users: Vec<String> = (0..PIPELINE).map(|place| format!("{number}-{batch}-{place}")).collect();
        for user in &users {
            client.queue(&["COUPON.REQUEST", KEY, user]);
        }
        if client.flush().is_err() {
            break;
        }
        for user in users {
            let Ok(reply) = client.read() else { break 'gone };
            assert_eq!(reply.to_string(), "GRANTED");
            own.push((user, Instant::now()));
        }
    }
    answered.lock().expect("not poisoned").append(&mut own);
}

fn cut_power(redis: &Redis) {
    let aof = redis.aof();
    let synced = redis.machine().synced_len(&aof).unwrap_or(0);
    let written = fs::metadata(&aof).expect("the AOF").len();
    assert!(synced <= written, "more is synced than written");
    File::options().write(true).open(&aof).and_then(|file| file.set_len(synced)).expect("the AOF can be cut");
}

/// The distribution of many losses of one kind, as a row of a Markdown table.
#[must_use]
pub fn row(name: &str, losses: &[Loss]) -> String {
    let sorted = |value: fn(&Loss) -> u64| {
        let mut values: Vec<u64> = losses.iter().map(value).collect();
        values.sort_unstable();
        values
    };
    let (lost, span_ms) = (sorted(|loss| loss.lost), sorted(|loss| loss.span.as_millis() as u64));
    let at = |values: &[u64], percent: usize| {
        values.get((values.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0)
    };
    let acknowledged: u64 = losses.iter().map(|loss| loss.acknowledged).sum();
    let seconds: f64 = losses.iter().map(|loss| loss.load.as_secs_f64()).sum();
    let of = |values: &[u64]| format!("{} / {} / {}", at(values, 50), at(values, 95), at(values, 100));
    let per_second = acknowledged as f64 / seconds.max(f64::MIN_POSITIVE);
    format!("| {name} | {} | {per_second:.0} | {} | {} |", losses.len(), of(&lost), of(&span_ms))
}

/// The head of that table.
pub const HEAD: &str = "| crash | times | answered per s | answers lost: median / 95 % / most | lost span in ms: median / 95 % / most |\n|---|---|---|---|---|";
