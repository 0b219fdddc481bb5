//! A row of table coupon that the reconciler cannot read, as a shop has words or limits of its own: that coupon stops, and no other.

use crate::sale::{assert_persisted, await_level, await_open, insert, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Reconciler, command, outcome};
use serde_json::Value;

/// What a shop may have made of the schema.
fn change_the_schema(postgres: &Postgres) {
    postgres.run("alter type coupon_status add value 'PAUSED'");
    postgres.run("alter type coupon_mode add value 'LOTTERY'");
    postgres.run(
        "alter table coupon
             alter column quantity drop not null,
             drop constraint coupon_quantity_is_1_to_1e9,
             drop constraint coupon_waitlist_is_0_to_1e9,
             drop constraint coupon_opens_at_is_in_range,
             drop constraint coupon_expires_at_is_in_range",
    );
}

/// Why a coupon has stopped, as the page says.
fn problem(reconciler: &Reconciler, id: &str) -> Option<String> {
    let status: Value = serde_json::from_slice(&reconciler.status(&["--json"]).stdout).ok()?;
    let coupon = status["coupons"].as_array()?.iter().find(|coupon| coupon["id"] == id)?.clone();
    Some(coupon["problem"].as_str()?.to_owned())
}

fn await_problem(reconciler: &Reconciler, id: &str, words: &[&str]) {
    let mut said = None;
    eventually_true(&format!("the problem of {id} names {words:?}"), || {
        said = problem(reconciler, id);
        said.as_ref().is_some_and(|said| words.iter().all(|word| said.contains(word)))
    });
}

#[test]
fn a_row_that_cannot_be_read_stops_that_coupon_alone() {
    let (redis, postgres) = servers();
    change_the_schema(&postgres);
    let bad: [(&str, &str, &str, &[&str]); 8] = [
        ("lottery", "mode", "'LOTTERY'", &["mode", "LOTTERY"]),
        ("huge", "quantity", "2000000000", &["quantity", "2000000000"]),
        ("negative", "quantity", "-5", &["quantity", "-5"]),
        ("none", "quantity", "null", &["quantity", "null"]),
        ("crowd", "waitlist", "1000000001", &["waitlist", "1000000001"]),
        ("never", "opens_at", "'infinity'", &["opens_at", "Infinity"]),
        ("always", "expires_at", "'infinity'", &["expires_at", "Infinity"]),
        ("late", "expires_at", "'20000-01-01 00:00:00Z'", &["expires_at", "568971820800000"]),
    ];
    insert(&postgres, "a", 9, &[("mode", "'INSTANT'")]);
    for (id, column, value, _) in bad {
        insert(&postgres, id, 9, &[]);
        postgres.run(&format!("update coupon set {column} = {value} where id = '{id}'"));
    }
    insert(&postgres, "z", 9, &[("mode", "'INSTANT'"), ("opens_at", "'-infinity'")]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    for good in ["a", "z"] {
        await_open(&mut client, good);
        request(&mut client, good, "u", 0..3);
        await_level(&redis, &postgres, good, 3);
    }
    for (id, _, _, words) in bad {
        await_problem(&reconciler, id, words);
    }
    // While it is on offer; and back.
    postgres.run("update coupon set status = 'PAUSED' where id = 'a'");
    await_problem(&reconciler, "a", &["status", "PAUSED"]);
    request(&mut client, "z", "more", 0..3);
    await_level(&redis, &postgres, "z", 6);
    assert_persisted(&redis, "z", "more", 0..3);
    postgres.run("update coupon set status = 'AVAILABLE' where id = 'a'");
    eventually_true("a is well again", || problem(&reconciler, "a").is_none());
    request(&mut client, "a", "more", 0..3);
    await_level(&redis, &postgres, "a", 6);
}

#[test]
fn the_commands_name_the_row_and_go_on_with_the_others() {
    let (redis, postgres) = servers();
    change_the_schema(&postgres);
    for id in ["a", "b", "c"] {
        insert(&postgres, id, 9, &[("mode", "'INSTANT'")]);
    }
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    for id in ["a", "b", "c"] {
        await_open(&mut client, id);
        request(&mut client, id, "u", 0..3);
        await_level(&redis, &postgres, id, 3);
    }
    postgres.run("update coupon set status = 'PAUSED' where id = 'b'");
    for command_name in ["verify", "audit"] {
        let (is_well, said) = outcome(&command(&redis, &postgres, &[command_name]));
        assert!(!is_well, "{command_name}: {said}");
        assert!(said.contains("PAUSED"), "{command_name}: {said}");
        assert!(said.contains("3 coupon(s)"), "{command_name}: {said}");
        let (_, said) = outcome(&command(&redis, &postgres, &[command_name, "b"]));
        assert!(said.contains("status") && said.contains("PAUSED"), "{command_name} b: {said}");
        let (is_well, said) = outcome(&command(&redis, &postgres, &[command_name, "c"]));
        assert!(is_well, "{command_name} c: {said}");
    }
}
