//! What the module publishes for the reconciler.

use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, expect};

const MARKER: &str = "end";

/// Listens on the module's channels.
struct Ear {
    ear: Client,
    voice: Client,
}

impl Ear {
    fn at(redis: &Redis) -> Self {
        let mut ear = redis.client();
        for channel in ["coupon.opened", "coupon.waiting", "coupon.granted", MARKER] {
            ear.run(&format!("SUBSCRIBE {channel}"));
        }
        Self { ear, voice: redis.client() }
    }

    /// What was said since the last time.
    fn heard(&mut self) -> Vec<String> {
        self.voice.run(&format!("PUBLISH {MARKER} x"));
        let mut heard = Vec::new();
        loop {
            let message = self.ear.read().expect("a message");
            let [_, channel, key] = message.array() else { panic!("{message}") };
            if channel.text() == MARKER {
                return heard;
            }
            heard.push(format!("{channel} {key}"));
        }
    }
}

#[test]
fn changes_by_hand_are_told_and_the_reconcilers_own_are_not() {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut ear = Ear::at(&redis);
    for (call, heard) in [
        ("COUPON.OPEN c QUANTITY 5", &["coupon.opened c"][..]),
        ("COUPON.OPEN c QUANTITY 5", &[]),
        ("COUPON.OPEN c QUANTITY 6", &["coupon.opened c"]),
        ("COUPON.OPEN c QUANTITY 7 EPOCH 1", &[]),
        ("COUPON.OPEN c QUANTITY 0", &[]),
        ("COUPON.CLOSE c", &["coupon.opened c"]),
        ("COUPON.CLOSE c", &[]),
        ("COUPON.OPEN c QUANTITY 8 EPOCH 1 REVISION 1", &[]),
        ("COUPON.CLOSE c EPOCH 1 REVISION 2", &[]),
        ("COUPON.OPEN ledger QUANTITY 7 EPOCH 1", &[]),
        (r#"COUPON.OPEN "k\r\n%n" QUANTITY 7"#, &[r"coupon.opened k\r\n%n"]),
    ] {
        client.run(call);
        assert_eq!(ear.heard(), heard, "{call}");
    }
}

#[test]
fn the_first_to_wait_is_told() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5", "+OK")]);
    let mut ear = Ear::at(&redis);
    for (call, heard) in [
        ("COUPON.REQUEST c a", &["coupon.waiting c"][..]),
        ("COUPON.REQUEST c b", &[]),
        ("COUPON.REQUEST c b", &[]),
        ("COUPON.ISSUE c COUNT 1", &["coupon.granted c"]),
        ("COUPON.REQUEST c d", &[]),
        ("COUPON.ISSUE c", &[]),
        ("COUPON.REQUEST c e", &["coupon.waiting c"]),
    ] {
        client.run(call);
        assert_eq!(ear.heard(), heard, "{call}");
    }
}

#[test]
fn a_grant_is_told_when_the_ledger_was_level() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[("COUPON.OPEN c QUANTITY 9 MODE INSTANT EPOCH 1", "+OK"), ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK")],
    );
    let mut ear = Ear::at(&redis);
    for (call, heard) in [
        ("COUPON.REQUEST c a", &["coupon.granted c"][..]),
        ("COUPON.REQUEST c b", &[]),
        ("COUPON.ACK c EPOCH 1 SEQ 1", &[]),
        ("COUPON.REQUEST c d", &[]),
        ("COUPON.ACK c EPOCH 1 SEQ 3", &[]),
        ("COUPON.REQUEST c e", &["coupon.granted c"]),
    ] {
        client.run(call);
        assert_eq!(ear.heard(), heard, "{call}");
    }
}
