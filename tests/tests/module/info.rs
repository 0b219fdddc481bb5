//! COUPON.INFO.

use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::{expect_misuse, expect_without_effect};
use coupon_tests::resp::expect;

#[test]
fn counts_follow_a_coupon_through_its_life() {
    let redis = Redis::start();
    let window = "opens_at :631152000000 expires_at :253402300799999";
    expect(
        &mut redis.client(),
        &[
            (
                "COUPON.OPEN c QUANTITY 3 WAITLIST 2 OPENS 631152000000 EXPIRES 253402300799999 EPOCH 2 REVISION 6",
                "+OK",
            ),
            (
                "COUPON.INFO c",
                &format!(
                    "[status AVAILABLE mode QUEUE quantity :3 remaining :3 requested :0 waiting :0 granted :0 \
                     persisted :0 waitlist :2 {window} epoch :2 fenced :1 revision :6 refused :0]"
                ),
            ),
            ("COUPON.RESUME c EPOCH 4 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.REQUEST c c", "QUEUED"),
            ("COUPON.REQUEST c d", "QUEUED"),
            ("COUPON.ISSUE c COUNT 2", ":2"),
            ("COUPON.ACK c EPOCH 4 SEQ 1", "+OK"),
            (
                "coupon.info c",
                &format!(
                    "[status AVAILABLE mode QUEUE quantity :3 remaining :1 requested :4 waiting :2 granted :2 \
                     persisted :1 waitlist :2 {window} epoch :4 fenced :0 revision :6 refused :0]"
                ),
            ),
            ("COUPON.ISSUE c", ":1"),
            (
                "COUPON.INFO c",
                &format!(
                    "[status ISSUED mode QUEUE quantity :3 remaining :0 requested :4 waiting :1 granted :3 \
                     persisted :1 waitlist :2 {window} epoch :4 fenced :0 revision :6 refused :0]"
                ),
            ),
        ],
    );
}

#[test]
fn resp3_gets_a_map_in_the_same_order() {
    let redis = Redis::start();
    expect(
        &mut redis.client_resp3(),
        &[
            ("COUPON.OPEN c QUANTITY 3", "+OK"),
            (
                "COUPON.INFO c",
                "{status AVAILABLE mode QUEUE quantity :3 remaining :3 requested :0 waiting :0 granted :0 persisted :0 \
                 waitlist :0 opens_at :0 expires_at :0 epoch :0 fenced :0 revision :0 refused :0}",
            ),
        ],
    );
}

#[test]
fn a_coupon_set_by_hand_has_the_defaults_of_open() {
    let redis = Redis::start();
    expect(&mut redis.client(), &[("HSET c status available quantity 3", ":2")]);
    expect_without_effect(
        &redis,
        &[(
            "COUPON.INFO c",
            "[status AVAILABLE mode QUEUE quantity :3 remaining :3 requested :0 waiting :0 granted :0 persisted :0 \
             waitlist :0 opens_at :0 expires_at :0 epoch :0 fenced :0 revision :0 refused :0]",
        )],
    );
}

#[test]
fn misuse_is_refused() {
    expect_misuse(&[
        ("COUPON.INFO", "-ERR wrong number of arguments"),
        ("COUPON.INFO c c", "-ERR wrong number of arguments"),
        ("COUPON.INFO missing", "-NOCOUPON "),
        ("COUPON.INFO s", "-WRONGTYPE"),
    ]);
}
