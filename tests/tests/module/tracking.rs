//! Whoever keeps answers of STATUS, INFO and WAIT (CLIENT TRACKING), or watches a coupon, is told when they have changed, and
//! only then.

use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::dump::await_replica;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, Value, expect};

/// What is kept: an answer of each command that reads.
const READS: [&str; 4] = ["COUPON.STATUS c u", "COUPON.STATUS c w WITHRANK", "COUPON.INFO c", "COUPON.WAIT c p 0"];

/// A coupon whose user `p` is persisted, `g` granted, and `w` waiting. Three units, and no other place.
fn open(client: &mut Client) {
    expect(
        client,
        &[
            ("FLUSHALL", "+OK"),
            ("COUPON.OPEN c QUANTITY 3 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.MREQUEST c p g w", "[QUEUED QUEUED QUEUED]"),
            ("COUPON.ISSUE c COUNT 2", ":2"),
            ("COUPON.ACK c EPOCH 1 SEQ 1", "+OK"),
        ],
    );
}

/// What has been done before somebody reads, and the call that changes an answer.
const CHANGES: [(&[&str], &str); 29] = [
    (&["COUPON.OPEN c QUANTITY 4"], "COUPON.REQUEST c u"),
    (&["COUPON.OPEN c QUANTITY 3 WAITLIST 1"], "COUPON.REQUEST c u WITHRANK"),
    (&["COUPON.OPEN c QUANTITY 4 MODE INSTANT", "COUPON.ISSUE c"], "COUPON.REQUEST c u"),
    (&["COUPON.OPEN c QUANTITY 9"], "COUPON.MREQUEST c u v"),
    (&["COUPON.OPEN c QUANTITY 4"], "COUPON.MREQUEST c p u x"),
    (&["COUPON.OPEN c QUANTITY 4 MODE INSTANT", "COUPON.ISSUE c"], "COUPON.MREQUEST c u v"),
    (&[], "COUPON.ISSUE c"),
    // Nobody is granted, and it is over.
    (&["COUPON.ISSUE c", "COUPON.OPEN c QUANTITY 4 EXPIRES 631152000000"], "COUPON.ISSUE c"),
    (&[], "COUPON.ACK c EPOCH 1 SEQ 2"),
    (&[], "COUPON.LEAVE c w"),
    (&[], "COUPON.CLOSE c"),
    (&["COUPON.CLOSE c"], "COUPON.CLOSE c EPOCH 1 REVISION 1"),
    (&[], "COUPON.OPEN c QUANTITY 3 EPOCH 1 REVISION 1"),
    (&[], "COUPON.OPEN c QUANTITY 4"),
    (&[], "COUPON.OPEN c QUANTITY 3 WAITLIST 7"),
    (&[], "COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0"),
    (&[], "COUPON.RESTORE c EPOCH 2"),
    (&["COUPON.RESTORE c EPOCH 2"], "COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 1 u 1 1"),
    (&["COUPON.RESTORE c EPOCH 2"], "COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0"),
    (&[], "HSET c quantity 9"),
    (&[], "HSET c format 2"),
    (&[], "DEL c"),
    // By hand, in the companions.
    (&[], "ZADD c:issued 5 u"),
    (&[], "ZREM c:issued w"),
    (&[], "DEL c:issued"),
    (&["ZADD others 1 p 2 g 3 w 4 u"], "RENAME others c:issued"),
    (&[], "SET c:issued x"),
    (&[], "DEL c:grants"),
    (&[], "PEXPIREAT c:issued 1"),
];

