//! A replica that goes on answering from its old data while it loads new ones (`repl-diskless-load swapdb`).

use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::dump::{await_replica, dump};
use coupon_tests::port;
use coupon_tests::proxy::Proxy;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};
use fastrand::Rng;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Keys in the snapshot, and the time that the primary takes for each, so that the load lasts some seconds. They are larger
/// than what is sent at a time, and the replica answers others whenever it has read so much.
const KEYS: usize = 300;
const KEY_BYTES: usize = 16 << 10;
const KEY_DELAY_US: u32 = 10_000;

/// More than the primary keeps for a replica that comes back.
const BACKLOG_BYTES: usize = 16 << 10;

/// What a replica of old knows of the coupons: `l` is the ledger's, `h` opened by hand, `gone` is deleted by now.
const OLD: [(&str, &str); 6] = [
    ("COUPON.STATUS l a", "GRANTED"),
    ("COUPON.STATUS l late", "NONE"),
    ("COUPON.STATUS h late", "NONE"),
    ("HGET h status", "AVAILABLE"),
    ("COUPON.STATUS gone a", "WAITING"),
    ("COUPON.STATUS new a", "-NOCOUPON"),
];

/// What it knows afterwards.
const NEW: [(&str, &str); 6] = [
    ("COUPON.STATUS l a", "GRANTED"),
    ("COUPON.STATUS l late", "GRANTED"),
    ("COUPON.STATUS h late", "WAITING"),
    ("HGET h status", "EXPIRED"),
    ("COUPON.STATUS gone a", "-NOCOUPON"),
    ("COUPON.STATUS new a", "GRANTED"),
];

/// A primary, a replica that has lost it for long enough to need all its data again, and the way between them.
fn apart() -> (Redis, Redis, Proxy) {
    let primary =
        Options::shipped().line("repl-diskless-sync yes").line(format!("repl-backlog-size {BACKLOG_BYTES}")).start();
    let way = Proxy::start(primary.port);
    let replica = Options::shipped()
        .line("repl-diskless-load swapdb")
        .line(format!("loading-process-events-interval-bytes {KEY_BYTES}"))
        .line(format!("replicaof 127.0.0.1 {}", way.port))
        .start();
    let mut client = primary.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN l QUANTITY 1000000 MODE INSTANT EPOCH 1", "+OK"),
            ("COUPON.RESUME l EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST l a", "GRANTED"),
            ("COUPON.OPEN h QUANTITY 9", "+OK"),
            ("COUPON.OPEN gone QUANTITY 9", "+OK"),
            ("COUPON.REQUEST gone a", "QUEUED"),
        ],
    );
    let mut random = Rng::with_seed(3);
    for key in 0..KEYS {
        // Nothing that could be compressed.
        let value: String = (0..KEY_BYTES).map(|_| random.alphanumeric()).collect();
        assert_eq!(client.call(&["SET", &format!("pad{key}"), &value]).to_string(), "+OK");
    }
    await_replica(&primary, &replica);
    // Read, so that they are in mind.
    expect(&mut replica.client(), &OLD);
    way.lead_to(port::free());
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST l late", "GRANTED"),
            ("COUPON.REQUEST h late", "QUEUED"),
            ("COUPON.CLOSE h", "+OK"),
            ("DEL gone gone:issued", ":2"),
            ("COUPON.OPEN new QUANTITY 2 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST new a", "GRANTED"),
        ],
    );
    for _ in 0..8 {
        client.call(&["SET", "pad", &"x".repeat(BACKLOG_BYTES)]);
    }
    expect(&mut client, &[(format!("CONFIG SET rdb-key-save-delay {KEY_DELAY_US}"), "+OK")]);
    (primary, replica, way)
}

fn says(client: &mut Client, section: &str, line: &str) -> bool {
    client.call(&["INFO", section]).text().contains(line)
}

/// Leads the replica back, and waits until it loads beside its old data.
fn begin_load(primary: &Redis, replica: &Redis, way: &Proxy) {
    way.lead_to(primary.port);
    let mut client = replica.client();
    eventually_true("the replica loads", || {
        let info = client.run("INFO persistence").text().to_owned();
        assert!(!info.contains("\r\nloading:1") || info.contains("async_loading:1"), "it has dropped its data first");
        info.contains("async_loading:1")
    });
}

