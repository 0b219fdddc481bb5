//! Where the keys are not as the hash says, or not what a coupon keeps there, nothing is decided.

use crate::fence;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::expect;

/// Every command on the coupon `c`, as one would call it on a healthy one.
const EVERY_COMMAND: [&str; 10] = [
    "COUPON.OPEN c QUANTITY 9",
    "COUPON.REQUEST c new",
    "COUPON.MREQUEST c newer newest",
    "COUPON.ISSUE c",
    "COUPON.STATUS c 1",
    "COUPON.WAIT c 1 1",
    "COUPON.INFO c",
    "COUPON.CLOSE c",
    "COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0",
    "COUPON.ACK c EPOCH 1 SEQ 3",
];

/// A coupon with grants and a user who waits.
fn sale() -> Redis {
    let redis = Redis::start();
    fence::sale(&mut redis.client());
    redis
}

fn each(error: &'static str) -> [(&'static str, &'static str); 10] {
    EVERY_COMMAND.map(|call| (call, error))
}

#[test]
fn a_healthy_coupon_takes_every_command() {
    let redis = sale();
    for call in EVERY_COMMAND {
        let reply = redis.client().run(call);
        assert!(!reply.is_error(), "{call}: {reply}");
    }
}

#[test]
fn a_companion_that_is_gone_or_incomplete_is_no_fresh_start() {
    for (damage, done) in [
        ("DEL c:issued", ":1"),
        ("RENAME c:issued elsewhere", "+OK"),
        ("PEXPIREAT c:issued 1", ":1"),
        ("ZREM c:issued 1 2", ":2"),
        ("DEL c:grants", ":1"),
        ("RENAME c:grants elsewhere", "+OK"),
        ("PEXPIREAT c:grants 1", ":1"),
        ("XDEL c:grants 1-1 1-2", ":2"),
        ("XTRIM c:grants MAXLEN 0", ":3"),
    ] {
        let redis = sale();
        expect(&mut redis.client(), &[(damage, done)]);
        expect_without_effect(&redis, &each("-TRYAGAIN the :"));
    }
}

#[test]
fn a_set_that_is_gone_before_the_first_grant_is_no_fresh_start() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[("COUPON.OPEN c QUANTITY 9", "+OK"), ("COUPON.REQUEST c 1", "QUEUED"), ("DEL c:issued", ":1")],
    );
    expect_without_effect(&redis, &each("-TRYAGAIN the :issued key"));
}

#[test]
fn what_is_brought_back_goes_on() {
    let redis = sale();
    expect(
        &mut redis.client(),
        &[
            ("RENAME c:issued elsewhere", "+OK"),
            ("COUPON.REQUEST c new", "-TRYAGAIN"),
            ("RENAME elsewhere c:issued", "+OK"),
            ("COUPON.REQUEST c new", "QUEUED"),
            ("COUPON.REQUEST c 1", "DUPLICATE"),
        ],
    );
}

#[test]
fn a_key_of_another_type_is_refused_by_every_command() {
    for key in ["c", "c:issued", "c:grants"] {
        for other in ["SET {} x", "LPUSH {} x", "SADD {} x", "PFADD {} x"] {
            let redis = sale();
            let mut client = redis.client();
            client.run(&format!("DEL {key}"));
            assert!(!client.run(&other.replace("{}", key)).is_error());
            expect_without_effect(&redis, &each("-WRONGTYPE "));
        }
    }
    // Types of coupons in the wrong places.
    for (key, write) in [
        ("c", "ZADD c 1 x"),
        ("c", "XADD c 1-1 f v"),
        ("c:issued", "HSET c:issued f v"),
        ("c:issued", "XADD c:issued 1-1 f v"),
        ("c:grants", "ZADD c:grants 1 x"),
        ("c:grants", "HSET c:grants f v"),
    ] {
        let redis = sale();
        let mut client = redis.client();
        client.run(&format!("DEL {key}"));
        client.run(write);
        expect_without_effect(&redis, &each("-WRONGTYPE "));
    }
}

#[test]
fn a_foreign_entry_above_the_next_grant_stops_grants() {
    let redis = sale();
    expect(&mut redis.client(), &[("XADD c:grants 9-9 user x", "9-9")]);
    expect_without_effect(&redis, &[("COUPON.ISSUE c", "-TRYAGAIN the :grants key holds an entry")]);
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 9 MODE INSTANT", "+OK")]);
    expect(&mut redis.client(), &[("ZREM c:issued w", ":1")]);
    expect_without_effect(&redis, &[("COUPON.REQUEST c new", "-TRYAGAIN the :grants key holds an entry")]);
}

#[test]
fn an_evicting_policy_is_warned_of_at_load() {
    let redis = Options::shipped().line("maxmemory-policy allkeys-lru").start();
    assert!(redis.log().contains("maxmemory-policy may evict coupons"), "{}", redis.log());
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 1", "-ERR maxmemory-policy")]);
    let redis = Redis::start();
    assert!(!redis.log().contains("maxmemory-policy"), "{}", redis.log());
}
