//! Either side out of disk space: nothing is lost, no row is blamed, and it goes on when there is room.

use crate::sale::{assert_persisted, await_level, await_open, insert, key, request};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Reconciler, command};
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::Client;

/// Grants that may be missing in the ledger.
const UNPERSISTED_MAX: i64 = 300;

fn servers_of_which_postgresql_can_be_full() -> (Redis, Postgres) {
    let redis = Options::shipped()
        .line("appendfsync always")
        .module_args(&format!("stream-keep 1000000000 unpersisted-max {UNPERSISTED_MAX}"))
        .start();
    let postgres = Postgres::start_on_own_machine();
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    (redis, postgres)
}

fn unpersisted(client: &mut Client, id: &str) -> i64 {
    let info = client.run(&format!("COUPON.INFO {}", key(id)));
    info.field("granted").int() - info.field("persisted").int()
}

#[test]
fn postgresql_without_room_is_waited_for_and_the_backlog_keeps_its_limit() {
    let (redis, mut postgres) = servers_of_which_postgresql_can_be_full();
    insert(&postgres, "a", 100_000, &[("mode", "'INSTANT'")]);
    insert(&postgres, "q", 100_000, &[]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    for id in ["a", "q"] {
        await_open(&mut client, id);
        request(&mut client, id, "u", 0..100);
        await_level(&redis, &postgres, id, 100);
    }
    postgres.machine().fill_disk();
    for id in ["a", "q"] {
        // More than the pages that the tables have already can take.
        request(&mut client, id, "u", 100..3_000);
    }
    reconciler.await_log("PostgreSQL is out of disk space; free some");
    for id in ["a", "q"] {
        eventually_true("the backlog is full", || unpersisted(&mut client, id) == UNPERSISTED_MAX);
        request(&mut client, id, "u", 3_000..3_100);
        assert_eq!(unpersisted(&mut client, id), UNPERSISTED_MAX, "the backlog has a limit");
        let granted = client.run(&format!("COUPON.INFO {}", key(id))).field("granted").int();
        assert_eq!(client.run(&format!("XLEN {}:grants", key(id))).int(), granted, "a grant that is no row is kept");
    }
    assert!(reconciler.is_alive());
    postgres.machine().free_disk();
    postgres.revive();
    for id in ["a", "q"] {
        await_level(&redis, &postgres, id, 3_100);
        assert_persisted(&redis, id, "u", 0..3_100);
        assert_eq!(ledger::dead_letters(&postgres, id), [], "a row was blamed for the disk");
    }
    assert!(reconciler.is_alive());
}

#[test]
fn redis_without_room_is_said_and_goes_on_when_there_is_some() {
    let redis = Options::shipped().line("appendfsync everysec").own_machine().start();
    let postgres = Postgres::start();
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    insert(&postgres, "a", 100_000, &[]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    redis.machine().fill_disk();
    let mut users = 0..;
    eventually_true("requests are refused", || {
        let user = users.next().expect("another user");
        client.run(&format!("COUPON.REQUEST {} u{user}", key("a"))).to_string().starts_with("-MISCONF ")
    });
    let accepted = u64::try_from(client.run(&format!("ZCARD {}:issued", key("a"))).int()).expect("a number");
    assert_eq!(users.start, accepted + 1, "all but the last were accepted");
    reconciler.await_log("Redis cannot write to its disk; see its log");
    redis.machine().free_disk();
    eventually_true("all who were accepted are persisted", || {
        client.run(&format!("COUPON.INFO {}", key("a"))).field("persisted").int() as u64 == accepted
    });
    ledger::assert_whole(&postgres, "a");
    assert_persisted(&redis, "a", "u", 0..accepted);
    assert_eq!(ledger::dead_letters(&postgres, "a"), []);
    assert!(reconciler.is_alive());
}

#[test]
fn a_redis_that_ended_for_want_of_room_is_resumed() {
    let mut redis = Options::shipped().line("appendfsync always").own_machine().start();
    let postgres = Postgres::start();
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    insert(&postgres, "a", 100_000, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    let mut granted = 0;
    let mut ask = |client: &mut Client| {
        let reply = client.try_call(&["COUPON.REQUEST", &key("a"), &format!("u{granted}")]);
        let is_granted = reply.is_ok_and(|reply| reply.to_string() == "GRANTED");
        granted += u64::from(is_granted);
        is_granted
    };
    for _ in 0..100 {
        assert!(ask(&mut client));
    }
    redis.machine().fill_disk();
    while ask(&mut client) {}
    eventually_true("the server has ended", || !redis.is_alive());
    redis.machine().free_disk();
    redis.start_again();
    let mut client = redis.client();
    await_open(&mut client, "a");
    // The one that was not answered may be in or not: it is asked for again.
    client.run(&format!("COUPON.REQUEST {} u{granted}", key("a")));
    eventually_true("all are persisted", || {
        client.run(&format!("COUPON.INFO {}", key("a"))).field("persisted").int() as u64 == granted + 1
    });
    ledger::assert_whole(&postgres, "a");
    assert_persisted(&redis, "a", "u", 0..granted + 1);
}
