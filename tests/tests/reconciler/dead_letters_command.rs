//! `dead-letters`: what an operator sees of refused grants, and does about them.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::ledger::{self, Row, await_coupon};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Reconciler, command};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;
use serde_json::Value;

/// Twenty grants, of which those of `u3` (seq 4) and `u13` (seq 14) are refused; no reconciler runs.
fn refused() -> (Redis, Postgres) {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint no_three check (user_id not like '%3')");
    insert(&postgres, "a", 100, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..20);
    await_level(&redis, &postgres, "a", 20);
    await_coupon(&postgres, "a", "granted", "18");
    reconciler.kill();
    (redis, postgres)
}

/// Runs `dead-letters`: the exit code, what it said, and what it complained of.
fn dead_letters(servers: &(Redis, Postgres), args: &[&str]) -> (Option<i32>, String, String) {
    let output = command(&servers.0, &servers.1, &[&["dead-letters"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// As [`dead_letters`], of a call that has to go well; its lines.
fn lines(servers: &(Redis, Postgres), args: &[&str]) -> Vec<String> {
    let (code, said, complained) = dead_letters(servers, args);
    assert_eq!(code, Some(0), "{args:?}: {said}{complained}");
    said.lines().map(str::to_owned).collect()
}

fn json(servers: &(Redis, Postgres), args: &[&str]) -> Vec<Value> {
    let (code, said, complained) = dead_letters(servers, args);
    assert_eq!(code, Some(0), "{args:?}: {said}{complained}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn numbers(letters: &[Row]) -> Vec<u64> {
    letters.iter().map(|letter| letter.seq).collect()
}

#[test]
fn list_and_show_tell_which_why_and_whose() {
    let servers = refused();
    let (redis, postgres) = &servers;
    let all = lines(&servers, &["list"]);
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[0].starts_with("a  seq 4  23514  ") && all[0].contains("no_three"), "{all:?}");
    assert!(all[1].starts_with("a  seq 14  23514  "), "{all:?}");
    assert_eq!(all[2], "2 dead letter(s)");
    assert_eq!(lines(&servers, &["list", "a"]), all);
    assert_eq!(lines(&servers, &["list", "other"]), ["0 dead letter(s)"]);
    assert_eq!(json(&servers, &["list", "other", "--json"]), [Value::Null; 0]);
    let listed = json(&servers, &["list", "--json"]);
    let known: Vec<_> = listed.iter().map(|letter| (letter["seq"].as_u64(), letter["user_id"].as_str())).collect();
    assert_eq!(known, [(Some(4), Some("u3")), (Some(14), Some("u13"))]);
    assert!(listed.iter().all(|letter| letter["discarded_at"].is_null()), "{listed:?}");

    let shown = lines(&servers, &["show", "a", "4"]);
    let dead = &ledger::dead_letters(postgres, "a")[0];
    let stated = postgres.value("select to_jsonb(requested_at) #>> '{}' from coupon_dead_letter where seq = 4");
    for line in [
        "coupon_id     a".to_owned(),
        "seq           4".into(),
        "user_id       u3".into(),
        format!("requested_at  {stated}"),
        format!("epoch         {}", dead.epoch),
        format!("chain         {}", dead.chain),
        "sqlstate      23514".into(),
        "discarded_at  null".into(),
    ] {
        assert!(shown.contains(&line), "{line} is missing: {shown:?}");
    }
    assert_eq!(json(&servers, &["show", "a", "4", "--json"]), listed[..1]);
    // To look changes nothing.
    assert_eq!(numbers(&ledger::dead_letters(postgres, "a")), [4, 14]);
    await_level(redis, postgres, "a", 20);
}

#[test]
fn what_a_user_or_a_trigger_wrote_does_not_steer_the_terminal() {
    let servers = servers();
    let (redis, postgres) = &servers;
    postgres.run(
        "create function no() returns trigger language plpgsql as
           $$ begin raise exception E'not this one:\n%', new.user_id; end $$;
         create trigger no before insert on user_coupon for each row execute function no()",
    );
    insert(postgres, "a", 5, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(redis, postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    assert_eq!(client.call(&["COUPON.REQUEST", &key("a"), "\u{1b}[2J"]).text(), "GRANTED");
    await_coupon(postgres, "a", "seq", "1");
    assert_eq!(lines(&servers, &["list"]), [r"a  seq 1  P0001  not this one:\n\u{1b}[2J", "1 dead letter(s)"]);
    assert!(lines(&servers, &["show", "a", "1"]).contains(&r"user_id       \u{1b}[2J".to_owned()));
}

#[test]
fn what_is_no_dead_letter_and_what_is_no_call() {
    let servers = refused();
    for (args, code, named) in [
        (&["show", "a", "5"][..], 1, "no dead letter with seq 5"),
        (&["show", "other", "4"], 1, "coupon other has no dead letter"),
        (&["retry", "a", "5"], 1, "no dead letter with seq 5"),
        (&["discard", "a", "5"], 1, "no dead letter with seq 5"),
        (&[], 2, "list"),
        (&["bury"], 2, "bury"),
        (&["list", "a", "4"], 2, "'4'"),
        (&["show"], 2, "<COUPON>"),
        (&["show", "a"], 2, "<SEQ>"),
        (&["show", "a", "first"], 2, "first"),
        (&["retry"], 2, "<COUPON>"),
        (&["retry", "a"], 2, "--all"),
        (&["retry", "a", "4", "--all"], 2, "--all"),
        (&["retry", "a", "-4"], 2, "-4"),
        (&["discard"], 2, "<COUPON>"),
        (&["discard", "a"], 2, "<SEQ>"),
        (&["discard", "a", "--all"], 2, "--all"),
    ] {
        let (ended, said, complained) = dead_letters(&servers, args);
        assert_eq!(ended, Some(code), "{args:?}: {said}{complained}");
        assert!(complained.contains(named), "{args:?} names {named}: {complained}");
        assert_eq!(said, "", "{args:?}");
    }
    let (redis, mut postgres) = servers;
    assert_eq!(numbers(&ledger::dead_letters(&postgres, "a")), [4, 14]);
    postgres.stop();
    for args in [&["list"][..], &["show", "a", "4"], &["retry", "a", "4"], &["discard", "a", "4"]] {
        let output = command(&redis, &postgres, &[&["dead-letters"], args].concat());
        assert_eq!(output.status.code(), Some(3), "{args:?} without PostgreSQL");
    }
}

#[test]
fn a_retry_makes_the_row_that_was_refused() {
    let servers = refused();
    let (redis, postgres) = &servers;
    let dead = ledger::dead_letters(postgres, "a");
    let before = ledger::rows(postgres, "a");

    // Nothing was mended: refused again, and all is as it was.
    for args in [&["retry", "a", "4"][..], &["retry", "a", "--all"]] {
        let (code, said, _) = dead_letters(&servers, args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("seq 4: refused again: ") && said.contains("no_three"), "{said}");
        assert_eq!((ledger::dead_letters(postgres, "a"), ledger::rows(postgres, "a")), (dead.clone(), before.clone()));
    }
    ledger::assert_whole(postgres, "a");

    // Mended for one of them.
    postgres.run(
        "alter table user_coupon drop constraint no_three;
         alter table user_coupon add constraint no_thirteen check (user_id <> 'u13')",
    );
    let (code, said, _) = dead_letters(&servers, &["retry", "a", "--all"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("seq 4: a row now\nseq 14: refused again: "), "{said}");
    assert!(said.ends_with("2 tried, 1 refused\n"), "{said}");
    let rows = ledger::rows(postgres, "a");
    assert_eq!(rows.iter().find(|row| row.seq == 4), Some(&dead[0]), "with its number, its times and its chain");
    await_coupon(postgres, "a", "granted, seq", "19|20");
    ledger::assert_whole(postgres, "a");

    postgres.run("alter table user_coupon drop constraint no_thirteen");
    assert_eq!(lines(&servers, &["retry", "a", "14"]), ["seq 14: a row now", "1 tried, 0 refused"]);
    assert_eq!(dead_letters(&servers, &["retry", "a", "14"]).0, Some(1), "it is none any more");
    assert_eq!(lines(&servers, &["retry", "a", "--all"]), ["0 tried, 0 refused"]);
    await_coupon(postgres, "a", "granted, seq", "20|20");
    assert_eq!(numbers(&ledger::rows(postgres, "a")), (1..=20).collect::<Vec<_>>());
    await_level(redis, postgres, "a", 20);
}

#[test]
fn two_who_retry_at_once_make_one_row() {
    let servers = refused();
    let postgres = &servers.1;
    postgres.run("alter table user_coupon drop constraint no_three");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(matches!(dead_letters(&servers, &["retry", "a", "--all"]).0, Some(0))));
        }
    });
    await_coupon(postgres, "a", "granted, seq", "20|20");
    ledger::assert_whole(postgres, "a");
}

#[test]
fn what_is_given_up_stays_so() {
    let servers = refused();
    let (redis, postgres) = &servers;
    let dead = ledger::dead_letters(postgres, "a");
    assert_eq!(
        lines(&servers, &["discard", "a", "4"]),
        ["given up: seq 4 of coupon a; the row stays in coupon_dead_letter"]
    );
    assert_eq!(dead_letters(&servers, &["discard", "a", "4"]).0, Some(1), "it is given up already");
    assert_eq!(ledger::dead_letters(postgres, "a"), dead, "the chain runs through it");
    let listed = lines(&servers, &["list"]);
    assert_eq!((listed.len(), listed[0].starts_with("a  seq 14  ")), (2, true), "{listed:?}");
    let all = lines(&servers, &["list", "--all"]);
    assert!(all[0].starts_with("a  seq 4  ") && all[0].ends_with("  given up"), "{all:?}");
    assert!(!all[1].contains("given up"), "{all:?}");
    let given_up = postgres.value("select to_jsonb(discarded_at) #>> '{}' from coupon_dead_letter where seq = 4");
    assert!(lines(&servers, &["show", "a", "4"]).contains(&format!("discarded_at  {given_up}")));

    // Nothing refuses it any more, and still nobody brings it back: not a retry of all, not the audit, not the relay,
    // and not a Redis that gets everything anew.
    postgres.run("alter table user_coupon drop constraint no_three");
    assert_eq!(lines(&servers, &["retry", "a", "--all"]), ["seq 14: a row now", "1 tried, 0 refused"]);
    assert!(command(redis, postgres, &["audit", "--repair"]).status.success());
    let mut client = redis.client();
    expect(&mut client, &[("FLUSHALL", "+OK")]);
    let reconciler = Reconciler::start(redis, postgres);
    await_open(&mut client, "a");
    request(&mut client, "a", "more", 0..5);
    await_coupon(postgres, "a", "granted, seq", "24|25");
    expect(&mut client, &[(format!("COUPON.REQUEST {} u3 WITHRANK", key("a")), "[DUPLICATE :4]")]);
    drop(reconciler);
    assert_eq!(numbers(&ledger::dead_letters(postgres, "a")), [4]);
    ledger::assert_whole(postgres, "a");
    assert!(command(redis, postgres, &["verify", "a"]).status.success());

    // But whoever names it can still change their mind.
    assert_eq!(lines(&servers, &["retry", "a", "4"]), ["seq 4: a row now", "1 tried, 0 refused"]);
    await_coupon(postgres, "a", "granted, seq", "25|25");
    ledger::assert_whole(postgres, "a");
}
