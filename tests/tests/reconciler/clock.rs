//! Clocks an hour wrong under the reconciler: Redis's, and PostgreSQL's, by which the leases are held.

use crate::sale::{await_level, await_open, insert, request};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger;
use coupon_tests::machine::HOUR_US;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server::{self, Redis};

/// Shards in all, a part of the schema.
const SHARDS: usize = 64;

fn servers() -> (Redis, Postgres) {
    let redis = redis_server::Options::shipped()
        .line("appendfsync always")
        .module_args("stream-keep 1000000000")
        .own_machine()
        .start();
    let postgres = Postgres::start_on_own_machine();
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    (redis, postgres)
}

fn named(redis: &Redis, postgres: &Postgres, name: &str) -> Reconciler {
    Options::between(redis, postgres).args(&["--instance", name]).start().await_ready()
}

/// Waits until these share all shards among them, each some.
fn await_shares(postgres: &Postgres, names: &[&str]) {
    let mut expected: Vec<String> = names.iter().map(|name| format!("{name}|{}", SHARDS / names.len())).collect();
    expected.sort();
    eventually_true(&format!("{names:?} share the {SHARDS} shards"), || {
        postgres.rows("select instance, count(*) from coupon_lease group by instance order by instance") == expected
    });
}

#[test]
fn rows_keep_the_order_of_arrival_whatever_redis_thinks_it_is() {
    let (mut redis, postgres) = servers();
    for (id, more) in [("a", &[("mode", "'INSTANT'")][..]), ("q", &[])] {
        insert(&postgres, id, 100_000, more);
    }
    let _reconciler = Reconciler::start(&redis, &postgres);
    for (number, offset) in (0_u64..).zip([0, HOUR_US, 0, -HOUR_US, HOUR_US]) {
        redis.machine().set_clock(offset);
        if number % 2 == 0 {
            redis.kill();
            redis.start_again();
        }
        let mut client = redis.client();
        for id in ["a", "q"] {
            await_open(&mut client, id);
            request(&mut client, id, "u", number * 100..(number + 1) * 100);
        }
    }
    for id in ["a", "q"] {
        await_level(&redis, &postgres, id, 500);
        let rows = ledger::rows(&postgres, id);
        assert!(rows.windows(2).all(|pair| pair[0].requested_at_us < pair[1].requested_at_us));
    }
}

#[test]
fn leases_are_neither_lost_nor_kept_by_the_dead_when_postgresqls_clock_jumps() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 100_000, &[("mode", "'INSTANT'")]);
    let mut first = named(&redis, &postgres, "first");
    let _second = named(&redis, &postgres, "second");
    let mut client = redis.client();
    await_open(&mut client, "a");
    await_shares(&postgres, &["first", "second"]);
    for (number, offset) in (0_u64..).zip([HOUR_US, 0, -HOUR_US, 0]) {
        postgres.machine().set_clock(offset);
        request(&mut client, "a", "u", number * 100..(number + 1) * 100);
        await_level(&redis, &postgres, "a", (number + 1) * 100);
        await_shares(&postgres, &["first", "second"]);
    }
    // Its last renewal holds for an hour, by a clock that was wrong.
    postgres.machine().set_clock(HOUR_US);
    eventually_true("both have renewed", || {
        let renewed = "select count(*) from coupon_instance where until > clock_timestamp()";
        postgres.value(renewed) == "2"
    });
    first.kill();
    postgres.machine().set_clock(0);
    await_shares(&postgres, &["second"]);
    request(&mut client, "a", "u", 400..500);
    await_level(&redis, &postgres, "a", 500);
}
