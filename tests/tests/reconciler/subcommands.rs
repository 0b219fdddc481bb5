//! `migrate`, `check`, `status`, and the exit codes.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::artifact;
use coupon_tests::ledger::await_coupon;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server::{self, Redis};
use std::process::{Command, Output};

/// Exit code, and what was written.
fn shown(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn migrate_makes_the_schema_and_can_be_repeated() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for _ in 0..2 {
        let (code, text) = shown(&command(&redis, &postgres, &["migrate"]));
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!(
        postgres
            .value("select count(*) from pg_tables where tablename in ('coupon', 'user_coupon', 'coupon_dead_letter')"),
        "3"
    );
}

/// An application may use sqlx in the same schema, and have its own role; nothing is for everybody.
#[test]
fn the_schema_leaves_room_for_the_application_and_gives_it_what_it_needs() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.run(
        "create table _sqlx_migrations (version bigint primary key, description text, checksum bytea);
         insert into _sqlx_migrations values (1, 'the shop', 'other');
         create role coupon_application nologin; create role shop in role coupon_application; create role other;
         alter role postgres set statement_timeout = '5ms'",
    );
    let (code, text) = shown(&command(&redis, &postgres, &["migrate"]));
    assert_eq!(code, Some(0), "without a statement timeout: {text}");
    postgres.run("set statement_timeout = 0; alter role postgres reset statement_timeout");
    let _reconciler = Reconciler::start(&redis, &postgres);
    let as_role = |role: &str, sql: &str| postgres.try_run(&format!("set role {role}; {sql}"));
    const OFFER: &str =
        "insert into coupon (id, name, quantity, status, mode) values ('a', 'A', 3, 'AVAILABLE', 'INSTANT')";
    assert!(as_role("other", OFFER).is_err() && as_role("other", "select from user_coupon").is_err());
    assert!(as_role("shop", OFFER).is_ok());
    await_open(&mut redis.client(), "a");
    request(&mut redis.client(), "a", "u", 0..2);
    await_coupon(&postgres, "a", "seq", "2");
    assert_eq!(as_role("shop", "select granted from coupon_position where coupon_id = 'a'").as_deref(), Ok("2\n"));
    for denied in [
        "update coupon_position set seq = 0",
        "insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain) values ('a', 'x', 9, now(), now(), 1, 1)",
        "delete from user_coupon",
        "delete from coupon where id = 'a'",
    ] {
        assert!(as_role("shop", denied).is_err(), "{denied}");
    }
    assert!(as_role("shop", "update coupon set quantity = 4 where id = 'a'").is_ok());
}

#[test]
fn check_says_what_is_wrong_and_fails() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let (code, text) = shown(&command(&redis, &postgres, &["check"]));
    assert_eq!(code, Some(1), "without a schema: {text}");
    assert!(text.contains("migrate"), "it says what to do: {text}");
    shown(&command(&redis, &postgres, &["migrate"]));
    let (code, text) = shown(&command(&redis, &postgres, &["check"]));
    assert_eq!(code, Some(0), "{text}");
    // Without the module.
    let bare = redis_server::Options::shipped().without_module().start();
    let (code, text) = shown(&command(&bare, &postgres, &["check"]));
    assert_eq!(code, Some(1), "without the module: {text}");
    assert!(text.contains("libcoupon.so") || text.contains("loadmodule"), "it says what to do: {text}");
    // An evicting policy.
    redis.client().run("CONFIG SET maxmemory-policy allkeys-lru");
    let (code, text) = shown(&command(&redis, &postgres, &["check"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("maxmemory-policy"), "{text}");
}

#[test]
fn a_server_that_cannot_be_reached_is_a_failure_with_a_name() {
    let (mut redis, mut postgres) = servers();
    redis.stop();
    let (code, text) = shown(&command(&redis, &postgres, &["check"]));
    assert!(matches!(code, Some(1 | 3)), "{code:?} {text}");
    assert!(text.to_lowercase().contains("redis"), "{text}");
    redis.start_again();
    postgres.stop();
    let (code, text) = shown(&command(&redis, &postgres, &["check"]));
    assert!(matches!(code, Some(1 | 3)), "{code:?} {text}");
    assert!(text.to_lowercase().contains("postgres"), "{text}");
    let (code, text) = shown(&command(&redis, &postgres, &["migrate"]));
    assert_eq!(code, Some(3), "{text}");
    let (code, text) = shown(&command(&redis, &postgres, &["status", "--listen", "127.0.0.1:1"]));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("no daemon answers on 127.0.0.1:1") && text.contains("coupon-reconciler run"), "{text}");
    // Another program.
    let listen = format!("127.0.0.1:{}", redis.port);
    let (code, text) = shown(&command(&redis, &postgres, &["status", "--listen", &listen]));
    assert_eq!(code, Some(3), "{text}");
}

#[test]
fn status_shows_each_coupon_of_both_sides() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    insert(&postgres, "b", 5, &[]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    await_open(&mut client, "b");
    request(&mut client, "a", "u", 0..7);
    await_level(&redis, &postgres, "a", 7);
    let (code, text) = shown(&reconciler.status(&[]));
    assert_eq!(code, Some(0), "{text}");
    let line =
        text.lines().find(|line| line.split_whitespace().next() == Some("a")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("AVAILABLE") && line.contains("20") && line.contains('7'), "{text}");
    let output = reconciler.status(&["--json"]);
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(json.to_string().contains(r#""id":"a""#), "{json}");
}

#[test]
fn wrong_usage_is_code_2_and_names_what_is_wrong() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for (args, named) in [
        (&["run", "--batch-max", "0"][..], "--batch-max"),
        (&["run", "--batch-max", "50001"], "--batch-max"),
        (&["run", "--issue-interval", "0"], "--issue-interval"),
        (&["run", "--issue-interval", "soon"], "--issue-interval"),
        (&["run", "--key", "coupon"], "--key"),
        (&["run", "--no-such-flag"], "--no-such-flag"),
        (&["run", "--listen", "nowhere"], "--listen"),
        (&["destroy"], "destroy"),
    ] {
        let (code, text) = shown(&command(&redis, &postgres, args));
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(text.contains(named), "{args:?}: {text}");
    }
    let without =
        Command::new(artifact::reconciler()).arg("migrate").env_remove("DATABASE_URL").output().expect("it starts");
    let (code, text) = shown(&without);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("DATABASE_URL"), "{text}");
}

#[test]
fn help_and_version_are_there() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let (code, text) = shown(&command(&redis, &postgres, &["--help"]));
    assert_eq!(code, Some(0));
    for word in ["run", "migrate", "check", "status"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    let (code, text) = shown(&command(&redis, &postgres, &["--version"]));
    assert_eq!((code, text.contains(env!("CARGO_PKG_VERSION"))), (Some(0), true), "{text}");
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let (redis, postgres) = servers();
    let first = Options::between(&redis, &postgres).start().await_ready();
    let listen = format!("127.0.0.1:{}", first.listen_port);
    let (code, text) = shown(&command(&redis, &postgres, &["run", "--listen", &listen]));
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains(&listen), "it names the address: {text}");
}
