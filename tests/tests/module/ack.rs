//! COUPON.ACK.

use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, expect};

/// A coupon of the ledger at epoch 3 with five grants to users 1 to 5.
fn five_grants(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.OPEN c QUANTITY 9 MODE INSTANT EPOCH 3", "+OK"),
            ("COUPON.RESUME c EPOCH 3 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c 1", "GRANTED"),
            ("COUPON.REQUEST c 2", "GRANTED"),
            ("COUPON.REQUEST c 3", "GRANTED"),
            ("COUPON.REQUEST c 4", "GRANTED"),
            ("COUPON.REQUEST c 5", "GRANTED"),
        ],
    );
}

fn entries(client: &mut Client) -> Vec<String> {
    client.run("XRANGE c:grants - +").array().iter().map(|entry| entry.array()[0].to_string()).collect()
}

#[test]
fn what_is_acknowledged_is_persisted_and_trimmed() {
    let redis = Redis::start();
    let mut client = redis.client();
    five_grants(&mut client);
    expect(&mut client, &[("COUPON.ACK c EPOCH 3 SEQ 2", "+OK"), ("HGET c persisted", "2")]);
    assert_eq!(entries(&mut client), ["3-2", "3-3", "3-4", "3-5"], "entry n stays, and all that follow");
    expect(
        &mut client,
        &[("COUPON.STATUS c 2", "PERSISTED"), ("COUPON.STATUS c 3", "GRANTED"), ("coupon.ack c seq 5 epoch 3", "+OK")],
    );
    assert_eq!(entries(&mut client), ["3-5"], "the newest entry is never trimmed");
    expect(&mut client, &[("COUPON.STATUS c 5", "PERSISTED"), ("COUPON.REQUEST c 6", "GRANTED")]);
    assert_eq!(entries(&mut client), ["3-5", "3-6"]);
}

#[test]
fn persisted_never_moves_back() {
    let redis = Redis::start();
    five_grants(&mut redis.client());
    expect(&mut redis.client(), &[("COUPON.ACK c EPOCH 3 SEQ 4", "+OK")]);
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK c EPOCH 3 SEQ 4", "+OK"),
            ("COUPON.ACK c EPOCH 3 SEQ 3", "+OK"),
            ("COUPON.ACK c EPOCH 3 SEQ 0", "+OK"),
            ("HGET c persisted", "4"),
        ],
    );
}

#[test]
fn what_redis_has_not_granted_cannot_be_acknowledged() {
    let redis = Redis::start();
    let mut client = redis.client();
    five_grants(&mut client);
    expect(&mut client, &[("COUPON.OPEN fenced QUANTITY 1 EPOCH 3", "+OK"), ("COUPON.OPEN byhand QUANTITY 1", "+OK")]);
    let chain = client.run("HGET c chain").text().to_owned();
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK c EPOCH 3 SEQ 6", &*format!("-BEHIND seq 5 chain {chain}: ")),
            ("COUPON.ACK c EPOCH 3 SEQ 9223372036854775807", "-BEHIND seq 5 "),
            ("COUPON.ACK c EPOCH 2 SEQ 1", "-STALEEPOCH "),
            ("COUPON.ACK c EPOCH 4 SEQ 1", "-STALEEPOCH "),
            ("COUPON.ACK byhand EPOCH 1 SEQ 0", "-STALEEPOCH "),
            ("COUPON.ACK fenced EPOCH 3 SEQ 0", "-TRYAGAIN "),
        ],
    );
}

#[test]
fn persisted_entries_can_be_kept() {
    let redis = Options::shipped().module_args("stream-keep 2").start();
    let mut client = redis.client();
    five_grants(&mut client);
    expect(&mut client, &[("COUPON.ACK c EPOCH 3 SEQ 4", "+OK")]);
    assert_eq!(entries(&mut client), ["3-2", "3-3", "3-4", "3-5"], "two beyond entry 4");
    expect(&mut client, &[("CONFIG SET coupon.stream-keep 0", "+OK"), ("COUPON.ACK c EPOCH 3 SEQ 5", "+OK")]);
    assert_eq!(entries(&mut client), ["3-5"]);
}

#[test]
fn misuse_is_refused() {
    let redis = Redis::start();
    five_grants(&mut redis.client());
    expect(&mut redis.client(), &[("SET s 1", "+OK")]);
    let epoch = "-ERR EPOCH is a whole number from 1 to 9223372036854775807, not ";
    let seq = "-ERR SEQ is a whole number from 0 to 9223372036854775807, not ";
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK", "-ERR wrong number of arguments"),
            ("COUPON.ACK c EPOCH 3", "-ERR wrong number of arguments"),
            ("COUPON.ACK c EPOCH 3 SEQ 1 CHAIN 0", "-ERR wrong number of arguments"),
            ("COUPON.ACK c EPOCH 3 EPOCH 3", "-ERR option EPOCH is given twice"),
            ("COUPON.ACK c SEQ 3 SEQ 3", "-ERR option SEQ is given twice"),
            ("COUPON.ACK c EPOCH 3 CHAIN 1", "-ERR unknown option 'CHAIN'; known are: EPOCH, SEQ"),
            ("COUPON.ACK c EPOCH 0 SEQ 1", epoch),
            ("COUPON.ACK c EPOCH -3 SEQ 1", epoch),
            ("COUPON.ACK c EPOCH 9223372036854775808 SEQ 1", epoch),
            ("COUPON.ACK c EPOCH 3 SEQ -1", seq),
            ("COUPON.ACK c EPOCH 3 SEQ 1.0", seq),
            ("COUPON.ACK c EPOCH 3 SEQ 9223372036854775808", seq),
            ("COUPON.ACK missing EPOCH 3 SEQ 1", "-NOCOUPON "),
            ("COUPON.ACK s EPOCH 3 SEQ 1", "-WRONGTYPE"),
        ],
    );
}
