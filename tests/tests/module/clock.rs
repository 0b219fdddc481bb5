//! The server's wall clock an hour wrong: the order of arrival goes on all the same.

use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::dump::await_replica;
use coupon_tests::info::number;
use coupon_tests::machine::HOUR_US;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};
use coupon_tests::waiting::{Waiter, blocked};
use std::fs;

const HALF_HOUR_MS: u64 = 1_800_000;

/// Users who ask between two changes of the clock.
const CROWD: usize = 200;

fn redis_on_own_machine() -> Redis {
    Options::shipped().line("appendfsync always").own_machine().start()
}

fn time_ms(client: &mut Client) -> u64 {
    let time = client.run("TIME");
    time.array()[0].text().parse::<u64>().expect("a number") * 1000
}

/// A crowd asks, over several connections; all get in.
fn crowd(redis: &Redis, prefix: &str, outcome: &str) {
    std::thread::scope(|scope| {
        for connection in 0..4 {
            scope.spawn(move || {
                let calls: Vec<String> =
                    (0..CROWD / 4).map(|user| format!("COUPON.REQUEST c {prefix}{connection}-{user}")).collect();
                for reply in redis.client().pipeline(&calls) {
                    assert_eq!(reply.text(), outcome);
                }
            });
        }
    });
}

/// Arrivals are told apart by 1 µs where the clock lags behind the newest one.
fn assert_arrivals(redis: &Redis, crowds: usize) -> Stored {
    let mut client = redis.client();
    while client.run("COUPON.ISSUE c").int() > 0 {}
    let stored = Stored::read(&mut client, "c");
    assert_eq!(stored.issued.len(), crowds * CROWD);
    assert_eq!(stored.grants.len(), crowds * CROWD);
    stored.assert_promises();
    stored
}

#[test]
fn arrivals_never_go_back() {
    for (mode, outcome) in [("QUEUE", "QUEUED"), ("INSTANT", "GRANTED")] {
        let mut redis = redis_on_own_machine();
        expect(&mut redis.client(), &[(format!("COUPON.OPEN c QUANTITY 100000 MODE {mode}"), "+OK")]);
        for (number, offset) in [0, HOUR_US, 0, -HOUR_US].into_iter().enumerate() {
            redis.machine().set_clock(offset);
            crowd(&redis, &format!("j{number}-"), outcome);
            assert_arrivals(&redis, 2 * number + 1);
            // The newest arrival is in the AOF, not in the process alone.
            redis.kill();
            redis.start_again();
            crowd(&redis, &format!("r{number}-"), outcome);
            assert_arrivals(&redis, 2 * number + 2);
        }
        let stored = assert_arrivals(&redis, 8);
        let score = |user: &str| stored.issued.iter().find(|(held, _)| held.starts_with(user)).expect("a user").1;
        assert!(score("j1-") - score("j0-") > 0.9 * HOUR_US as f64, "the clock that went forward was followed");
        let back = stored.issued.iter().position(|(user, _)| user.starts_with("j2-")).expect("a user");
        for pair in stored.issued[back - 1..].windows(2) {
            assert_eq!(pair[1].1, pair[0].1 + 1.0, "behind the newest arrival, each comes 1 µs after the last");
        }
        assert_eq!(redis.client().run("COUPON.REQUEST c j0-0-0").text(), "DUPLICATE");
    }
}

#[test]
fn a_failover_to_a_clock_an_hour_behind_reorders_nobody() {
    for (mode, outcome) in [("QUEUE", "QUEUED"), ("INSTANT", "GRANTED")] {
        let mut primary = redis_on_own_machine();
        primary.machine().set_clock(HOUR_US);
        let replica = Options::shipped().line(format!("replicaof 127.0.0.1 {}", primary.port)).own_machine().start();
        expect(&mut primary.client(), &[(format!("COUPON.OPEN c QUANTITY 100000 MODE {mode}"), "+OK")]);
        crowd(&primary, "p", outcome);
        await_replica(&primary, &replica);
        primary.kill();
        expect(&mut replica.client(), &[("REPLICAOF NO ONE", "+OK")]);
        crowd(&replica, "n", outcome);
        assert_arrivals(&replica, 2);
        replica.machine().set_clock(-HOUR_US);
        crowd(&replica, "m", outcome);
        let stored = assert_arrivals(&replica, 3);
        let order: Vec<&str> = stored.granted().chunks(CROWD).map(|users| &users[0][..1]).collect();
        assert_eq!(order, ["p", "n", "m"]);
    }
}

