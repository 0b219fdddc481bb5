//! Publish: what a coupon's row says is on offer in Redis.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger::await_coupon;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::Client;

/// Waits until the coupon's hash holds these values.
fn await_hash(redis: &Redis, id: &str, fields: &str, expected: &str) {
    let mut client = redis.client();
    let mut held = String::new();
    eventually_true(&format!("{id} has {fields} = {expected}"), || {
        held = client.run(&format!("HMGET {} {fields}", key(id))).to_string();
        held == expected
    });
}

#[test]
fn an_inserted_row_is_on_offer_at_once() {
    let (redis, postgres) = servers();
    // The slow pass comes never: it must be the notification.
    let _reconciler = Options::between(&redis, &postgres).args(&["--full-pass-interval", "60m"]).start().await_ready();
    insert(
        &postgres,
        "a",
        7,
        &[
            ("mode", "'INSTANT'"),
            ("waitlist", "2"),
            ("opens_at", "'1970-01-01 00:00:00.001Z'"),
            ("expires_at", "'9999-12-31 23:59:59.999Z'"),
        ],
    );
    await_open(&mut redis.client(), "a");
    await_hash(
        &redis,
        "a",
        "status mode quantity waitlist opens_at expires_at epoch",
        // Before 1990 is long ago, whenever it was.
        "[AVAILABLE INSTANT 7 2 631152000000 253402300799999 1]",
    );
    await_coupon(&postgres, "a", "is_told, epoch", "t|1");
}

#[test]
fn rows_inserted_while_nobody_listened_are_published_at_the_start() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 7, &[]);
    postgres.run("insert into coupon(id, name, quantity) values ('draft', 'Not yet', 5)");
    let _reconciler = Reconciler::start(&redis, &postgres);
    await_open(&mut redis.client(), "a");
    assert_eq!(redis.client().run(&format!("EXISTS {}", key("draft"))).int(), 0, "STANDARD is not on offer");
    postgres.run("update coupon set status = 'AVAILABLE' where id = 'draft'");
    await_open(&mut redis.client(), "draft");
}

#[test]
fn a_changed_row_redefines_the_coupon() {
    let (redis, postgres) = servers();
    let _reconciler = Options::between(&redis, &postgres).args(&["--full-pass-interval", "60m"]).start().await_ready();
    insert(&postgres, "a", 2, &[("mode", "'INSTANT'")]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..2);
    await_level(&redis, &postgres, "a", 2);
    await_coupon(&postgres, "a", "status", "ISSUED");
    postgres.run("update coupon set quantity = 4, waitlist = 1 where id = 'a'");
    await_hash(&redis, "a", "status quantity remaining waitlist", "[AVAILABLE 4 2 1]");
    await_coupon(&postgres, "a", "status, quantity", "AVAILABLE|4");
    request(&mut client, "a", "more", 0..2);
    await_level(&redis, &postgres, "a", 4);
    await_coupon(&postgres, "a", "status, quantity", "ISSUED|4");
}

#[test]
fn a_row_that_expires_closes_the_coupon() {
    let (redis, postgres) = servers();
    let _reconciler = Options::between(&redis, &postgres).args(&["--full-pass-interval", "60m"]).start().await_ready();
    insert(&postgres, "a", 5, &[]);
    await_open(&mut redis.client(), "a");
    postgres.run("update coupon set status = 'EXPIRED' where id = 'a'");
    await_hash(&redis, "a", "status", "[EXPIRED]");
    await_coupon(&postgres, "a", "status, is_told", "EXPIRED|t");
    postgres.run("update coupon set status = 'AVAILABLE' where id = 'a'");
    await_hash(&redis, "a", "status", "[AVAILABLE]");
}

