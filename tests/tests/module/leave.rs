//! COUPON.LEAVE: who waits gives up the place.

use crate::wait::{answer, blocked, blocked_clients};
use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::{expect_misuse, expect_without_effect};
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::{Client, expect};

/// Five users: `p` persisted, `g` granted, `w1` to `w3` waiting. One unit is left, and there is no other place.
fn sale() -> (Redis, Client) {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 3 WAITLIST 2 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.MREQUEST c p g w1 w2 w3", "[QUEUED QUEUED QUEUED QUEUED QUEUED]"),
            ("COUPON.ISSUE c COUNT 2", ":2"),
            ("COUPON.ACK c EPOCH 1 SEQ 1", "+OK"),
        ],
    );
    (redis, client)
}

#[test]
fn everybody_behind_moves_up_and_a_place_is_free() {
    let (_redis, mut client) = sale();
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST c late", "SOLDOUT"),
            ("COUPON.REQUEST c late", "SOLDOUT"),
            ("COUPON.LEAVE c w2", "LEFT"),
            ("COUPON.STATUS c w2 WITHRANK", "[NONE :0 :0]"),
            ("COUPON.STATUS c w1 WITHRANK", "[WAITING :3 :0]"),
            ("COUPON.STATUS c w3 WITHRANK", "[WAITING :4 :1]"),
            ("COUPON.LEAVE c w3", "LEFT"),
            ("COUPON.REQUEST c late WITHRANK", "[QUEUED :4]"),
            // Who comes again stands at the end.
            ("COUPON.REQUEST c w2 WITHRANK", "[QUEUED :5]"),
            ("COUPON.REQUEST c w3", "SOLDOUT"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.STATUS c w1", "GRANTED"),
            ("COUPON.LEAVE c late", "LEFT"),
            ("coupon.leave c w2", "LEFT"),
            ("COUPON.STATUS c p", "PERSISTED"),
        ],
    );
}

#[test]
fn who_holds_a_unit_or_is_not_in_cannot_leave() {
    let (redis, _) = sale();
    expect_without_effect(
        &redis,
        &[("COUPON.LEAVE c p", "GRANTED"), ("COUPON.LEAVE c g", "GRANTED"), ("COUPON.LEAVE c nobody", "NONE")],
    );
}

#[test]
fn whoever_has_left_stays_out_after_a_restart_and_on_the_replica() {
    let redis = Options::shipped().line("appendfsync always").start();
    let mut client = redis.client();
    let mut stream = ReplicationStream::attach(&redis);
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            ("COUPON.MREQUEST c a b", "[QUEUED QUEUED]"),
            ("COUPON.LEAVE c a", "LEFT"),
        ],
    );
    assert_eq!(stream.lines().last().map(String::as_str), Some("ZREM c:issued a"));
    expect(&mut client, &[("COUPON.LEAVE c b", "LEFT")]);
    // An empty line is no missing key: the hash says so in the same step.
    assert_eq!(stream.lines(), ["MULTI", "ZREM c:issued b", "HDEL c first_at", "EXEC"]);
    for call in ["DEBUG RELOAD", "DEBUG LOADAOF"] {
        expect(&mut client, &[(call, "+OK"), ("EXISTS c:issued", ":0"), ("COUPON.STATUS c b", "NONE")]);
    }
    expect(&mut client, &[("COUPON.REQUEST c b WITHRANK", "[QUEUED :1]"), ("DEL c:issued", ":1")]);
    expect_without_effect(&redis, &[("COUPON.REQUEST c a", "-TRYAGAIN the :issued key is missing")]);
}

#[test]
fn who_waits_for_the_user_is_told_and_nobody_else() {
    let (redis, mut client) = sale();
    let mut waiting = blocked(&redis, &["w1", "w2", "w2", "w3", "g"]);
    expect(&mut client, &[("COUPON.LEAVE c w2", "LEFT")]);
    for place in [1, 2] {
        assert_eq!(answer(&mut waiting[place]), "NONE");
    }
    eventually_true("the others wait", || blocked_clients(&mut client) == 3);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK"), ("COUPON.CLOSE c", "+OK")]);
    for (place, state) in [(0, "WAITING"), (3, "WAITING"), (4, "PERSISTED")] {
        assert_eq!(answer(&mut waiting[place]), state);
    }
}

#[test]
fn after_the_end_and_off_offer_a_place_can_be_given_up_too() {
    let (_redis, mut client) = sale();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 3 STATUS STANDARD", "+OK"),
            ("COUPON.LEAVE c w1", "LEFT"),
            ("COUPON.CLOSE c", "+OK"),
            ("COUPON.LEAVE c w2", "LEFT"),
            ("COUPON.STATUS c w2", "NONE"),
        ],
    );
}

#[test]
fn behind_a_shut_gate_nobody_leaves() {
    let (redis, mut client) = sale();
    expect(&mut client, &[("COUPON.RESTORE c EPOCH 2", "+OK")]);
    expect_without_effect(
        &redis,
        &[("COUPON.LEAVE c w1", "-TRYAGAIN "), ("COUPON.LEAVE c p", "-TRYAGAIN "), ("COUPON.LEAVE c x", "-TRYAGAIN ")],
    );
}

#[test]
fn misuse_is_refused() {
    expect_misuse(&[
        ("COUPON.LEAVE c", "-ERR wrong number of arguments"),
        ("COUPON.LEAVE c u v", "-ERR wrong number of arguments"),
        ("COUPON.LEAVE missing u", "-NOCOUPON "),
        ("COUPON.LEAVE s u", "-WRONGTYPE"),
    ]);
}
