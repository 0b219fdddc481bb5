//! MULTI, WATCH, Lua, and both protocols.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, expect};

/// The replies of a transaction.
fn exec(client: &mut Client, calls: &[&str]) -> String {
    let calls = [&["MULTI"], calls, &["EXEC"]].concat();
    client.pipeline(&calls).last().expect("the reply of EXEC").to_string()
}

#[test]
fn a_transaction_holds_any_command_and_a_refusal_does_not_undo_the_others() {
    let redis = Redis::start();
    let mut client = redis.client();
    let replies = exec(
        &mut client,
        &[
            "COUPON.OPEN c QUANTITY 2 EPOCH 1",
            "COUPON.REQUEST c a",
            "COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0",
            "COUPON.REQUEST c a WITHRANK",
            "COUPON.REQUEST c a",
            "COUPON.ISSUE c",
            "COUPON.ISSUE c",
            "COUPON.ACK c EPOCH 1 SEQ 1",
            "COUPON.STATUS c a WITHRANK",
            "COUPON.CLOSE c",
        ],
    );
    assert_eq!(
        replies,
        "[+OK -TRYAGAIN coupon is fenced until the reconciler has compared it with the ledger; retry in a moment +OK \
         [QUEUED :1] DUPLICATE :1 :0 +OK [PERSISTED :1 :0] +OK]"
    );
}

#[test]
fn requests_of_one_transaction_have_times_of_their_own() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 500 MODE INSTANT", "+OK")]);
    let calls: Vec<String> = (0..500).map(|user| format!("COUPON.REQUEST c {}", 999 - user)).collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    assert_eq!(exec(&mut client, &calls).matches("GRANTED").count(), 500);
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    assert_eq!(stored.granted()[..2], ["999", "998"]);
}

#[test]
fn wrong_arity_aborts_a_transaction() {
    let redis = Redis::start();
    let reply = exec(&mut redis.client(), &["COUPON.OPEN c QUANTITY 5", "COUPON.REQUEST c"]);
    assert!(reply.starts_with("-EXECABORT"), "{reply}");
    expect(&mut redis.client(), &[("EXISTS c", ":0")]);
}

#[test]
fn a_watched_key_is_touched_by_what_is_accepted_and_only_by_that() {
    let setup = [
        ("COUPON.OPEN c QUANTITY 2 MODE INSTANT WAITLIST 9 EPOCH 1", "+OK"),
        ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
        ("COUPON.REQUEST c a", "GRANTED"),
        ("COUPON.OPEN c QUANTITY 2 MODE QUEUE", "+OK"),
        ("COUPON.REQUEST c w", "QUEUED"),
    ];
    let all = "c c:issued c:grants";
    for (watched, call, is_touched) in [
        (all, "COUPON.REQUEST c a", false),
        (all, "COUPON.REQUEST c w WITHRANK", false),
        (all, "COUPON.OPEN c QUANTITY 2", false),
        (all, "COUPON.OPEN c QUANTITY 0", false),
        (all, "COUPON.STATUS c a", false),
        (all, "COUPON.INFO c", false),
        (all, "COUPON.ACK c EPOCH 1 SEQ 0", false),
        (all, "COUPON.ACK c EPOCH 1 SEQ 9", false),
        (all, "COUPON.RESUME c EPOCH 2 SEQ 1 CHAIN 0", false),
        ("c:grants", "COUPON.REQUEST c new", false),
        // Who reads a coupon names its key alone, and is answered from the set as well.
        ("c", "COUPON.REQUEST c new", true),
        ("c:issued", "COUPON.REQUEST c new", true),
        ("c:issued", "COUPON.ISSUE c", false),
        ("c", "COUPON.ISSUE c", true),
        ("c:grants", "COUPON.ISSUE c", true),
        ("c", "COUPON.OPEN c QUANTITY 3", true),
        ("c:issued c:grants", "COUPON.OPEN c QUANTITY 3", false),
        ("c", "COUPON.CLOSE c", true),
        ("c", "COUPON.ACK c EPOCH 1 SEQ 1", true),
        ("c", "COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0", true),
    ] {
        let redis = Redis::start();
        let (mut watcher, mut other) = (redis.client(), redis.client());
        expect(&mut other, &setup);
        expect(&mut watcher, &[(format!("WATCH {watched}"), "+OK")]);
        other.run(call);
        let reply = exec(&mut watcher, &["PING"]);
        assert_eq!(reply, if is_touched { "nil" } else { "[+PONG]" }, "watching {watched}: {call}");
    }
}

