//! COUPON.ISSUE.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, expect};

fn request(client: &mut Client, users: std::ops::Range<u32>) {
    let calls: Vec<String> = users.map(|user| format!("COUPON.REQUEST c {user}")).collect();
    for reply in client.pipeline(&calls) {
        assert_eq!(reply.to_string(), "QUEUED");
    }
}

#[test]
fn units_go_to_the_first_in_line() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5 WAITLIST 5", "+OK")]);
    request(&mut client, 0..8);
    expect(
        &mut client,
        &[
            ("COUPON.ISSUE c COUNT 2", ":2"),
            ("HMGET c status remaining seq", "[AVAILABLE 3 2]"),
            ("coupon.issue c count 1", ":1"),
            ("COUPON.ISSUE c", ":2"),
            ("HMGET c status remaining seq", "[ISSUED 0 5]"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    assert_eq!(stored.granted(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn issue_called_twice_grants_once() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 1", "+OK"), ("COUPON.REQUEST c a", "QUEUED")]);
    expect(&mut client, &[("COUPON.ISSUE c", ":1")]);
    expect_without_effect(&redis, &[("COUPON.ISSUE c", ":0"), ("COUPON.ISSUE c COUNT 5", ":0")]);
    expect(&mut client, &[("HGET c status", "ISSUED"), ("XLEN c:grants", ":1")]);
}

#[test]
fn nothing_to_do_is_zero_and_no_error() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN empty QUANTITY 1", "+OK"),
            ("HSET standard status STANDARD quantity 5", ":2"),
            ("ZADD standard:issued 1 a", ":1"),
            ("COUPON.OPEN closed QUANTITY 1", "+OK"),
            ("COUPON.REQUEST closed a", "QUEUED"),
            ("COUPON.CLOSE closed", "+OK"),
            ("COUPON.OPEN early QUANTITY 1", "+OK"),
            ("COUPON.REQUEST early a", "QUEUED"),
            ("COUPON.OPEN early QUANTITY 1 OPENS 253402300799998", "+OK"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ISSUE empty", ":0"),
            ("COUPON.ISSUE standard", ":0"),
            ("COUPON.ISSUE closed", ":0"),
            ("COUPON.ISSUE early", ":0"),
        ],
    );
}

#[test]
fn one_call_grants_at_most_issue_max() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 3000", "+OK")]);
    request(&mut client, 0..2500);
    expect(
        &mut client,
        &[
            ("COUPON.ISSUE c", ":500"),
            ("COUPON.ISSUE c COUNT 9223372036854775807", ":500"),
            ("CONFIG SET coupon.issue-max 7", "+OK"),
            ("COUPON.ISSUE c", ":7"),
            ("COUPON.ISSUE c COUNT 9", ":7"),
            ("COUPON.ISSUE c COUNT 3", ":3"),
            ("CONFIG SET coupon.issue-max 100000", "+OK"),
            ("COUPON.ISSUE c", ":1483"),
        ],
    );
    Stored::read(&mut client, "c").assert_promises();
}

#[test]
fn grants_wait_for_the_ledger_when_too_many_are_missing_there() {
    let redis = Options::shipped().module_args("unpersisted-max 3").start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 9 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c 1", "QUEUED"),
            ("COUPON.REQUEST c 2", "QUEUED"),
            ("COUPON.REQUEST c 3", "QUEUED"),
            ("COUPON.REQUEST c 4", "QUEUED"),
            ("COUPON.ISSUE c", ":3"),
            ("COUPON.ISSUE c", ":0"),
            ("COUPON.ACK c EPOCH 1 SEQ 2", "+OK"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.OPEN c QUANTITY 9 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST c 5", "GRANTED"),
            // Now three are missing: it waits, and whoever comes after it too.
            ("COUPON.REQUEST c 6", "QUEUED"),
            ("COUPON.ACK c EPOCH 1 SEQ 5", "+OK"),
            ("COUPON.REQUEST c 7", "QUEUED"),
            ("COUPON.ISSUE c", ":2"),
            ("COUPON.REQUEST c 8", "GRANTED"),
            ("CONFIG SET coupon.unpersisted-max 0", "+OK"),
            ("COUPON.REQUEST c 9", "GRANTED"),
            ("HGET c status", "ISSUED"),
        ],
    );
}

#[test]
fn misuse_is_refused() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[("COUPON.OPEN c QUANTITY 5", "+OK"), ("COUPON.REQUEST c a", "QUEUED"), ("SET s 1", "+OK")],
    );
    let count = "-ERR COUNT is a whole number from 1 to 9223372036854775807, not ";
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ISSUE", "-ERR wrong number of arguments"),
            ("COUPON.ISSUE c COUNT", "-ERR option COUNT needs a value"),
            ("COUPON.ISSUE c COUNT 0", count),
            ("COUPON.ISSUE c COUNT -1", count),
            ("COUPON.ISSUE c COUNT 1.0", count),
            ("COUPON.ISSUE c COUNT 9223372036854775808", count),
            ("COUPON.ISSUE c COUNT 99999999999999999999", count),
            ("COUPON.ISSUE c COUNT 1 COUNT 1", "-ERR option COUNT is given twice"),
            ("COUPON.ISSUE c 5", "-ERR unknown option '5'; known are: COUNT"),
            ("COUPON.ISSUE missing", "-NOCOUPON "),
            ("COUPON.ISSUE s", "-WRONGTYPE"),
        ],
    );
}
