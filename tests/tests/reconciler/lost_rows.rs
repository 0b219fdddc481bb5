//! A ledger that lost rows, or a whole coupon, or whose position was put back: what is proved is there again, once; the rest is named.

use crate::sale::{assert_persisted, await_level, await_open, insert, key, request, servers};
use coupon_tests::coupon::Stored;
use coupon_tests::deadline::{eventually_true, within};
use coupon_tests::ledger::{self, Row, await_coupon};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command, outcome};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;
use std::time::Duration;

const GRANTS: u64 = 40;

/// A coupon whose grants are all rows, but one that was refused where `refused`; no reconciler runs. Redis holds the entry of the
/// last of them alone, unless it keeps all.
fn sold(keeps_all: bool, refused: bool) -> (Redis, Postgres) {
    let (redis, postgres) = if keeps_all { servers() } else { (Redis::start(), Postgres::start()) };
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    if refused {
        postgres.run("alter table user_coupon add constraint no_eight check (user_id <> 'u8')");
    }
    insert(&postgres, "a", 100, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..GRANTS);
    await_persisted(&redis, GRANTS);
    reconciler.kill();
    (redis, postgres)
}

fn await_persisted(redis: &Redis, grants: u64) {
    let mut client = redis.client();
    eventually_true("all is acknowledged", || {
        client.run(&format!("COUPON.INFO {}", key("a"))).field("persisted").int() == grants as i64
    });
}

/// What of a row the sorted set proves.
fn proved(rows: &[Row]) -> Vec<(u64, &str, u64, i64)> {
    rows.iter().map(|row| (row.seq, row.user.as_str(), row.requested_at_us, row.chain)).collect()
}

/// Both sides agree, down to every grant and link.
fn assert_clean(redis: &Redis, postgres: &Postgres) {
    ledger::assert_whole(postgres, "a");
    for args in [&["verify", "a"][..], &["audit", "a"]] {
        let (is_fine, said) = outcome(&command(redis, postgres, args));
        assert!(is_fine, "{args:?}: {said}");
    }
}

/// Puts the position back to where it was at a grant, as an application's stale object does.
fn put_back(postgres: &Postgres, seq: u64) {
    postgres.run(&format!(
        "update coupon_position p set seq = u.seq, chain = u.chain,
            granted = (select count(*) from user_coupon where coupon_id = 'a' and seq <= u.seq)
         from user_coupon u where p.coupon_id = 'a' and u.coupon_id = 'a' and u.seq = {seq}"
    ));
}

#[test]
fn a_position_that_was_put_back_moves_over_the_rows_that_are_there() {
    for (keeps_all, refused) in [(true, false), (false, false), (true, true), (false, true)] {
        let (redis, postgres) = sold(keeps_all, refused);
        let before = [ledger::rows(&postgres, "a"), ledger::dead_letters(&postgres, "a")];
        let reconciler =
            Options::between(&redis, &postgres).args(&["--full-pass-interval", "1s"]).start().await_ready();
        // Its letter is mended meanwhile, so that nothing would refuse a row in its place.
        postgres.run("alter table user_coupon drop constraint if exists no_eight");
        put_back(&postgres, 5);
        // Nobody asks for anything, and the position is where the rows end again.
        await_coupon(&postgres, "a", "seq", "40");
        put_back(&postgres, 5);
        request(&mut redis.client(), "a", "more", 0..5);
        await_coupon(&postgres, "a", "seq", "45");
        await_persisted(&redis, 45);
        let after = [ledger::rows(&postgres, "a"), ledger::dead_letters(&postgres, "a")];
        assert_eq!(after[0][..before[0].len()], before[0], "every row once, as it was");
        assert_eq!(after[1], before[1], "and no dead letter more");
        assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0");
        assert_eq!(reconciler.metric("coupon_rebuilt_total"), Some(0.0), "none was lost");
        drop(reconciler);
        assert_clean(&redis, &postgres);
    }
}

#[test]
fn a_position_that_was_put_back_costs_nobody_a_unit_where_redis_is_lost_too() {
    let (redis, postgres) = sold(false, false);
    put_back(&postgres, 5);
    expect(&mut redis.client(), &[("FLUSHALL", "+OK")]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "more", 0..5);
    await_coupon(&postgres, "a", "granted, seq", "45|45");
    await_persisted(&redis, 45);
    assert_persisted(&redis, "a", "u", 0..GRANTS);
    drop(reconciler);
    assert_clean(&redis, &postgres);
}