#[test]
fn an_instant_grant_touches_all_three_keys() {
    for watched in ["c", "c:issued", "c:grants"] {
        let redis = Redis::start();
        let (mut watcher, mut other) = (redis.client(), redis.client());
        expect(&mut other, &[("COUPON.OPEN c QUANTITY 2 MODE INSTANT", "+OK")]);
        expect(&mut watcher, &[(format!("WATCH {watched}"), "+OK")]);
        expect(&mut other, &[("COUPON.REQUEST c a", "GRANTED")]);
        assert_eq!(exec(&mut watcher, &["PING"]), "nil", "watching {watched}");
    }
}

#[test]
fn a_script_calls_every_command() {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut eval = |script: &str| client.call(&["EVAL", script, "1", "c", "a"]).to_string();
    assert_eq!(eval("return redis.call('COUPON.OPEN', KEYS[1], 'QUANTITY', 3, 'MODE', 'INSTANT')"), "+OK");
    assert_eq!(eval("return redis.call('COUPON.REQUEST', KEYS[1], ARGV[1])"), "GRANTED");
    assert_eq!(eval("return redis.call('COUPON.REQUEST', KEYS[1], ARGV[1], 'WITHRANK')"), "[DUPLICATE :1]");
    assert_eq!(eval("return redis.call('COUPON.STATUS', KEYS[1], ARGV[1], 'WITHRANK')"), "[GRANTED :1 :0]");
    assert_eq!(eval("return redis.call('COUPON.ISSUE', KEYS[1])"), ":0");
    assert_eq!(eval("return redis.call('COUPON.INFO', KEYS[1])[6]"), ":3");
    assert_eq!(eval("redis.setresp(3) return redis.call('COUPON.INFO', KEYS[1])['map']['remaining']"), ":2");
    assert_eq!(
        eval("return redis.pcall('COUPON.STATUS', 'missing', 'a')['err']"),
        "NOCOUPON no coupon at this key; COUPON.OPEN makes one"
    );
    assert!(eval("return redis.call('COUPON.REQUEST', KEYS[1], '')").starts_with("-ERR user id has 0 bytes"));
    assert_eq!(eval("return redis.call('COUPON.CLOSE', KEYS[1])"), "+OK");
    let mut eval_ro = |script: &str| client.call(&["EVAL_RO", script, "1", "c", "a"]).to_string();
    assert_eq!(eval_ro("return redis.call('COUPON.STATUS', KEYS[1], ARGV[1])"), "GRANTED");
    assert!(
        eval_ro("return redis.call('COUPON.REQUEST', KEYS[1], 'b')").starts_with("-ERR Write commands are not allowed")
    );
}

#[test]
fn both_protocols_give_the_same_replies() {
    let table = [
        ("COUPON.OPEN c QUANTITY 1 EPOCH 1", "+OK"),
        ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
        ("COUPON.REQUEST c a", "QUEUED"),
        ("COUPON.REQUEST c a WITHRANK", "[DUPLICATE :1]"),
        ("COUPON.REQUEST c b", "SOLDOUT"),
        ("COUPON.STATUS c a WITHRANK", "[WAITING :1 :0]"),
        ("COUPON.ISSUE c", ":1"),
        ("COUPON.ACK c EPOCH 1 SEQ 1", "+OK"),
        ("COUPON.STATUS c a", "PERSISTED"),
        ("COUPON.STATUS c b", "NONE"),
        ("COUPON.CLOSE c", "+OK"),
        ("COUPON.INFO missing", "-NOCOUPON "),
    ];
    expect(&mut Redis::start().client(), &table);
    expect(&mut Redis::start().client_resp3(), &table);
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut calls = vec!["COUPON.OPEN c QUANTITY 1000".to_owned()];
    calls.extend((1..=1000).map(|user| format!("COUPON.REQUEST c {user} WITHRANK")));
    let replies = client.pipeline(&calls);
    for (rank, reply) in replies.iter().enumerate().skip(1) {
        assert_eq!(reply.to_string(), format!("[QUEUED :{rank}]"));
    }
}
