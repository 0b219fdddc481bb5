//! What does not fit is refused at the start, by name, and in the same words by all who meet it.

use crate::sale::{assert_persisted, await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::http;
use coupon_tests::ledger::await_coupon;
use coupon_tests::pgbouncer::PgBouncer;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command_by, outcome};
use coupon_tests::redis_server::Redis;

/// `check` fails, and says so in one sentence about PostgreSQL.
fn refusal(redis: &Redis, url: &str) -> String {
    let (is_fine, text) = outcome(&command_by(&redis.url(), url, &["check"]));
    let refused: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("FAIL  postgresql: ")).collect();
    assert!(!is_fine && refused.len() == 1, "{text}");
    refused[0].to_owned()
}

/// The daemon is not ready for the same reason, and waits until it is gone.
fn assert_run_says(redis: &Redis, postgres: &Postgres, url: &str, sentence: &str) -> Reconciler {
    let mut reconciler = Options::between(redis, postgres).database_url(url.to_owned()).start();
    let mut shown = String::new();
    eventually_true(&format!("it is not ready, as {sentence}"), || {
        shown = http::get(reconciler.listen_port, "/readyz").map(|(_, text)| text).unwrap_or_default();
        shown.contains(sentence)
    });
    assert!(!reconciler.is_ready() && reconciler.is_alive(), "{shown}");
    reconciler.await_log("waiting for PostgreSQL");
    reconciler
}

fn assert_migrate_says(redis: &Redis, url: &str, sentence: &str) {
    let migrated = command_by(&redis.url(), url, &["migrate"]);
    let (_, text) = outcome(&migrated);
    assert_eq!(migrated.status.code(), Some(1), "{text}");
    assert!(text.contains(sentence), "{text}");
}

#[test]
fn a_database_that_is_not_utf8_is_refused() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for encoding in ["LATIN1", "EUC_KR"] {
        postgres.run(&format!("create database other encoding '{encoding}' locale 'C' template template0"));
        let url = postgres.url().replace("/postgres", "/other").replace("//other", "//postgres");
        let sentence = refusal(&redis, &url);
        assert!(sentence.contains(encoding) && sentence.contains("UTF8"), "{sentence}");
        assert_migrate_says(&redis, &url, &sentence);
        drop(assert_run_says(&redis, &postgres, &url, &sentence));
        postgres.run("drop database other with (force)");
    }
}

#[test]
fn a_pooler_in_transaction_mode_is_refused() {
    let (redis, postgres) = servers();
    let pooler = PgBouncer::start(&postgres, "transaction");
    let url = pooler.url(&postgres);
    let sentence = refusal(&redis, &url);
    assert!(sentence.contains("session mode"), "{sentence}");
    assert_migrate_says(&redis, &url, &sentence);
    drop(assert_run_says(&redis, &postgres, &url, &sentence));
}

#[test]
fn a_pooler_in_session_mode_works_as_it_comes() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let pooler = PgBouncer::start(&postgres, "session");
    let url = pooler.url(&postgres);
    let (is_fine, text) = outcome(&command_by(&redis.url(), &url, &["migrate"]));
    assert!(is_fine, "{text}");
    let (is_fine, text) = outcome(&command_by(&redis.url(), &url, &["check"]));
    assert!(is_fine, "{text}");
    // The slow pass comes never: it must be the notification.
    let mut reconciler = Options::between(&redis, &postgres)
        .database_url(url.clone())
        .args(&["--full-pass-interval", "60m"])
        .start()
        .await_ready();
    let mut client = redis.client();
    insert(&postgres, "queue", 500, &[]);
    insert(&postgres, "instant", 500, &[("mode", "'INSTANT'")]);
    for id in ["queue", "instant"] {
        await_open(&mut client, id);
        request(&mut client, id, "u", 0..500);
    }
    for id in ["queue", "instant"] {
        await_coupon(&postgres, id, "seq, status", "500|ISSUED");
        eventually_true("all are persisted", || {
            client.run(&format!("COUPON.INFO {}", key(id))).field("persisted").int() == 500
        });
        assert_persisted(&redis, id, "u", 0..500);
    }
    // The rules of a connection of ours are kept through it.
    let limits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    assert_eq!(postgres.value(limits), "0");
    for args in [&["verify"][..], &["audit"], &["restore", "queue"]] {
        let (is_fine, text) = outcome(&command_by(&redis.url(), &url, args));
        assert!(is_fine, "{args:?}: {text}");
    }
    assert!(reconciler.end("TERM").success());
}