#[test]
fn lost_rows_are_made_again_and_counted() {
    let (redis, postgres) = sold(false, false);
    let before = ledger::rows(&postgres, "a");
    put_back(&postgres, 5);
    postgres.run("delete from user_coupon where seq > 5");
    let reconciler = Reconciler::start(&redis, &postgres);
    await_coupon(&postgres, "a", "granted, seq", "40|40");
    await_open(&mut redis.client(), "a");
    assert_eq!(proved(&ledger::rows(&postgres, "a")), proved(&before));
    assert_eq!(reconciler.metric("coupon_rebuilt_total"), Some(35.0));
    drop(reconciler);
    assert_clean(&redis, &postgres);

    // Those that the audit makes again are counted too.
    postgres.run("delete from user_coupon where seq in (7, 8)");
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "1s"]).start().await_ready();
    // It takes but a small part of the time, and so long on a busy machine.
    let is_counted = || (reconciler.metric("coupon_rebuilt_total") == Some(2.0)).then_some(());
    assert!(within(Duration::from_secs(180), is_counted).is_some(), "both are made again and counted");
    assert_eq!(ledger::rows(&postgres, "a").len(), 40);
}

#[test]
fn a_ledger_that_lost_more_than_redis_proves_takes_grants_back_and_names_them() {
    let (redis, postgres) = sold(false, false);
    let before = ledger::rows(&postgres, "a");
    put_back(&postgres, 5);
    postgres.run("delete from user_coupon where seq > 5");
    // Of one of those whose rows are lost the set says another time: no chain leads over that.
    let mut client = redis.client();
    let score = Stored::read(&mut client, &key("a")).issued[9].1 + 1.0;
    expect(&mut client, &[(format!("ZADD {}:issued XX CH {score} u9", key("a")), ":1")]);
    let reconciler = Reconciler::start(&redis, &postgres);
    reconciler.await_log("the users in Redis do not prove which grants are missing");
    // They are back in line, and as there are units left each gets one: a later grant, and now for good.
    await_coupon(&postgres, "a", "granted, seq", "40|40");
    await_persisted(&redis, 40);
    assert_eq!(ledger::rows(&postgres, "a")[..5], before[..5], "what the ledger held counts");
    let users = |rows: &[Row]| rows.iter().map(|row| row.user.clone()).collect::<Vec<_>>();
    assert_eq!(users(&ledger::rows(&postgres, "a")), users(&before), "in the order in which they had asked");
    let named = postgres.rows("select user_id, seq from coupon_orphan order by seq");
    let lost: Vec<String> = (5..GRANTS).map(|user| format!("u{user}|{}", user + 1)).collect();
    assert_eq!(named, lost, "each of them, and nobody else");
    eventually_true("it is counted", || reconciler.metric("coupon_orphans_total") == Some(35.0));
    assert_eq!(reconciler.metric("coupon_rebuilt_total"), Some(0.0));
    assert_persisted(&redis, "a", "u", 0..GRANTS);
    drop(reconciler);
    assert_clean(&redis, &postgres);
}

#[test]
fn a_coupon_that_the_ledger_lost_altogether_is_made_again_from_redis() {
    for keeps_all in [true, false] {
        let (redis, postgres) = sold(keeps_all, false);
        let before = ledger::rows(&postgres, "a");
        postgres.run("truncate user_coupon, coupon_position, coupon cascade");
        // Redis grants on meanwhile.
        let mut client = redis.client();
        request(&mut client, "a", "meanwhile", 0..5);
        let epoch = client.run(&format!("HGET {} epoch", key("a"))).text().parse::<u64>().expect("a number");
        let reconciler = Reconciler::start(&redis, &postgres);
        await_coupon(&postgres, "a", "quantity, status, mode, granted, seq", "100|AVAILABLE|INSTANT|45|45");
        await_persisted(&redis, 45);
        let now: u64 = ledger::coupon(&postgres, "a", "epoch").parse().expect("a number");
        assert!(now > epoch, "{now} {epoch}");
        let after = ledger::rows(&postgres, "a");
        assert_eq!(proved(&after[..40]), proved(&before));
        if keeps_all {
            assert_eq!(after[..40], before);
        }
        assert!(reconciler.log().contains("is --database-url the right database?"));
        assert_eq!(reconciler.metric("coupon_readopted_total"), Some(1.0));
        assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0");
        await_open(&mut client, "a");
        request(&mut client, "a", "more", 0..5);
        await_coupon(&postgres, "a", "granted, seq", "50|50");
        await_persisted(&redis, 50);
        if keeps_all {
            await_level(&redis, &postgres, "a", 50);
        } else {
            assert_eq!(reconciler.metric("coupon_rebuilt_total"), Some(40.0));
        }
        drop(reconciler);
        assert_clean(&redis, &postgres);
    }
}
