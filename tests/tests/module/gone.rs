//! Whoever waits for a coupon that goes away, or that becomes something else, is told so: what COUPON.STATUS would say now.

use coupon_tests::call;
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::info::number;
use coupon_tests::redis_cluster::{Cluster, assert_ok, id, slot};
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, Value, expect};
use coupon_tests::waiting::{assert_nobody_waits, assert_nothing_is_left, blocked, unloadable};

/// A coupon whose user `p` is persisted, `g` granted, and `w` and `x` waiting.
fn open(client: &mut Client, key: &str) {
    for (call, answer) in [
        ("COUPON.OPEN {} QUANTITY 4 WAITLIST 9 EPOCH 1", "+OK"),
        ("COUPON.RESUME {} EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
        ("COUPON.MREQUEST {} p g w x", "[QUEUED QUEUED QUEUED QUEUED]"),
        ("COUPON.ISSUE {} COUNT 2", ":2"),
        ("COUPON.ACK {} EPOCH 1 SEQ 1", "+OK"),
    ] {
        expect(client, &[(call.replace("{}", key), answer)]);
    }
}

const NO_COUPON: &str = "-NOCOUPON";
const NO_ISSUED: &str = "-TRYAGAIN the :issued key";
const NO_GRANTS: &str = "-TRYAGAIN the :grants key";
const WRONG_TYPE: &str = "-WRONGTYPE";

/// Waits on.
const ON: &str = "";

/// What happens to a coupon `c`, and what `g` and `w` hear of it.
const CHANGES: [(&str, [&str; 2]); 56] = [
    ("DEL c", [NO_COUPON; 2]),
    ("UNLINK c", [NO_COUPON; 2]),
    ("RENAME c elsewhere", [NO_COUPON; 2]),
    ("RENAMENX c elsewhere", [NO_COUPON; 2]),
    ("MOVE c 5", [NO_COUPON; 2]),
    ("EXPIRE c -1", [NO_COUPON; 2]),
    ("PEXPIREAT c 1", [NO_COUPON; 2]),
    ("PEXPIRE c 20", [NO_COUPON; 2]),
    ("FLUSHDB", [NO_COUPON; 2]),
    ("FLUSHDB ASYNC", [NO_COUPON; 2]),
    ("FLUSHALL", [NO_COUPON; 2]),
    ("FLUSHALL ASYNC", [NO_COUPON; 2]),
    ("SWAPDB 0 5", [NO_COUPON; 2]),
    ("HDEL c quantity", [NO_COUPON; 2]),
    ("HSET c waitlist many", ["-ERR field waitlist"; 2]),
    ("SET c x", [WRONG_TYPE; 2]),
    ("SINTERSTORE c set", [WRONG_TYPE; 2]),
    ("BITOP NOT c string", [WRONG_TYPE; 2]),
    ("RENAME string c", [WRONG_TYPE; 2]),
    ("COPY string c REPLACE", [WRONG_TYPE; 2]),
    // Another coupon in its place, that is over.
    ("RENAME over c", ["WAITING"; 2]),
    ("COPY over c REPLACE", ["WAITING"; 2]),
    // What is granted is still on its way to the ledger.
    ("HSET c status EXPIRED", [ON, "WAITING"]),
    ("DEL c:issued", [NO_ISSUED; 2]),
    ("UNLINK c:issued", [NO_ISSUED; 2]),
    ("RENAME c:issued elsewhere", [NO_ISSUED; 2]),
    ("MOVE c:issued 5", [NO_ISSUED; 2]),
    ("PEXPIREAT c:issued 1", [NO_ISSUED; 2]),
    ("PEXPIRE c:issued 20", [NO_ISSUED; 2]),
    ("ZREM c:issued p g w x", [NO_ISSUED; 2]),
    ("ZREMRANGEBYRANK c:issued 0 2", [NO_ISSUED; 2]),
    ("ZINTERSTORE c:issued 2 c:issued set", [NO_ISSUED; 2]),
    ("SET c:issued x", [WRONG_TYPE; 2]),
    ("SUNIONSTORE c:issued set", [WRONG_TYPE; 2]),
    ("ZREM c:issued g", ["NONE", ON]),
    ("ZREM c:issued w", [ON, "NONE"]),
    ("ZREM c:issued w g", ["NONE"; 2]),
    ("ZRANGESTORE c:issued c:issued 0 1", [ON, "NONE"]),
    ("DEL c:grants", [NO_GRANTS; 2]),
    ("UNLINK c:grants", [NO_GRANTS; 2]),
    ("RENAME c:grants elsewhere", [NO_GRANTS; 2]),
    ("MOVE c:grants 5", [NO_GRANTS; 2]),
    ("PEXPIREAT c:grants 1", [NO_GRANTS; 2]),
    ("PEXPIRE c:grants 20", [NO_GRANTS; 2]),
    ("XTRIM c:grants MAXLEN 0", [NO_GRANTS; 2]),
    ("XDEL c:grants 1-1 1-2", [NO_GRANTS; 2]),
    ("SET c:grants x", [WRONG_TYPE; 2]),
    // What is not theirs.
    ("HSET c quantity 9", [ON; 2]),
    ("HSET c waitlist 3", [ON; 2]),
    ("ZADD c:issued 99999999999999 new", [ON; 2]),
    ("ZREM c:issued x", [ON; 2]),
    ("PEXPIRE c 1000000", [ON; 2]),
    ("PEXPIRE c:issued 1000000", [ON; 2]),
    ("DEL over string set", [ON; 2]),
    ("COPY c elsewhere", [ON; 2]),
    ("SWAPDB 5 6", [ON; 2]),
];

/// How a change is made.
#[derive(Clone, Copy)]
enum By {
    Call,
    Transaction,
    Script,
}

impl By {
    fn make(self, client: &mut Client, change: &str) {
        let reply = match self {
            Self::Call => client.run(change),
            Self::Transaction => client.pipeline(&["MULTI", "SET before x", change, "EXEC"]).remove(3),
            Self::Script => {
                let mut call: Vec<Vec<u8>> =
                    ["EVAL", "return redis.call(unpack(ARGV))", "0"].map(|word| word.into()).into();
                call.extend(call::words(change));
                client.call(&call)
            }
        };
        let is_refused = reply.is_error() || matches!(&reply, Value::Array(all) if all.iter().any(Value::is_error));
        assert!(!is_refused, "{change}: {reply}");
    }
}

fn play(by: By) {
    let redis = unloadable();
    let mut client = redis.client();
    for (change, expected) in CHANGES {
        expect(&mut client, &[("FLUSHALL", "+OK")]);
        open(&mut client, "c");
        client.pipeline(&["HSET over status EXPIRED quantity 5", "SET string x", "SADD set x"]);
        let mut waiting = blocked(&redis, &["COUPON.WAIT c g 0", "COUPON.WAIT c w 0"]);
        by.make(&mut client, change);
        for ((waiter, expected), user) in waiting.iter_mut().zip(expected).zip(["g", "w"]) {
            if expected != ON {
                let answer = waiter.only_answer();
                assert!(answer.starts_with(expected), "{change}: {answer}");
                assert_eq!(client.run(&format!("COUPON.STATUS c {user}")).to_string(), answer, "{change}");
            }
        }
        let who_wait_on = expected.iter().filter(|expected| **expected == ON).count();
        assert_eq!(number(&mut client, "coupon_waiting_clients"), who_wait_on as i64, "{change}");
        if who_wait_on > 0 {
            let mut rest: Vec<_> = waiting.iter_mut().zip(expected).filter(|(_, expected)| *expected == ON).collect();
            // They are still found where they are.
            expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK"), ("COUPON.CLOSE c", "+OK")]);
            for (waiter, _) in &mut rest {
                let answer = waiter.only_answer();
                assert!(["PERSISTED", "WAITING"].contains(&&*answer), "{change}: {answer}");
            }
        }
        assert_nobody_waits(&mut client);
    }
    assert_nothing_is_left(&mut client);
}

#[test]
fn who_waits_hears_what_status_says() {
    play(By::Call);
}

#[test]
fn who_waits_hears_what_a_transaction_has_done() {
    play(By::Transaction);
}

#[test]
fn who_waits_hears_what_a_script_has_done() {
    play(By::Script);
}

#[test]
fn a_coupon_that_is_only_gone_for_the_moment_answers_nobody() {
    let redis = Redis::start();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut waiting = blocked(&redis, &["COUPON.WAIT c g 0", "COUPON.WAIT c w 0"]);
    for calls in [
        &["RENAME c d", "RENAME d c"][..],
        &["MOVE c 5", "SELECT 5", "MOVE c 0", "SELECT 0"],
        &["SWAPDB 0 5", "SWAPDB 0 5"],
        &["COPY c:issued d", "DEL c:issued", "RENAME d c:issued"],
        &["HSET c status EXPIRED", "HSET c status AVAILABLE"],
    ] {
        let calls = [&["MULTI"], calls, &["EXEC"]].concat();
        let replies = client.pipeline(&calls);
        assert!(replies.iter().all(|reply| !reply.is_error()), "{calls:?}: {replies:?}");
        assert_eq!(number(&mut client, "coupon_waiting_clients"), 2, "{calls:?}");
    }
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK"), ("COUPON.CLOSE c", "+OK")]);
    assert_eq!([waiting[0].only_answer(), waiting[1].only_answer()], ["PERSISTED", "WAITING"]);
}

#[test]
fn a_key_that_runs_out_unseen_answers_as_soon_as_somebody_looks() {
    for key in ["c", "c:issued", "c:grants"] {
        let redis = Redis::start();
        let mut client = redis.client();
        open(&mut client, "c");
        let mut waiter = blocked(&redis, &["COUPON.WAIT c g 0"]).remove(0);
        expect(&mut client, &[("DEBUG SET-ACTIVE-EXPIRE 0".to_owned(), "+OK"), (format!("PEXPIRE {key} 20"), ":1")]);
        eventually_true("the key has run out", || client.run(&format!("EXISTS {key}")).int() == 0);
        let answer = waiter.only_answer();
        assert!(answer.starts_with(if key == "c" { NO_COUPON } else { "-TRYAGAIN" }), "{key}: {answer}");
    }
}

#[test]
fn a_key_that_is_evicted_answers() {
    let redis = Redis::start();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut waiter = blocked(&redis, &["COUPON.WAIT c g 0"]).remove(0);
    expect(
        &mut client,
        &[
            ("PEXPIRE c 1000000", ":1"),
            ("CONFIG SET maxmemory-policy volatile-lru", "+OK"),
            ("CONFIG SET maxmemory 1", "+OK"),
        ],
    );
    assert!(waiter.only_answer().starts_with(NO_COUPON));
}

#[test]
fn a_dump_put_in_its_place_answers() {
    let redis = Redis::start();
    let mut client = redis.client();
    open(&mut client, "c");
    // As it will be, and as another is.
    client.pipeline(&["COPY c later", "HSET later persisted 2", "HSET over status EXPIRED quantity 5"]);
    let cursor = client.run("HGET c granted_to").text().to_owned();
    expect(&mut client, &[(format!("HSET later persisted_to {cursor}"), ":0")]);
    let restore = |client: &mut Client, from: &str| {
        let script = "return redis.call('RESTORE', KEYS[2], 0, redis.call('DUMP', KEYS[1]), 'REPLACE')";
        assert_eq!(client.call(&["EVAL", script, "2", from, "c"]).to_string(), "+OK");
    };
    let mut waiting = blocked(&redis, &["COUPON.WAIT c g 0", "COUPON.WAIT c w 0"]);
    restore(&mut client, "later");
    assert_eq!(waiting[0].only_answer(), "PERSISTED");
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 1);
    restore(&mut client, "over");
    assert_eq!(waiting[1].only_answer(), "WAITING");
}

