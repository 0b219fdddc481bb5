//! `audit --repair`: what is proved is put right, the rest is left and said.

use crate::finding::{audit, finding};
use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::ledger::{self, Row, rows};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Reconciler, command};
use coupon_tests::redis_server::Redis;

const GRANTS: u64 = 40;

/// A coupon whose grants are all rows; no reconciler runs.
pub fn level(redis: &Redis, postgres: &Postgres, id: &str) {
    insert(postgres, id, 100, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(redis, postgres);
    let mut client = redis.client();
    await_open(&mut client, id);
    request(&mut client, id, "u", 1..GRANTS + 1);
    ledger::await_coupon(postgres, id, "seq", &GRANTS.to_string());
    coupon_tests::deadline::eventually_true("all is acknowledged", || {
        client.run(&format!("COUPON.INFO {}", key(id))).field("persisted").int() == GRANTS as i64
    });
    reconciler.kill();
}

/// What of a row the sorted set proves.
fn proved(rows: &[Row]) -> Vec<(u64, &str, u64, u64, i64)> {
    rows.iter().map(|row| (row.seq, row.user.as_str(), row.requested_at_us, row.epoch, row.chain)).collect()
}

fn clean_afterwards(redis: &Redis, postgres: &Postgres) {
    let (code, coupons) = audit(redis, postgres, &[]);
    assert_eq!((code, crate::finding::all_left(&coupons)), (Some(0), vec![]));
    ledger::assert_whole(postgres, "a");
}

#[test]
fn missing_rows_come_back_from_the_stream_as_they_were() {
    let (redis, postgres) = servers();
    level(&redis, &postgres, "a");
    let before = rows(&postgres, "a");
    for missing in ["seq = 1", "seq = 40", "seq between 7 and 19", "seq % 2 = 0", "true"] {
        postgres.run(&format!("delete from user_coupon where coupon_id = 'a' and {missing}"));
        let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
        assert_eq!((code, coupons[0].left.len()), (Some(0), 0), "{missing}: {coupons:?}");
        assert!(!coupons[0].repaired.is_empty(), "{missing}");
        assert_eq!(rows(&postgres, "a"), before, "{missing}");
        clean_afterwards(&redis, &postgres);
    }
}

#[test]
fn missing_rows_come_back_from_the_sorted_set_where_the_stream_is_trimmed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    level(&redis, &postgres, "a");
    let before = rows(&postgres, "a");
    for missing in ["seq = 1", "seq = 40", "seq between 7 and 19", "seq between 30 and 40", "seq % 3 = 0", "true"] {
        postgres.run(&format!("delete from user_coupon where coupon_id = 'a' and {missing}"));
        let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
        assert_eq!((code, coupons[0].left.len()), (Some(0), 0), "{missing}: {coupons:?}");
        let after = rows(&postgres, "a");
        assert_eq!(proved(&after), proved(&before), "{missing}");
        assert!(after.iter().all(|row| row.granted_at_ms >= row.requested_at_us / 1000), "{missing}");
        assert!(after.windows(2).all(|pair| pair[0].granted_at_ms <= pair[1].granted_at_ms), "{missing}");
        clean_afterwards(&redis, &postgres);
    }
}

#[test]
fn what_is_not_proved_is_left_and_said() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    level(&redis, &postgres, "a");
    let mut client = redis.client();
    client.run(&format!("ZREM {}:issued u5", key("a")));
    postgres.run("delete from user_coupon where coupon_id = 'a' and seq in (5, 20); update user_coupon set user_id = 'mallory' where coupon_id = 'a' and seq = 30");
    for repaired in [vec![finding("row_missing", Some(20), Some("u20"), None)], vec![]] {
        let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
        assert_eq!(code, Some(1));
        assert_eq!(
            coupons[0].left,
            [finding("row_missing", Some(5), None, None), finding("row_altered", Some(30), Some("mallory"), None)]
        );
        assert_eq!(coupons[0].repaired, repaired);
    }
}

