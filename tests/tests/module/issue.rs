//! COUPON.ISSUE.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, expect};

fn request(client: &mut Client, users: std::ops::Range<u32>) {
    let calls: Vec<String> = users.map(|user| format!("COUPON.REQUEST c {user}")).collect();
    for reply in client.pipeline(&calls) {
        assert_eq!(reply.to_string(), "QUEUED");
    }
}

#[test]
fn units_go_to_the_first_in_line() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5 WAITLIST 5", "+OK")]);
    request(&mut client, 0..8);
    expect(
        &mut client,
        &[
            ("COUPON.ISSUE c COUNT 2", ":2"),
            ("HMGET c status remaining seq", "[AVAILABLE 3 2]"),
            ("coupon.issue c count 1", ":1"),
            ("COUPON.ISSUE c", ":2"),
            ("HMGET c status remaining seq", "[ISSUED 0 5]"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    assert_eq!(stored.granted(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn issue_called_twice_grants_once() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 1", "+OK"), ("COUPON.REQUEST c a", "QUEUED")]);
    expect(&mut client, &[("COUPON.ISSUE c", ":1")]);
    expect_without_effect(&redis, &[("COUPON.ISSUE c", ":0"), ("COUPON.ISSUE c COUNT 5", ":0")]);
    expect(&mut client, &[("HGET c status", "ISSUED"), ("XLEN c:grants", ":1")]);
}

#[test]
fn nothing_to_do_is_zero_and_no_error() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN empty QUANTITY 1", "+OK"),
            ("HSET standard status STANDARD quantity 5", ":2"),
            ("ZADD standard:issued 1 a", ":1"),
            ("COUPON.OPEN closed QUANTITY 1", "+OK"),
            ("COUPON.REQUEST closed a", "QUEUED"),
            ("COUPON.CLOSE closed", "+OK"),
            ("COUPON.OPEN early QUANTITY 1", "+OK"),
            ("COUPON.REQUEST early a", "QUEUED"),
            ("COUPON.OPEN early QUANTITY 1 OPENS 253402300799998", "+OK"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ISSUE empty", ":0"),
            ("COUPON.ISSUE standard", ":0"),
            ("COUPON.ISSUE closed", ":0"),
            ("COUPON.ISSUE early", ":0"),
        ],
    );
}

#[test]
fn one_call_grants_at_most_issue_max() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 3000", "+OK")]);
    request(&mut client, 0..2500);
    expect(
        &mut client,
        &[
            ("COUPON.ISSUE c", ":500"),
            ("COUPON.ISSUE c COUNT 9223372036854775807", ":500"),
            ("CONFIG SET coupon.issue-max 7", "+OK"),
            ("COUPON.ISSUE c", ":7"),
            ("COUPON.ISSUE c COUNT 9", ":7"),
            ("COUPON.ISSUE c COUNT 3", ":3"),
            ("CONFIG SET coupon.issue-max 100000", "+OK"),
            ("COUPON.ISSUE c", ":1483"),
        ],
    );
    Stored::read(&mut client, "c").assert_promises();
}

#[test]
fn grants_wait_for_the_ledger_when_too_many_are_missing_there() {
    let redis = Options::shipped().module_args("unpersisted-max 3").start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 9 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c 1", "QUEUED"),
            ("COUPON.REQUEST c 2", "QUEUED"),
            ("COUPON.REQUEST c 3", "QUEUED"),
            ("COUPON.REQUEST c 4", "QUEUED"),
            ("COUPON.ISSUE c", ":3"),
            ("COUPON.ISSUE c", ":0"),
            ("COUPON.ACK c EPOCH 1 SEQ 2", "+OK"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.OPEN c QUANTITY 9 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST c 5", "GRANTED"),
            // Now three are missing: it waits, and whoever comes after it too.
            ("COUPON.REQUEST c 6", "QUEUED"),
            ("COUPON.ACK c EPOCH 1 SEQ 5", "+OK"),
            ("COUPON.REQUEST c 7", "QUEUED"),
            ("COUPON.ISSUE c", ":2"),
            ("COUPON.REQUEST c 8", "GRANTED"),
            ("CONFIG SET coupon.unpersisted-max 0", "+OK"),
            ("COUPON.REQUEST c 9", "GRANTED"),
            ("HGET c status", "ISSUED"),
        ],
    );
}

