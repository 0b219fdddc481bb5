//! A coupon taken off offer for a while: COUPON.OPEN … STATUS STANDARD, and AVAILABLE again.

use crate::wait::{answer, blocked, blocked_clients};
use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::expect;

#[test]
fn newcomers_hear_notopen_nobody_is_granted_and_nobody_loses_a_place() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 WAITLIST 2", "+OK"),
            ("COUPON.MREQUEST c a b c", "[QUEUED QUEUED QUEUED]"),
            ("COUPON.ISSUE c COUNT 1", ":1"),
        ],
    );
    let line = Stored::read(&mut client, "c").issued;
    let mut waiting = blocked(&redis, &["b", "c"]);
    let mut stream = ReplicationStream::attach(&redis);
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2 STATUS STANDARD", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c status STANDARD"]);
    expect_without_effect(
        &redis,
        &[
            ("COUPON.REQUEST c new", "NOTOPEN"),
            ("COUPON.MREQUEST c a new", "[DUPLICATE NOTOPEN]"),
            ("COUPON.ISSUE c", ":0"),
            ("COUPON.STATUS c a", "GRANTED"),
            ("COUPON.STATUS c c WITHRANK", "[WAITING :3 :1]"),
            // Said again, or the definition alone: it stays off offer.
            ("COUPON.OPEN c QUANTITY 2 STATUS STANDARD", "+OK"),
            ("COUPON.OPEN c QUANTITY 2", "+OK"),
        ],
    );
    eventually_true("both go on waiting", || blocked_clients(&mut client) == 2);
    assert_eq!(Stored::read(&mut client, "c").issued, line);
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 STATUS AVAILABLE", "+OK"),
            ("COUPON.REQUEST c new WITHRANK", "[QUEUED :4]"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.STATUS c b", "GRANTED"),
        ],
    );
    // Sold out: who waits further behind is told, as ever.
    assert_eq!(answer(&mut waiting[1]), "WAITING");
}

#[test]
fn sold_out_is_what_it_is_again_and_an_instant_coupon_grants_on() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 1 MODE INSTANT STATUS STANDARD", "+OK"),
            ("COUPON.REQUEST c a", "NOTOPEN"),
            ("COUPON.OPEN c QUANTITY 1 STATUS available", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.OPEN c QUANTITY 1 STATUS STANDARD", "+OK"),
            ("COUPON.REQUEST c b", "NOTOPEN"),
            ("COUPON.OPEN c QUANTITY 1 STATUS AVAILABLE", "+OK"),
            ("HGET c status", "ISSUED"),
            ("COUPON.REQUEST c b", "SOLDOUT"),
            (
                "COUPON.OPEN c QUANTITY 1 STATUS SOLD",
                "-ERR STATUS is STANDARD (off offer for now) or AVAILABLE, not 'SOLD'",
            ),
        ],
    );
}
