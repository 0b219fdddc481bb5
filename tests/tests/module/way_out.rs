//! Every way out of COUPON.WAIT: one answer, or none to who has gone, and nothing is left behind.

use coupon_tests::deadline::{DEADLINE, eventually_true, within};
use coupon_tests::info::{number, used_memory};
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};
use coupon_tests::waiting::{LONG, Waiter, assert_nobody_waits, assert_nothing_is_left, blocked, unloadable};
use fastrand::Rng;
use std::thread;
use std::time::{Duration, Instant};

/// A coupon whose user `p` is persisted, `g` granted, and `w` waiting.
fn open(client: &mut Client, key: &str) {
    for (call, answer) in [
        ("COUPON.OPEN {} QUANTITY 3 WAITLIST 9 EPOCH 1", "+OK"),
        ("COUPON.RESUME {} EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
        ("COUPON.MREQUEST {} p g w", "[QUEUED QUEUED QUEUED]"),
        ("COUPON.ISSUE {} COUNT 2", ":2"),
        ("COUPON.ACK {} EPOCH 1 SEQ 1", "+OK"),
    ] {
        expect(client, &[(call.replace("{}", key), answer)]);
    }
}

fn wait(user: &str) -> String {
    format!("COUPON.WAIT c {user} {LONG}")
}

/// Something that ends a wait of `g`.
struct End {
    call: &'static str,
    /// Its own reply.
    reply: &'static str,
    /// What the client may hear; nothing if its connection ends.
    answers: &'static [&'static str],
}

const ACK: End = End { call: "COUPON.ACK {key} EPOCH 1 SEQ 2", reply: "+OK", answers: &["PERSISTED"] };

const UNBLOCKED: &str = "-UNBLOCKED client unblocked via CLIENT UNBLOCK";

const ENDS: [End; 8] = [
    ACK,
    End { call: "DEL {key}", reply: ":1", answers: &["-NOCOUPON"] },
    End { call: "DEL {key}:issued", reply: ":1", answers: &["-TRYAGAIN the :issued key"] },
    End { call: "ZREM {key}:issued g", reply: ":1", answers: &["NONE"] },
    End { call: "CLIENT UNBLOCK {id}", reply: ":1", answers: &["GRANTED"] },
    End { call: "CLIENT UNBLOCK {id} TIMEOUT", reply: ":1", answers: &["GRANTED"] },
    End { call: "CLIENT UNBLOCK {id} ERROR", reply: ":1", answers: &[UNBLOCKED] },
    End { call: "CLIENT KILL ID {id}", reply: ":1", answers: &[] },
];

impl End {
    fn line(&self, key: &str, waiter: &Waiter) -> String {
        self.call.replace("{key}", key).replace("{id}", &waiter.id.to_string())
    }
}

#[test]
fn each_way_out_gives_its_one_answer() {
    let redis = unloadable();
    let mut client = redis.client();
    for (number, end) in ENDS.iter().enumerate() {
        let key = format!("c{number}");
        open(&mut client, &key);
        let mut waiter = blocked(&redis, &[format!("COUPON.WAIT {key} g {LONG}")]).remove(0);
        expect(&mut client, &[(end.line(&key, &waiter), end.reply)]);
        match end.answers {
            [] => assert!(waiter.is_cut_off(), "{}", end.call),
            [expected, ..] => {
                let answer = waiter.only_answer();
                assert!(answer.starts_with(expected), "{}: {answer}", end.call);
            }
        }
        assert_nobody_waits(&mut client);
    }
    assert_nothing_is_left(&mut client);
}

#[test]
fn two_ends_in_one_transaction_give_one_answer() {
    let redis = unloadable();
    let mut client = redis.client();
    let pairs = ENDS.iter().flat_map(|first| ENDS.iter().map(move |second| (first, second)));
    for (number, (first, second)) in pairs.enumerate() {
        let key = format!("c{number}");
        open(&mut client, &key);
        let mut waiter = blocked(&redis, &[format!("COUPON.WAIT {key} g {LONG}")]).remove(0);
        let calls = [first.line(&key, &waiter), second.line(&key, &waiter)];
        let replies = client.pipeline(&["MULTI", &calls[0], &calls[1], "EXEC"]);
        let shown = format!("{} and {}: {}", calls[0], calls[1], replies[3]);
        assert_eq!(replies[3].array()[0].to_string(), first.reply, "{shown}");
        if first.answers.is_empty() || second.answers.is_empty() {
            // Whoever is killed may have been answered before.
            let _ = waiter.client.read();
            assert!(waiter.is_cut_off(), "{shown}");
        } else {
            let answer = waiter.only_answer();
            // What STATUS says after both, if neither speaks for itself.
            let after = ["PERSISTED", "NONE", "-NOCOUPON", "-TRYAGAIN"];
            let mut may_be = first.answers.iter().chain(second.answers).chain(&after);
            assert!(may_be.any(|expected| answer.starts_with(expected)), "{shown}: {answer}");
        }
        assert_nobody_waits(&mut client);
        assert!(!client.call(&["UNLINK", &key, &format!("{key}:issued"), &format!("{key}:grants")]).is_error());
    }
    assert_nothing_is_left(&mut client);
}