/// Users of the large set, half of whom are granted before anything is measured.
const CROWD: usize = 100_000;

/// How much dearer a grant may be among users who share a score. It was a thousand times.
const TIES_COST: u64 = 20;

/// The time of a grant in the middle of the crowd, in µs for 40 of them: the least of some measurements, as another process
/// may take the machine in any one.
fn grant_time(score: impl Fn(usize) -> usize) -> u64 {
    const CALLS: usize = 40;
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[(format!("COUPON.OPEN c QUANTITY {CROWD}"), "+OK")]);
    for chunk in (0..CROWD).collect::<Vec<_>>().chunks(1000) {
        let users: String = chunk.iter().map(|user| format!(" {} u{user:06}", score(*user))).collect();
        expect(&mut client, &[(format!("ZADD c:issued{users}"), ":1000")]);
    }
    expect(&mut client, &[("CONFIG SET coupon.issue-max 100000", "+OK"), ("COUPON.ISSUE c COUNT 50000", ":50000")]);
    let measure = |_| {
        expect(&mut client, &[("CONFIG RESETSTAT", "+OK")]);
        assert!(client.pipeline(&["COUPON.ISSUE c COUNT 1"; CALLS]).iter().all(|reply| reply.int() == 1));
        let stats = client.run("INFO commandstats");
        let usec =
            stats.text().split("cmdstat_coupon.issue:calls=40,usec=").nth(1).and_then(|rest| rest.split(',').next());
        usec.and_then(|usec| usec.parse().ok()).unwrap_or_else(|| panic!("no time in {stats}"))
    };
    (0..5).map(measure).min().expect("measurements")
}

#[test]
fn a_grant_costs_the_same_where_all_share_a_score() {
    let (apart, at_one) = (grant_time(|user| user + 1), grant_time(|_| 5));
    assert!(at_one < apart.max(40) * TIES_COST, "{at_one} us at one score, {apart} us at a score each");
}

/// Users who share a score, in the order of the set: that of their bytes.
const AT_ONE_SCORE: [&str; 9] = ["10", "9", "B", "Z", "a", "aa", "b", "z", "\u{e9}"];

/// A coupon of the ledger whose users were put in by hand.
fn by_hand(client: &mut Client) {
    let users: String = AT_ONE_SCORE.iter().rev().map(|user| format!(" 5 {user}")).collect();
    expect(
        client,
        &[
            ("COUPON.OPEN c QUANTITY 9 EPOCH 1".to_owned(), "+OK"),
            (format!("ZADD c:issued{users} 4 first 6 last"), ":11"),
            ("COUPON.OPEN c QUANTITY 20".into(), "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0".into(), "+OK"),
        ],
    );
}

fn states(client: &mut Client) -> String {
    let users = ["first"].into_iter().chain(AT_ONE_SCORE).chain(["last"]);
    users.map(|user| client.run(&format!("COUPON.STATUS c {user}")).text()[..1].to_owned()).collect()
}

#[test]
fn users_at_one_score_are_granted_in_the_order_of_their_bytes() {
    let redis = Redis::start();
    let mut client = redis.client();
    by_hand(&mut client);
    for granted in 1..=11 {
        expect(&mut client, &[("COUPON.ISSUE c COUNT 1", ":1")]);
        assert_eq!(states(&mut client), "G".repeat(granted) + &"W".repeat(11 - granted));
        expect(&mut client, &[("HGET c remaining", &*(20 - granted).to_string())]);
    }
    let order: Vec<String> = Stored::read(&mut client, "c").grants.into_iter().map(|grant| grant.user).collect();
    assert_eq!(order[1..10], AT_ONE_SCORE);
    for persisted in 1..=11 {
        expect(&mut client, &[(format!("COUPON.ACK c EPOCH 1 SEQ {persisted}"), "+OK")]);
        assert_eq!(states(&mut client), "P".repeat(persisted) + &"G".repeat(11 - persisted));
    }
    expect(&mut client, &[("COUPON.REQUEST c new", "QUEUED"), ("COUPON.ISSUE c", ":1"), ("COUPON.ISSUE c", ":0")]);
}