#[test]
fn a_row_that_postgresql_refuses_is_left_and_said() {
    let (redis, postgres) = servers();
    level(&redis, &postgres, "a");
    postgres.run(
        "delete from user_coupon where coupon_id = 'a' and seq = 13;
         alter table user_coupon add constraint no_thirteen check (user_id <> 'u13')",
    );
    let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
    assert_eq!((code, coupons[0].left.len(), coupons[0].repaired.len()), (Some(1), 1, 0), "{coupons:?}");
    postgres.run("alter table user_coupon drop constraint no_thirteen");
    assert_eq!(audit(&redis, &postgres, &["--repair"]).0, Some(0));
    clean_afterwards(&redis, &postgres);
}

#[test]
fn dead_letters_and_their_retry_are_no_drift() {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint no_thirteen check (user_id not like '%3')");
    level(&redis, &postgres, "a");
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, coupons[0].left.len(), coupons[0].dead_letters), (Some(0), 0, 4), "{coupons:?}");
    postgres.run("delete from user_coupon where coupon_id = 'a' and seq in (12, 14)");
    assert_eq!(audit(&redis, &postgres, &["--repair"]).0, Some(0));
    clean_afterwards(&redis, &postgres);
    postgres.run("alter table user_coupon drop constraint no_thirteen");
    assert!(command(&redis, &postgres, &["dead-letters", "retry", "a", "--all"]).status.success());
    clean_afterwards(&redis, &postgres);
    assert_eq!(ledger::dead_letters(&postgres, "a"), []);
}

#[test]
fn a_dead_letter_deleted_by_hand_is_a_missing_row_and_said_so() {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint no_thirteen check (user_id not like '%3')");
    level(&redis, &postgres, "a");
    for seq in ["13", "23"] {
        assert!(command(&redis, &postgres, &["dead-letters", "discard", "a", seq]).status.success());
    }
    postgres.run("delete from coupon_dead_letter where seq = 23; alter table user_coupon drop constraint no_thirteen");
    // Its number must be somebody's: who wants to be rid of a grant discards it, and leaves the letter.
    let missing = finding("row_missing", Some(23), Some("u23"), None);
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, &coupons[0].left), (Some(1), &vec![missing.clone()]));
    let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
    assert_eq!((code, &coupons[0].left, &coupons[0].repaired), (Some(0), &vec![], &vec![missing]));
    let letters: Vec<u64> = ledger::dead_letters(&postgres, "a").iter().map(|letter| letter.seq).collect();
    assert_eq!(letters, [3, 13, 33], "the one that was only discarded is left");
    clean_afterwards(&redis, &postgres);
}

#[test]
fn rows_can_come_back_while_the_relay_works() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 100_000, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..2000);
    ledger::await_coupon(&postgres, "a", "seq", "2000");
    for round in 1..=5 {
        postgres.run("delete from user_coupon where coupon_id = 'a' and seq between 500 and 1500");
        std::thread::scope(|scope| {
            scope.spawn(|| request(&mut redis.client(), "a", "u", round * 2000..(round + 1) * 2000));
            // Only the first thousand findings are kept, and all of them are repaired.
            let output = command(&redis, &postgres, &["audit", "--repair", "a"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        });
        ledger::await_coupon(&postgres, "a", "seq", &((round + 1) * 2000).to_string());
    }
    await_level(&redis, &postgres, "a", 12_000);
    clean_afterwards(&redis, &postgres);
}

#[test]
fn redis_is_brought_back_to_the_ledger_where_only_redis_is_wrong() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    level(&redis, &postgres, "a");
    let mut client = redis.client();
    // Grants that are no rows yet become rows first.
    request(&mut client, "a", "v", 0..3);
    let first = format!("ZRANGE {}:issued 0 0 WITHSCORES", key("a"));
    let score: f64 = client.run(&first).array()[1].text().parse().expect("a score");
    for (number, wrong) in [
        "ZREM K:issued u5".to_owned(),
        "ZREM K:issued u1 u7 u40".to_owned(),
        format!("ZADD K:issued {} u5", score + 3e9),
        "HINCRBY K seq 1".to_owned(),
        "HINCRBY K seq -1".to_owned(),
        "HINCRBY K chain 1".to_owned(),
        "HINCRBY K remaining 7".to_owned(),
        "HSET K persisted 1000".to_owned(),
        "HSET K granted_to 9007199254740991".to_owned(),
        "HSET K granted_to 1".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let reply = client.run(&wrong.replace('K', &key("a")));
        assert!(!reply.is_error(), "{wrong}: {reply}");
        let (code, coupons) = audit(&redis, &postgres, &["--repair", "a"]);
        assert_eq!((code, coupons[0].left.len()), (Some(0), 0), "{wrong}: {coupons:?}");
        assert!(!coupons[0].repaired.is_empty(), "{wrong}");
        clean_afterwards(&redis, &postgres);
        assert_eq!(rows(&postgres, "a").len() as u64, GRANTS + 3 + number as u64, "{wrong}");
        assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0", "{wrong}");
        assert_eq!(client.run(&format!("COUPON.STATUS {} u5", key("a"))).text(), "PERSISTED", "{wrong}");
        assert_eq!(client.run(&format!("COUPON.REQUEST {} w{number}", key("a"))).text(), "GRANTED", "{wrong}");
        let output = command(&redis, &postgres, &["audit", "a"]);
        assert!(output.status.success(), "{wrong}: {}", String::from_utf8_lossy(&output.stdout));
        relay_the_rest(&redis, &postgres, number);
    }
}

