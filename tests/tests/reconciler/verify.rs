//! Proof of order: `verify`, and the query of docs/guarantees.md, find the first row that breaks it; and none in a good
//! ledger.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::ledger;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Reconciler, command};
use coupon_tests::redis_server::Redis;
use serde_json::Value;

/// What is done to a good ledger, and the first number at which it shows, by the query and by the command.
const BROKEN: &[(&str, &str, &str)] = &[
    ("update user_coupon set user_id = 'mallory' where seq = 9", "9", "seq 9 breaks the chain"),
    (
        "update user_coupon set requested_at = requested_at + interval '1 microsecond' where seq = 1",
        "1",
        "seq 1 breaks the chain",
    ),
    ("update user_coupon set chain = chain + 1 where seq = 20", "20", "seq 20 breaks the chain"),
    // An altered link is wrong itself, and the one after it too.
    ("update user_coupon set chain = chain + 1 where seq = 7", "7", "seq 7 breaks the chain"),
    ("delete from user_coupon where seq = 1", "2", "seq 1 is missing"),
    ("delete from user_coupon where seq = 12", "13", "seq 12 is missing"),
    ("delete from user_coupon where seq = 20", "20", "its grants end at seq 19"),
    ("delete from user_coupon; delete from coupon_dead_letter", "20", "its grants end at seq 0"),
    ("update user_coupon set seq = 21 where seq = 20", "20", "seq 20 is missing"),
    (
        "update user_coupon set seq = case seq when 8 then 109 else 108 end where seq in (8, 9);
         update user_coupon set seq = seq - 100 where seq > 100",
        "8",
        "seq 8 breaks the chain",
    ),
    // Of the dead letters, through which the chain runs as well.
    ("update coupon_dead_letter set user_id = 'mallory' where seq = 4", "4", "seq 4 breaks the chain"),
    ("delete from coupon_dead_letter where seq = 4", "5", "seq 4 is missing"),
    (
        "insert into coupon_dead_letter (coupon_id, seq, user_id, requested_at, granted_at, epoch, chain, sqlstate, reason)
         select coupon_id, seq, user_id, requested_at, granted_at, epoch, chain, '', '' from user_coupon where seq = 6",
        "6",
        "seq 6 is both",
    ),
    ("update coupon_position set chain = chain + 1", "20", "the coupon stands at seq 20"),
    // The chain holds, and a number is nobody's.
    ("update user_coupon set seq = 21 where seq = 20; update coupon_position set seq = 21", "21", "seq 20 is missing"),
    ("update coupon_position set seq = 19", "19", "the coupon stands at seq 19"),
];

/// Twenty grants, of which two are dead letters; no reconciler runs.
fn sold() -> (Redis, Postgres) {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint no_three check (user_id not like '%3')");
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "쿠폰", 0..20);
    await_level(&redis, &postgres, "a", 20);
    reconciler.kill();
    (redis, postgres)
}

/// What `verify` says of the coupon, with its exit code.
fn verify(redis: &Redis, postgres: &Postgres) -> (Option<i32>, Value) {
    let output = command(redis, postgres, &["verify", "a", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    (output.status.code(), findings[0].clone())
}

#[test]
fn a_good_ledger_is_proved_by_both() {
    let (redis, postgres) = sold();
    assert_eq!(ledger::first_broken_in_sql(&postgres, "a"), "");
    let (code, said) = verify(&redis, &postgres);
    assert_eq!(
        (code, &said["broken"], &said["rows"], &said["dead_letters"]),
        (Some(0), &Value::Null, &18.into(), &2.into())
    );
    // Nothing was granted, so nothing is to be proved.
    insert(&postgres, "fresh", 5, &[]);
    assert_eq!(ledger::first_broken_in_sql(&postgres, "fresh"), "");
    assert!(command(&redis, &postgres, &["verify"]).status.success());
}

#[test]
fn the_first_broken_row_is_named_by_both() {
    let (redis, postgres) = sold();
    postgres.run(
        "alter table coupon_position drop constraint coupon_position_granted_within_seq,
             drop constraint coupon_position_held_within_quantity",
    );
    let tables = ["coupon", "coupon_position", "user_coupon", "coupon_dead_letter"];
    for table in tables {
        postgres.run(&format!("create table good_{table} as table {table}"));
    }
    for (sql, seq, word) in BROKEN {
        postgres.run(sql);
        assert_eq!(ledger::first_broken_in_sql(&postgres, "a"), *seq, "{sql}");
        let (code, said) = verify(&redis, &postgres);
        let broken = said["broken"].as_str().unwrap_or_default();
        assert!(code == Some(1) && broken.contains(word), "{sql}: {code:?} {said}");
        for table in tables.iter().rev() {
            postgres.run(&format!("delete from {table}"));
        }
        for table in tables {
            postgres.run(&format!("set session_replication_role = replica; insert into {table} table good_{table}"));
        }
        assert_eq!(ledger::first_broken_in_sql(&postgres, "a"), "", "put right again after {sql}");
    }
}