/// Asks for what is old as long as the load lasts. How often all of it was asked within.
fn ask_while_loading(replica: &Redis) -> usize {
    let mut client = replica.client();
    let mut asked = 0;
    eventually_true("the load is over", || {
        let mut calls = vec!["INFO persistence"];
        calls.extend(OLD.map(|(call, _)| call));
        calls.push("INFO persistence");
        let replies = client.pipeline(&calls);
        let is_loading = |index: usize| replies[index].text().contains("async_loading:1");
        if is_loading(0) && is_loading(calls.len() - 1) {
            for (reply, (call, expected)) in replies[1..].iter().zip(OLD) {
                assert!(reply.to_string().starts_with(expected), "{call} while it loads: {reply}");
            }
            asked += 1;
        }
        !is_loading(calls.len() - 1)
    });
    asked
}

/// Sends a crowd home, also when the test fails before its end.
struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn while_it_loads_a_replica_answers_from_its_old_data_and_then_from_the_new() {
    let (primary, replica, way) = apart();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let closing = Closing(&is_over);
        // The sale goes on meanwhile.
        let crowd = scope.spawn(|| {
            let (mut client, mut granted) = (primary.client(), 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(client.run(&format!("COUPON.REQUEST l u{granted}")).to_string(), "GRANTED");
                granted += 1;
            }
            granted
        });
        begin_load(&primary, &replica, &way);
        let asked = ask_while_loading(&replica);
        assert!(asked > 10, "only {asked} looks while it loads: the test shows too little");
        drop(closing);
        let granted = crowd.join().expect("a crowd ends well");
        assert!(granted > 100, "only {granted} grants meanwhile");
    });
    eventually_true("the replica is back", || says(&mut replica.client(), "replication", "master_link_status:up"));
    await_replica(&primary, &replica);
    let mut client = replica.client();
    expect(&mut client, &NEW);
    assert_eq!(dump(&mut client), dump(&mut primary.client()));
    let log = replica.log();
    assert!(!log.contains("Skipping diskless-load"), "{log}");
    assert_promoted_is_fenced(&mut client);
}

/// Promoted, it grants nothing of the ledger's until it is resumed.
fn assert_promoted_is_fenced(client: &mut Client) {
    expect(
        client,
        &[
            ("REPLICAOF NO ONE", "+OK"),
            ("COUPON.REQUEST l after", "-TRYAGAIN coupon is fenced"),
            ("COUPON.ISSUE l", "-TRYAGAIN coupon is fenced"),
        ],
    );
    assert_eq!(client.run("COUPON.INFO l").field("fenced").int(), 1);
    let position = client.run("HMGET l seq chain");
    let [seq, chain] = position.array() else { panic!("{position}") };
    expect(
        client,
        &[
            (format!("COUPON.RESUME l EPOCH 2 SEQ {seq} CHAIN {chain}"), "+OK"),
            ("COUPON.REQUEST l after".into(), "GRANTED"),
        ],
    );
}

#[test]
fn a_load_that_is_broken_off_leaves_the_old_data() {
    let (primary, replica, way) = apart();
    begin_load(&primary, &replica, &way);
    way.lead_to(port::free());
    ask_while_loading(&replica);
    let mut client = replica.client();
    expect(&mut client, &OLD);
    assert!(says(&mut client, "replication", "master_link_status:down"));
    assert_promoted_is_fenced(&mut client);
}

#[test]
fn who_is_promoted_in_the_middle_of_a_load_has_the_old_data_and_is_fenced() {
    let (primary, replica, way) = apart();
    begin_load(&primary, &replica, &way);
    let mut client = replica.client();
    // Refused, or at once: as the server likes it while it loads.
    eventually("it is promoted", || (client.run("REPLICAOF NO ONE").to_string() == "+OK").then_some(()));
    eventually_true("no load is left", || !says(&mut client, "persistence", "async_loading:1"));
    let is_new = client.run("COUPON.STATUS l late").to_string() == "GRANTED";
    expect(&mut client, if is_new { &NEW } else { &OLD });
    assert_promoted_is_fenced(&mut client);
}
