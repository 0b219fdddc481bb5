//! Either side goes away and comes back; the reconciler stays, and loses nothing.

use crate::sale::{assert_persisted, await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::{self, Redis};
use std::time::Duration;

#[test]
fn postgresql_stopped_and_started() {
    for end in [Postgres::stop as fn(&mut Postgres), Postgres::crash] {
        let (redis, mut postgres) = servers();
        insert(&postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
        let mut reconciler = Reconciler::start(&redis, &postgres);
        let mut client = redis.client();
        await_open(&mut client, "a");
        request(&mut client, "a", "u", 0..100);
        await_level(&redis, &postgres, "a", 100);
        end(&mut postgres);
        eventually_true("it is said that PostgreSQL is away", || !reconciler.is_ready());
        // Redis goes on granting.
        request(&mut client, "a", "u", 100..300);
        postgres.start_again();
        await_level(&redis, &postgres, "a", 300);
        assert_persisted(&redis, "a", "u", 0..300);
        eventually_true("it is said that PostgreSQL is back", || reconciler.is_ready());
        assert!(reconciler.is_alive());
    }
}

#[test]
fn postgresql_crashing_under_load_again_and_again() {
    let (redis, mut postgres) = servers();
    insert(&postgres, "a", 100_000, &[("mode", "'INSTANT'")]);
    let _reconciler = Options::between(&redis, &postgres).args(&["--batch-max", "10"]).start();
    let mut client = redis.client();
    await_open(&mut client, "a");
    for round in 0..5 {
        request(&mut client, "a", "u", round * 500..(round + 1) * 500);
        postgres.crash();
        postgres.start_again();
    }
    await_level(&redis, &postgres, "a", 2_500);
}

#[test]
fn redis_stopped_and_started() {
    for end in [Redis::stop as fn(&mut Redis), Redis::kill] {
        let (mut redis, postgres) = servers();
        insert(&postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
        insert(&postgres, "q", 1_000, &[]);
        let mut reconciler = Reconciler::start(&redis, &postgres);
        let mut client = redis.client();
        await_open(&mut client, "a");
        await_open(&mut client, "q");
        request(&mut client, "a", "u", 0..100);
        request(&mut client, "q", "w", 0..100);
        end(&mut redis);
        eventually_true("it is said that Redis is away", || !reconciler.is_ready());
        redis.start_again();
        let mut client = redis.client();
        await_open(&mut client, "a");
        request(&mut client, "a", "u", 100..200);
        await_level(&redis, &postgres, "a", 200);
        await_level(&redis, &postgres, "q", 100);
        assert_persisted(&redis, "a", "u", 0..200);
        assert!(reconciler.is_alive());
    }
}

#[test]
fn a_fence_without_a_lost_connection_is_noticed() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 10);
    assert_eq!(client.run("DEBUG RELOAD").to_string(), "+OK");
    // Nobody asks for anything, and the gate opens again.
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 10..20);
    await_level(&redis, &postgres, "a", 20);
}

#[test]
fn a_restart_of_the_reconciler_takes_no_new_epoch() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
    let mut client = redis.client();
    for round in 0..3 {
        let mut reconciler = Reconciler::start(&redis, &postgres);
        await_open(&mut client, "a");
        request(&mut client, "a", "u", round * 10..(round + 1) * 10);
        await_level(&redis, &postgres, "a", (round + 1) * 10);
        reconciler.kill();
    }
    assert_eq!(coupon_tests::ledger::coupon(&postgres, "a", "epoch"), "1");
    assert_eq!(client.run(&format!("HGET {} epoch", key("a"))).text(), "1");
}

#[test]
fn the_reconciler_waits_for_servers_that_are_not_there_yet() {
    let mut redis = redis_server::Options::shipped().module_args("stream-keep 1000000").prepare();
    let mut postgres = Postgres::prepare();
    let mut reconciler = Options::between(&redis, &postgres).start();
    eventually_true("it serves health before its servers are there", || {
        coupon_tests::http::get(reconciler.listen_port, "/livez").is_ok_and(|(status, _)| status == 200)
    });
    assert!(!reconciler.is_ready());
    postgres.start_again();
    assert!(!reconciler.is_ready(), "Redis is still away");
    redis.start_again();
    let mut reconciler = {
        eventually_true("it is ready", || reconciler.is_ready());
        assert!(reconciler.is_alive());
        reconciler
    };
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 10);
    assert!(reconciler.end("TERM").success());
}

#[test]
fn many_coupons_that_wait_are_issued_after_redis_was_killed() {
    const COUPONS: u32 = 60;
    let (mut redis, postgres) = servers();
    postgres.run(&format!(
        "insert into coupon(id, name, quantity, status)
         select 'c-' || n, 'Test', 50, 'AVAILABLE' from generate_series(1, {COUPONS}) n"
    ));
    let reconciler = Options::between(&redis, &postgres).issue_interval("1s").start();
    let mut client = redis.client();
    (1..=COUPONS).for_each(|coupon| await_open(&mut client, &format!("c-{coupon}")));
    let requests: Vec<String> =
        (1..=COUPONS).map(|coupon| format!("COUPON.REQUEST {} u", key(&format!("c-{coupon}")))).collect();
    for reply in client.pipeline(&requests) {
        assert_eq!(reply.text(), "QUEUED");
    }
    // The next beat finds a server that does not answer and then is gone, with more coupons due than are issued at once.
    client.queue_line("DEBUG SLEEP 30");
    client.flush().expect("the server runs");
    std::thread::sleep(Duration::from_millis(1500));
    redis.kill();
    redis.start_again();
    eventually_true("every coupon is issued", || {
        postgres.value("select count(*) from user_coupon") == COUPONS.to_string()
    });
    assert!(reconciler.is_ready());
}
