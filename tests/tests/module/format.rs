//! A coupon that a newer version of the module has written: an older one, which would misread it, leaves it alone.

use crate::fence;
use coupon_tests::dump::await_replica;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::expect;
use coupon_tests::waiting::{LONG, assert_nobody_waits, blocked};

const NEWER: &str = "-ERR the coupon is of format 2, which a newer version of the module wrote; this one knows format 1: \
                     load the newer module";

/// Every command on the coupon `c`, as one would call it on one of this format.
const EVERY_COMMAND: [&str; 16] = [
    "COUPON.OPEN c QUANTITY 9",
    "COUPON.OPEN c QUANTITY 9 EPOCH 1 REVISION 1",
    "COUPON.REQUEST c new",
    "COUPON.REQUEST c 1 WITHRANK",
    "COUPON.MREQUEST c newer newest",
    "COUPON.ISSUE c",
    "COUPON.STATUS c 1",
    "COUPON.STATUS c 1 WITHRANK",
    "COUPON.WAIT c 3 100",
    "COUPON.INFO c",
    "COUPON.CLOSE c",
    "COUPON.CLOSE c EPOCH 1 REVISION 1",
    "COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0",
    "COUPON.ACK c EPOCH 1 SEQ 3",
    "COUPON.RESTORE c EPOCH 2",
    "COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 1 a 1 1",
];

#[test]
fn a_coupon_of_a_newer_format_is_refused_by_every_command() {
    let redis = Redis::start();
    let mut client = redis.client();
    fence::sale(&mut client);
    // Kept in mind before, where the server tells of changes.
    expect(&mut client, &[("COUPON.STATUS c 3", "GRANTED"), ("HSET c format 2", ":0")]);
    expect_without_effect(&redis, &EVERY_COMMAND.map(|call| (call, NEWER)));
    // As with a restart of an older module, from the AOF of a newer one.
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    expect_without_effect(&redis, &EVERY_COMMAND.map(|call| (call, NEWER)));
    expect(&mut client, &[("HSET c format 1", ":0"), ("COUPON.STATUS c 3", "GRANTED")]);
}

#[test]
fn a_coupon_without_a_format_is_of_the_first() {
    let redis = Redis::start();
    let mut client = redis.client();
    fence::sale(&mut client);
    expect(&mut client, &[("HDEL c format revision", ":2")]);
    for call in EVERY_COMMAND {
        let reply = client.run(call);
        assert!(!reply.is_error(), "{call}: {reply}");
    }
}

#[test]
fn a_replica_refuses_it_too() {
    let primary = Redis::start();
    let replica = primary.replica();
    let (mut client, mut reader) = (primary.client(), replica.client());
    fence::sale(&mut client);
    await_replica(&primary, &replica);
    expect(&mut reader, &[("COUPON.STATUS c 3", "GRANTED")]);
    expect(&mut client, &[("HSET c format 2", ":0")]);
    await_replica(&primary, &replica);
    expect(&mut reader, &[("COUPON.STATUS c 3", NEWER), ("COUPON.INFO c", NEWER), ("COUPON.WAIT c 3 0", NEWER)]);
}

#[test]
fn who_waits_for_it_is_told() {
    let redis = Redis::start();
    let mut client = redis.client();
    fence::sale(&mut client);
    let mut waiter = blocked(&redis, &[format!("COUPON.WAIT c 3 {LONG}")]).remove(0);
    expect(&mut client, &[("HSET c format 2", ":0")]);
    assert_eq!(waiter.only_answer(), NEWER);
    assert_nobody_waits(&mut client);
}