#[test]
fn other_databases_are_other_databases() {
    let redis = Redis::start();
    let mut client = redis.client();
    open(&mut client, "c");
    expect(&mut client, &[("SELECT 5", "+OK")]);
    open(&mut client, "c");
    expect(&mut client, &[("SELECT 0", "+OK")]);
    let mut here = blocked(&redis, &["COUPON.WAIT c g 0"]).remove(0);
    let mut there = redis.client();
    expect(&mut there, &[("SELECT 5", "+OK")]);
    there.queue_line("COUPON.WAIT c g 0");
    there.flush().expect("the server takes the call");
    eventually_true("both wait", || number(&mut client, "coupon_waiting_clients") == 2);
    expect(&mut client, &[("SWAPDB 6 7", "+OK"), ("DEL c", ":1")]);
    assert!(here.only_answer().starts_with(NO_COUPON));
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 1);
    // Now those who are in database 5 are in the one without.
    expect(&mut client, &[("SWAPDB 0 5", "+OK")]);
    assert!(there.read().expect("an answer").to_string().starts_with(NO_COUPON));
    assert_nobody_waits(&mut client);
}

#[test]
fn a_reload_of_the_same_data_answers_nobody() {
    let redis = unloadable();
    let mut client = redis.client();
    open(&mut client, "c");
    let mut waiting = blocked(&redis, &["COUPON.WAIT c g 0", "COUPON.WAIT c w 0"]);
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 2);
    expect(
        &mut client,
        &[
            ("COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.ACK c EPOCH 2 SEQ 2", "+OK"),
            ("COUPON.CLOSE c", "+OK"),
        ],
    );
    assert_eq!([waiting[0].only_answer(), waiting[1].only_answer()], ["PERSISTED", "WAITING"]);
    assert_nothing_is_left(&mut client);
}

