//! Random sequences of commands, with restarts and failovers in between, beside a model in plain Rust: the same
//! replies, and the same content in all keys, at every step. What others do to the keys is played in [`outside`].

mod changes;
mod crowd;
mod fresh;
mod outside;
mod reference;

use coupon_core::number::{Arrival, Chain, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;
use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, Value};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reference::{Coupon, Ledger, Window};
use std::cell::RefCell;
use std::thread;

/// Sequences played; each on a coupon of its own.
const SEQUENCES: u32 = 200;

/// Steps of a sequence.
const STEPS_MAX: usize = 60;

/// One step.
#[derive(Debug, Clone)]
enum Step {
    Open {
        quantity: u64,
        status: Option<&'static str>,
        mode: Option<&'static str>,
        waitlist: Option<u64>,
        window: Option<Window>,
        epoch: Option<u64>,
        revision: Option<u64>,
    },
    Request {
        user: u8,
    },
    RequestAll {
        users: Vec<u8>,
    },
    Issue {
        count: Option<u64>,
    },
    Status {
        user: u8,
    },
    Info,
    Leave {
        user: u8,
    },
    Close {
        published: Option<(u64, u64)>,
    },
    Resume {
        epoch: u64,
        seq: u64,
        is_true: bool,
    },
    Ack {
        epoch: u64,
        seq: u64,
        refused: Vec<u8>,
        persisted: Vec<u8>,
    },
    Shut {
        epoch: u64,
    },
    Restore {
        is_shut_before: bool,
        epoch: u64,
        after: u64,
        is_true: bool,
        users: Vec<u8>,
        /// How many of them are refused, the first ones.
        refused: usize,
    },
    Reload,
    Kill,
    Failover,
}

fn step() -> impl Strategy<Value = Step> {
    let window = prop_oneof![Just(Window::Always), Just(Window::Early), Just(Window::Over)];
    let mode = prop_oneof![Just("QUEUE"), Just("INSTANT")];
    let status = prop_oneof![1 => Just("STANDARD"), 3 => Just("AVAILABLE")];
    prop_oneof![
        6 => (1_u64..6, prop::option::weighted(0.4, status), prop::option::of(mode), prop::option::of(0_u64..3), prop::option::weighted(0.3, window), prop::option::weighted(0.3, 1_u64..4), prop::option::weighted(0.3, 1_u64..4))
            .prop_map(|(quantity, status, mode, waitlist, window, epoch, revision)| Step::Open { quantity, status, mode, waitlist, window, epoch, revision }),
        40 => (0_u8..12).prop_map(|user| Step::Request { user }),
        10 => prop::collection::vec(0_u8..12, 1..5).prop_map(|users| Step::RequestAll { users }),
        12 => prop::option::of(1_u64..4).prop_map(|count| Step::Issue { count }),
        10 => (0_u8..12).prop_map(|user| Step::Status { user }),
        8 => Just(Step::Info),
        8 => (0_u8..12).prop_map(|user| Step::Leave { user }),
        2 => prop::option::of((1_u64..4, 1_u64..4)).prop_map(|published| Step::Close { published }),
        8 => (1_u64..5, 0_u64..7, prop::bool::weighted(0.9)).prop_map(|(epoch, seq, is_true)| Step::Resume { epoch, seq, is_true }),
        7 => (1_u64..5, 0_u64..7).prop_map(|(epoch, seq)| Step::Ack { epoch, seq, refused: Vec::new(), persisted: Vec::new() }),
        5 => (1_u64..5, 0_u64..7, prop::collection::vec(0_u8..12, 0..4), prop::collection::vec(0_u8..12, 0..4))
            .prop_map(|(epoch, seq, refused, persisted)| Step::Ack { epoch, seq, refused, persisted }),
        1 => (1_u64..5).prop_map(|epoch| Step::Shut { epoch }),
        3 => (prop::bool::weighted(0.8), 1_u64..5, 0_u64..5, prop::bool::weighted(0.9), prop::collection::vec(0_u8..12, 1..4), 0_usize..3)
            .prop_map(|(is_shut_before, epoch, after, is_true, users, refused)| Step::Restore { is_shut_before, epoch, after, is_true, users, refused }),
        1 => Just(Step::Reload),
        1 => Just(Step::Kill),
        1 => Just(Step::Failover),
    ]
}