/// As the owner of the schema, for a role that has no more than what `check` asks for.
#[test]
fn what_a_role_lacks_is_named_and_what_is_named_is_enough() {
    let (redis, postgres) = servers();
    postgres.run("create role least login; grant select on coupon_migration to least");
    let url = postgres.url().replace("//postgres:", "//least:");
    let sentence = refusal(&redis, &url);
    let grants: Vec<String> = sentence
        .trim_start_matches("privileges are missing: ")
        .split("; ")
        .map(|grant| grant.replace("this role", "least"))
        .collect();
    for needed in ["delete on coupon_instance", "update on coupon_position", "delete on coupon_dead_letter"] {
        assert!(sentence.contains(needed), "{needed}: {sentence}");
    }
    let reconciler = assert_run_says(&redis, &postgres, &url, &sentence);
    postgres.run(&grants.join("; "));
    let reconciler = reconciler.await_ready();
    // All that is ever done with a table.
    postgres.run(
        "insert into coupon_instance (name, until) values ('gone', now() - interval '1 hour');
         alter table user_coupon add constraint no_thirteen check (user_id not like '%13')",
    );
    let mut client = redis.client();
    insert(&postgres, "a", 40, &[("mode", "'INSTANT'")]);
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..20);
    await_level(&redis, &postgres, "a", 20);
    assert_eq!(client.run(&format!("COUPON.OPEN {} QUANTITY 5", key("hand"))).to_string(), "+OK");
    await_coupon(&postgres, "hand", "status", "AVAILABLE");
    eventually_true("an instance that is gone is deleted", || {
        postgres.value("select count(*) from coupon_instance where name = 'gone'") == "0"
    });
    let as_least = |args: &[&str]| outcome(&command_by(&redis.url(), &url, args));
    request(&mut client, "a", "v", 0..20);
    await_level(&redis, &postgres, "a", 40);
    let (is_fine, text) = as_least(&["dead-letters", "discard", "a", "14"]);
    assert!(is_fine, "{text}");
    postgres.run("alter table user_coupon drop constraint no_thirteen");
    for args in [&["dead-letters", "retry", "a", "--all"][..], &["verify"], &["audit"], &["restore", "a"], &["check"]] {
        let (is_fine, text) = as_least(args);
        assert!(is_fine, "{args:?}: {text}");
    }
    assert!(!reconciler.log().contains("permission denied"), "{}", reconciler.log());
    for grant in &grants {
        postgres.run(&grant.replace("grant ", "revoke ").replace(" to ", " from "));
        let missing = refusal(&redis, &url);
        assert_eq!(missing, format!("privileges are missing: {}", grant.replace("least", "this role")));
        postgres.run(grant);
    }
}

#[test]
fn rows_that_are_hidden_are_refused_and_a_policy_that_shows_all_is_not() {
    let (redis, postgres) = servers();
    postgres.run(
        "create role least login; grant all on all tables in schema public to least;
         alter table user_coupon enable row level security;
         create policy own on user_coupon using (user_id = current_user)",
    );
    let url = postgres.url().replace("//postgres:", "//least:");
    let sentence = refusal(&redis, &url);
    assert!(sentence.contains("row-level security") && sentence.contains("user_coupon"), "{sentence}");
    let reconciler = assert_run_says(&redis, &postgres, &url, &sentence);
    postgres.run("create policy reconciler on user_coupon to least using (true) with check (user_id <> 'nobody')");
    let _reconciler = reconciler.await_ready();
    let (is_fine, text) = outcome(&command_by(&redis.url(), &url, &["check"]));
    assert!(is_fine, "{text}");
}

#[test]
fn several_hosts_are_refused() {
    let (redis, postgres) = servers();
    let several = postgres.url().replace("@127.0.0.1", "@127.0.0.1:5432,127.0.0.1");
    let listed = format!("{}?host=one,two&target_session_attrs=read-write", postgres.url());
    for (url, command) in [(&several, "check"), (&listed, "check"), (&several, "run"), (&listed, "migrate")] {
        let output = command_by(&redis.url(), url, &[command]);
        let (_, text) = outcome(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("several hosts"), "{text}");
    }
}
