//! What was true of a connection when it was made, and is not any more: the server takes no writes now, a plan is stale, packets are
//! lost without a word, the password is another one.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::http;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::proxy::Proxy;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use std::fs;

/// Nothing is found by a pass that nobody asked for.
const UNASKED: [&str; 4] = ["--full-pass-interval", "24m", "--audit-interval", "0"];

/// A coupon on offer, and a reconciler whose ways to both servers can be made to fail.
fn behind_proxies(redis: &Redis, postgres: &Postgres) -> (Proxy, Proxy, Reconciler) {
    insert(postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
    let (to_redis, to_postgres) = (Proxy::start(redis.port), Proxy::start(postgres.port));
    let reconciler = Options::between(redis, postgres)
        .redis_url(format!("redis://127.0.0.1:{}", to_redis.port))
        .database_url(postgres.url_at(to_postgres.port))
        .args(&UNASKED)
        .start()
        .await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(redis, postgres, "a", 10);
    (to_redis, to_postgres, reconciler)
}

fn set_read_only(postgres: &Postgres, on: bool) {
    postgres.run(&format!("alter system set default_transaction_read_only = {on}"));
    postgres.run("select pg_reload_conf()");
}

#[test]
fn a_server_that_became_read_only_is_left_for_the_new_primary() {
    let (redis, old) = servers();
    let (_to_redis, to_postgres, reconciler) = behind_proxies(&redis, &old);
    let new = old.base_backup().restore();
    to_postgres.lead_new_to(new.port);
    set_read_only(&old, true);
    request(&mut redis.client(), "a", "u", 10..20);
    await_level(&redis, &new, "a", 20);
    // It listens there too.
    insert(&new, "b", 10, &[]);
    await_open(&mut redis.client(), "b");
    eventually_true("it is ready", || reconciler.is_ready());
}

#[test]
fn readiness_asks_for_a_server_that_takes_writes() {
    let (redis, postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    set_read_only(&postgres, true);
    eventually("it is not ready, and says why", || {
        let (code, text) = http::get(reconciler.listen_port, "/readyz").ok()?;
        (code == 503 && text.contains("postgresql: this server takes no writes")).then_some(())
    });
    set_read_only(&postgres, false);
    eventually_true("it is ready again", || reconciler.is_ready());
}

#[test]
fn a_column_may_change_its_type_while_it_runs() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 10);
    postgres.run("alter table coupon alter column id type varchar(200)");
    insert(&postgres, "b", 1_000, &[("mode", "'INSTANT'")]);
    await_open(&mut client, "b");
    request(&mut client, "a", "u", 10..20);
    request(&mut client, "b", "u", 0..10);
    await_level(&redis, &postgres, "a", 20);
    await_level(&redis, &postgres, "b", 10);
    for n in 0..5 {
        insert(&postgres, &format!("c{n}"), 10, &[]);
        await_open(&mut client, &format!("c{n}"));
    }
    // The connections were at fault, and no coupon has waited for an operator.
    let log = reconciler.log();
    let is_coupons = |line: &str| line.contains("cached plan") && line.contains("\"coupon\"");
    assert!(log.contains("cached plan") && !log.lines().any(is_coupons), "{log}");
}

#[test]
fn connections_that_die_silently_with_a_batch_under_way_cost_seconds() {
    let (redis, postgres) = servers();
    let (_to_redis, to_postgres, _reconciler) = behind_proxies(&redis, &postgres);
    to_postgres.silence(None);
    request(&mut redis.client(), "a", "u", 10..20);
    await_level(&redis, &postgres, "a", 20);
}

#[test]
fn a_listener_that_dies_silently_is_replaced() {
    let (redis, postgres) = servers();
    let (_to_redis, to_postgres, _reconciler) = behind_proxies(&redis, &postgres);
    // It has said that it listens, or since then that it is there.
    let listener = "select client_port from pg_stat_activity
        where application_name = 'coupon-reconciler' and (query ilike 'listen%' or query = 'select 1')
        order by backend_start desc limit 1";
    to_postgres.silence(Some(postgres.value(listener).parse().expect("one listens")));
    insert(&postgres, "b", 10, &[]);
    await_open(&mut redis.client(), "b");
}

#[test]
fn a_subscriber_that_dies_silently_is_replaced() {
    let (redis, postgres) = servers();
    let (to_redis, _to_postgres, _reconciler) = behind_proxies(&redis, &postgres);
    let mut client = redis.client();
    let subscribers = client.run("CLIENT LIST TYPE pubsub");
    let port =
        subscribers.text().split_once(" addr=127.0.0.1:").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    to_redis.silence(Some(port.expect("one has subscribed")));
    request(&mut client, "a", "u", 10..20);
    await_level(&redis, &postgres, "a", 20);
}

#[test]
fn a_password_that_is_rotated_in_its_file_needs_no_restart() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = |side: &str| directory.path().join(side);
    // A role that has to say its password, and a user.
    let hba = postgres.value("show hba_file");
    fs::write(hba, "host all rotated 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
        .expect("pg_hba.conf");
    postgres.run("create role rotated superuser login");
    postgres.run("select pg_reload_conf()");
    let mut client = redis.client();
    let mut rotate = |password: &str| {
        fs::write(file("redis"), format!("redis://rotated:{password}@127.0.0.1:{}\n", redis.port)).expect("a file");
        let url = format!("postgres://rotated:{password}@127.0.0.1:{}/postgres\n", postgres.port);
        fs::write(file("postgresql"), url).expect("a file");
        postgres.run(&format!("alter role rotated password '{password}'"));
        client.run(&format!("ACL SETUSER rotated on resetpass >{password} ~* &* +@all"));
        postgres.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'");
        client.run("CLIENT KILL USER rotated");
    };
    rotate("one");
    let reconciler = Options::between(&redis, &postgres)
        .without_urls()
        .env("REDIS_URL_FILE", &file("redis").display().to_string())
        .env("DATABASE_URL_FILE", &file("postgresql").display().to_string())
        .start()
        .await_ready();
    await_open(&mut redis.client(), "a");
    rotate("two");
    request(&mut redis.client(), "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 10);
    eventually_true("it is ready", || reconciler.is_ready());
    for password in [":one@", ":two@"] {
        assert!(!reconciler.log().contains(password), "{}", reconciler.log());
    }
}
