//! Several reconcilers share the coupons by leases; and where a lease is no help, nothing is written twice all the same.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::http;
use coupon_tests::ledger::{self, await_coupon};
use coupon_tests::port;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::proxy::Proxy;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use std::time::{Duration, Instant};

const SHARDS: f64 = 64.0;

/// The promise is two seconds; this is for machines that do much else.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(15);

fn named(redis: &Redis, postgres: &Postgres, name: &str) -> Reconciler {
    Options::between(redis, postgres).args(&["--instance", name]).start().await_ready()
}

fn shards(reconciler: &Reconciler) -> f64 {
    reconciler.metric("coupon_shards").unwrap_or_default()
}

/// Waits until these hold all shards, each its share; the last one may have fewer.
fn await_shared(reconcilers: &[&Reconciler]) {
    let others = (reconcilers.len() - 1) as f64;
    let share = SHARDS - others * (SHARDS / (others + 1.0)).ceil();
    eventually_true("the shards are shared out", || {
        let held: Vec<f64> = reconcilers.iter().map(|one| shards(one)).collect();
        held.iter().sum::<f64>() == SHARDS && held.iter().all(|held| *held >= share)
    });
}

/// What keeps one that wakes up late from writing twice is the compare-and-set, also where no constraint would.
fn without_constraints(postgres: &Postgres) {
    postgres.run(
        "alter table user_coupon drop constraint user_coupon_one_per_seq;
         drop index user_coupon_one_per_user;
         alter table coupon_position drop constraint coupon_position_granted_within_seq,
             drop constraint coupon_position_held_within_quantity",
    );
}

#[test]
fn coupons_of_a_killed_one_are_taken_over_and_served() {
    let (redis, postgres) = servers();
    let ids: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    for id in &ids {
        insert(&postgres, id, 100, &[]);
    }
    let first = named(&redis, &postgres, "first");
    let second = named(&redis, &postgres, "second");
    let mut third = named(&redis, &postgres, "third");
    await_shared(&[&first, &second, &third]);
    let mut client = redis.client();
    for id in &ids {
        await_open(&mut client, id);
        request(&mut client, id, "early", 0..5);
    }
    let seqs = || postgres.value("select min(seq), max(seq) from coupon_position");
    eventually_true("all coupons are served", || seqs() == "5|5");
    let work = |one: &Reconciler| one.metric("coupon_rows_total").unwrap_or_default();
    for one in [&first, &second, &third] {
        assert!(work(one) > 0.0, "each of them has worked: {} {} {}", work(&first), work(&second), work(&third));
    }
    let of_third = "select count(*) from coupon_lease where instance = 'third'";
    assert_ne!(postgres.value(of_third), "0");
    third.kill();
    let killed = Instant::now();
    for id in &ids {
        request(&mut client, id, "late", 0..5);
    }
    // The units are granted and are rows: nobody but the one who holds a coupon's shard issues and relays.
    eventually_true("all coupons are served again", || seqs() == "10|10");
    let served = killed.elapsed();
    await_shared(&[&first, &second]);
    assert_eq!(postgres.value(of_third), "0");
    println!("all coupons of the killed one were served {} ms after it was killed", served.as_millis());
    assert!(served < TAKEN_OVER_WITHIN, "served after {served:?}");
    assert_eq!(postgres.value("select count(*), count(distinct (coupon_id, user_id)) from user_coupon"), "300|300");
    await_level(&redis, &postgres, &ids[0], 10);
}

#[test]
fn one_that_ends_in_order_gives_its_coupons_back_at_once() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 100, &[]);
    let first = named(&redis, &postgres, "first");
    let mut second = named(&redis, &postgres, "second");
    await_shared(&[&first, &second]);
    assert!(second.end("TERM").success());
    let of_second = "select (select count(*) from coupon_lease where instance = 'second'), (select count(*) from coupon_instance where name = 'second')";
    assert_eq!(postgres.value(of_second), "0|0");
    await_shared(&[&first]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..5);
    await_level(&redis, &postgres, "a", 5);
}

/// Starts another one that takes all over from one that stands still, and lets it work.
fn overtake(redis: &Redis, postgres: &Postgres) -> Reconciler {
    let other = named(redis, postgres, "other");
    await_shared(&[&other]);
    let mut client = redis.client();
    request(&mut client, "a", "other", 0..30);
    await_level(redis, postgres, "a", 140);
    other
}

