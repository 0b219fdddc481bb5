//! A machine of a server's own: what the disk and the clock do there, they do to this server and to nobody else.

use crate::plain_redis;
use coupon_tests::deadline::eventually_true;
use coupon_tests::machine::HOUR_US;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// More than a test lasts, and less than the hour.
const MINUTE_US: i64 = 60_000_000;

fn redis_on_own_machine(fsync: &str) -> Redis {
    Options::shipped().without_module().line(format!("appendfsync {fsync}")).own_machine().start()
}

fn true_time_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as i64
}

fn time_us(client: &mut Client) -> i64 {
    let time = client.run("TIME");
    let part = |index: usize| time.array()[index].text().parse::<i64>().expect("a number");
    part(0) * 1_000_000 + part(1)
}

fn assert_clock(found_us: i64, offset_us: i64) {
    let off = found_us - true_time_us() - offset_us;
    assert!(off.abs() < MINUTE_US, "the clock is {off} µs from where it was set");
}

#[test]
fn a_clock_goes_where_it_is_set_and_other_clocks_stay() {
    let (redis, other) = (redis_on_own_machine("always"), plain_redis());
    let postgres = Postgres::start_on_own_machine();
    let (mut client, mut other) = (redis.client(), other.client());
    // The odd microseconds carry into the seconds, up and down.
    for offset in [0, HOUR_US, -HOUR_US, 999_999, -999_999, 0] {
        redis.machine().set_clock(offset);
        postgres.machine().set_clock(offset);
        assert_clock(time_us(&mut client), offset);
        assert_clock(time_us(&mut other), 0);
        let clock = postgres.value("select (extract(epoch from clock_timestamp()) * 1000000)::bigint");
        assert_clock(clock.parse().expect("a number"), offset);
        let elapsed = client.run("DEBUG SLEEP 0.01");
        assert_eq!(elapsed.to_string(), "+OK", "clocks that only run are right");
    }
}

#[test]
fn a_clock_stays_wrong_over_a_restart() {
    let mut redis = redis_on_own_machine("always");
    redis.machine().set_clock(HOUR_US);
    redis.kill();
    redis.start_again();
    assert_clock(time_us(&mut redis.client()), HOUR_US);
}

#[test]
fn a_full_disk_stops_redis_and_nobody_else() {
    let (redis, other) = (redis_on_own_machine("everysec"), plain_redis());
    let mut client = redis.client();
    let value = "x".repeat(8192);
    expect(&mut client, &[(format!("SET a {value}"), "+OK")]);
    redis.machine().fill_disk();
    // The first one may still be on its way to the file when it is answered.
    eventually_true("writes are refused", || client.run(&format!("SET b {value}")).to_string().starts_with("-MISCONF"));
    assert!(redis.log().contains("Short write while writing to the AOF"), "{}", redis.log());
    assert_eq!(client.run("GET a").text(), value);
    expect(&mut other.client(), &[(format!("SET b {value}"), "+OK")]);
    redis.machine().free_disk();
    eventually_true("writes are taken again", || client.run("SET c 1").to_string() == "+OK");
}

#[test]
fn a_full_disk_leaves_postgresql_the_blocks_it_has_and_no_others() {
    let mut postgres = Postgres::start_on_own_machine();
    postgres.run("create table t(a int, b text); insert into t values (1, 'x')");
    postgres.machine().fill_disk();
    postgres.run("insert into t values (2, 'fits into the page')");
    let error = postgres.try_run("insert into t select n, repeat('x', 1000) from generate_series(1, 100) n");
    assert!(error.as_ref().is_err_and(|error| error.contains("No space left on device")), "{error:?}");
    postgres.machine().free_disk();
    postgres.revive();
    assert_eq!(postgres.rows("select a, length(b) from t order by a"), ["1|1", "2|18"]);
}

#[test]
fn what_was_synced_is_known() {
    let redis = redis_on_own_machine("always");
    let mut client = redis.client();
    for round in 0..20 {
        expect(&mut client, &[(format!("SET a{round} 1"), "+OK")]);
        let aof = redis.aof();
        let len = fs::metadata(&aof).expect("the AOF").len();
        assert_eq!(redis.machine().synced_len(&aof), Some(len), "what was answered is synced");
    }
    let redis = redis_on_own_machine("no");
    expect(&mut redis.client(), &[("SET a 1", "+OK")]);
    let (aof, synced) = (redis.aof(), redis.machine().synced_len(&redis.aof()));
    assert!(synced.unwrap_or(0) < fs::metadata(aof).expect("the AOF").len(), "nobody has synced it: {synced:?}");
}