/// Times that a wait is ended in the moment in which its time is over. Each takes some tens of milliseconds.
const ROUNDS: usize = 50;

/// The server hears nothing for long enough that a wait's time is over; what it runs next, it runs before it looks for
/// times that are over. Or the other way round, with the end first.
#[test]
fn an_end_in_the_moment_of_the_timeout_gives_one_answer() {
    const SLEEP: &str = "DEBUG SLEEP 0.03";
    let redis = unloadable();
    let mut client = redis.client();
    for round in 0..ROUNDS {
        let end = &[ACK, ACK, ACK, ACK, ACK].iter().chain(&ENDS).nth(round % 13).expect("an end");
        let key = format!("c{round}");
        open(&mut client, &key);
        let mut waiter = blocked(&redis, &[format!("COUPON.WAIT {key} g 20")]).remove(0);
        let call = end.line(&key, &waiter);
        let is_sleep_first = round % 2 == 0;
        let replies = client.pipeline(&if is_sleep_first { [SLEEP, &call] } else { [&call, SLEEP] });
        if end.answers.is_empty() {
            let _ = waiter.client.read();
            assert!(waiter.is_cut_off(), "round {round}: {call}");
        } else {
            let answer = waiter.only_answer();
            let mut may_be = end.answers.iter().chain(&["GRANTED"]);
            assert!(may_be.any(|expected| answer.starts_with(expected)), "{call}: {replies:?}, {answer}");
        }
    }
    assert_nothing_is_left(&mut client);
}

/// Waits that end by the clock, and the connections that share them.
const TIMEOUTS: usize = 1_000;
const CONNECTIONS: usize = 100;

/// What a thousand waits may leave: less than 20 bytes each.
const LEFT_BYTES: i64 = TIMEOUTS as i64 * 20;

#[test]
fn a_thousand_timeouts_leave_nothing() {
    let redis = Options::shipped().line("enable-module-command yes").line("appendonly no").start();
    let mut client = redis.client();
    open(&mut client, "c");
    let time_out = || {
        let calls: Vec<&str> = vec!["COUPON.WAIT c g 1"; TIMEOUTS / CONNECTIONS];
        let begin = |_| {
            let mut client = redis.client();
            calls.iter().for_each(|call| client.queue_line(call));
            client.flush().expect("the server takes the calls");
            client
        };
        let mut waiting: Vec<Client> = (0..CONNECTIONS).map(begin).collect();
        for client in &mut waiting {
            for reply in client.replies(calls.len()).expect("an answer to each call") {
                assert_eq!(reply.to_string(), "GRANTED");
            }
        }
    };
    let mut used_alone = || {
        eventually_true("the others are gone", || number(&mut client, "connected_clients") == 1);
        used_memory(&mut client)
    };
    // What the server makes once and keeps is there.
    time_out();
    let before = used_alone();
    time_out();
    let mut left = 0;
    let is_back = within(DEADLINE, || {
        left = used_alone() - before;
        (left < LEFT_BYTES).then_some(())
    });
    assert!(is_back.is_some(), "{left} bytes are left of {TIMEOUTS} timeouts");
    assert_nothing_is_left(&mut redis.client());
}

#[test]
fn many_deadlines_in_any_order_are_each_kept() {
    let redis = unloadable();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut random = Rng::with_seed(11);
    // Many at one time, and one far behind all others.
    let mut times: Vec<u64> = (0..150).map(|_| random.u64(1..400)).collect();
    times.extend([100; 50]);
    random.shuffle(&mut times);
    let mut last = blocked(&redis, &[wait("g")]).remove(0);
    thread::scope(|scope| {
        let waits: Vec<_> = times
            .iter()
            .map(|ms| {
                let redis = &redis;
                scope.spawn(move || {
                    let mut client = redis.client();
                    let begin = Instant::now();
                    let answer = client.run(&format!("COUPON.WAIT c w {ms}")).to_string();
                    (*ms, answer, begin.elapsed())
                })
            })
            .collect();
        for wait in waits {
            let (ms, answer, taken) = wait.join().expect("a wait ends");
            assert_eq!(answer, "WAITING");
            assert!(taken >= Duration::from_millis(ms), "a wait of {ms} ms was over after {taken:?}");
        }
    });
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 1, "the last one waits on");
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    assert_eq!(last.only_answer(), "PERSISTED");
    assert_nothing_is_left(&mut client);
}