/// Both are awake now, and go on together.
fn assert_nothing_doubled(redis: &Redis, postgres: &Postgres, sleeper: &mut Reconciler, other: &Reconciler) {
    await_shared(&[sleeper, other]);
    let mut client = redis.client();
    request(&mut client, "a", "both", 0..30);
    await_level(redis, postgres, "a", 170);
    assert!(sleeper.is_alive(), "it goes on: {}", sleeper.log());
    // Whatever it held back is done or given up once it has ended.
    assert!(sleeper.end("TERM").success());
    ledger::assert_whole(postgres, "a");
    assert_eq!(
        postgres.value("select count(*), count(distinct user_id), count(distinct seq) from user_coupon"),
        "170|170|170"
    );
}

/// A coupon with ten rows, and a hundred grants that are none yet.
fn batch_to_write() -> (Redis, Postgres) {
    let (redis, postgres) = servers();
    without_constraints(&postgres);
    insert(&postgres, "a", 1000, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 10);
    assert!(reconciler.end("TERM").success());
    request(&mut client, "a", "u", 10..110);
    (redis, postgres)
}

#[test]
fn one_that_wakes_up_before_its_commit_doubles_nothing() {
    let (redis, postgres) = batch_to_write();
    let options = Options::between(&redis, &postgres).args(&["--instance", "sleeper"]);
    let mut sleeper = options.pause_at("before-commit").start();
    sleeper.await_pause();
    // It stands still as a whole, leases and all, and holds a hundred entries that it has read.
    sleeper.signal("STOP");
    sleeper.go_on();
    let other = overtake(&redis, &postgres);
    sleeper.signal("CONT");
    assert_nothing_doubled(&redis, &postgres, &mut sleeper, &other);
}

#[test]
fn one_that_wakes_up_after_its_commit_doubles_nothing() {
    let (redis, postgres) = batch_to_write();
    let mut lock = postgres.session();
    lock.run("begin; select from coupon_position where coupon_id = 'a' for update");
    let mut sleeper = named(&redis, &postgres, "sleeper");
    eventually_true("its batch waits for the lock of the coupon's position", || {
        postgres.value("select count(*) from pg_locks where locktype = 'transactionid' and not granted") == "1"
    });
    sleeper.signal("STOP");
    lock.run("commit");
    // PostgreSQL has committed, and nobody has heard the answer.
    await_coupon(&postgres, "a", "seq", "110");
    let other = overtake(&redis, &postgres);
    sleeper.signal("CONT");
    assert_nothing_doubled(&redis, &postgres, &mut sleeper, &other);
}

/// By a mistake in their settings both hold every lease, and work on every coupon at the same time.
#[test]
fn two_of_the_same_name_double_nothing() {
    let (redis, postgres) = servers();
    without_constraints(&postgres);
    insert(&postgres, "instant", 1_000_000, &[("mode", "'INSTANT'")]);
    insert(&postgres, "queue", 1_000_000, &[]);
    let twins = ["3", "5"].map(|batch_max| {
        let args = ["--instance", "twin", "--batch-max", batch_max];
        Options::between(&redis, &postgres).args(&args).start().await_ready()
    });
    for twin in &twins {
        eventually_true("it holds every shard", || shards(twin) == SHARDS);
    }
    let mut client = redis.client();
    let ids = ["instant", "queue"];
    ids.iter().for_each(|id| await_open(&mut client, id));
    let mut users = 0;
    eventually("both have written rows, and stepped on each other's toes", || {
        ids.iter().for_each(|id| request(&mut client, id, "u", users..users + 60));
        users += 60;
        ids.iter().for_each(|id| await_coupon(&postgres, id, "seq", &users.to_string()));
        let counted = |name: &str| twins.each_ref().map(|twin| twin.metric(name).unwrap_or_default());
        let (rows, retries) = (counted("coupon_rows_total"), counted("coupon_retries_total"));
        (rows.iter().all(|rows| *rows > 0.0) && retries.iter().sum::<f64>() > 0.0).then_some(())
    });
    for id in ids {
        await_level(&redis, &postgres, id, users);
        assert_eq!(client.run(&format!("COUPON.INFO {}", key(id))).field("granted").int(), users as i64);
    }
    let rows: f64 = twins.iter().filter_map(|twin| twin.metric("coupon_rows_total")).sum();
    assert_eq!(rows, 2.0 * users as f64, "each row was written by one of them");
}