#[test]
fn a_row_set_to_standard_takes_the_coupon_off_offer_and_nobody_loses_a_place() {
    let (mut redis, postgres) = servers();
    let reconciler = Options::between(&redis, &postgres).args(&["--full-pass-interval", "60m"]).start().await_ready();
    insert(&postgres, "a", 2, &[("waitlist", "3")]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..4);
    await_level(&redis, &postgres, "a", 2);
    postgres.run("update coupon set status = 'STANDARD', quantity = 3 where id = 'a'");
    await_hash(&redis, "a", "status quantity", "[STANDARD 3]");
    await_coupon(&postgres, "a", "status, is_told", "STANDARD|t");
    assert_eq!(client.run(&format!("COUPON.REQUEST {} new", key("a"))).to_string(), "NOTOPEN");
    // Also over a restart of both: it stays off offer, and whoever waits keeps the place.
    drop(reconciler);
    redis.kill();
    redis.start_again();
    let _reconciler = Options::between(&redis, &postgres).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    assert_eq!(client.run(&format!("COUPON.REQUEST {} new", key("a"))).to_string(), "NOTOPEN");
    let standing = |client: &mut Client, user: &str| {
        client.run(&format!("COUPON.STATUS {} {user} WITHRANK", key("a"))).to_string()
    };
    assert_eq!(standing(&mut client, "u2"), "[WAITING :3 :0]");
    postgres.run("update coupon set status = 'AVAILABLE' where id = 'a'");
    await_level(&redis, &postgres, "a", 3);
    assert_eq!(standing(&mut client, "u3"), "[WAITING :4 :0]");
    // By hand in Redis, both ways: the row follows.
    client.run(&format!("COUPON.OPEN {} QUANTITY 4 STATUS STANDARD", key("a")));
    await_coupon(&postgres, "a", "status, quantity, is_told", "STANDARD|4|t");
    client.run(&format!("COUPON.OPEN {} QUANTITY 4 STATUS AVAILABLE", key("a")));
    await_level(&redis, &postgres, "a", 4);
    await_coupon(&postgres, "a", "status", "ISSUED");
}

#[test]
fn a_quantity_below_what_is_granted_keeps_the_promise_made() {
    let (redis, postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..6);
    await_level(&redis, &postgres, "a", 6);
    postgres.run("update coupon set quantity = 5 where id = 'a'");
    await_coupon(&postgres, "a", "quantity, is_told", "6|t");
    postgres.run("update coupon set quantity = 10 where id = 'a'");
    await_hash(&redis, "a", "quantity", "[10]");
    // The ledger does not know of all grants yet.
    drop(reconciler);
    request(&mut client, "a", "late", 0..3);
    postgres.run("update coupon set quantity = 7 where id = 'a'");
    let _reconciler = Reconciler::start(&redis, &postgres);
    await_level(&redis, &postgres, "a", 9);
    await_coupon(&postgres, "a", "granted, quantity >= 9, is_told", "9|t|t");
}

#[test]
fn the_end_of_the_window_turns_the_row_expired() {
    let (redis, postgres) = servers();
    let _reconciler = Reconciler::start(&redis, &postgres);
    insert(&postgres, "a", 5, &[("expires_at", "now() + interval '2 seconds'")]);
    insert(&postgres, "empty", 5, &[("expires_at", "now() + interval '1 second'")]);
    insert(&postgres, "instant", 5, &[("mode", "'INSTANT'"), ("expires_at", "now() + interval '1 second'")]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..2);
    await_coupon(&postgres, "empty", "status", "EXPIRED");
    await_coupon(&postgres, "instant", "status", "EXPIRED");
    await_coupon(&postgres, "a", "status, granted", "EXPIRED|2");
    await_level(&redis, &postgres, "a", 2);
    assert_eq!(client.run(&format!("COUPON.REQUEST {} late", key("a"))).to_string(), "CLOSED");
}

