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
fn misuse_is_refused() {
    expect_misuse(&[
        ("COUPON.CLOSE", "-ERR wrong number of arguments"),
        ("COUPON.CLOSE c now", "-ERR wrong number of arguments"),
        ("COUPON.CLOSE missing", "-NOCOUPON "),
        ("COUPON.CLOSE s", "-WRONGTYPE"),
    ]);
}
