//! The audit of the daemon: it repairs what is proved by itself, and says the rest once.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::http;
use coupon_tests::ledger::{assert_whole, rows};
use coupon_tests::reconciler::{Options, Reconciler};

/// A metric's value for one kind.
fn of_kind(reconciler: &Reconciler, name: &str, kind: &str) -> Option<f64> {
    let (_, text) = http::get(reconciler.listen_port, "/metrics").ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{kind=\"{kind}\"}} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn the_daemon_puts_back_a_row_and_says_so_without_the_user() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 50, &[("mode", "'INSTANT'")]);
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "20ms"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "somebody-", 0..30);
    await_level(&redis, &postgres, "a", 30);
    let before = rows(&postgres, "a");
    postgres.run("delete from user_coupon where coupon_id = 'a' and seq in (3, 17)");
    eventually_true("the rows are back", || {
        of_kind(&reconciler, "coupon_drift_repaired_total", "row_missing") == Some(2.0)
    });
    assert_eq!(rows(&postgres, "a"), before);
    assert_whole(&postgres, "a");
    assert_eq!(reconciler.metric("coupon_drift"), Some(0.0));
    let log = reconciler.log();
    assert!(log.contains("a grant has no row; put right"), "{log}");
    assert!(!log.contains("somebody-"), "{log}");
}

#[test]
fn what_it_cannot_repair_is_a_metric_and_said_once() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 50, &[("mode", "'INSTANT'")]);
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "20ms"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..30);
    await_level(&redis, &postgres, "a", 30);
    postgres.run("update user_coupon set user_id = 'mallory' where coupon_id = 'a' and seq = 3");
    client.run(&format!("HINCRBY {} remaining 1", key("a")));
    for kind in ["row_altered", "counter_wrong"] {
        eventually_true(kind, || of_kind(&reconciler, "coupon_drift", kind) == Some(1.0));
    }
    let rounds = || reconciler.metric("coupon_audit_rounds_total").unwrap_or_default();
    let seen = rounds();
    eventually_true("more rounds", || rounds() >= seen + 3.0);
    let log = reconciler.log();
    assert_eq!(log.matches("a row is not what was granted").count(), 1, "{log}");
    assert!(!log.contains("mallory"), "{log}");
    // Put right by hand, it is gone.
    postgres.run("update user_coupon set user_id = 'u2' where coupon_id = 'a' and seq = 3");
    client.run(&format!("HINCRBY {} remaining -1", key("a")));
    eventually_true("nothing is left", || reconciler.metric("coupon_drift") == Some(0.0));
}

#[test]
fn what_is_odd_is_looked_at_between_two_rounds() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 50, &[("mode", "'INSTANT'")]);
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "5s"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..30);
    await_level(&redis, &postgres, "a", 30);
    eventually_true("a round over every grant", || reconciler.metric("coupon_audit_rounds_total") == Some(1.0));
    let before = rows(&postgres, "a");
    postgres.run("delete from user_coupon where coupon_id = 'a' and seq = 30");
    client.run(&format!("HINCRBY {} remaining 1", key("a")));
    eventually_true("it is seen", || of_kind(&reconciler, "coupon_drift", "counter_wrong") == Some(1.0));
    assert_eq!(of_kind(&reconciler, "coupon_drift_repaired_total", "row_missing"), Some(1.0));
    assert_eq!(reconciler.metric("coupon_audit_rounds_total"), Some(1.0), "long before the next round");
    assert_eq!(rows(&postgres, "a"), before);
    client.run(&format!("HINCRBY {} remaining -1", key("a")));
    eventually_true("nothing is left", || reconciler.metric("coupon_drift") == Some(0.0));
}

#[test]
fn it_can_be_turned_off() {
    let (redis, postgres) = servers();
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "0"]).start().await_ready();
    assert_eq!(reconciler.metric("coupon_audit_rounds_total"), Some(0.0));
}

#[test]
fn it_ends_with_the_daemon() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 50_000, &[("mode", "'INSTANT'")]);
    let mut reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "1ms"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..20_000);
    coupon_tests::ledger::await_coupon(&postgres, "a", "seq", "20000");
    assert_eq!(reconciler.end("TERM").code(), Some(0));
}
