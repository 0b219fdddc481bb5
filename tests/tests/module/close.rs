//! COUPON.CLOSE.

use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::{expect_misuse, expect_without_effect};
use coupon_tests::resp::expect;

#[test]
fn closing_ends_requests_and_grants_at_once() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 2", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.CLOSE c", "+OK"),
            ("HGET c status", "EXPIRED"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.REQUEST c x", "CLOSED"),
            ("COUPON.ISSUE c", ":0"),
            ("COUPON.STATUS c a", "GRANTED"),
            ("COUPON.STATUS c b", "WAITING"),
            ("coupon.close c", "+OK"),
        ],
    );
}

#[test]
fn any_coupon_can_be_closed() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN fenced QUANTITY 2 EPOCH 1", "+OK"),
            ("COUPON.CLOSE fenced", "+OK"),
            ("HGET fenced status", "EXPIRED"),
            ("COUPON.OPEN issued QUANTITY 1 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST issued a", "GRANTED"),
            ("COUPON.CLOSE issued", "+OK"),
            ("HGET issued status", "EXPIRED"),
            ("HSET byhand status STANDARD quantity 1", ":2"),
            ("COUPON.CLOSE byhand", "+OK"),
            ("HGET byhand status", "EXPIRED"),
        ],
    );
}

#[test]
fn an_older_definition_never_closes_a_newer_one() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2 EPOCH 3 REVISION 7", "+OK")]);
    expect_without_effect(
        &redis,
        &[
            (
                "COUPON.CLOSE c EPOCH 3 REVISION 6",
                "-STALEEPOCH revision 6 was given, and a newer definition is there, revision 7; ",
            ),
            ("COUPON.CLOSE c EPOCH 2 REVISION 8", "-STALEEPOCH coupon is at epoch 3; "),
        ],
    );
    expect(
        &mut client,
        &[
            ("COUPON.CLOSE c REVISION 8 epoch 4", "+OK"),
            ("HMGET c status epoch revision", "[EXPIRED 3 8]"),
            // Closed already, and by a newer definition still.
            ("COUPON.CLOSE c EPOCH 3 REVISION 9", "+OK"),
            ("HMGET c status revision", "[EXPIRED 9]"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.CLOSE c EPOCH 3 REVISION 9", "+OK"),
            ("COUPON.CLOSE c", "+OK"),
            ("COUPON.OPEN c QUANTITY 2 EPOCH 3 REVISION 8", "-STALEEPOCH revision 8 "),
        ],
    );
}

#[test]
fn misuse_is_refused() {
    expect_misuse(&[
        ("COUPON.CLOSE", "-ERR wrong number of arguments"),
        ("COUPON.CLOSE c now", "-ERR unknown option 'now'; known are: EPOCH, REVISION"),
        ("COUPON.CLOSE c EPOCH", "-ERR option EPOCH needs a value"),
        ("COUPON.CLOSE c EPOCH 1", "-ERR option REVISION is missing: "),
        ("COUPON.CLOSE c REVISION 1", "-ERR option EPOCH is missing: "),
        ("COUPON.CLOSE c EPOCH 1 EPOCH 1", "-ERR option EPOCH is given twice"),
        ("COUPON.CLOSE c EPOCH 0 REVISION 1", "-ERR EPOCH is a whole number from 1 "),
        ("COUPON.CLOSE c EPOCH 1 REVISION 9007199254740992", "-ERR REVISION is a whole number from 1 "),
        ("COUPON.CLOSE missing", "-NOCOUPON "),
        ("COUPON.CLOSE s", "-WRONGTYPE"),
    ]);
}