#[test]
fn a_reload_of_other_data_answers() {
    let redis = unloadable();
    let mut client = redis.client();
    open(&mut client, "kept");
    expect(&mut client, &[("SAVE", "+OK")]);
    open(&mut client, "c");
    let mut waiting = blocked(&redis, &["COUPON.WAIT c g 0", "COUPON.WAIT kept g 0"]);
    // As the file has it, without saving before.
    expect(&mut client, &[("DEBUG RELOAD NOSAVE", "+OK")]);
    assert!(waiting[0].only_answer().starts_with(NO_COUPON));
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 1);
    expect(&mut client, &[("DEL kept", ":1")]);
    assert!(waiting[1].only_answer().starts_with(NO_COUPON));
    assert_nothing_is_left(&mut client);
}

const KEY: &str = "coupon:{42}";

/// The coupon at its home, and the node beside it.
fn neighbours(cluster: &Cluster) -> (&Redis, &Redis) {
    let home = cluster.home(KEY);
    open(&mut cluster.primaries[home].client(), KEY);
    (&cluster.primaries[home], &cluster.primaries[(home + 1) % cluster.primaries.len()])
}

#[test]
fn while_a_slot_moves_who_waits_is_sent_where_status_is() {
    let cluster = Cluster::start(3);
    let (from, to) = (&cluster.primaries[0], &cluster.primaries[1]);
    // A slot for each order: one that came back at once would meet news of its first move that are still under way.
    let mut keys = (0..).map(|number| format!("coupon:{{{number}}}")).filter(|key| cluster.home(key) == 0);
    for (order, expected) in [
        (["", ":issued", ":grants"], "-ASK"),
        ([":grants", "", ":issued"], NO_GRANTS),
        ([":issued", ":grants", ""], NO_ISSUED),
    ] {
        let key = keys.next().expect("there are more");
        open(&mut from.client(), &key);
        let mut waiting = blocked(from, &[format!("COUPON.WAIT {key} g 0"), format!("COUPON.WAIT {key} w 86400000")]);
        Cluster::open_slot(from, to, &key);
        let migrate = |part: &str| {
            assert_ok(&mut from.client(), &format!("MIGRATE 127.0.0.1 {} {key}{part} 0 5000", to.port));
        };
        migrate(order[0]);
        let there = format!("{} 127.0.0.1:{}", slot(from, &key), to.port);
        let expected = if expected == "-ASK" { format!("-ASK {there}") } else { expected.to_owned() };
        for waiter in &mut waiting {
            let answer = waiter.only_answer();
            assert!(answer.starts_with(&expected), "{answer}, not {expected}");
        }
        assert_nobody_waits(&mut from.client());
        migrate(order[1]);
        migrate(order[2]);
        cluster.close_slot(from, to, &key);
        expect(&mut from.client(), &[(format!("COUPON.WAIT {key} g 0"), &*format!("-MOVED {there}"))]);
    }
}

