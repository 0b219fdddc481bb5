//! The daemon as an operator meets it: health, metrics, signals.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::http;
use coupon_tests::ledger;
use coupon_tests::reconciler::{Options, Reconciler};

#[test]
fn term_and_int_end_it_in_order() {
    for signal in ["TERM", "INT"] {
        let (redis, postgres) = servers();
        insert(&postgres, "a", 10_000, &[("mode", "'INSTANT'")]);
        let mut reconciler = Options::between(&redis, &postgres).args(&["--batch-max", "10"]).start().await_ready();
        let mut client = redis.client();
        await_open(&mut client, "a");
        request(&mut client, "a", "u", 0..2_000);
        eventually_true("the relay is at work", || ledger::coupon(&postgres, "a", "seq > 0") == "t");
        let status = reconciler.end(signal);
        assert_eq!(status.code(), Some(0), "{status}\n{}", reconciler.log());
        // What was begun was finished: Redis knows of every row there is.
        ledger::assert_whole(&postgres, "a");
        let seq = ledger::coupon(&postgres, "a", "seq");
        let persisted = client.run("COUPON.INFO coupon:{a}").field("persisted").int();
        assert_eq!(persisted.to_string(), seq, "a committed batch was not acknowledged");
        let _successor = Reconciler::start(&redis, &postgres);
        await_level(&redis, &postgres, "a", 2_000);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    let mut reconciler = Options::between(&redis, &postgres).pause_at("after-take-epoch").start();
    // Held in the middle of its work, it cannot finish.
    reconciler.await_pause();
    reconciler.signal("TERM");
    assert!(
        coupon_tests::deadline::within(std::time::Duration::from_millis(300), || (!reconciler.is_alive())
            .then_some(()))
        .is_none(),
        "it did not wait for its work: {}",
        reconciler.log()
    );
    assert_eq!(reconciler.end("TERM").code(), Some(143));
}

#[test]
fn a_task_that_panics_ends_the_process_with_a_code_of_its_own() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    // The point at which it is to be held is none; the other is in a worker.
    let options = Options::between(&redis, &postgres).env("COUPON_PANIC_AT", "before-commit").pause_at("nowhere");
    let mut reconciler = options.start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..1);
    assert_eq!(reconciler.wait().code(), Some(4), "{}", reconciler.log());
    assert!(reconciler.log().contains("reconciler/src/model/pause.rs:"), "it says where: {}", reconciler.log());
    // Whoever is started anew finds all as it was.
    let _successor = Reconciler::start(&redis, &postgres);
    await_level(&redis, &postgres, "a", 1);
}

#[test]
fn health_and_metrics_have_their_published_names() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..20);
    await_level(&redis, &postgres, "a", 20);
    assert_eq!(http::get(reconciler.listen_port, "/livez").expect("livez").0, 200);
    let (status, text) = http::get(reconciler.listen_port, "/readyz").expect("readyz");
    assert_eq!((status, text.contains("redis: ok") && text.contains("postgresql: ok")), (200, true), "{text}");
    for (name, value) in [
        ("coupon_up", 2.0),
        ("coupon_lag_entries", 0.0),
        ("coupon_oldest_unpersisted_age_seconds", 0.0),
        ("coupon_rows_total", 20.0),
        ("coupon_dead_letters_total", 0.0),
        ("coupon_fenced", 0.0),
    ] {
        eventually_true(&format!("{name} is {value}"), || reconciler.metric(name) == Some(value));
    }
    for name in ["coupon_batches_total", "coupon_retries_total", "coupon_issued_total", "coupon_known"] {
        assert!(reconciler.metric(name).is_some(), "{name} is not served");
    }
}

#[test]
fn lag_is_shown_while_postgresql_is_away() {
    let (redis, mut postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    postgres.stop();
    request(&mut client, "a", "u", 0..20);
    eventually_true("the metrics say that PostgreSQL is away", || reconciler.metric("coupon_up") == Some(1.0));
    eventually_true("the lag is 20", || reconciler.metric("coupon_lag_entries") == Some(20.0));
    eventually_true("its age is shown", || reconciler.metric("coupon_oldest_unpersisted_age_seconds") > Some(0.0));
    postgres.start_again();
    await_level(&redis, &postgres, "a", 20);
    eventually_true("the lag is gone", || reconciler.metric("coupon_lag_entries") == Some(0.0));
}
