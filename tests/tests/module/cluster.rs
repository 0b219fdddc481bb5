//! Cluster mode: three keys must share a slot.

use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::expect;

/// A cluster of one node that serves all slots.
fn cluster() -> Redis {
    let redis = Options::shipped().line("cluster-enabled yes").start();
    let mut client = redis.client();
    expect(&mut client, &[("CLUSTER ADDSLOTSRANGE 0 16383", "+OK")]);
    eventually_true("the cluster serves all slots", || client.run("CLUSTER INFO").text().contains("cluster_state:ok"));
    redis
}

#[test]
fn a_key_with_a_hash_tag_works() {
    let redis = cluster();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN coupon:{42} QUANTITY 2", "+OK"),
            ("COUPON.REQUEST coupon:{42} a", "QUEUED"),
            ("COUPON.ISSUE coupon:{42}", ":1"),
            ("COUPON.STATUS coupon:{42} a", "GRANTED"),
            ("EXISTS coupon:{42} coupon:{42}:issued coupon:{42}:grants", ":3"),
        ],
    );
}

#[test]
fn a_key_without_one_is_refused() {
    let redis = cluster();
    expect_without_effect(
        &redis,
        &[
            ("COUPON.OPEN coupon:42 QUANTITY 2", "-CROSSSLOT in cluster mode the key needs a hash tag"),
            ("COUPON.REQUEST coupon:42 a", "-CROSSSLOT "),
            ("COUPON.ISSUE coupon:42", "-CROSSSLOT "),
            ("COUPON.STATUS coupon:42 a", "-CROSSSLOT "),
            ("COUPON.WAIT coupon:42 a 1", "-CROSSSLOT "),
            ("COUPON.INFO coupon:42", "-CROSSSLOT "),
            ("COUPON.CLOSE coupon:42", "-CROSSSLOT "),
            ("COUPON.RESUME coupon:42 EPOCH 1 SEQ 0 CHAIN 0", "-CROSSSLOT "),
            ("COUPON.ACK coupon:42 EPOCH 1 SEQ 0", "-CROSSSLOT "),
            ("COUPON.RESTORE coupon:42 EPOCH 1 AFTER 0 CHAIN 0 GRANTS 1 u 1 1", "-CROSSSLOT "),
            // An empty tag is none: Redis hashes the whole key then.
            ("COUPON.OPEN coupon:{} QUANTITY 2", "-CROSSSLOT "),
            ("COUPON.OPEN coupon:{}{42} QUANTITY 2", "-CROSSSLOT "),
        ],
    );
}

#[test]
fn on_a_single_server_a_key_needs_no_hash_tag() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[("COUPON.OPEN coupon:42 QUANTITY 2", "+OK"), ("COUPON.REQUEST coupon:42 a", "QUEUED")],
    );
}
