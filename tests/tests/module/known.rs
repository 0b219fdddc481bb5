//! The module keeps status hashes in mind. Whatever changes one by another way is noticed at once.

use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};

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
    eventually_true("the key has run out", || client.run("COUPON.STATUS c a").to_string().starts_with("-NOCOUPON"));
    assert_eq!(client.run("EXISTS c").int(), 0);
}

#[test]
fn another_coupon_in_its_place_is_another_coupon() {
    let redis = Redis::start();
    let mut client = known(&redis);
    expect(&mut client, &[("COUPON.OPEN other QUANTITY 9", "+OK"), ("COUPON.STATUS other a", "NONE")]);
    for put in ["RENAME other c", "COPY other c REPLACE", "SWAPDB 0 5"] {
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
            ],
        );
        assert!(!client.run(put).is_error(), "{put}");
        assert_eq!(client.run("COUPON.INFO c").field("quantity").int(), 9, "{put}");
        assert_eq!(client.run("COUPON.REQUEST c z").text(), "QUEUED", "{put}");
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

#[test]
fn a_key_overwritten_by_another_type_is_never_written() {
    for key in ["c", "c:grants"] {
        let redis = Redis::start();
        let mut client = known(&redis);
        expect(
            &mut client,
            &[
                (format!("SET {key} x"), "+OK"),
                ("COUPON.REQUEST c b".into(), "-WRONGTYPE"),
                // From then on users are told as well.
                ("COUPON.REQUEST c a".into(), "-WRONGTYPE"),
                ("COUPON.STATUS c a".into(), "-WRONGTYPE"),
                (format!("GET {key}"), "x"),
                ("ZCARD c:issued".into(), ":1"),
            ],
        );
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

#[test]
fn more_coupons_than_are_kept_in_mind_are_all_served() {
    let redis = Redis::start();
    let mut client = redis.client();
    let coupons = 20_000;
    let batch = |command: &str, rest: &str| -> Vec<String> {
        (0..coupons).map(|coupon| format!("{command} c{coupon}{rest}")).collect()
    };
    for (calls, answer) in [
        (batch("COUPON.OPEN", " QUANTITY 1 MODE INSTANT"), "+OK"),
        (batch("COUPON.REQUEST", " a"), "GRANTED"),
        (batch("COUPON.REQUEST", " b"), "SOLDOUT"),
    ] {
        for part in calls.chunks(500) {
            let part: Vec<&str> = part.iter().map(String::as_str).collect();
            assert!(client.pipeline(&part).iter().all(|reply| reply.to_string() == answer));
        }
    }
}