#[test]
fn windows_follow_the_clock_both_ways() {
    let redis = redis_on_own_machine();
    let mut client = redis.client();
    let later = time_ms(&mut client) + HALF_HOUR_MS;
    expect(
        &mut client,
        &[
            (format!("COUPON.OPEN opens QUANTITY 9 MODE INSTANT OPENS {later}"), "+OK"),
            (format!("COUPON.OPEN ends QUANTITY 9 MODE INSTANT EXPIRES {later}"), "+OK"),
            ("COUPON.REQUEST opens a".into(), "NOTOPEN"),
            ("COUPON.REQUEST ends a".into(), "GRANTED"),
        ],
    );
    redis.machine().set_clock(HOUR_US);
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST opens a", "GRANTED"),
            ("COUPON.REQUEST ends b", "CLOSED"),
            ("COUPON.REQUEST ends a", "DUPLICATE"),
        ],
    );
    redis.machine().set_clock(0);
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST opens b", "NOTOPEN"),
            ("COUPON.REQUEST opens a", "DUPLICATE"),
            // Nobody has ended it meanwhile.
            ("COUPON.REQUEST ends b", "GRANTED"),
        ],
    );
    redis.machine().set_clock(HOUR_US);
    expect(
        &mut client,
        &[("COUPON.ISSUE ends", ":0"), ("HGET ends status", "EXPIRED"), ("COUPON.REQUEST opens b", "GRANTED")],
    );
    redis.machine().set_clock(0);
    // What was ended stays so.
    expect(&mut client, &[("COUPON.REQUEST ends c", "CLOSED")]);
    for key in ["opens", "ends"] {
        Stored::read(&mut client, key).assert_promises();
    }
}

#[test]
fn a_wait_lasts_its_time_whatever_the_clock_does() {
    let redis = redis_on_own_machine();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 9", "+OK"), ("COUPON.REQUEST c a", "QUEUED")]);
    let mut wait = |limit_ms: u64, blocked: usize| {
        let mut waiting = redis.client();
        waiting.queue_line(&format!("COUPON.WAIT c a {limit_ms}"));
        waiting.flush().expect("the server takes the call");
        eventually_true("it waits", || {
            client.run("INFO clients").text().contains(&format!("blocked_clients:{blocked}"))
        });
        waiting
    };
    let (mut long, mut short) = (wait(HALF_HOUR_MS, 1), wait(1_500, 2));
    redis.machine().set_clock(-HOUR_US);
    assert_eq!(short.read().expect("an answer").text(), "WAITING");
    redis.machine().set_clock(HOUR_US);
    assert_eq!(wait(1_000, 2).read().expect("an answer").text(), "WAITING");
    assert!(redis.client().run("INFO clients").text().contains("blocked_clients:1"), "half an hour is not over");
    redis.machine().set_clock(-HOUR_US);
    expect(&mut redis.client(), &[("COUPON.CLOSE c", "+OK")]);
    assert_eq!(long.read().expect("an answer").text(), "WAITING");
}

#[test]
fn a_clock_that_goes_ahead_makes_no_later_wait_longer() {
    let redis = redis_on_own_machine();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 9", "+OK"), ("COUPON.REQUEST c a", "QUEUED")]);
    let mut waiting = blocked(&redis, &[format!("COUPON.WAIT c a {HALF_HOUR_MS}")]);
    // Beyond the end of the one that waits: the server's alarm is set for that one.
    redis.machine().set_clock(HOUR_US);
    let mut later = Waiter::begin(&redis, "COUPON.WAIT c a 500");
    assert_eq!(later.only_answer(), "WAITING");
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 1, "half an hour is not over");
    expect(&mut client, &[("COUPON.CLOSE c", "+OK")]);
    assert_eq!(waiting[0].only_answer(), "WAITING");
}

#[test]
fn after_a_restart_a_clock_that_went_back_keeps_nobody_from_syncing() {
    let mut redis = Options::shipped().line("appendfsync everysec").own_machine().start();
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 100000 MODE INSTANT", "+OK")]);
    crowd(&redis, "a", "GRANTED");
    redis.machine().set_clock(-HOUR_US);
    crowd(&redis, "b", "GRANTED");
    redis.kill();
    redis.start_again();
    // The file was written all the time, only not synced.
    assert_arrivals(&redis, 2);
    crowd(&redis, "c", "GRANTED");
    eventually_true("all is synced", || {
        let aof = redis.aof();
        redis.machine().synced_len(&aof) == Some(fs::metadata(aof).expect("the AOF").len())
    });
}
