//! Killed at any point, the reconciler's successor goes on: no row lost, none twice.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::ledger::{self, await_coupon};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;

/// A situation in which every kind of work is there to be done, and no reconciler runs: `a` has grants that are no
/// rows, is fenced and redefined; `q` has users who wait; `hand` was opened by hand and has grants.
fn work_to_do() -> (Redis, Postgres) {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 500, &[("mode", "'INSTANT'")]);
    insert(&postgres, "q", 500, &[]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    await_open(&mut client, "q");
    request(&mut client, "a", "early", 0..5);
    await_level(&redis, &postgres, "a", 5);
    reconciler.kill();
    request(&mut client, "a", "u", 0..100);
    request(&mut client, "q", "w", 0..30);
    expect(&mut client, &[(&*format!("COUPON.OPEN {} QUANTITY 50 MODE INSTANT", key("hand")), "+OK")]);
    request(&mut client, "hand", "h", 0..20);
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    postgres.run("update coupon set waitlist = 3 where id = 'a'");
    (redis, postgres)
}

fn assert_all_done(redis: &Redis, postgres: &Postgres) {
    await_level(redis, postgres, "a", 105);
    await_level(redis, postgres, "q", 30);
    await_level(redis, postgres, "hand", 20);
    await_coupon(postgres, "a", "waitlist, is_told", "3|t");
    let mut client = redis.client();
    assert_eq!(client.run(&format!("HGET {} waitlist", key("a"))).text(), "3");
    // And it is open for more.
    request(&mut client, "a", "late", 0..10);
    await_level(redis, postgres, "a", 115);
    for id in ["a", "q", "hand"] {
        ledger::assert_whole(postgres, id);
    }
}

/// PERSISTED means: it is a row. At no moment may Redis know of more than PostgreSQL holds.
fn assert_persisted_are_rows(redis: &Redis, postgres: &Postgres) {
    let mut client = redis.client();
    for id in ["a", "q", "hand"] {
        let persisted = client.run(&format!("COUPON.INFO {}", key(id))).field("persisted").int();
        let seq = ledger::coupon(postgres, id, "seq").parse().unwrap_or(0);
        assert!(persisted <= seq, "{id}: Redis calls {persisted} grants persisted, the ledger holds {seq}");
    }
}

fn killed_at(point: &str) {
    let (redis, postgres) = work_to_do();
    let mut paused = Options::between(&redis, &postgres).args(&["--batch-max", "8"]).pause_at(point).start();
    paused.await_pause();
    paused.kill();
    assert_persisted_are_rows(&redis, &postgres);
    let _successor = Reconciler::start(&redis, &postgres);
    assert_all_done(&redis, &postgres);
}

/// As a machine that hangs for a while, and wakes up after another one has taken over.
fn overtaken_at(point: &str) {
    let (redis, postgres) = work_to_do();
    // What keeps the overtaken one from writing twice is the compare-and-set, also where no constraint would.
    postgres.run(
        "alter table user_coupon drop constraint user_coupon_one_per_seq;
         drop index user_coupon_one_per_user;
         alter table coupon_position drop constraint coupon_position_granted_within_seq,
             drop constraint coupon_position_held_within_quantity",
    );
    let mut paused = Options::between(&redis, &postgres).args(&["--batch-max", "8"]).pause_at(point).start();
    paused.await_pause();
    let mut successor = Reconciler::start(&redis, &postgres);
    // What the paused one holds back is done by the other, which does not know of it.
    assert_all_done(&redis, &postgres);
    paused.go_on();
    let mut client = redis.client();
    request(&mut client, "a", "both", 0..50);
    await_level(&redis, &postgres, "a", 165);
    assert!(paused.is_alive(), "the one that was overtaken goes on");
    successor.kill();
    request(&mut client, "a", "alone", 0..50);
    await_level(&redis, &postgres, "a", 215);
    // Whatever it held back is done, or given up, by now.
    assert!(paused.end("TERM").success());
    for id in ["a", "q", "hand"] {
        ledger::assert_whole(&postgres, id);
    }
}

macro_rules! points {
    ($($name:ident = $point:literal,)+) => {
        mod killed { $(#[test] fn $name() { super::killed_at($point); })+ }
        mod overtaken { $(#[test] fn $name() { super::overtaken_at($point); })+ }
    };
}

points! {
    before_read = "before-read",
    after_read = "after-read",
    before_commit = "before-commit",
    after_commit = "after-commit",
    before_ack = "before-ack",
    after_ack = "after-ack",
    after_take_epoch = "after-take-epoch",
    before_resume = "before-resume",
    after_resume = "after-resume",
    before_publish = "before-publish",
    after_publish = "after-publish",
    after_adopt = "after-adopt",
}

#[test]
fn killed_again_and_again_under_load() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 100_000, &[("mode", "'INSTANT'")]);
    let mut reconciler = Options::between(&redis, &postgres).args(&["--batch-max", "10"]).start();
    let mut client = redis.client();
    await_open(&mut client, "a");
    let (mut granted, mut relayed) = (0, 0);
    for _ in 0..15 {
        request(&mut client, "a", "u", granted..granted + 200);
        granted += 200;
        // Killed as soon as it has written something more, wherever that leaves it.
        coupon_tests::deadline::eventually("the relay moves", || {
            let seq: u64 = ledger::coupon(&postgres, "a", "seq").parse().expect("a number");
            (seq > relayed).then(|| relayed = seq)
        });
        reconciler.kill();
        reconciler = Options::between(&redis, &postgres).args(&["--batch-max", "10"]).start();
    }
    await_level(&redis, &postgres, "a", granted);
}