#[test]
fn a_deadline_is_kept_though_the_server_has_nothing_else_to_do() {
    let redis = Redis::start();
    let mut client = redis.client();
    open(&mut client, "c");
    // One deadline before, and one behind another, each alone.
    for times in [[50, 500], [500, 50]] {
        let [first, second] = times.map(|ms| Waiter::begin(&redis, &format!("COUPON.WAIT c g {ms}")));
        for mut waiter in [first, second] {
            assert_eq!(waiter.only_answer(), "GRANTED");
        }
    }
    assert_nobody_waits(&mut client);
}

#[test]
fn a_wait_without_a_limit_lasts_until_the_outcome() {
    let redis = unloadable();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut forever = blocked(&redis, &["COUPON.WAIT c g 0"]).remove(0);
    // Others' deadlines are not its own.
    assert_eq!(Waiter::begin(&redis, "COUPON.WAIT c g 50").only_answer(), "GRANTED");
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 1);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    assert_eq!(forever.only_answer(), "PERSISTED");
    assert_nothing_is_left(&mut client);
}

#[test]
fn calls_behind_a_wait_are_answered_behind_it() {
    let redis = unloadable();
    let mut client = redis.client();
    open(&mut client, "c");
    let calls = ["COUPON.WAIT c g 20", "ECHO 1", "COUPON.WAIT c g 20", "COUPON.WAIT c p 0", "ECHO 2"];
    let more = [&*wait("g"), "ECHO 3", "COUPON.STATUS c g", "COUPON.WAIT c nobody 0", "ECHO 4"];
    let mut waiter = redis.client();
    for call in calls.iter().chain(&more) {
        waiter.queue_line(call);
    }
    waiter.flush().expect("the server takes the calls");
    let mut answers =
        |count: usize| -> Vec<String> { (0..count).map(|_| waiter.read().expect("an answer").to_string()).collect() };
    assert_eq!(answers(5), ["GRANTED", "1", "GRANTED", "PERSISTED", "2"]);
    eventually_true("the last wait has begun", || number(&mut client, "blocked_clients") == 1);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    assert_eq!(answers(5), ["PERSISTED", "3", "PERSISTED", "NONE", "4"]);
    assert_nothing_is_left(&mut client);
}

#[test]
fn a_client_waits_again_as_soon_as_it_was_answered() {
    let redis = unloadable();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut waiter = Waiter::begin(&redis, &wait("g"));
    for _ in 0..200 {
        eventually_true("it waits", || number(&mut client, "coupon_waiting_clients") == 1);
        expect(&mut client, &[(format!("CLIENT UNBLOCK {}", waiter.id), ":1")]);
        assert_eq!(waiter.answer(), "GRANTED");
        // Nobody is blocked who was answered.
        expect(&mut client, &[(format!("CLIENT UNBLOCK {}", waiter.id), ":0")]);
        waiter.client.queue_line(&wait("g"));
        waiter.client.flush().expect("the server takes the call");
    }
    eventually_true("it waits", || number(&mut client, "blocked_clients") == 1);
    drop(waiter);
    assert_nothing_is_left(&mut client);
}

#[test]
fn a_socket_that_is_closed_leaves_nothing_whatever_comes_next() {
    let redis = unloadable();
    let mut client = redis.client();
    for (round, end) in ENDS.iter().chain(&ENDS).enumerate() {
        let key = format!("c{round}");
        open(&mut client, &key);
        let waiter = blocked(&redis, &[format!("COUPON.WAIT {key} g 20")]).remove(0);
        let call = end.line(&key, &waiter);
        drop(waiter);
        // The server may have noticed, or not.
        if round % 2 == 0 {
            assert_nobody_waits(&mut client);
        }
        client.run(&call);
    }
    assert_nothing_is_left(&mut client);
}

#[test]
fn a_demoted_server_lets_everybody_go() {
    for deadline in ["0", LONG, "200"] {
        let (redis, other) = (unloadable(), Redis::start());
        let mut client = redis.client();
        open(&mut client, "c");
        let call = format!("COUPON.WAIT c g {deadline}");
        let mut waiting = blocked(&redis, &[&call, &call, "COUPON.WAIT c w 0", "BLPOP list 0"]);
        expect(&mut client, &[(format!("REPLICAOF 127.0.0.1 {}", other.port), "+OK")]);
        for waiter in &mut waiting {
            // As the server's own blocked clients: the answer, and the end of the connection.
            let answer = waiter.answer();
            assert!(answer.starts_with("-UNBLOCKED force unblock"), "{answer}");
            assert!(waiter.is_cut_off());
        }
        assert_nobody_waits(&mut client);
        expect(&mut client, &[("REPLICAOF NO ONE", "+OK")]);
        open(&mut client, "again");
        assert_eq!(Waiter::begin(&redis, "COUPON.WAIT again g 20").only_answer(), "GRANTED");
        assert_nothing_is_left(&mut client);
    }
}

