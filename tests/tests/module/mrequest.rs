//! COUPON.MREQUEST: what so many single requests would answer and leave behind, in one step.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::expect;

#[test]
fn each_user_is_answered_in_order() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 WAITLIST 2", "+OK"),
            ("COUPON.MREQUEST c b a b", "[QUEUED QUEUED DUPLICATE]"),
            ("COUPON.MREQUEST c x a y z", "[QUEUED DUPLICATE QUEUED SOLDOUT]"),
            ("COUPON.MREQUEST c b", "[DUPLICATE]"),
            ("COUPON.CLOSE c", "+OK"),
            ("COUPON.MREQUEST c new b", "[CLOSED DUPLICATE]"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    let users: Vec<&str> = stored.issued.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["b", "a", "x", "y"]);
}

#[test]
fn instant_units_go_to_the_first_and_places_to_the_next() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 3 MODE INSTANT WAITLIST 1", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.MREQUEST c b a x y z", "[GRANTED DUPLICATE GRANTED QUEUED SOLDOUT]"),
            ("HMGET c status remaining seq", "[ISSUED 0 3]"),
            ("COUPON.STATUS c x", "GRANTED"),
            ("COUPON.STATUS c y", "WAITING"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    assert_eq!(stored.granted(), ["a", "b", "x"]);
}

#[test]
fn effects_are_replicated_as_one_group() {
    let redis = Redis::start();
    let (mut client, mut stream) = (redis.client(), ReplicationStream::attach(&redis));
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2 MODE INSTANT WAITLIST 9", "+OK")]);
    stream.lines();
    expect(&mut client, &[("COUPON.MREQUEST c a b x", "[GRANTED GRANTED QUEUED]")]);
    let stored = Stored::read(&mut client, "c");
    let xadd = |seq: usize| {
        let grant = &stored.grants[seq - 1];
        format!(
            "XADD c:grants {} user {} requested_at {} granted_at {} chain {}",
            grant.id, grant.user, grant.requested_at, grant.granted_at_ms, grant.chain
        )
    };
    let [a, b, x] = [0, 1, 2].map(|rank| stored.issued[rank].1);
    let zadd = format!("ZADD c:issued {a} a {b} b {x} x");
    let chain = stored.number("chain");
    let hset = format!("HSET c status ISSUED remaining 0 seq 2 chain {chain} granted_to {b} first_at {a}");
    assert_eq!(stream.lines(), ["MULTI".to_owned(), xadd(1), xadd(2), zadd, hset, "EXEC".into()]);
    expect(&mut client, &[("COUPON.MREQUEST c a x y", "[DUPLICATE DUPLICATE QUEUED]")]);
    let stored = Stored::read(&mut client, "c");
    assert_eq!(stream.lines(), [format!("ZADD c:issued {} y", stored.issued[3].1)]);
}

#[test]
fn a_batch_is_refused_whole() {
    let redis = Redis::start();
    let long = "x".repeat(129);
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("CONFIG SET coupon.request-max 3", "+OK"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.MREQUEST c".to_owned(), "-ERR wrong number of arguments"),
            ("COUPON.MREQUEST c 1 2 3 4".into(), "-ERR 4 users in one call, 1 to 3 are allowed"),
            (format!("COUPON.MREQUEST c 1 {long} 2"), "-ERR user id has 129 bytes"),
            ("COUPON.MREQUEST missing 1 2".into(), "-NOCOUPON"),
        ],
    );
    // Scores that leave room for less than the batch: none is let in.
    let last = (1_u64 << 53) - 1;
    expect(&mut redis.client(), &[(format!("ZADD c:issued {last} late"), ":1")]);
    expect_without_effect(&redis, &[("COUPON.MREQUEST c 1 2", "-ERR the :issued key holds a score beyond 2^53")]);
    expect(&mut redis.client(), &[("COUPON.REQUEST c 1", "QUEUED"), ("COUPON.REQUEST c 2", "-ERR the :issued key")]);
}

#[test]
fn a_stream_written_by_others_refuses_the_batch() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[("COUPON.OPEN c QUANTITY 9 MODE INSTANT", "+OK"), ("XADD c:grants 5-5 user x", "5-5")],
    );
    expect_without_effect(&redis, &[("COUPON.MREQUEST c 1 2", "-TRYAGAIN the :grants key holds an entry")]);
}

#[test]
fn the_reconciler_is_told_once_that_somebody_waits() {
    let redis = Redis::start();
    let mut listener = redis.client();
    listener.run("SUBSCRIBE coupon.waiting");
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            ("COUPON.MREQUEST c 1 2 3", "[QUEUED QUEUED QUEUED]"),
            ("COUPON.MREQUEST c 4 5", "[QUEUED QUEUED]"),
            ("PUBLISH coupon.waiting end", ":1"),
        ],
    );
    assert_eq!(listener.read().expect("a message").to_string(), "[message coupon.waiting c]");
    assert_eq!(listener.read().expect("a message").to_string(), "[message coupon.waiting end]");
}
