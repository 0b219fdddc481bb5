//! REFUSED: what the user of a dead letter hears, from the ACK that goes over it to the retry that makes a row of it.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger::{await_coupon, dead_letters};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, expect};

/// A coupon whose users `u3`, `u13` … are refused; nobody is granted yet.
fn refusing() -> (Redis, Postgres) {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint no_three check (user_id not like '%3')");
    insert(&postgres, "a", 100, &[("mode", "'INSTANT'")]);
    (redis, postgres)
}

/// The same with twenty grants, and no reconciler any more.
fn refused() -> (Redis, Postgres) {
    let (redis, postgres) = refusing();
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..20);
    await_level(&redis, &postgres, "a", 20);
    reconciler.kill();
    (redis, postgres)
}

fn state(client: &mut Client, user: &str) -> String {
    client.run(&format!("COUPON.STATUS {} {user}", key("a"))).to_string()
}

fn await_state(client: &mut Client, user: &str, expected: &str) {
    eventually_true(&format!("{user} is {expected}"), || state(client, user) == expected);
}

fn assert_states(client: &mut Client, users: &[&str], expected: &str) {
    for user in users {
        assert_eq!(state(client, user), expected, "{user}");
    }
}

fn dead_letters_command(servers: &(Redis, Postgres), args: &[&str]) {
    let output = command(&servers.0, &servers.1, &[&["dead-letters"], args].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
}

/// What Redis keeps of refused users is there while there are any, and no longer.
fn assert_kept(client: &mut Client, users: u64) {
    let kept = if users > 0 { users.to_string() } else { "nil".into() };
    expect(
        client,
        &[
            (format!("ZCARD {}:refused", key("a")), &*format!(":{users}")),
            (format!("HGET {} refused", key("a")), &*kept),
        ],
    );
}

#[test]
fn the_user_of_a_dead_letter_is_refused_and_hears_it_at_once() {
    let (redis, postgres) = refusing();
    let mut client = redis.client();
    let reconciler = Options::between(&redis, &postgres).pause_at("before-ack").start().await_ready();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..5);
    reconciler.await_pause();
    // Rows and dead letters are committed, and Redis has not heard of it.
    let mut waiting = redis.client();
    waiting.queue_line(&format!("COUPON.WAIT {} u3 60000", key("a")));
    waiting.flush().expect("the server takes the call");
    assert_states(&mut client, &["u0", "u3", "u4"], "GRANTED");
    reconciler.go_on();
    assert_eq!(waiting.read().expect("an answer").to_string(), "REFUSED");
    await_level(&redis, &postgres, "a", 5);
    assert_states(&mut client, &["u0", "u4"], "PERSISTED");
    expect(
        &mut client,
        &[
            (format!("COUPON.WAIT {} u3 60000", key("a")), "REFUSED"),
            (format!("COUPON.STATUS {} u3 WITHRANK", key("a")), "[REFUSED :4 :0]"),
            (format!("COUPON.REQUEST {} u3", key("a")), "DUPLICATE"),
        ],
    );
    assert_kept(&mut client, 1);
    assert_eq!(client.run(&format!("COUPON.INFO {}", key("a"))).field("refused").int(), 1);
}

#[test]
fn what_was_buried_before_a_crash_is_refused_by_the_next() {
    let (redis, postgres) = refusing();
    let mut client = redis.client();
    let mut reconciler = Options::between(&redis, &postgres).pause_at("before-ack").start().await_ready();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..20);
    reconciler.await_pause();
    reconciler.kill();
    // Held before it can say anything: then nobody can be too quick for the question.
    let next = Options::between(&redis, &postgres).pause_at("after-ack").start().await_ready();
    next.await_pause();
    assert_ne!(state(&mut client, "u3"), "PERSISTED");
    next.go_on();
    await_level(&redis, &postgres, "a", 20);
    assert_states(&mut client, &["u3", "u13"], "REFUSED");
    assert_states(&mut client, &["u2", "u4", "u14"], "PERSISTED");
    assert_kept(&mut client, 2);
}

