//! A server that crashes writes its report to the end, in which it asks the module for its section of INFO.
//!
//! These crashes happen in commands of the server's own, where the module holds nothing: they show that its section is
//! written in a crash, with clients waiting and coupons in mind, and that the report goes on behind it. That no lock is
//! taken for it they cannot show. A signal from outside, in the middle of a call, could hit one that is held; but as often
//! it hits the allocator's, and then the server's own report hangs, whatever the module does.

use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::expect;
use coupon_tests::waiting::blocked;

/// A sold-out coupon, known with its members, on a server that spares itself the test of all memory.
fn sold_out() -> Redis {
    let redis = Options::shipped().line("crash-memcheck-enabled no").start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 1 MODE INSTANT EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
        ],
    );
    redis
}

/// It ends, and its report is whole.
fn assert_reported(mut redis: Redis, how: &str) {
    eventually_true(&format!("the server has ended, by {how}"), || !redis.is_alive());
    let log = redis.log();
    for part in ["BUG REPORT START", "------ INFO OUTPUT ------", "coupon_version:", "BUG REPORT END"] {
        assert!(log.contains(part), "{how}: no {part} in\n{log}");
    }
}

#[test]
fn a_crash_is_reported_whole() {
    for crash in ["DEBUG SEGFAULT", "DEBUG PANIC"] {
        let redis = sold_out();
        let _waiting = blocked(&redis, &["COUPON.WAIT c a 0", "COUPON.WAIT c a 86400000"]);
        let mut client = redis.client();
        assert!(client.try_call(&crash.split(' ').collect::<Vec<_>>()).is_err(), "{crash}");
        assert_reported(redis, crash);
    }
}