/// What has been done before somebody reads, and a call that changes no answer.
const REST: [(&[&str], &str); 23] = [
    (&[], "COUPON.REQUEST c u"),
    (&[], "COUPON.REQUEST c w"),
    (&["COUPON.REQUEST c u"], "COUPON.REQUEST c v"),
    (&[], "COUPON.REQUEST c u WITHRANK"),
    (&[], "COUPON.MREQUEST c p u v"),
    (&[], "COUPON.MREQUEST c u v"),
    (&["COUPON.CLOSE c"], "COUPON.REQUEST c u"),
    (&["COUPON.OPEN c QUANTITY 9 OPENS 253402300799999"], "COUPON.REQUEST c u"),
    (&["COUPON.OPEN c QUANTITY 9", "HSET c fence 1"], "COUPON.REQUEST c u"),
    (&["COUPON.OPEN c QUANTITY 9"], "COUPON.REQUEST c u RANK"),
    (&["COUPON.ISSUE c"], "COUPON.ISSUE c"),
    (&[], "COUPON.ACK c EPOCH 1 SEQ 1"),
    (&[], "COUPON.ACK c EPOCH 1 SEQ 9"),
    (&[], "COUPON.OPEN c QUANTITY 3"),
    (&[], "COUPON.OPEN c QUANTITY 1"),
    (&["COUPON.CLOSE c"], "COUPON.CLOSE c"),
    (&["COUPON.OPEN c QUANTITY 3 EPOCH 1 REVISION 2"], "COUPON.OPEN c QUANTITY 4 EPOCH 1 REVISION 1"),
    (&[], "COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0"),
    (&[], "COUPON.RESUME c EPOCH 2 SEQ 9 CHAIN 0"),
    (&["COUPON.RESTORE c EPOCH 2"], "COUPON.RESTORE c EPOCH 2"),
    (&[], "COUPON.STATUS c w"),
    (&[], "COUPON.INFO c"),
    (&[], "COUPON.WAIT c p 0"),
];

/// What a client is told before the reply to a call.
fn told(reader: &mut Client, call: &str) -> Vec<String> {
    reader.queue_line(call);
    reader.flush().expect("the server takes the call");
    let mut told = Vec::new();
    loop {
        match reader.read().expect("a reply") {
            push @ Value::Push(_) => told.push(push.to_string()),
            _ => return told,
        }
    }
}

const INVALIDATED: &str = ">[invalidate [c]]";

#[test]
fn what_changes_an_answer_is_told_to_whoever_keeps_one() {
    let redis = Redis::start();
    let (mut client, mut reader) = (redis.client(), redis.client_resp3());
    expect(&mut reader, &[("CLIENT TRACKING ON", "+OK")]);
    for (before, change) in CHANGES {
        for read in READS {
            open(&mut client);
            for call in before {
                assert!(!client.run(call).is_error(), "{call}");
            }
            told(&mut reader, read);
            let reply = client.run(change);
            assert!(!reply.is_error(), "{change}: {reply}");
            let told = told(&mut reader, "PING");
            assert!(told.contains(&INVALIDATED.into()), "{read}, then {change}: {told:?}");
        }
    }
}

#[test]
fn what_changes_no_answer_is_told_to_nobody() {
    let redis = Redis::start();
    let (mut client, mut reader) = (redis.client(), redis.client_resp3());
    expect(&mut reader, &[("CLIENT TRACKING ON", "+OK")]);
    for (before, call) in REST {
        for read in READS {
            open(&mut client);
            for call in before {
                assert!(!client.run(call).is_error(), "{call}");
            }
            told(&mut reader, read);
            let reply = client.run(call);
            assert_eq!(told(&mut reader, "PING"), [""; 0], "{read}, then {call}: {reply}");
        }
    }
}

#[test]
fn in_a_transaction_and_a_script_it_is_told_too() {
    let redis = Redis::start();
    let (mut client, mut reader) = (redis.client(), redis.client_resp3());
    expect(&mut reader, &[("CLIENT TRACKING ON", "+OK")]);
    open(&mut client);
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 9", "+OK")]);
    told(&mut reader, "COUPON.STATUS c u");
    let replies = client.pipeline(&["MULTI", "COUPON.REQUEST c p", "COUPON.REQUEST c u", "EXEC"]);
    assert_eq!(replies[3].to_string(), "[DUPLICATE QUEUED]");
    assert_eq!(told(&mut reader, "COUPON.STATUS c v"), [INVALIDATED]);
    let script = "return redis.call('COUPON.REQUEST', KEYS[1], 'v')";
    assert_eq!(client.call(&["EVAL", script, "1", "c"]).to_string(), "QUEUED");
    assert_eq!(told(&mut reader, "PING"), [INVALIDATED]);
}

