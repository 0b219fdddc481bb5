//! A server that crashes writes its report to the end, in which it asks the module for its section of INFO.
//!
//! Crashes in commands of the server's own, where the module holds nothing, show that its section is written in a crash, with
//! clients waiting and coupons in mind, and that the report goes on behind it. That no lock is taken for it shows a crash in
//! the midst of an answer from memory, where it is held: at the look at the clock. (A signal from outside could hit that
//! too; but as often it hits the allocator, and then the server's own report hangs, whatever the module does.)

use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::expect;
use coupon_tests::waiting::blocked;

/// A sold-out coupon, known with its members, on a server that spares itself the test of all memory.
fn sold_out(options: Options) -> Redis {
    let redis = options.line("crash-memcheck-enabled no").start();
    expect(
        &mut redis.client(),
        &[
            // With a window, so that the clock has a say.
            ("COUPON.OPEN c QUANTITY 1 MODE INSTANT EXPIRES 253402300799999 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
        ],
    );
    redis
}

/// It ends, and its report is whole. The log.
fn assert_reported(mut redis: Redis, how: &str) -> String {
    eventually_true(&format!("the server has ended, by {how}"), || !redis.is_alive());
    let log = redis.log();
    for part in ["BUG REPORT START", "------ INFO OUTPUT ------", "coupon_version:", "BUG REPORT END"] {
        assert!(log.contains(part), "{how}: no {part} in\n{log}");
    }
    log
}

#[test]
fn a_crash_is_reported_whole() {
    for crash in ["DEBUG SEGFAULT", "DEBUG PANIC"] {
        let redis = sold_out(Options::shipped());
        let _waiting = blocked(&redis, &["COUPON.WAIT c a 0", "COUPON.WAIT c a 86400000"]);
        let mut client = redis.client();
        assert!(client.try_call(&crash.split(' ').collect::<Vec<_>>()).is_err(), "{crash}");
        assert_reported(redis, crash);
    }
}

#[test]
fn a_crash_amid_what_is_in_mind_is_reported_whole() {
    let redis = sold_out(Options::shipped().own_machine());
    let mut client = redis.client();
    redis.machine().crash_at_the_clock();
    assert!(client.try_call(&["COUPON.REQUEST", "c", "x"]).is_err());
    let log = assert_reported(redis, "a look at the clock");
    assert!(log.contains("libcoupon.so("), "the crash was elsewhere:\n{log}");
}