/// How long a sequence that fails is made shorter, in milliseconds: each try may cost a deadline.
const SHRINK_MS_MAX: u32 = 60_000;

/// Two servers, of which one follows the other.
struct Pair {
    primary: Redis,
    replica: Redis,
}

impl Pair {
    fn start() -> Self {
        let start = || Options::shipped().line("appendfsync always").line("repl-diskless-sync-delay 0").start();
        let pair = Self { primary: start(), replica: start() };
        pair.follow();
        pair
    }

    fn follow(&self) {
        let mut client = self.replica.client();
        client.run(&format!("REPLICAOF 127.0.0.1 {}", self.primary.port));
        self.await_replica();
    }

    /// Waits until the replica has all, in its AOF too.
    fn await_replica(&self) {
        let mut client = self.replica.client();
        eventually_true("the replica is in step", || {
            client.call(&["INFO", "replication"]).text().contains("master_link_status:up")
        });
        // A replica writes its AOF anew after a full copy, and until that is done it has none to start from.
        eventually_true("the replica has an AOF", || {
            let info = client.call(&["INFO", "persistence"]);
            let is = |line: &str| info.text().contains(line);
            is("aof_enabled:1") && is("aof_rewrite_in_progress:0") && is("aof_rewrite_scheduled:0")
        });
    }

    /// The replica has everything, and takes over.
    fn failover(&mut self) {
        let mut client = self.primary.client();
        // WAIT is for what this connection has written.
        client.run("SET marker 1");
        eventually_true("the replica has everything", || client.run("WAIT 1 1000").int() == 1);
        self.await_replica();
        self.replica.client().run("REPLICAOF NO ONE");
        std::mem::swap(&mut self.primary, &mut self.replica);
        self.follow();
    }
}

/// Sequences that are played at a time, each on servers of its own: most of the time they wait for them.
const LANES: u32 = 4;

/// Plays so many sequences, unless `COUPON_SEQUENCES` says how many: some thousand find what is rare.
fn in_lanes(sequences: u32, play: impl Fn(TestRunner) + Sync) {
    let given = std::env::var("COUPON_SEQUENCES").ok().and_then(|given| given.parse().ok());
    let cases = given.unwrap_or(sequences).div_ceil(LANES);
    let config = Config { cases, max_shrink_time: SHRINK_MS_MAX, failure_persistence: None, ..Config::default() };
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| play(TestRunner::new(config.clone())));
        }
    });
}

fn name(user: u8) -> String {
    format!("u{user}")
}

#[test]
fn replies_and_keys_are_those_of_the_model() {
    in_lanes(SEQUENCES, play_beside_the_model);
}

