//! The old pattern's own test: the scheduler runs twice, and one row is written.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::ledger::{self, await_coupon};
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::resp::expect;

#[test]
fn two_scheduler_runs_one_row_status_issued() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 1, &[]);
    let _reconciler = Options::between(&redis, &postgres).issue_interval("60m").start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..1);
    let issue = format!("COUPON.ISSUE {}", key("a"));
    expect(&mut client, &[(&issue, ":1"), (&issue, ":0")]);
    await_level(&redis, &postgres, "a", 1);
    await_coupon(&postgres, "a", "status, granted", "ISSUED|1");
    assert_eq!(ledger::rows(&postgres, "a").len(), 1);
}

#[test]
fn two_schedulers_at_once_grant_each_unit_once() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 100, &[("waitlist", "100")]);
    let _first = Options::between(&redis, &postgres).issue_interval("10ms").start().await_ready();
    let _second = Options::between(&redis, &postgres).issue_interval("10ms").start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..200);
    await_level(&redis, &postgres, "a", 100);
    await_coupon(&postgres, "a", "status, granted", "ISSUED|100");
    let users: Vec<String> = ledger::rows(&postgres, "a").into_iter().map(|row| row.user).collect();
    assert_eq!(users, (0..100).map(|user| format!("u{user}")).collect::<Vec<_>>());
}

#[test]
fn more_than_one_call_can_issue_is_issued_by_several() {
    let (redis, postgres) = servers();
    redis.client().run("CONFIG SET coupon.issue-max 10");
    insert(&postgres, "a", 95, &[]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..95);
    await_level(&redis, &postgres, "a", 95);
}