/// The grant that the test made becomes a row, so that the next round begins level.
fn relay_the_rest(redis: &Redis, postgres: &Postgres, number: usize) {
    let mut reconciler = Reconciler::start(redis, postgres);
    ledger::await_coupon(postgres, "a", "seq", &(GRANTS + 4 + number as u64).to_string());
    assert_eq!(reconciler.end("TERM").code(), Some(0));
}

#[test]
fn redis_is_left_alone_where_the_ledger_is_doubtful_or_the_line_is_gone() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    level(&redis, &postgres, "a");
    let mut client = redis.client();
    let epoch = || postgres.value("select epoch from coupon_position where coupon_id = 'a'");
    let before = epoch();
    postgres.run("update user_coupon set user_id = 'mallory' where coupon_id = 'a' and seq = 30");
    client.run(&format!("ZREM {}:issued u5", key("a")));
    let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
    assert_eq!((code, coupons[0].left.len(), epoch()), (Some(1), 2, before.clone()), "{coupons:?}");
    postgres.run("update user_coupon set user_id = 'u30' where coupon_id = 'a' and seq = 30");
    client.run(&format!("DEL {}:issued", key("a")));
    let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
    assert_eq!((code, coupons[0].left.len() as u64, epoch()), (Some(1), GRANTS, before), "{coupons:?}");
    assert!(command(&redis, &postgres, &["restore", "a", "--from-start", "--yes"]).status.success());
    clean_afterwards(&redis, &postgres);
}

#[test]
fn users_whom_a_restore_put_before_those_who_wait_are_a_note() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    level(&redis, &postgres, "a");
    let mut client = redis.client();
    client.run(&format!("ZADD {}:issued 5000 early", key("a")));
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, coupons[0].left.len()), (Some(1), 1), "{coupons:?}");
    assert!(command(&redis, &postgres, &["restore", "a", "--from-start"]).status.success());
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, coupons[0].left.len(), coupons[0].earlier), (Some(0), 0, GRANTS), "{coupons:?}");
}

#[test]
fn gaps_of_any_size_are_filled() {
    const MANY: u64 = 9000;
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    insert(&postgres, "a", MANY, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    await_open(&mut redis.client(), "a");
    request(&mut redis.client(), "a", "u", 1..MANY + 1);
    ledger::await_coupon(&postgres, "a", "status, seq", "ISSUED|9000");
    assert_eq!(reconciler.end("TERM").code(), Some(0));
    let before = rows(&postgres, "a");
    for missing in ["seq = 1500", "seq in (2000, 2001, 4000)", "seq between 1500 and 6500", "seq > 1999", "true"] {
        postgres.run(&format!("delete from user_coupon where coupon_id = 'a' and {missing}"));
        let left = rows(&postgres, "a").len() as u64;
        let output = command(&redis, &postgres, &["audit", "--repair", "a"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{missing}: {said}");
        let deleted = MANY - left;
        assert!(
            said.ends_with(&format!("0 finding(s) left, {deleted} repaired, 0 not compared\n")),
            "{missing}: {said}"
        );
        assert_eq!(proved(&rows(&postgres, "a")), proved(&before), "{missing}");
        clean_afterwards(&redis, &postgres);
    }
}
