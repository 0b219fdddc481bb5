//! COUPON.STATUS.

use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::{expect_misuse, expect_without_effect};
use coupon_tests::resp::expect;

#[test]
fn a_user_goes_from_none_to_persisted() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 2 WAITLIST 2 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.STATUS c a", "NONE"),
            ("COUPON.STATUS c a WITHRANK", "[NONE :0 :0]"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.REQUEST c w", "QUEUED"),
            ("COUPON.STATUS c a WITHRANK", "[WAITING :1 :0]"),
            ("COUPON.STATUS c w WITHRANK", "[WAITING :3 :2]"),
            ("COUPON.ISSUE c COUNT 1", ":1"),
            ("COUPON.STATUS c a WITHRANK", "[GRANTED :1 :0]"),
            ("coupon.status c w withrank", "[WAITING :3 :1]"),
            ("COUPON.ACK c EPOCH 1 SEQ 1", "+OK"),
            ("COUPON.STATUS c a WITHRANK", "[PERSISTED :1 :0]"),
            ("COUPON.STATUS c b", "WAITING"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.STATUS c a", "PERSISTED"),
            ("COUPON.STATUS c b", "GRANTED"),
            ("COUPON.ACK c EPOCH 1 SEQ 2", "+OK"),
            ("COUPON.STATUS c b WITHRANK", "[PERSISTED :2 :0]"),
            ("COUPON.STATUS c w WITHRANK", "[WAITING :3 :0]"),
        ],
    );
}

#[test]
fn asking_changes_nothing_whatever_the_coupon() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN closed QUANTITY 2 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST closed a", "GRANTED"),
            ("COUPON.CLOSE closed", "+OK"),
            ("COUPON.OPEN fenced QUANTITY 2 EPOCH 1", "+OK"),
            ("HSET standard status standard quantity 1", ":2"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.STATUS closed a", "GRANTED"),
            ("COUPON.STATUS closed b", "NONE"),
            // A fence stops grants, not answers.
            ("COUPON.STATUS fenced b", "NONE"),
            ("COUPON.STATUS standard b WITHRANK", "[NONE :0 :0]"),
        ],
    );
}

#[test]
fn misuse_is_refused() {
    expect_misuse(&[
        ("COUPON.STATUS", "-ERR wrong number of arguments"),
        ("COUPON.STATUS c", "-ERR wrong number of arguments"),
        ("COUPON.STATUS c a RANK", "-ERR unknown option 'RANK'; known are: WITHRANK"),
        ("COUPON.STATUS c a WITHRANK WITHRANK", "-ERR option WITHRANK is given twice"),
        ("COUPON.STATUS missing a", "-NOCOUPON "),
        ("COUPON.STATUS s a", "-WRONGTYPE"),
    ]);
}

#[test]
fn rank_never_gets_worse() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[("COUPON.OPEN c QUANTITY 10 WAITLIST 40 EPOCH 1", "+OK"), ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK")],
    );
    let mut random = fastrand::Rng::with_seed(7);
    let mut ranks = vec![(i64::MAX, i64::MAX); 50];
    let mut seq = 0;
    for _ in 0..300 {
        match random.u8(0..10) {
            0 => seq += client.run(&format!("COUPON.ISSUE c COUNT {}", random.u8(1..4))).int(),
            1 => expect(&mut client, &[(format!("COUPON.ACK c EPOCH 1 SEQ {seq}"), "+OK")]),
            2 => {
                let mode = if random.bool() { "INSTANT" } else { "QUEUE" };
                expect(
                    &mut client,
                    &[(format!("COUPON.OPEN c QUANTITY {} MODE {mode}", random.i64(10..20).max(seq)), "+OK")],
                );
            }
            _ => {
                let reply = client.run(&format!("COUPON.REQUEST c {}", random.usize(0..ranks.len())));
                seq += i64::from(reply.to_string() == "GRANTED");
            }
        }
        for (user, best) in ranks.iter_mut().enumerate() {
            let status = client.run(&format!("COUPON.STATUS c {user} WITHRANK"));
            let [state, rank, ahead] = status.array() else { panic!("{status}") };
            if state.text() != "NONE" {
                assert!(
                    rank.int() <= best.0 && ahead.int() <= best.1,
                    "user {user} fell back to {status} from {best:?}"
                );
                *best = (rank.int(), ahead.int());
            }
        }
    }
    assert!(seq >= 10, "the test granted something");
}