#[test]
fn a_batch_that_ends_between_users_at_one_score_is_gone_on_with() {
    for counts in [[1, 1, 9], [3, 4, 4], [2, 7, 2], [5, 5, 1], [10, 1, 0]] {
        let redis = Redis::start();
        let mut client = redis.client();
        by_hand(&mut client);
        for count in counts {
            if count > 0 {
                expect(&mut client, &[(format!("COUPON.ISSUE c COUNT {count}"), &*format!(":{count}"))]);
            }
        }
        let granted = Stored::read(&mut client, "c").granted().join(" ");
        assert_eq!(granted, format!("first {} last", AT_ONE_SCORE.join(" ")), "{counts:?}");
        expect(&mut client, &[("COUPON.ISSUE c", ":0")]);
    }
}

#[test]
fn a_restored_history_may_end_between_users_at_one_score() {
    let redis = Options::shipped().module_args("stream-keep 1000000").start();
    let mut client = redis.client();
    by_hand(&mut client);
    expect(&mut client, &[("COUPON.ISSUE c COUNT 7", ":7")]);
    let held = Stored::read(&mut client, "c").grants;
    let [first, second] = [&held[3], &held[4]];
    // The ledger holds five, of which the first three are told apart from the rest by nothing but the user's bytes.
    expect(
        &mut client,
        &[
            ("COUPON.RESTORE c EPOCH 2".to_owned(), "+OK"),
            (
                format!(
                    "COUPON.RESTORE c EPOCH 2 AFTER 3 CHAIN {} GRANTS 2 {} {} {} {} {} {}",
                    held[2].chain.0,
                    first.user,
                    first.requested_at,
                    first.granted_at_ms,
                    second.user,
                    second.requested_at,
                    second.granted_at_ms,
                ),
                "+OK",
            ),
            (format!("COUPON.RESUME c EPOCH 2 SEQ 5 CHAIN {}", second.chain.0), "+OK"),
        ],
    );
    assert_eq!(states(&mut client), "PPPPPWWWWWW");
    expect(&mut client, &[("COUPON.ISSUE c COUNT 1", ":1")]);
    assert_eq!(states(&mut client), "PPPPPGWWWWW");
    expect(&mut client, &[("COUPON.ISSUE c", ":5")]);
    let granted: Vec<String> = Stored::read(&mut client, "c").grants.into_iter().map(|grant| grant.user).collect();
    assert_eq!(granted[granted.len() - 6..], [&AT_ONE_SCORE[4..], &["last"]].concat());
}

#[test]
fn misuse_is_refused() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[("COUPON.OPEN c QUANTITY 5", "+OK"), ("COUPON.REQUEST c a", "QUEUED"), ("SET s 1", "+OK")],
    );
    let count = "-ERR COUNT is a whole number from 1 to 9223372036854775807, not ";
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ISSUE", "-ERR wrong number of arguments"),
            ("COUPON.ISSUE c COUNT", "-ERR option COUNT needs a value"),
            ("COUPON.ISSUE c COUNT 0", count),
            ("COUPON.ISSUE c COUNT -1", count),
            ("COUPON.ISSUE c COUNT 1.0", count),
            ("COUPON.ISSUE c COUNT 9223372036854775808", count),
            ("COUPON.ISSUE c COUNT 99999999999999999999", count),
            ("COUPON.ISSUE c COUNT 1 COUNT 1", "-ERR option COUNT is given twice"),
            ("COUPON.ISSUE c 5", "-ERR unknown option '5'; known are: COUNT"),
            ("COUPON.ISSUE missing", "-NOCOUPON "),
            ("COUPON.ISSUE s", "-WRONGTYPE"),
        ],
    );
}
