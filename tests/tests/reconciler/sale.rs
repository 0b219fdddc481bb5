//! A Redis with the module, a PostgreSQL with the schema, and coupons between them.

use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger::{Row, await_coupon};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::command;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};
use coupon_tests::{coupon::Stored, ledger};

/// The key of a coupon.
pub fn key(id: &str) -> String {
    format!("coupon:{{{id}}}")
}

/// Both servers, with the schema. Nothing that is acknowledged is lost when one is killed, and the stream keeps every
/// entry, so that a test can compare it with the rows.
pub fn servers() -> (Redis, Postgres) {
    let redis = Options::shipped()
        .line("appendonly yes")
        .line("appendfsync always")
        .module_args("stream-keep 1000000000")
        .start();
    let postgres = Postgres::start();
    let migrated = command(&redis, &postgres, &["migrate"]);
    assert!(migrated.status.success(), "migrate: {}", String::from_utf8_lossy(&migrated.stderr));
    (redis, postgres)
}

/// Puts a coupon on offer as an application does; `more` are further columns with their values.
pub fn insert(postgres: &Postgres, id: &str, quantity: u64, more: &[(&str, &str)]) {
    let (columns, values): (Vec<&str>, Vec<&str>) = more.iter().copied().unzip();
    let columns = [&["id", "name", "quantity", "status"], &*columns].concat().join(", ");
    let (id, quantity) = (format!("'{id}'"), quantity.to_string());
    let values = [&[&*id, "'Test'", &*quantity, "'AVAILABLE'"], &*values].concat().join(", ");
    postgres.run(&format!("insert into coupon({columns}) values ({values})"));
}

/// Waits until a coupon can be requested.
pub fn await_open(client: &mut Client, id: &str) {
    eventually_true(&format!("coupon {id} is open"), || {
        let info = client.try_call(&["COUPON.INFO", &key(id)]);
        info.is_ok_and(|info| !info.is_error() && info.field("fenced").int() == 0 && info.field("epoch").int() > 0)
    });
}

/// Requests for users `<prefix><n>`; all are accepted.
pub fn request(client: &mut Client, id: &str, prefix: &str, users: std::ops::Range<u64>) {
    let calls: Vec<String> = users.map(|user| format!("COUPON.REQUEST {} {prefix}{user}", key(id))).collect();
    for (call, reply) in calls.iter().zip(client.pipeline(&calls)) {
        assert!(["QUEUED", "GRANTED"].contains(&&*reply.to_string()), "{call}: {reply}");
    }
}

/// Waits until so many grants are in the ledger and Redis knows it, then compares both sides grant by grant.
pub fn await_level(redis: &Redis, postgres: &Postgres, id: &str, grants: u64) {
    await_coupon(postgres, id, "seq", &grants.to_string());
    let mut client = redis.client();
    eventually_true(&format!("Redis knows that {grants} grants of {id} are persisted"), || {
        client.run(&format!("COUPON.INFO {}", key(id))).field("persisted").int() == grants as i64
    });
    ledger::assert_whole(postgres, id);
    let stored = Stored::read(&mut client, &key(id));
    let held: Vec<Row> = stored.grants.iter().map(Row::from).collect();
    let mut relayed = ledger::rows(postgres, id);
    relayed.extend(ledger::dead_letters(postgres, id));
    relayed.sort_by_key(|row| row.seq);
    assert_eq!(relayed, held, "the ledger is not what the stream holds");
}

/// Every user `<prefix><n>` is PERSISTED.
pub fn assert_persisted(redis: &Redis, id: &str, prefix: &str, users: std::ops::Range<u64>) {
    let calls: Vec<(String, &str)> =
        users.map(|user| (format!("COUPON.STATUS {} {prefix}{user}", key(id)), "PERSISTED")).collect();
    expect(&mut redis.client(), &calls);
}