fn play_beside_the_model(mut runner: TestRunner) {
    let pair = RefCell::new(Pair::start());
    let sequence = RefCell::new(0_u64);
    let steps = prop::collection::vec(step(), 1..STEPS_MAX);
    let played = runner.run(&steps, |steps| {
        *sequence.borrow_mut() += 1;
        let key = format!("coupon:{{{}}}", sequence.borrow());
        let mut pair = pair.borrow_mut();
        let mut model = None;
        let mut client = pair.primary.client();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Reload => assert_eq!(client.run("DEBUG RELOAD").to_string(), "+OK"),
                Step::Kill => {
                    pair.primary.kill();
                    pair.primary.start_again();
                }
                Step::Failover => pair.failover(),
                step => play(&mut client, &key, step, &mut model, number),
            }
            if matches!(step, Step::Reload | Step::Kill | Step::Failover) {
                client = pair.primary.client();
                model = model.map(Coupon::fenced);
            }
            compare(&mut client, &key, model.as_ref(), step);
        }
        Ok(())
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

fn play(client: &mut Client, key: &str, step: &Step, model: &mut Option<Coupon>, number: usize) {
    let (call, expected) = match step {
        Step::Open { quantity, status, mode, waitlist, window, epoch, revision } => {
            let mut call = format!("COUPON.OPEN {key} QUANTITY {quantity}");
            status.iter().for_each(|status| call += &format!(" STATUS {status}"));
            mode.iter().for_each(|mode| call += &format!(" MODE {mode}"));
            waitlist.iter().for_each(|places| call += &format!(" WAITLIST {places}"));
            window.iter().for_each(|window| call += window.options());
            epoch.iter().for_each(|epoch| call += &format!(" EPOCH {epoch}"));
            revision.iter().for_each(|revision| call += &format!(" REVISION {revision}"));
            (call, Coupon::open(model, *quantity, *status, *mode, *waitlist, *window, [*epoch, *revision]))
        }
        Step::Request { user } => {
            let expected = match model {
                Some(coupon) => coupon.request(*user),
                None => vec!["-NOCOUPON".into()],
            };
            (format!("COUPON.REQUEST {key} {} WITHRANK", name(*user)), expected)
        }
        Step::RequestAll { users } => {
            let expected = match model {
                Some(coupon) => coupon.request_all(users),
                None => vec!["-NOCOUPON".into()],
            };
            let names: Vec<String> = users.iter().map(|user| name(*user)).collect();
            (format!("COUPON.MREQUEST {key} {}", names.join(" ")), expected)
        }
        Step::Issue { count } => {
            let option = count.map_or_else(String::new, |count| format!(" COUNT {count}"));
            let expected = model.as_mut().map_or_else(|| vec!["-NOCOUPON".into()], |coupon| coupon.issue(*count));
            (format!("COUPON.ISSUE {key}{option}"), expected)
        }
        Step::Status { user } => {
            let expected = model.as_ref().map_or_else(|| vec!["-NOCOUPON".into()], |coupon| coupon.status(*user));
            (format!("COUPON.STATUS {key} {} WITHRANK", name(*user)), expected)
        }
        Step::Info => {
            let expected = model.as_ref().map_or_else(|| vec!["-NOCOUPON".into()], Coupon::info);
            (format!("COUPON.INFO {key}"), expected)
        }
        Step::Leave { user } => {
            let expected = model.as_mut().map_or_else(|| vec!["-NOCOUPON".into()], |coupon| coupon.leave(*user));
            (format!("COUPON.LEAVE {key} {}", name(*user)), expected)
        }
        Step::Close { published } => {
            let mut call = format!("COUPON.CLOSE {key}");
            published.iter().for_each(|(epoch, revision)| call += &format!(" EPOCH {epoch} REVISION {revision}"));
            let expected = model.as_mut().map_or_else(|| vec!["-NOCOUPON".into()], |coupon| coupon.close(*published));
            (call, expected)
        }
        Step::Resume { epoch, seq, is_true } => {
            let stored = Stored::read(client, key);
            let chain = chain_at(&stored, model.as_ref(), *seq, *is_true);
            let expected = match model {
                Some(coupon) => coupon.resume(*epoch, *seq, *is_true),
                None => vec!["-NOCOUPON".into()],
            };
            (format!("COUPON.RESUME {key} EPOCH {epoch} SEQ {seq} CHAIN {chain}"), expected)
        }
        Step::Ack { epoch, seq, refused, persisted } => {
            let expected = match model {
                Some(coupon) => coupon.ack(*epoch, *seq, refused, persisted),
                None if Coupon::names_twice(refused, persisted) => vec!["-ERR".into()],
                None => vec!["-NOCOUPON".into()],
            };
            let call = format!("COUPON.ACK {key} EPOCH {epoch} SEQ {seq}");
            (call + &named("REFUSED", refused) + &named("PERSISTED", persisted), expected)
        }
        Step::Shut { epoch } => {
            let expected = model.as_mut().map_or_else(|| vec!["-NOCOUPON".into()], |coupon| coupon.shut(*epoch));
            (format!("COUPON.RESTORE {key} EPOCH {epoch}"), expected)
        }
        Step::Restore { is_shut_before, epoch, after, is_true, users, refused } => {
            if *is_shut_before {
                play(client, key, &Step::Shut { epoch: *epoch }, model, number);
            }
            let stored = Stored::read(client, key);
            let chain = chain_at(&stored, model.as_ref(), *after, *is_true);
            let refused = &users[..users.len().min(*refused)];
            let mut call = format!(
                "COUPON.RESTORE {key} EPOCH {epoch} AFTER {after} CHAIN {chain}{} GRANTS {}",
                named("REFUSED", refused),
                users.len()
            );
            // Arrivals of the ledger, after all that there is.
            let time = client.run("TIME");
            let [seconds, us] = [0, 1].map(|part| time.array()[part].text().parse::<u64>().expect("a number"));
            let now = seconds * 1_000_000 + us;
            let mut ledger = Ledger::new();
            for (place, user) in users.iter().enumerate() {
                let arrival = now + (number * 100 + place) as u64;
                ledger.push((*user, arrival));
                call += &format!(" {} {arrival} 7", name(*user));
            }
            let expected = match model {
                Some(coupon) => coupon.restore(*epoch, *after, *is_true, &ledger, refused, &stored.issued),
                None if Coupon::repeats(&ledger) => vec!["-ERR".into()],
                None => vec!["-NOCOUPON".into()],
            };
            (call, expected)
        }
        Step::Reload | Step::Kill | Step::Failover => return,
    };
    let reply = client.run(&call);
    // Integers are shown with their type.
    let plain = |value: &Value| value.to_string().trim_start_matches(':').to_owned();
    let said: Vec<String> = match &reply {
        Value::Array(parts) => parts.iter().map(plain).collect(),
        Value::Error(error) => vec![format!("-{}", error.split(' ').next().unwrap_or_default())],
        other => vec![plain(other)],
    };
    let is_mixed = model.as_ref().is_some_and(Coupon::is_mixed);
    // Places among restored users are not the model's to know.
    let compared = if is_mixed && call.ends_with("WITHRANK") { 1 } else { usize::MAX };
    let cut = |words: &[String]| words.iter().take(compared).cloned().collect::<Vec<_>>();
    assert_eq!(cut(&said), cut(&expected), "{call} answered {reply}");
}

/// An option that names users, if there are any.
fn named(option: &str, users: &[u8]) -> String {
    let names: Vec<String> = users.iter().map(|user| name(*user)).collect();
    if users.is_empty() { String::new() } else { format!(" {option} {} {}", users.len(), names.join(" ")) }
}

/// The chain at a number, as the ledger would know it; a wrong one where the step wants one.
fn chain_at(stored: &Stored, model: Option<&Coupon>, seq: u64, is_true: bool) -> i64 {
    let mut position = Position::default();
    if let Some(coupon) = model {
        for (user, arrival) in
            coupon.grants_with_arrivals(&stored.issued).into_iter().take(usize::try_from(seq).unwrap_or(0))
        {
            let name = name(user);
            let id = UserId::parse(name.as_bytes()).expect("a user id");
            position = Position { seq: Seq(position.seq.0 + 1), chain: position.chain.next(id, Arrival(arrival)) };
        }
    }
    if is_true { position.chain.0 } else { Chain(position.chain.0 ^ 1).0 }
}

fn compare(client: &mut Client, key: &str, model: Option<&Coupon>, step: &Step) {
    let stored = Stored::read(client, key);
    let Some(coupon) = model else {
        assert!(
            stored.hash.is_empty() && stored.issued.is_empty() && stored.grants.is_empty(),
            "after {step:?}: {stored:?}"
        );
        return;
    };
    let mut line: Vec<&str> = stored.issued.iter().map(|(user, _)| user.as_str()).collect();
    let mut expected: Vec<String> = coupon.line().into_iter().map(name).collect();
    if coupon.is_mixed() {
        line[..coupon.granted()].sort_unstable();
        expected[..coupon.granted()].sort_unstable();
    }
    assert_eq!(line, expected, "the line after {step:?}");
    assert!(stored.issued.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    let (granted, persisted) = (coupon.granted(), coupon.persisted());
    assert_eq!(stored.number("seq"), granted as i64, "seq after {step:?}");
    assert_eq!(stored.number("persisted"), persisted as i64, "persisted after {step:?}");
    assert_eq!(stored.number("remaining"), coupon.remaining() as i64, "remaining after {step:?}");
    assert_eq!(stored.hash["status"], coupon.status_word(), "status after {step:?}");
    let entries: Vec<&str> = stored.granted();
    let expected: Vec<String> = coupon.entries().into_iter().map(name).collect();
    assert_eq!(entries, expected, "the stream after {step:?}");
    let mut expected: Vec<String> = coupon.refused().iter().map(|user| name(*user)).collect();
    expected.sort_unstable();
    assert_eq!(stored.refused, expected, "who is refused after {step:?}");
    let said = Some(expected.len()).filter(|count| *count > 0).map(|count| count.to_string());
    assert_eq!(stored.hash.get("refused"), said.as_ref(), "how many are refused after {step:?}");
}