/// The numbers on both sides are the same, and the users are not.
#[test]
fn one_retried_and_another_one_buried_are_told_apart() {
    let servers = refused();
    let (redis, postgres) = &servers;
    let mut client = redis.client();
    let mut reconciler = Options::between(redis, postgres).pause_at("before-ack").start().await_ready();
    await_open(&mut client, "a");
    request(&mut client, "a", "v", 3..4);
    reconciler.await_pause();
    reconciler.kill();
    postgres.run("alter table user_coupon drop constraint no_three");
    dead_letters_command(&servers, &["retry", "a", "14"]);
    assert_eq!(dead_letters(postgres, "a").iter().map(|letter| &*letter.user).collect::<Vec<_>>(), ["u3", "v3"]);
    assert_kept(&mut client, 2);
    let _next = Reconciler::start(redis, postgres);
    await_state(&mut client, "v3", "REFUSED");
    await_state(&mut client, "u13", "PERSISTED");
    assert_states(&mut client, &["u3"], "REFUSED");
    assert_kept(&mut client, 2);
}

#[test]
fn a_retried_one_is_persisted_and_a_discarded_one_is_not() {
    let servers = refused();
    let (redis, postgres) = &servers;
    let mut client = redis.client();
    // No pass comes by: the retry itself says it.
    let mut reconciler = Options::between(redis, postgres).args(&["--full-pass-interval", "60m"]).start().await_ready();
    await_open(&mut client, "a");
    assert_states(&mut client, &["u3", "u13"], "REFUSED");
    dead_letters_command(&servers, &["discard", "a", "14"]);
    postgres.run("alter table user_coupon drop constraint no_three");
    dead_letters_command(&servers, &["retry", "a", "--all"]);
    await_state(&mut client, "u3", "PERSISTED");
    assert_states(&mut client, &["u13"], "REFUSED");
    assert_kept(&mut client, 1);
    // Nobody is there to hear the next one.
    reconciler.kill();
    dead_letters_command(&servers, &["retry", "a", "14"]);
    assert_states(&mut client, &["u13"], "REFUSED");
    let reconciler = Reconciler::start(redis, postgres);
    await_state(&mut client, "u13", "PERSISTED");
    assert_kept(&mut client, 0);
    await_coupon(postgres, "a", "granted, seq", "20|20");
    drop(reconciler);
}

#[test]
fn a_coupon_that_is_over_hears_of_a_retry_too() {
    let servers = refused();
    let (redis, postgres) = &servers;
    let mut client = redis.client();
    let _reconciler = Options::between(redis, postgres).args(&["--full-pass-interval", "200ms"]).start().await_ready();
    await_open(&mut client, "a");
    postgres.run("update coupon set status = 'EXPIRED' where id = 'a'");
    eventually_true("it is closed", || client.run(&format!("HGET {} status", key("a"))).to_string() == "EXPIRED");
    // By SQL, of which no message tells.
    postgres.run(
        "alter table user_coupon drop constraint no_three;
         with letter as (delete from coupon_dead_letter where seq = 4 returning *)
         insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
         select coupon_id, user_id, seq, requested_at, granted_at, epoch, chain from letter;
         update coupon_position set granted = granted + 1",
    );
    await_state(&mut client, "u3", "PERSISTED");
    assert_states(&mut client, &["u13"], "REFUSED");
}

#[test]
fn a_restore_brings_back_who_is_refused_and_never_says_persisted() {
    for is_retried_meanwhile in [false, true] {
        let servers = refused();
        let (redis, postgres) = &servers;
        let mut client = redis.client();
        dead_letters_command(&servers, &["discard", "a", "4"]);
        if is_retried_meanwhile {
            postgres.run("alter table user_coupon drop constraint no_three");
            dead_letters_command(&servers, &["retry", "a", "14"]);
        }
        expect(&mut client, &[("FLUSHALL", "+OK")]);
        let reconciler = Options::between(redis, postgres).pause_at("after-restore-batch").start().await_ready();
        reconciler.await_pause();
        // The gate is still shut, and whoever asks is answered all the same.
        let (dead, alive) =
            if is_retried_meanwhile { (&["u3"][..], &["u13", "u4"][..]) } else { (&["u3", "u13"][..], &["u4"][..]) };
        assert_states(&mut client, dead, "REFUSED");
        assert_states(&mut client, alive, "PERSISTED");
        reconciler.go_on();
        await_open(&mut client, "a");
        assert_states(&mut client, dead, "REFUSED");
        assert_states(&mut client, alive, "PERSISTED");
        assert_kept(&mut client, dead.len() as u64);
        request(&mut client, "a", "more", 0..3);
        await_coupon(postgres, "a", "seq", "23");
        await_state(&mut client, "more2", "PERSISTED");
        assert_kept(&mut client, dead.len() as u64);
    }
}