/// What it says of its readiness, once it is not ready for this reason.
fn await_unready(reconciler: &Reconciler, why: &str) -> String {
    eventually(&format!("it is not ready: {why}"), || {
        let (code, text) = http::get(reconciler.listen_port, "/readyz").ok()?;
        (code == 503 && text.contains(why)).then_some(text)
    })
}

#[test]
fn one_that_loses_redis_gives_its_coupons_to_another_that_has_it() {
    let (redis, postgres) = servers();
    let ids: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    ids.iter().for_each(|id| insert(&postgres, id, 100, &[]));
    let way = Proxy::start(redis.port);
    let first = named(&redis, &postgres, "first");
    let second = Options::between(&redis, &postgres)
        .redis_url(format!("redis://127.0.0.1:{}", way.port))
        .args(&["--instance", "second"])
        .start()
        .await_ready();
    let mut client = redis.client();
    ids.iter().for_each(|id| await_open(&mut client, id));
    let mut users = 0;
    // It is gone; it takes connections and answers nothing; its packets are lost.
    let losses: [&dyn Fn(); 3] = [&|| way.lead_to(port::free()), &|| way.lose_answers(), &|| {
        way.lead_new_to(port::free());
        way.silence(None);
    }];
    for lose in losses {
        await_shared(&[&first, &second]);
        lose();
        let lost = Instant::now();
        ids.iter().for_each(|id| request(&mut client, id, "u", users..users + 2));
        users += 2;
        await_shared(&[&first]);
        eventually_true("all coupons are served", || {
            postgres.value("select min(seq), max(seq) from coupon_position") == format!("{users}|{users}")
        });
        let served = lost.elapsed();
        println!("served by the other one {} ms after Redis was lost", served.as_millis());
        assert!(served < TAKEN_OVER_WITHIN, "served after {served:?}");
        await_unready(&second, "shards: 0 of 64");
        assert!(first.is_ready());
        way.lead_to(redis.port);
        eventually_true("it is ready again", || second.is_ready());
    }
}

#[test]
fn one_that_is_left_nothing_to_work_on_is_not_ready() {
    let (redis, postgres) = servers();
    postgres.run("insert into coupon_instance (name, until) values ('hung', now() + interval '50 seconds')");
    postgres.run("update coupon_lease set instance = 'hung'");
    let reconciler = Options::between(&redis, &postgres).start();
    await_unready(&reconciler, "redis: ok\npostgresql: ok\nshards: 0 of 64");
    postgres.run("delete from coupon_instance where name = 'hung'");
    eventually_true("it is ready", || reconciler.is_ready());
    assert_eq!(shards(&reconciler), SHARDS);
}

#[test]
fn a_ledger_has_one_redis_and_another_gets_nothing_of_it() {
    let (redis, postgres) = servers();
    let staging = Redis::start();
    insert(&postgres, "a", 100, &[("mode", "'INSTANT'")]);
    let mut first = named(&redis, &postgres, "first");
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..5);
    let other = Options::between(&staging, &postgres).args(&["--instance", "other"]).start();
    let said = await_unready(&other, "another Redis");
    for place in [redis.port, staging.port] {
        assert!(said.contains(&place.to_string()), "both are named: {said}");
    }
    // By another name, and without what it held, it is the same.
    let by_name = format!("redis://localhost:{}", redis.port);
    let third = Options::between(&redis, &postgres).redis_url(by_name).args(&["--instance", "third"]).start();
    await_shared(&[&first, &third]);
    client.run("FLUSHALL");
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 5..9);
    await_coupon(&postgres, "a", "seq", "9");
    await_shared(&[&first, &third]);
    assert_eq!((shards(&other), other.is_ready()), (0.0, false));
    assert!(staging.client().run(&format!("COUPON.INFO {}", key("a"))).is_error(), "it was published there");
    // Nobody works with the other one any more: it has moved.
    first.end("TERM");
    drop(third);
    eventually_true("it is ready", || other.is_ready());
    let mut client = staging.client();
    await_open(&mut client, "a");
    assert_eq!(client.run(&format!("COUPON.INFO {}", key("a"))).field("persisted").int(), 9);
}
