//! The module keeps status hashes in mind. Whatever changes one by another way is noticed at once.

use crate::info_section::is_told_of_changes;
use coupon_tests::deadline::eventually_true;
use coupon_tests::dump::{await_replica, dump};
use coupon_tests::info::number;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, Value, expect};
use std::io::Write;

/// A coupon that has been read, and would be answered for without being read again.
fn known(redis: &Redis) -> Client {
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 WAITLIST 5 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.REQUEST c a", "DUPLICATE"),
            ("COUPON.STATUS c a", "GRANTED"),
        ],
    );
    client
}

#[test]
fn a_field_set_by_hand_holds_from_the_next_call_on() {
    let redis = Redis::start();
    let mut client = known(&redis);
    expect(
        &mut client,
        &[
            ("HSET c status EXPIRED", ":0"),
            ("COUPON.REQUEST c b", "CLOSED"),
            ("HSET c status AVAILABLE waitlist 0 quantity 1", ":0"),
            ("COUPON.REQUEST c b", "SOLDOUT"),
            ("HINCRBY c quantity 1", ":2"),
            ("COUPON.REQUEST c b", "GRANTED"),
            ("HSET c opens_at 253402300799999", ":0"),
            ("COUPON.REQUEST c x", "NOTOPEN"),
            ("HDEL c opens_at", ":1"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("HSET c waitlist many", ":0"),
            ("COUPON.REQUEST c x", "-ERR field waitlist"),
            ("HSET c waitlist 7", ":0"),
            ("COUPON.REQUEST c x", "QUEUED"),
            ("HDEL c quantity", ":1"),
            ("COUPON.REQUEST c y", "-NOCOUPON"),
        ],
    );
}

#[test]
fn a_change_within_a_transaction_or_a_script_is_noticed() {
    let redis = Redis::start();
    let mut client = known(&redis);
    let replies =
        client.pipeline(&["MULTI", "COUPON.REQUEST c b", "HSET c status EXPIRED", "COUPON.REQUEST c x", "EXEC"]);
    assert_eq!(replies.last().map(ToString::to_string), Some("[GRANTED :0 CLOSED]".into()));
    let script = "redis.call('HSET', KEYS[1], 'status', 'ISSUED'); return redis.call('COUPON.REQUEST', KEYS[1], 'x')";
    assert_eq!(client.call(&["EVAL", script, "1", "c"]).to_string(), "QUEUED");
}

#[test]
fn a_key_that_is_gone_is_no_coupon() {
    for gone in [
        "DEL c",
        "UNLINK c",
        "RENAME c elsewhere",
        "PEXPIREAT c 1",
        "MOVE c 5",
        "FLUSHDB",
        "FLUSHALL ASYNC",
        "SWAPDB 0 5",
    ] {
        let redis = Redis::start();
        let mut client = known(&redis);
        assert!(!client.run(gone).is_error(), "{gone}");
        expect(&mut client, &[("COUPON.STATUS c a", "-NOCOUPON"), ("COUPON.REQUEST c a", "-NOCOUPON")]);
    }
}

#[test]
fn a_key_that_runs_out_is_no_coupon_from_that_moment_on() {
    // Expired keys stay where they are until somebody looks.
    let redis = Options::shipped().line("enable-debug-command yes").start();
    let mut client = known(&redis);
    expect(
        &mut client,
        &[("DEBUG SET-ACTIVE-EXPIRE 0", "+OK"), ("PEXPIRE c 20", ":1"), ("COUPON.STATUS c a", "GRANTED")],
    );
    eventually_true("the key has run out", || {
        let reply = client.run("COUPON.STATUS c a").to_string();
        assert!(reply == "GRANTED" || reply.starts_with("-NOCOUPON"), "{reply}");
        reply != "GRANTED"
    });
    assert_eq!(client.run("EXISTS c").int(), 0);
}

#[test]
fn another_coupon_in_its_place_is_another_coupon() {
    // Users of the one that was there are in the set that was there.
    for (put, a, z) in [
        ("RENAME other c", "WAITING", "[QUEUED :2]"),
        ("COPY other c REPLACE", "WAITING", "[QUEUED :2]"),
        ("SWAPDB 0 5", "NONE", "[QUEUED :1]"),
    ] {
        // Each of them is the first to see it.
        for (call, answer) in [
            ("COUPON.STATUS c a", a),
            ("COUPON.REQUEST c z WITHRANK", z),
            ("COUPON.MREQUEST c z", "[QUEUED]"),
            ("COUPON.OPEN c QUANTITY 9 EPOCH 7", "+OK"),
            ("COUPON.WAIT c nobody 0", "NONE"),
        ] {
            let redis = Redis::start();
            let mut client = known(&redis);
            expect(
                &mut client,
                &[
                    ("SELECT 5", "+OK"),
                    ("COUPON.OPEN c QUANTITY 9", "+OK"),
                    ("COUPON.STATUS c a", "NONE"),
                    ("SELECT 0", "+OK"),
                    ("COUPON.OPEN other QUANTITY 9", "+OK"),
                    ("COUPON.STATUS other a", "NONE"),
                    ("DEL c:grants", ":1"),
                    ("COUPON.STATUS c a", "-TRYAGAIN the :grants key"),
                ],
            );
            assert!(!client.run(put).is_error(), "{put}");
            expect(&mut client, &[(call, answer)]);
            assert_eq!(client.run("COUPON.INFO c").field("quantity").int(), 9, "{put}");
            assert_eq!(client.run("HGET c mode").text(), "QUEUE", "{put}");
        }
    }
}

#[test]
fn a_client_stays_in_its_database() {
    // Some Valkey leave a client of MOVE and COPY in the other database if a module listens to the events of keys.
    let redis = Redis::start();
    let mut client = known(&redis);
    for call in ["SET k v", "MOVE k 5", "SET k v", "COPY k l DB 6"] {
        assert!(!client.run(call).is_error(), "{call}");
        assert!(client.run("CLIENT INFO").text().contains(" db=0 "), "{call}");
    }
}

#[test]
fn a_dump_put_back_is_what_counts() {
    let redis = Redis::start();
    let mut client = known(&redis);
    let call = |client: &mut Client, script: &str| client.call(&["EVAL", script, "0"]).to_string();
    let script = "local old = redis.call('DUMP', 'c'); redis.call('HSET', 'c', 'status', 'EXPIRED'); \
                  local first = redis.call('COUPON.REQUEST', 'c', 'x'); \
                  redis.call('RESTORE', 'c', '0', old, 'REPLACE'); \
                  return { first, redis.call('COUPON.REQUEST', 'c', 'x') }";
    assert_eq!(call(&mut client, script), "[CLOSED GRANTED]");
}

#[test]
fn the_stream_is_watched_too() {
    for (change, answer) in [
        ("XTRIM c:grants MAXLEN 0", "-TRYAGAIN the :grants key"),
        ("DEL c:grants", "-TRYAGAIN the :grants key"),
        ("RENAME c:grants elsewhere", "-TRYAGAIN the :grants key"),
        ("PEXPIREAT c:grants 1", "-TRYAGAIN the :grants key"),
    ] {
        let redis = Redis::start();
        let mut client = known(&redis);
        assert!(!client.run(change).is_error());
        expect(
            &mut client,
            &[("COUPON.STATUS c a", answer), ("COUPON.REQUEST c a", answer), ("COUPON.REQUEST c b", answer)],
        );
    }
}

/// A coupon that is sold out, of which hash and members are in mind, and keys of other types.
fn sold_out(client: &mut Client) {
    expect(
        client,
        &[
            ("FLUSHALL", "+OK"),
            ("COUPON.OPEN c QUANTITY 2 MODE INSTANT EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.MREQUEST c a b", "[GRANTED GRANTED]"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("SET string x", "+OK"),
            ("RPUSH list 3 1 2", ":3"),
            ("SADD set x", ":1"),
        ],
    );
}

/// Everything that puts a key of another type where a hash, a sorted set or a stream was.
const OVERWRITES: [&[&str]; 17] = [
    &["SET {} x"],
    &["SET {} x PX 1000000"],
    &["PSETEX {} 1000000 x"],
    &["MSET {} x other y"],
    &["DEL {}", "LPUSH {} x"],
    &["DEL {}", "SADD {} x"],
    &["UNLINK {}", "APPEND {} x"],
    &["RENAME string {}"],
    &["RENAME list {}"],
    &["COPY set {} REPLACE"],
    &["MOVE {} 5", "SETNX {} x"],
    &["SINTERSTORE {} set"],
    &["SUNIONSTORE {} set"],
    &["SDIFFSTORE {} set"],
    &["SORT list STORE {}"],
    &["BITOP NOT {} string"],
    &["EVAL \"redis.call('RESTORE',KEYS[1],0,redis.call('DUMP','list'),'REPLACE')\" 1 {}"],
];

/// A call of every command, which would write where it can.
const CALLS: [&str; 13] = [
    "COUPON.REQUEST c x",
    "COUPON.REQUEST c a",
    "COUPON.MREQUEST c x a",
    "COUPON.MREQUEST c y z",
    "COUPON.ISSUE c",
    "COUPON.STATUS c a",
    "COUPON.WAIT c a 1",
    "COUPON.INFO c",
    "COUPON.OPEN c QUANTITY 5",
    "COUPON.CLOSE c",
    "COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0",
    "COUPON.ACK c EPOCH 1 SEQ 2",
    "COUPON.RESTORE c EPOCH 2",
];

#[test]
fn a_key_overwritten_by_another_type_is_noticed_at_once_and_never_written() {
    let redis = Redis::start();
    let mut client = redis.client();
    for key in ["c", "c:issued", "c:grants"] {
        for overwrite in OVERWRITES {
            // Each of them is the first to see it.
            for call in CALLS {
                sold_out(&mut client);
                for step in overwrite {
                    let reply = client.run(&step.replace("{}", key));
                    assert!(!reply.is_error(), "{step}: {reply}");
                }
                let before = dump(&mut client);
                let reply = client.run(call).to_string();
                assert!(reply.starts_with("-WRONGTYPE"), "{overwrite:?} for {key}, then {call}: {reply}");
                assert_eq!(dump(&mut client), before, "{overwrite:?} for {key}, then {call}");
            }
        }
    }
}

#[test]
fn an_overwrite_within_a_transaction_or_a_script_is_noticed() {
    let redis = Redis::start();
    let mut client = redis.client();
    for key in ["c", "c:issued", "c:grants"] {
        sold_out(&mut client);
        let set = format!("SET {key} x");
        let replies = client.pipeline(&["MULTI", "COUPON.REQUEST c x", &set, "COUPON.REQUEST c x", "EXEC"]);
        let reply = replies[4].to_string();
        assert!(reply.starts_with("[SOLDOUT +OK -WRONGTYPE"), "{key}: {reply}");
        sold_out(&mut client);
        let script = "redis.call('SET', ARGV[1], 'x'); return redis.pcall('COUPON.REQUEST', KEYS[1], 'x')";
        let reply = client.call(&["EVAL", script, "1", "c", key]).to_string();
        assert!(reply.starts_with("-WRONGTYPE"), "{key}: {reply}");
    }
}

#[test]
fn a_replica_notices_an_overwrite_too() {
    for key in ["c", "c:issued", "c:grants"] {
        let primary = Redis::start();
        let replica = primary.replica();
        let (mut client, mut reader) = (primary.client(), replica.client());
        eventually_true("the replica follows", || client.run("INFO replication").text().contains("state=online"));
        sold_out(&mut client);
        await_replica(&primary, &replica);
        expect(&mut reader, &[("COUPON.STATUS c a", "GRANTED"), ("COUPON.STATUS c x", "NONE")]);
        expect(&mut client, &[(format!("SET {key} x"), "+OK")]);
        await_replica(&primary, &replica);
        expect(&mut reader, &[("COUPON.STATUS c a", "-WRONGTYPE")]);
    }
}

/// Whether this server lets a field of a hash run out. If not, there is nothing to test, which is said.
fn has_field_ttl(client: &mut Client) -> bool {
    let has = client.run("COMMAND INFO HPEXPIRE").array()[0] != Value::Null;
    if !has {
        // Not by eprintln!, which nobody sees of a test that passes.
        let said = "SKIPPED: this server has no HPEXPIRE, so no field of a hash runs out\n";
        std::io::stderr().write_all(said.as_bytes()).expect("standard error");
    }
    has
}

/// Milliseconds until the fields below have run out.
const FIELD_TTL_MS: u64 = 30;

#[test]
fn a_field_that_has_run_out_is_a_field_that_is_not_there() {
    let redis = Redis::start();
    let mut client = redis.client();
    if !has_field_ttl(&mut client) {
        return;
    }
    let answers = |client: &mut Client, key: &str| -> Vec<String> {
        ["COUPON.STATUS {} a", "COUPON.INFO {}", "COUPON.REQUEST {} x", "COUPON.REQUEST {} y", "COUPON.ISSUE {}"]
            .map(|call| client.run(&call.replace("{}", key)).to_string())
            .into()
    };
    // The field with the value that ends with it: a waitlist, a coupon that has ended, a window that is over or to come.
    for (field, value) in [
        ("waitlist", "5"),
        ("status", "EXPIRED"),
        ("expires_at", "631152000000"),
        ("opens_at", "253402300799999"),
        ("quantity", "2"),
        ("mode", "INSTANT"),
    ] {
        for set in [
            "HPEXPIRE c {ttl} FIELDS 1 {field}",
            "HPEXPIREAT c {at} FIELDS 1 {field}",
            "HSETEX c PX {ttl} FIELDS 1 {field} {value}",
            "HGETEX c PX {ttl} FIELDS 1 {field}",
        ] {
            for is_active in ["0", "1"] {
                expect(&mut client, &[("FLUSHALL", "+OK"), (&*format!("DEBUG SET-ACTIVE-EXPIRE {is_active}"), "+OK")]);
                for key in ["c", "gone"] {
                    expect(
                        &mut client,
                        &[
                            (format!("COUPON.OPEN {key} QUANTITY 2"), "+OK"),
                            (format!("COUPON.MREQUEST {key} a b"), "[QUEUED QUEUED]"),
                            (format!("COUPON.ISSUE {key} COUNT 1"), ":1"),
                            (format!("HSET {key} {field} {value}"), ":0"),
                        ],
                    );
                }
                let time = client.run("TIME");
                let part = |index: usize| time.array()[index].text().parse::<u64>().expect("a number");
                let at = part(0) * 1000 + part(1) / 1000 + FIELD_TTL_MS;
                let set = set.replace("{ttl}", &FIELD_TTL_MS.to_string()).replace("{at}", &at.to_string());
                let set = set.replace("{field}", field).replace("{value}", value);
                let reply = client.run(&set);
                assert!(!reply.is_error(), "{set}: {reply}");
                // A key that runs out behind it tells the time: to look at the field itself may be what deletes it.
                expect(&mut client, &[(format!("SET clock x PX {}", FIELD_TTL_MS + 1), "+OK")]);
                eventually_true("the field has run out", || {
                    // As long as it is there, it is asked for.
                    client.run("COUPON.STATUS c a");
                    client.run("COUPON.REQUEST c a");
                    client.run("EXISTS clock").int() == 0
                });
                expect(&mut client, &[(format!("HDEL gone {field}"), ":1")]);
                let expected = answers(&mut client, "gone");
                assert_eq!(answers(&mut client, "c"), expected, "{set}, active expiry {is_active}");
            }
        }
    }
}

#[test]
fn a_coupon_with_a_field_that_is_to_run_out_is_not_kept_in_mind() {
    let redis = Redis::start();
    let mut client = redis.client();
    if !has_field_ttl(&mut client) {
        return;
    }
    let in_mind = |client: &mut Client| number(client, "coupon_hashes_in_mind");
    let read = |client: &mut Client| {
        expect(client, &[("COUPON.STATUS c a", "GRANTED"), ("COUPON.REQUEST c a", "DUPLICATE")]);
    };
    drop(known(&redis));
    // However it has come by its field: the last one was never read without.
    for (set, may_be_kept) in [
        ("HPEXPIRE c 1000000 FIELDS 1 waitlist", false),
        ("HPERSIST c FIELDS 1 waitlist", true),
        ("HSETEX c PX 1000000 FIELDS 1 waitlist 5", false),
        ("HSET c waitlist 5", true),
        ("HGETEX c PX 1000000 FIELDS 1 status", false),
        ("HGETEX c PERSIST FIELDS 1 status", true),
        ("HPEXPIRE c 1000000 FIELDS 1 waitlist", false),
        ("DEBUG RELOAD", false),
        ("RENAME c d", false),
        ("RENAME d c", false),
    ] {
        assert!(!client.run(set).is_error(), "{set}");
        if client.run("EXISTS c").int() == 0 {
            continue;
        }
        read(&mut client);
        read(&mut client);
        assert!(may_be_kept || in_mind(&mut client) == 0, "{set}");
    }
}

#[test]
fn a_replica_follows_its_primary() {
    let (primary, replica) = (Redis::start(), Redis::start());
    let mut client = known(&primary);
    let mut reader = replica.client();
    reader.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    eventually_true("the replica has the coupon", || reader.run("COUPON.STATUS c a").to_string() == "GRANTED");
    expect(&mut reader, &[("COUPON.STATUS c b", "NONE")]);
    expect(&mut client, &[("COUPON.REQUEST c b", "GRANTED")]);
    eventually_true("the replica has the grant", || reader.run("COUPON.STATUS c b").to_string() == "GRANTED");
    expect(&mut client, &[("HSET c quantity 77", ":0")]);
    eventually_true("the replica has the change", || reader.run("COUPON.INFO c").field("quantity").int() == 77);
    expect(&mut client, &[("DEL c", ":1")]);
    eventually_true("the replica has forgotten", || reader.run("COUPON.STATUS c b").is_error());
}

/// Coupons kept in mind at most.
const COUPONS_MAX: i64 = 16_384;

#[test]
fn more_coupons_than_are_kept_in_mind_are_all_served_and_the_most_used_stay() {
    const COUPONS: usize = 20_000;
    const MEMBERS: usize = 1_000;
    let redis = Redis::start();
    let mut client = redis.client();
    let is_told = is_told_of_changes(&mut client);
    // Two of which all members are known. To learn that again takes more strangers than ask for them below.
    for key in ["asked", "read"] {
        expect(&mut client, &[(format!("COUPON.OPEN {key} QUANTITY {MEMBERS}"), "+OK")]);
        let requests: Vec<String> = (0..MEMBERS).map(|user| format!("COUPON.REQUEST {key} u{user}")).collect();
        assert!(client.pipeline(&requests).iter().all(|reply| reply.to_string() == "QUEUED"));
        let strangers = vec![format!("COUPON.REQUEST {key} x"); MEMBERS / 16];
        assert!(client.pipeline(&strangers).iter().all(|reply| reply.to_string() == "SOLDOUT"));
    }
    assert_eq!(number(&mut client, "coupon_sets_in_mind"), if is_told { 2 } else { 0 });
    let batch = |command: &str, rest: &str| -> Vec<String> {
        (0..COUPONS).map(|coupon| format!("{command} c{coupon}{rest}")).collect()
    };
    for (calls, answer) in
        [(batch("COUPON.OPEN", " QUANTITY 1 MODE INSTANT"), "+OK"), (batch("COUPON.REQUEST", " a"), "GRANTED")]
    {
        for part in calls.chunks(500) {
            assert!(client.pipeline(part).iter().all(|reply| reply.to_string() == answer));
            expect(&mut client, &[("COUPON.REQUEST asked x", "SOLDOUT"), ("COUPON.STATUS read u7", "WAITING")]);
            let kept = number(&mut client, "coupon_hashes_in_mind");
            assert!(kept <= COUPONS_MAX, "{kept} in mind");
        }
    }
    // One went for each that came, and none of the two.
    assert_eq!(number(&mut client, "coupon_hashes_in_mind"), if is_told { COUPONS_MAX } else { 0 });
    assert_eq!(number(&mut client, "coupon_sets_in_mind"), if is_told { 2 } else { 0 });
    for part in batch("COUPON.REQUEST", " b").chunks(500) {
        assert!(client.pipeline(part).iter().all(|reply| reply.to_string() == "SOLDOUT"));
    }
    let kept = number(&mut client, "coupon_hashes_in_mind");
    assert!(kept <= COUPONS_MAX, "{kept} in mind");
    // What is in mind is no more than what is there.
    for part in batch("DEL", "").chunks(500) {
        client.pipeline(part);
    }
    for part in batch("COUPON.STATUS", " a").chunks(500) {
        assert!(client.pipeline(part).iter().all(|reply| reply.to_string().starts_with("-NOCOUPON")));
    }
    expect(&mut client, &[("COUPON.REQUEST asked u7", "DUPLICATE"), ("COUPON.STATUS read u7", "WAITING")]);
}