#[test]
fn a_client_of_the_old_protocol_is_told_by_another_connection() {
    let redis = Redis::start();
    let (mut client, mut reader, mut listener) = (redis.client(), redis.client(), redis.client());
    open(&mut client);
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 4", "+OK")]);
    let id = listener.run("CLIENT ID").int();
    listener.run("SUBSCRIBE __redis__:invalidate");
    expect(&mut reader, &[(format!("CLIENT TRACKING ON REDIRECT {id}"), "+OK"), ("COUPON.STATUS c u".into(), "NONE")]);
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST c u", "QUEUED"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("PUBLISH __redis__:invalidate end", ":1"),
        ],
    );
    assert_eq!(listener.read().expect("a message").to_string(), "[message __redis__:invalidate [c]]");
    assert_eq!(listener.read().expect("a message").to_string(), "[message __redis__:invalidate end]");
}

#[test]
fn who_listens_to_all_coupons_is_told_of_this_one() {
    let redis = Redis::start();
    let (mut client, mut reader) = (redis.client(), redis.client_resp3());
    open(&mut client);
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 4", "+OK")]);
    expect(&mut reader, &[("CLIENT TRACKING ON BCAST PREFIX c", "+OK")]);
    expect(&mut client, &[("COUPON.REQUEST c x", "QUEUED")]);
    // The server tells them before it sleeps.
    eventually_true("it is told", || {
        told(&mut reader, "PING").iter().any(|push| {
            let keys = push.trim_start_matches(">[invalidate [").trim_end_matches("]]");
            keys.split(' ').any(|key| key == "c")
        })
    });
    expect(&mut client, &[("COUPON.REQUEST c y", "SOLDOUT"), ("SET cd x", "+OK")]);
    let next = eventually("what is told next", || told(&mut reader, "PING").pop());
    assert_eq!(next, ">[invalidate [cd]]");
}

#[test]
fn a_replica_tells_whoever_reads_there() {
    let primary = Redis::start();
    let replica = primary.replica();
    let (mut client, mut reader) = (primary.client(), replica.client_resp3());
    eventually_true("the replica follows", || client.run("INFO replication").text().contains("state=online"));
    expect(&mut reader, &[("CLIENT TRACKING ON", "+OK")]);
    let mut play = |before: &[&str], call: &str| {
        open(&mut client);
        for call in before {
            assert!(!client.run(call).is_error(), "{call}");
        }
        await_replica(&primary, &replica);
        for read in READS {
            told(&mut reader, read);
        }
        client.run(call);
        await_replica(&primary, &replica);
        told(&mut reader, "PING")
    };
    for (before, change) in CHANGES {
        let told = play(before, change);
        assert!(told.contains(&INVALIDATED.into()), "{change}: {told:?}");
    }
    for (before, call) in REST {
        assert_eq!(play(before, call), [""; 0], "{call}");
    }
}

#[test]
fn a_transaction_that_watches_fails_if_somebody_has_joined() {
    let redis = Redis::start();
    let (mut client, mut watcher) = (redis.client(), redis.client());
    let mut play = |before: &[&str], call: &str| {
        open(&mut client);
        for call in before {
            assert!(!client.run(call).is_error(), "{call}");
        }
        expect(&mut watcher, &[("WATCH c", "+OK")]);
        client.run(call);
        watcher.pipeline(&["MULTI", "PING", "EXEC"]).remove(2)
    };
    for (before, change) in CHANGES {
        assert_eq!(play(before, change), Value::Null, "{change}");
    }
    for (before, call) in REST {
        assert_eq!(play(before, call).to_string(), "[+PONG]", "{call}");
    }
}