/// Another node takes a slot with a newer configuration, and the owner before drops its keys: no failover and no migration.
pub fn take_slot(from: &Redis, to: &Redis, key: &str) {
    let slot = slot(from, key);
    let mut taker = to.client();
    assert_ok(&mut taker, &format!("CLUSTER SETSLOT {slot} NODE {}", id(to)));
    // A newer configuration than that of the owner.
    taker.run("CLUSTER BUMPEPOCH");
    let moved = format!("-MOVED {slot} 127.0.0.1:{}", to.port);
    eventually_true("the owner has heard of it", || {
        let reply = from.client().call(&["EXISTS", key]).to_string();
        if reply != moved {
            // Older news may have come in between.
            taker.run(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to)));
            taker.run("CLUSTER BUMPEPOCH");
        }
        reply == moved
    });
}

#[test]
fn a_slot_lost_by_a_configuration_update_sends_who_waits_elsewhere() {
    let cluster = Cluster::start(3);
    let (from, to) = neighbours(&cluster);
    let mut waiting = blocked(from, &[format!("COUPON.WAIT {KEY} g 0"), format!("COUPON.WAIT {KEY} w 86400000")]);
    take_slot(from, to, KEY);
    let moved = format!("-MOVED {} 127.0.0.1:{}", slot(from, KEY), to.port);
    for waiter in &mut waiting {
        assert_eq!(waiter.only_answer(), moved);
    }
    assert_nobody_waits(&mut from.client());
}

