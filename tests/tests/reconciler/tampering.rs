//! A stream that is not the coupon's history is never written to the ledger.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;
use std::time::Duration;

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

#[test]
fn a_member_of_the_line_that_is_no_user() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[]);
    let reconciler = Options::between(&redis, &postgres).issue_interval("50ms").start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    expect(&mut client, &[(format!("ZADD {}:issued 0.5 half", key("a")), ":1")]);
    request(&mut client, "a", "u", 0..3);
    reconciler.await_log("waiting users are not granted");
    // Over many beats it is said once, by name.
    std::thread::sleep(Duration::from_secs(1));
    let said = reconciler.log();
    let said: Vec<&str> = said.lines().filter(|line| line.contains("waiting users are not granted")).collect();
    assert!(said.len() == 1 && said[0].contains("half") && said[0].contains("\"a\""), "{said:?}");
    expect(&mut client, &[(format!("ZREM {}:issued half", key("a")), ":1")]);
    await_level(&redis, &postgres, "a", 3);
    reconciler.await_log("issued again");
}
