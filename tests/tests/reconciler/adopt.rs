//! Adopt: what was done by hand in Redis gets, or changes, its row.

use crate::sale::{await_level, await_open, key, request, servers};
use coupon_tests::ledger::await_coupon;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;

/// One whose slow pass comes never, so that only messages can have told it.
fn by_message(redis: &Redis, postgres: &Postgres) -> Reconciler {
    Options::between(redis, postgres).args(&["--full-pass-interval", "60m"]).start().await_ready()
}

#[test]
fn a_coupon_opened_by_hand_has_a_row_at_once() {
    let (redis, postgres) = servers();
    let _reconciler = by_message(&redis, &postgres);
    let mut client = redis.client();
    expect(
        &mut client,
        &[(&*format!("COUPON.OPEN {} QUANTITY 9 MODE INSTANT WAITLIST 2 EXPIRES 253402300799999", key("hand")), "+OK")],
    );
    let columns = "name, quantity, status, mode, waitlist, opens_at is null, epoch, is_told";
    await_coupon(&postgres, "hand", columns, "hand|9|AVAILABLE|INSTANT|2|t|1|t");
    await_open(&mut client, "hand");
    request(&mut client, "hand", "u", 0..9);
    await_level(&redis, &postgres, "hand", 9);
    await_coupon(&postgres, "hand", "status, granted", "ISSUED|9");
}

#[test]
fn grants_made_before_anybody_listened_are_relayed() {
    let (redis, postgres) = servers();
    let mut client = redis.client();
    expect(&mut client, &[(&*format!("COUPON.OPEN {} QUANTITY 500 MODE INSTANT", key("old")), "+OK")]);
    request(&mut client, "old", "u", 0..300);
    let _reconciler = Reconciler::start(&redis, &postgres);
    await_level(&redis, &postgres, "old", 300);
    await_open(&mut client, "old");
    request(&mut client, "old", "u", 300..310);
    await_level(&redis, &postgres, "old", 310);
}

#[test]
fn a_hash_set_by_hand_and_users_added_by_the_old_pattern_are_found() {
    let (redis, postgres) = servers();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            (&*format!("HSET {} status AVAILABLE quantity 2", key("plain")), ":2"),
            (
                &*format!(
                    "ZADD {}:issued NX 1700000000000 first 1700000000000 second 1700000000001 third",
                    key("plain")
                ),
                ":3",
            ),
            // Of the same pattern, and no coupons.
            ("SET coupon:{text} x", "+OK"),
            ("HSET coupon:{other} colour red", ":1"),
        ],
    );
    let mut reconciler =
        Options::between(&redis, &postgres).args(&["--full-pass-interval", "1s"]).start().await_ready();
    await_coupon(&postgres, "plain", "status, granted, quantity", "ISSUED|2|2");
    await_level(&redis, &postgres, "plain", 2);
    assert_eq!(postgres.value("select string_agg(user_id, ',' order by seq) from user_coupon"), "first,second");
    assert_eq!(postgres.value("select count(*) from coupon"), "1");
    assert!(reconciler.is_alive());
}

#[test]
fn what_is_changed_by_hand_changes_the_row() {
    let (redis, postgres) = servers();
    let _reconciler = by_message(&redis, &postgres);
    crate::sale::insert(&postgres, "a", 5, &[]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    await_coupon(&postgres, "a", "is_told", "t");
    expect(&mut client, &[(format!("COUPON.OPEN {} QUANTITY 8 WAITLIST 3 MODE INSTANT", key("a")), "+OK")]);
    await_coupon(&postgres, "a", "quantity, waitlist, mode, status", "8|3|INSTANT|AVAILABLE");
    expect(&mut client, &[(format!("COUPON.CLOSE {}", key("a")), "+OK")]);
    await_coupon(&postgres, "a", "status", "EXPIRED");
    expect(&mut client, &[(format!("COUPON.OPEN {} QUANTITY 9", key("a")), "+OK")]);
    await_coupon(&postgres, "a", "quantity, status, is_told", "9|AVAILABLE|t");
}