#[test]
fn a_failover_lets_everybody_go() {
    let primary = unloadable();
    let replica = primary.replica();
    let mut client = primary.client();
    open(&mut client, "c");
    coupon_tests::dump::await_replica(&primary, &replica);
    let mut waiting = blocked(&primary, &[wait("g"), "COUPON.WAIT c w 0".into()]);
    let failover = format!("FAILOVER TO 127.0.0.1 {}", replica.port);
    // The replica may still have to say how far it has come.
    eventually_true("the failover begins", || client.run(&failover).to_string() == "+OK");
    for (waiter, known) in waiting.iter_mut().zip(["GRANTED", "WAITING"]) {
        // What is known, as on any replica, where the module hears of its new role before the server turns to its clients.
        let answer = waiter.answer();
        if answer != known {
            assert!(answer.starts_with("-UNBLOCKED force unblock"), "{answer}");
            assert!(waiter.is_cut_off());
        }
    }
    eventually_true("the roles are changed", || {
        replica.client().run("ROLE").array()[0].text() == "master" && client.run("ROLE").array()[0].text() == "slave"
    });
    // What it is asked now, it knows at once.
    expect(&mut client, &[(wait("g"), "GRANTED")]);
    assert_nothing_is_left(&mut client);
}

#[test]
fn while_somebody_waits_the_module_stays_and_then_goes() {
    let redis = unloadable();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut waiting = blocked(&redis, &[wait("g"), wait("w"), "COUPON.WAIT c g 300".into()]);
    let refusal = client.run("MODULE UNLOAD coupon").to_string();
    assert!(refusal.contains("blocked clients"), "{refusal}");
    // Nobody is disturbed.
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 3);
    assert_eq!(waiting[2].only_answer(), "GRANTED");
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    assert_eq!(waiting[0].only_answer(), "PERSISTED");
    assert!(client.run("MODULE UNLOAD coupon").is_error());
    expect(&mut client, &[("COUPON.CLOSE c", "+OK")]);
    assert_eq!(waiting[1].only_answer(), "WAITING");
    assert_nothing_is_left(&mut client);
}

#[test]
fn a_server_that_is_shut_down_does_not_wait_for_who_waits() {
    let mut redis = Redis::start();
    open(&mut redis.client(), "c");
    let mut waiting = blocked(&redis, &[wait("g"), "COUPON.WAIT c w 0".into()]);
    redis.stop();
    assert!(!redis.log().contains("crashed by signal"), "{}", redis.log());
    for waiter in &mut waiting {
        assert!(waiter.client.read().is_err());
    }
}

#[test]
fn no_more_wait_than_waiters_max_allows() {
    let redis = Options::shipped().line("enable-module-command yes").module_args("waiters-max 3").start();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut waiting = blocked(&redis, &[wait("g"), wait("w"), wait("g")]);
    let full = "-ERR 3 clients wait already, which is coupon.waiters-max; ";
    expect(
        &mut client,
        &[
            ("CONFIG GET coupon.waiters-max".to_owned(), "[coupon.waiters-max 3]"),
            (wait("g"), full),
            ("COUPON.WAIT c w 1".into(), full),
            // What needs no waiting is answered all the same.
            (wait("p"), "PERSISTED"),
            (wait("nobody"), "NONE"),
            ("COUPON.WAIT missing g 1".into(), "-NOCOUPON"),
            ("COUPON.WAIT c g soon".into(), "-ERR timeout"),
            ("CONFIG SET coupon.waiters-max 4".into(), "+OK"),
            ("COUPON.WAIT c g 1".into(), "GRANTED"),
        ],
    );
    waiting.extend(blocked(&redis, &[wait("w")]));
    expect(
        &mut client,
        &[
            (wait("g"), "-ERR 4 clients wait already, which is coupon.waiters-max; "),
            // Who waits already goes on.
            ("CONFIG SET coupon.waiters-max 0".into(), "+OK"),
            (wait("g"), "-ERR 4 clients wait already"),
        ],
    );
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 4);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK"), ("COUPON.CLOSE c", "+OK")]);
    let answers: Vec<String> = waiting.iter_mut().map(Waiter::only_answer).collect();
    assert_eq!(answers, ["PERSISTED", "WAITING", "PERSISTED", "WAITING"]);
    open(&mut client, "d");
    expect(
        &mut client,
        &[
            // Nobody may wait.
            ("COUPON.WAIT d g 1", "-ERR 0 clients wait already, which is coupon.waiters-max; "),
            ("CONFIG SET coupon.waiters-max 1", "+OK"),
            // Places are given back.
            ("COUPON.WAIT d g 1", "GRANTED"),
            ("COUPON.WAIT d g 1", "GRANTED"),
        ],
    );
    assert_nothing_is_left(&mut client);
}