#[test]
fn a_failover_in_the_cluster_sends_who_waits_elsewhere() {
    let cluster = Cluster::start(3);
    let (from, _) = neighbours(&cluster);
    let mut waiting = blocked(from, &[format!("COUPON.WAIT {KEY} g 0"), format!("COUPON.WAIT {KEY} w 86400000")]);
    let mut replica = cluster.replicas[cluster.home(KEY)].client();
    eventually("the replica takes over", || (replica.run("CLUSTER FAILOVER").to_string() == "+OK").then_some(()));
    for waiter in &mut waiting {
        // As the server's own blocked clients.
        let answer = waiter.answer();
        assert!(answer.starts_with("-UNBLOCKED ") || answer.starts_with("-MOVED "), "{answer}");
    }
    assert_nobody_waits(&mut from.client());
}

#[test]
fn a_cluster_that_is_down_says_so_to_who_waits() {
    let redis = Options::shipped().line("cluster-enabled yes").line("enable-module-command yes").start();
    let mut client = redis.client();
    assert_ok(&mut client, "CLUSTER ADDSLOTSRANGE 0 16383");
    let is_well = |client: &mut Client, state: &str| {
        client.run("CLUSTER INFO").text().contains(&format!("cluster_state:{state}"))
    };
    eventually_true("the cluster serves all slots", || is_well(&mut client, "ok"));
    let home = slot(&redis, KEY);
    for lost in [home, home + 1] {
        expect(&mut client, &[("FLUSHALL", "+OK")]);
        open(&mut client, KEY);
        let calls = [format!("COUPON.WAIT {KEY} g 0"), format!("COUPON.WAIT {KEY} w 86400000"), "BLPOP {42} 0".into()];
        let mut waiting = blocked(&redis, &calls);
        assert_ok(&mut client, &format!("CLUSTER DELSLOTS {lost}"));
        for waiter in &mut waiting {
            let answer = waiter.only_answer();
            assert!(answer.starts_with("-CLUSTERDOWN"), "slot {lost} of {home}: {answer}");
        }
        assert_nobody_waits(&mut client);
        assert_ok(&mut client, &format!("CLUSTER ADDSLOTS {lost}"));
        eventually_true("the cluster serves all slots", || is_well(&mut client, "ok"));
    }
    assert_nothing_is_left(&mut client);
}