/// A Redis that lost its last grants, and of two dead letters knows one.
#[test]
fn a_redis_that_is_behind_learns_of_the_dead_letters_that_it_lost() {
    let (mut redis, postgres) = refused();
    let mut client = redis.client();
    // Undone as by an old backup: the mark of u13 and the grants from 11 on are not there.
    let chain = client.run(&format!("XRANGE {0}:grants 1-10 1-10", key("a")));
    let chain = chain.array()[0].array()[1].field("chain").text().to_owned();
    let last = client.run(&format!("ZRANGE {}:issued 9 9 WITHSCORES", key("a")));
    let last = last.pairs()[0].1.text().to_owned();
    expect(
        &mut client,
        &[
            (format!("ZREM {}:refused u13", key("a")), ":1"),
            (format!("ZREMRANGEBYRANK {}:issued 10 -1", key("a")), ":10"),
            (format!("XDEL {}:grants 1-11 1-12 1-13 1-14 1-15 1-16 1-17 1-18 1-19 1-20", key("a")), ":10"),
            (
                format!(
                    "HSET {} refused 1 seq 10 persisted 10 chain {chain} granted_to {last} persisted_to {last}",
                    key("a")
                ),
                ":0",
            ),
        ],
    );
    redis.kill();
    redis.start_again();
    let mut client = redis.client();
    let _reconciler = Reconciler::start(&redis, &postgres);
    await_open(&mut client, "a");
    eventually_true("all are back", || client.run(&format!("HGET {} seq", key("a"))).text() == "20");
    assert_states(&mut client, &["u3", "u13"], "REFUSED");
    assert_states(&mut client, &["u2", "u14", "u19"], "PERSISTED");
    assert_kept(&mut client, 2);
}

#[test]
fn refused_users_stay_so_through_a_crash_of_redis() {
    let (mut redis, postgres) = refused();
    redis.kill();
    redis.start_again();
    let mut client = redis.client();
    assert_states(&mut client, &["u3", "u13"], "REFUSED");
    let _reconciler = Reconciler::start(&redis, &postgres);
    await_open(&mut client, "a");
    assert_states(&mut client, &["u3", "u13"], "REFUSED");
    assert_kept(&mut client, 2);
}

#[test]
fn a_lost_list_of_refused_users_stops_the_coupon_until_an_operator_restores_it() {
    let (redis, postgres) = refused();
    let mut client = redis.client();
    let reconciler = Options::between(&redis, &postgres).args(&["--full-pass-interval", "200ms"]).start().await_ready();
    await_open(&mut client, "a");
    expect(&mut client, &[(format!("DEL {}:refused", key("a")), ":1")]);
    assert!(state(&mut client, "u3").starts_with("-TRYAGAIN the :refused key"), "{}", state(&mut client, "u3"));
    eventually_true("it is said", || reconciler.log().contains("coupon-reconciler restore a"));
    let restored = command(&redis, &postgres, &["restore", "a"]);
    assert!(restored.status.success(), "{restored:?}");
    assert_states(&mut client, &["u3", "u13"], "REFUSED");
    assert_states(&mut client, &["u2", "u19"], "PERSISTED");
}

/// More than are named in one call. They are made by SQL: to be refused one by one takes its time.
#[test]
fn thousands_of_refused_users_are_told_in_parts() {
    const GRANTS: u64 = 2500;
    let (redis, postgres) = servers();
    insert(&postgres, "a", 5000, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..GRANTS);
    await_level(&redis, &postgres, "a", GRANTS);
    reconciler.kill();
    postgres.run(
        "with gone as (delete from user_coupon returning *)
         insert into coupon_dead_letter
             (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain, sqlstate, reason)
         select coupon_id, user_id, seq, requested_at, granted_at, epoch, chain, '23514', 'by hand' from gone;
         update coupon_position set granted = 0",
    );
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut await_refused = |users| {
        eventually_true(&format!("{users} are refused"), || {
            client.run(&format!("ZCARD {}:refused", key("a"))).int() == users
        });
    };
    await_refused(2500);
    // They become rows while nobody looks, and a few stay.
    reconciler.kill();
    postgres.run(
        "with gone as (delete from coupon_dead_letter where user_id not in ('u0', 'u1700', 'u2499') returning *)
         insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
         select coupon_id, user_id, seq, requested_at, granted_at, epoch, chain from gone;
         update coupon_position set granted = 2497",
    );
    let _reconciler = Reconciler::start(&redis, &postgres);
    await_refused(3);
    assert_states(&mut client, &["u0", "u1700", "u2499"], "REFUSED");
    assert_states(&mut client, &["u1", "u1000", "u1699", "u1701", "u2498"], "PERSISTED");
    assert_kept(&mut client, 3);
}
