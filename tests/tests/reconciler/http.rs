//! What the daemon serves: health, /status, and what it refuses. The page itself is in `page`.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::artifact;
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::http::{Answer, ask, get};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use serde_json::Value;
use std::process::Command;

const PATHS: [&str; 5] = ["/", "/status", "/metrics", "/readyz", "/livez"];

fn status(reconciler: &Reconciler) -> Value {
    let (code, body) = get(reconciler.listen_port, "/status").expect("/status");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn coupon(status: &Value, id: &str) -> Value {
    let coupons = status["coupons"].as_array().expect("coupons");
    coupons.iter().find(|coupon| coupon["id"] == id).unwrap_or_else(|| panic!("{id} is not in {status}")).clone()
}

/// Waits until a coupon has these fields.
fn await_fields(reconciler: &Reconciler, id: &str, fields: &[(&str, Value)]) -> Value {
    eventually(&format!("{id} has {fields:?}"), || {
        let coupon = coupon(&status(reconciler), id);
        fields.iter().all(|(name, value)| coupon[name] == *value).then_some(coupon)
    })
}

#[test]
fn status_says_everything_of_a_coupon() {
    let (redis, postgres) = servers();
    insert(&postgres, "sold", 20, &[("mode", "'INSTANT'")]);
    insert(&postgres, "queue", 5, &[("waitlist", "10")]);
    postgres.run("insert into coupon(id, name, quantity) values ('later', 'Test', 7)");
    postgres.run("alter table user_coupon add constraint not_that_one check (user_id <> 'u3')");
    let reconciler =
        Options::between(&redis, &postgres).args(&["--instance", "one", "--audit-interval", "0"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "sold");
    await_open(&mut client, "queue");
    request(&mut client, "sold", "u", 0..12);
    request(&mut client, "queue", "u", 10..18);
    await_level(&redis, &postgres, "queue", 5);
    await_fields(
        &reconciler,
        "sold",
        &[
            ("status", "AVAILABLE".into()),
            ("quantity", 20.into()),
            ("requested", 12.into()),
            ("waiting", 0.into()),
            ("granted", 12.into()),
            ("persisted", 12.into()),
            ("remaining", 8.into()),
            ("lag", 0.into()),
            ("lag_seconds", 0.0.into()),
            ("dead_letters", 1.into()),
            ("drift", 0.into()),
            ("fence", "open".into()),
            ("epoch", 1.into()),
            ("here", true.into()),
            ("stopped", false.into()),
            ("problem", Value::Null),
        ],
    );
    await_fields(&reconciler, "queue", &[("status", "ISSUED".into()), ("waiting", 3.into()), ("remaining", 0.into())]);
    let nothing = [("fence", "absent".into()), ("requested", Value::Null), ("granted", 0.into())];
    await_fields(&reconciler, "later", &nothing);
    let status = status(&reconciler);
    assert_eq!((&status["instance"], &status["version"]), (&"one".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!((&status["shards"]["held"], &status["shards"]["of"]), (&64.into(), &64.into()));
    assert_eq!(status["coupons_total"], 3);
    assert_eq!(reconciler.metric("coupon_requested"), Some(20.0), "of both");
    assert!(status["uptime_seconds"].is_u64() && status["redis"]["up"] == true && status["postgresql"]["up"] == true);
    let order: Vec<&Value> = status["coupons"].as_array().into_iter().flatten().map(|coupon| &coupon["id"]).collect();
    assert_eq!(order, ["queue", "sold", "later"], "what is on offer comes first");
}

#[test]
fn status_shows_the_fence_and_what_has_stopped() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    insert(&postgres, "b", 20, &[("mode", "'INSTANT'")]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    await_open(&mut client, "b");
    request(&mut client, "b", "u", 0..3);
    await_level(&redis, &postgres, "b", 3);
    await_fields(&reconciler, "b", &[("fence", "open".into()), ("persisted", 3.into())]);
    // A key that is gone stops the coupon, and an operator is told why.
    client.run("DEL coupon:{b}:issued");
    postgres.run("update coupon set quantity = 21 where id = 'b'");
    let stopped = await_fields(&reconciler, "b", &[("stopped", true.into())]);
    assert!(stopped["problem"].as_str().is_some_and(|why| why.contains("restore b")), "{stopped}");
    await_fields(&reconciler, "a", &[("fence", "open".into()), ("stopped", false.into())]);
    // Without a PostgreSQL nobody opens the gate after a restart of Redis.
    let (mut redis, mut postgres) = (redis, postgres);
    postgres.stop();
    redis.kill();
    redis.start_again();
    await_fields(&reconciler, "a", &[("fence", "fenced".into())]);
    redis.stop();
    await_fields(&reconciler, "a", &[("fence", "unknown".into()), ("requested", Value::Null), ("quantity", 20.into())]);
}

#[test]
fn readiness_names_the_side_that_is_away_and_life_goes_on() {
    let (mut redis, mut postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    let readyz = || get(reconciler.listen_port, "/readyz").expect("/readyz");
    assert_eq!(readyz().0, 200);
    postgres.stop();
    let (code, text) = eventually("it is not ready", || Some(readyz()).filter(|(code, _)| *code == 503));
    assert!(
        text.contains("redis: ok\n") && text.contains("postgresql: ") && !text.contains("postgresql: ok"),
        "{text}"
    );
    assert_eq!(code, 503);
    postgres.start_again();
    redis.stop();
    eventually_true("Redis alone is missed", || {
        let (code, text) = readyz();
        code == 503 && text.contains("postgresql: ok\n") && !text.contains("redis: ok")
    });
    assert_eq!(get(reconciler.listen_port, "/livez").expect("/livez"), (200, "ok\n".to_owned()));
    redis.start_again();
    eventually_true("both are there", || readyz().0 == 200);
}

/// A coupon with ten rows, and entries of theirs that the stream keeps.
fn ten_rows() -> (Redis, Postgres, Reconciler) {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "0"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 10);
    (redis, postgres, reconciler)
}

fn await_unready(reconciler: &Reconciler, why: &str) {
    let mut said = String::new();
    eventually_true(&format!("it is not ready: {why}"), || {
        let (code, text) = get(reconciler.listen_port, "/readyz").expect("/readyz");
        said = text;
        code == 503 && said.contains("redis: ok\npostgresql: ok\n") && said.contains(why)
    });
    assert_eq!(reconciler.metric("coupon_ready"), Some(0.0));
}

#[test]
fn readiness_fails_while_grants_wait_and_no_row_moves() {
    let (redis, postgres, reconciler) = ten_rows();
    let mut lock = postgres.session();
    lock.run("begin; lock table user_coupon in exclusive mode");
    request(&mut redis.client(), "a", "u", 10..15);
    await_unready(&reconciler, "relay: grants of coupon a have not become rows");
    lock.run("commit");
    await_level(&redis, &postgres, "a", 15);
    eventually_true("it is ready again", || reconciler.is_ready() && reconciler.metric("coupon_ready") == Some(1.0));
}

#[test]
fn lag_and_age_are_told_where_nothing_can_be_written_and_entries_are_kept() {
    let (redis, postgres, reconciler) = ten_rows();
    postgres.run("alter table user_coupon rename to away");
    request(&mut redis.client(), "a", "u", 10..15);
    eventually_true("the lag is 5", || reconciler.metric("coupon_lag_entries") == Some(5.0));
    eventually_true("the age is theirs", || reconciler.metric("coupon_oldest_unpersisted_age_seconds") > Some(3.0));
    await_unready(&reconciler, "relay: grants of coupon a have not become rows");
    await_unready(&reconciler, "the schema is not the one expected");
    postgres.run("alter table away rename to user_coupon");
    await_level(&redis, &postgres, "a", 15);
    eventually_true("there is none", || reconciler.metric("coupon_oldest_unpersisted_age_seconds") == Some(0.0));
    assert_eq!(reconciler.metric("coupon_lag_entries"), Some(0.0));
}

#[test]
fn lag_and_age_are_absent_where_they_are_not_known() {
    let metrics = ["coupon_lag_entries", "coupon_oldest_unpersisted_age_seconds", "coupon_requested"];
    let (mut redis, mut postgres, reconciler) = ten_rows();
    let are_known = |reconciler: &Reconciler| metrics.map(|name| reconciler.metric(name).is_some());
    eventually_true("all are known", || are_known(&reconciler) == [true; 3]);
    redis.stop();
    eventually_true("nothing is known without Redis", || are_known(&reconciler) == [false; 3]);
    drop(reconciler);
    postgres.stop();
    redis.start_again();
    let reconciler = Options::between(&redis, &postgres).start();
    eventually_true("Redis is there", || reconciler.metric("coupon_up") == Some(1.0));
    assert_eq!(are_known(&reconciler), [false; 3], "the ledger was never read");
    postgres.start_again();
    eventually_true("all are known again", || are_known(&reconciler) == [true; 3]);
}

#[test]
fn it_is_read_only() {
    let (redis, postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    let ask = |method: &str, path: &str| -> Answer { ask(reconciler.listen_port, method, path).expect("an answer") };
    for path in PATHS {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let answer = ask(method, path);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), "GET,HEAD", "{method} {path}");
        }
        let (whole, head) = (ask("GET", path), ask("HEAD", path));
        assert_eq!((whole.status, head.status, &*head.body), (200, 200, ""), "{path}");
        assert!(!whole.body.is_empty() && whole.header("content-type") == head.header("content-type"), "{path}");
        for (name, value) in
            [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!(whole.header(name), value, "{path}");
        }
        let policy = whole.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
    }
    assert_eq!(ask("GET", "/").header("content-type"), "text/html; charset=utf-8");
    assert_eq!(ask("GET", "/status").header("content-type"), "application/json");
    for path in ["/nothing", "/../etc/passwd", "/status/a"] {
        assert_eq!(ask("GET", path).status, 404, "{path}");
    }
}

/// How often COUPON.INFO was called.
fn info_calls(redis: &Redis) -> u64 {
    let stats = redis.client().run("INFO commandstats");
    let line = stats.text().lines().find(|line| line.starts_with("cmdstat_coupon.info:")).map(str::to_owned);
    let calls = line.as_deref().and_then(|line| line.split_once("calls=")?.1.split(',').next()?.parse().ok());
    calls.unwrap_or_default()
}

#[test]
fn many_who_look_cost_as_little_as_one() {
    let (redis, postgres) = servers();
    postgres.run(
        "insert into coupon(id, name, quantity, status) select 'c-' || n, 'Test', 5, 'AVAILABLE' from generate_series(1, 500) n",
    );
    let reconciler = Options::between(&redis, &postgres)
        .args(&["--full-pass-interval", "24m", "--audit-interval", "0"])
        .start()
        .await_ready();
    let mut client = redis.client();
    for n in 1..=500 {
        await_open(&mut client, &format!("c-{n}"));
    }
    await_fields(&reconciler, "c-500", &[("fence", "open".into())]);
    let before = info_calls(&redis);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..25).for_each(|_| drop(status(&reconciler))));
        }
    });
    let calls = info_calls(&redis) - before;
    // Each look alone would call 500 times; 200 asked.
    assert!(calls < 200 * 500 / 4, "200 who asked made {calls} calls");
}

#[test]
fn health_is_the_daemons_own_word_as_an_exit_code() {
    let (mut redis, postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    let health = |listen: &str| {
        let asked =
            Command::new(artifact::reconciler()).args(["health", "--listen", listen]).output().expect("it starts");
        let said = [asked.stdout, asked.stderr].concat();
        (asked.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let port = reconciler.listen_port;
    let readyz = eventually("it has all the shards", || {
        let (_, readyz) = get(port, "/readyz").ok()?;
        readyz.contains("64 of 64").then_some(readyz)
    });
    assert_eq!(health(&format!("127.0.0.1:{port}")), (Some(0), readyz.clone()));
    assert_eq!(health(&format!("0.0.0.0:{port}")), (Some(0), readyz), "who listens everywhere is there too");
    redis.kill();
    eventually("it is not healthy any more", || {
        let (code, said) = health(&format!("127.0.0.1:{port}"));
        (code == Some(1) && said.contains("postgresql: ok")).then_some(())
    });
    // Another program, and nobody.
    let (code, said) = health(&format!("127.0.0.1:{}", postgres.port));
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = health("127.0.0.1:1");
    assert!(code == Some(1) && said.contains("no daemon answers on 127.0.0.1:1"), "{said}");
}
