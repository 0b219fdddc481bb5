//! A stream that is not the coupon's history is never written to the ledger.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::Reconciler;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;

/// Five grants that are rows, and three that are not; no reconciler runs.
fn three_to_relay() -> (Redis, Postgres) {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..5);
    await_level(&redis, &postgres, "a", 5);
    reconciler.kill();
    request(&mut client, "a", "u", 5..8);
    (redis, postgres)
}

fn assert_left_alone(redis: &Redis, postgres: &Postgres) {
    let reconciler = Reconciler::start(redis, postgres);
    eventually_true("it is said that an operator is needed", || reconciler.metric("coupon_fenced") == Some(1.0));
    ledger::assert_whole(postgres, "a");
    assert_eq!(ledger::rows(postgres, "a").len(), 5, "nothing of a broken stream is written");
    assert_eq!(ledger::dead_letters(postgres, "a").len(), 0);
    // It holds up nobody else.
    insert(postgres, "b", 20, &[("mode", "'INSTANT'")]);
    let mut client = redis.client();
    await_open(&mut client, "b");
    request(&mut client, "b", "u", 0..5);
    await_level(redis, postgres, "b", 5);
}

#[test]
fn a_hole() {
    let (redis, postgres) = three_to_relay();
    expect(&mut redis.client(), &[(format!("XDEL {}:grants 1-7", key("a")), ":1")]);
    assert_left_alone(&redis, &postgres);
}

#[test]
fn a_forged_user() {
    let (redis, postgres) = three_to_relay();
    let mut client = redis.client();
    let grants = format!("{}:grants", key("a"));
    // Written anew from the start: newer servers let no ID be given again that was deleted.
    let entries = client.run(&format!("XRANGE {grants} - +"));
    let mut calls = vec![(format!("DEL {grants}"), ":1")];
    for entry in entries.array() {
        let [id, words] = [&entry.array()[0], &entry.array()[1]];
        let mut words: Vec<&str> = words.array().iter().map(|word| word.text()).collect();
        if id.text() == "1-7" {
            assert_eq!(words[0], "user");
            words[1] = "mallory";
        }
        calls.push((format!("XADD {grants} {id} {}", words.join(" ")), id.text()));
    }
    expect(&mut client, &calls);
    assert_left_alone(&redis, &postgres);
}