#[test]
fn another_key_pattern_is_used_everywhere() {
    let (redis, postgres) = servers();
    insert(&postgres, "42", 5, &[("mode", "'INSTANT'")]);
    let _reconciler = Options::between(&redis, &postgres).args(&["--key", "coupon:ID"]).start().await_ready();
    let mut client = redis.client();
    eventually_true("coupon:42 is open", || client.run("COUPON.REQUEST coupon:42 a").to_string() == "GRANTED");
    await_coupon(&postgres, "42", "seq", "1");
    assert_eq!(client.run(&format!("EXISTS {}", key("42"))).int(), 0);
}

/// An ORM that saves the whole object as it was read, or a copy that is brought in where no trigger fires: no counter says so, and
/// nobody is told. What counts is what the row says.
#[test]
fn a_change_that_no_trigger_saw_is_found_and_is_not_taken_back() {
    let (redis, postgres) = servers();
    let _reconciler =
        Options::between(&redis, &postgres).args(&["--full-pass-interval", "200ms"]).start().await_ready();
    insert(&postgres, "a", 5, &[("mode", "'INSTANT'")]);
    insert(&postgres, "b", 5, &[]);
    await_open(&mut redis.client(), "a");
    await_open(&mut redis.client(), "b");
    postgres.run("update coupon set quantity = 9, waitlist = 2 where id = 'b'");
    await_hash(&redis, "b", "quantity waitlist", "[9 2]");
    let unseen = |sql: &str| postgres.run(&format!("set session_replication_role = replica; {sql}"));
    unseen("update coupon set status = 'EXPIRED' where id = 'a'");
    unseen("update coupon set quantity = 5, waitlist = 0, updated_at = created_at where id = 'b'");
    await_hash(&redis, "a", "status", "[EXPIRED]");
    await_hash(&redis, "b", "quantity waitlist", "[5 0]");
    await_coupon(&postgres, "a", "status, is_told", "EXPIRED|t");
    await_coupon(&postgres, "b", "quantity, waitlist, is_told", "5|0|t");
    assert_eq!(redis.client().run(&format!("COUPON.REQUEST {} late", key("a"))).to_string(), "CLOSED");
}

#[test]
fn what_was_announced_by_one_that_was_killed_is_told_by_the_next() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 5, &[]);
    let mut first = Reconciler::start(&redis, &postgres);
    await_open(&mut redis.client(), "a");
    first.kill();
    postgres.run("update coupon set quantity = 8 where id = 'a'");
    let mut paused = Options::between(&redis, &postgres).pause_at("before-publish").start();
    paused.await_pause();
    // It is noted that Redis is told, and Redis was not.
    await_coupon(&postgres, "a", "is_told", "t");
    paused.kill();
    await_hash(&redis, "a", "quantity", "[5]");
    let _successor = Reconciler::start(&redis, &postgres);
    await_hash(&redis, "a", "quantity", "[8]");
    await_coupon(&postgres, "a", "quantity, is_told", "8|t");
}

/// As a machine that hangs between its look at the row and its call, while another one publishes what came later.
#[test]
fn a_reconciler_that_slept_puts_no_older_definition_over_a_newer_one() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 5, &[]);
    let mut first = Reconciler::start(&redis, &postgres);
    await_open(&mut redis.client(), "a");
    first.kill();
    postgres.run("update coupon set quantity = 8 where id = 'a'");
    let paused = Options::between(&redis, &postgres).pause_at("before-publish").start();
    paused.await_pause();
    let _other = Reconciler::start(&redis, &postgres);
    await_hash(&redis, "a", "quantity", "[8]");
    postgres.run("update coupon set quantity = 7 where id = 'a'");
    await_hash(&redis, "a", "quantity", "[7]");
    await_coupon(&postgres, "a", "quantity, is_told", "7|t");
    paused.go_on();
    eventually_true("the older one is refused", || {
        paused.log().contains("STALEEPOCH") || paused.metric("coupon_retries_total") > Some(0.0)
    });
    await_hash(&redis, "a", "quantity", "[7]");
    await_coupon(&postgres, "a", "quantity, is_told", "7|t");
}
