//! What must not be seen in a log: passwords, and who the users are.

use crate::sale::{await_open, insert, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger::await_coupon;
use coupon_tests::postgres_server::PASSWORD;
use coupon_tests::reconciler::Options;
use coupon_tests::resp::expect;

const REDIS_PASSWORD: &str = "hunter2-redis";
const USER: &str = "user-who-must-not-be-seen";

#[test]
fn neither_passwords_nor_users_are_logged() {
    let (mut redis, mut postgres) = servers();
    expect(
        &mut redis.client(),
        &[(&*format!("CONFIG SET requirepass {REDIS_PASSWORD}"), "+OK"), ("CONFIG REWRITE", "+OK")],
    );
    postgres.run(&format!("alter table user_coupon add constraint not_that_one check (user_id <> '{USER}-refused')"));
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let url = format!("redis://:{REDIS_PASSWORD}@127.0.0.1:{}", redis.port);
    let reconciler = Options::between(&redis, &postgres).redis_url(url).args(&["--log", "debug"]).start().await_ready();
    let connect = |redis: &coupon_tests::redis_server::Redis| {
        let mut client = redis.client();
        expect(&mut client, &[(format!("AUTH {REDIS_PASSWORD}"), "+OK")]);
        client
    };
    let mut client = connect(&redis);
    await_open(&mut client, "a");
    expect(
        &mut client,
        &[
            (format!("COUPON.REQUEST coupon:{{a}} {USER}-one"), "GRANTED"),
            (format!("COUPON.REQUEST coupon:{{a}} {USER}-refused"), "GRANTED"),
        ],
    );
    await_coupon(&postgres, "a", "seq, granted", "2|1");
    // Errors are where secrets slip out.
    redis.stop();
    postgres.stop();
    eventually_true("both are missed", || !reconciler.is_ready());
    redis.start_again();
    postgres.start_again();
    eventually_true("both are back", || reconciler.is_ready());
    let log = reconciler.log();
    assert!(log.len() > 200, "there is a log to look at: {log}");
    for secret in [PASSWORD, REDIS_PASSWORD, USER] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn a_log_that_is_no_terminal_is_json() {
    let (redis, postgres) = servers();
    let reconciler = Options::between(&redis, &postgres).start().await_ready();
    let log = reconciler.log();
    assert!(!log.is_empty(), "it says that it has started");
    for line in log.lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|line| line.is_object()), "not JSON: {line}");
    }
}
