//! Relay: every grant becomes a row, exactly once, in order.

use crate::sale::{assert_persisted, await_level, await_open, insert, key, request, servers};
use coupon_tests::ledger::{self, await_coupon};
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::resp::Value;

#[test]
fn an_instant_grant_becomes_a_row_and_the_user_is_told_persisted() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 3, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..2);
    await_level(&redis, &postgres, "a", 2);
    assert_persisted(&redis, "a", "u", 0..2);
    assert_eq!(ledger::coupon(&postgres, "a", "status, granted"), "AVAILABLE|2");
    request(&mut client, "a", "u", 2..3);
    await_level(&redis, &postgres, "a", 3);
    await_coupon(&postgres, "a", "status, granted", "ISSUED|3");
}

#[test]
fn queued_users_are_issued_by_the_reconciler() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 5, &[("waitlist", "5")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 5);
    await_coupon(&postgres, "a", "status", "ISSUED");
    assert_persisted(&redis, "a", "u", 0..5);
    assert_eq!(client.run(&format!("COUPON.STATUS {} u5 WITHRANK", key("a"))).to_string(), "[WAITING :6 :0]");
    // A raised quantity serves the waitlist.
    postgres.run("update coupon set quantity = 8 where id = 'a'");
    await_level(&redis, &postgres, "a", 8);
    await_coupon(&postgres, "a", "status, quantity", "ISSUED|8");
}

#[test]
fn a_backlog_larger_than_a_batch_goes_in_batches() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 2_000, &[("mode", "'INSTANT'")]);
    let mut first = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    first.kill();
    request(&mut client, "a", "u", 0..1_050);
    let second = Options::between(&redis, &postgres).args(&["--batch-max", "100"]).start().await_ready();
    await_level(&redis, &postgres, "a", 1_050);
    assert_eq!(second.metric("coupon_rows_total"), Some(1_050.0));
    let batches = second.metric("coupon_batches_total").expect("the number of batches");
    assert!(batches >= 11.0, "{batches} batches of at most 100 rows cannot hold 1050");
    assert_eq!(second.metric("coupon_lag_entries"), Some(0.0));
}

#[test]
fn many_coupons_are_relayed_side_by_side() {
    let (redis, postgres) = servers();
    postgres.run(
        "insert into coupon(id, name, quantity, status, mode)
         select 'c' || n, 'Test', 50, 'AVAILABLE', (case when n % 2 = 0 then 'INSTANT' else 'QUEUE' end)::coupon_mode
         from generate_series(1, 40) n",
    );
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    for n in 1..=40 {
        await_open(&mut client, &format!("c{n}"));
        request(&mut client, &format!("c{n}"), "u", 0..50);
    }
    for n in 1..=40 {
        await_level(&redis, &postgres, &format!("c{n}"), 50);
    }
    assert_eq!(postgres.value("select count(*), count(*) filter (where status = 'ISSUED') from coupon"), "40|40");
}

#[test]
fn every_user_id_that_redis_takes_fits_the_ledger() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 100, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    let users = [
        " ",
        "쿠폰",
        "%n%s",
        "a\r\nb",
        "\t",
        "\\N",
        "\\x00",
        "\"{},",
        "'; drop table coupon; --",
        "NULL",
        "\u{10ffff}",
    ];
    let long = ["x".repeat(128), "é".repeat(64)];
    for user in users.into_iter().chain(long.iter().map(String::as_str)) {
        assert_eq!(client.call(&["COUPON.REQUEST", &key("a"), user]), Value::Bulk(b"GRANTED".into()), "{user:?}");
    }
    await_level(&redis, &postgres, "a", users.len() as u64 + 2);
    assert_eq!(postgres.value("select count(*) from coupon_dead_letter"), "0");
}

#[test]
fn the_stream_is_trimmed_to_what_is_not_a_row() {
    let (redis, postgres) = servers();
    redis.client().run("CONFIG SET coupon.stream-keep 0");
    insert(&postgres, "a", 500, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..500);
    await_coupon(&postgres, "a", "seq", "500");
    coupon_tests::deadline::eventually_true("the stream holds the newest entry alone", || {
        client.run(&format!("XLEN {}:grants", key("a"))).int() == 1
    });
    ledger::assert_whole(&postgres, "a");
    assert_persisted(&redis, "a", "u", 0..500);
}

#[test]
fn two_reconcilers_write_no_row_twice() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 5_000, &[]);
    let _first = Options::between(&redis, &postgres).args(&["--batch-max", "7"]).start().await_ready();
    let _second = Options::between(&redis, &postgres).args(&["--batch-max", "11"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    for hundred in 0..10 {
        request(&mut client, "a", "u", hundred * 100..(hundred + 1) * 100);
    }
    await_level(&redis, &postgres, "a", 1_000);
}
