//! The window, by the server's clock.

use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, Value, expect};

/// The server's time in ms.
fn time(client: &mut Client) -> u64 {
    ms(&client.run("TIME"))
}

fn ms(time: &Value) -> u64 {
    us(time) / 1000
}

fn us(time: &Value) -> u64 {
    let part = |index: usize| time.array()[index].text().parse::<u64>().expect("a number");
    part(0) * 1_000_000 + part(1)
}

/// A call, with the server's time just before and just after it, in µs.
fn timed(client: &mut Client, call: &str) -> (u64, Value, u64) {
    // Not as a transaction: newer servers tell one time all through it.
    let replies = client.pipeline(&["TIME", call, "TIME"]);
    let [before, reply, after] = &replies[..] else { panic!("{replies:?}") };
    (us(before), reply.clone(), us(after))
}

#[test]
fn requests_begin_at_opens_and_end_at_expires_to_the_millisecond() {
    let redis = Redis::start();
    let mut client = redis.client();
    let opens = time(&mut client) + 100;
    let expires = opens + 100;
    expect(&mut client, &[(format!("COUPON.OPEN c QUANTITY 1000000 OPENS {opens} EXPIRES {expires}"), "+OK")]);
    let mut user = 0;
    let mut seen = Vec::new();
    eventually("the window has come and gone", || {
        user += 1;
        let (before, reply, after) = timed(&mut client, &format!("COUPON.REQUEST c {user}"));
        let phase = |us: u64| match us / 1000 {
            ms if ms < opens => "NOTOPEN",
            ms if ms < expires => "QUEUED",
            _ => "CLOSED",
        };
        // A call on an edge may fall on either side of it.
        let outcome = reply.text().to_owned();
        assert!(
            [phase(before), phase(after)].contains(&&*outcome),
            "{outcome} between {before} and {after}, window {opens}-{expires}"
        );
        if seen.last() != Some(&outcome) {
            seen.push(outcome);
        }
        (seen.last().map(String::as_str) == Some("CLOSED")).then_some(())
    });
    assert_eq!(seen, ["NOTOPEN", "QUEUED", "CLOSED"]);
    let stored = Stored::read(&mut client, "c");
    let inside = |score: f64| score >= (opens * 1000) as f64 && score < (expires * 1000) as f64;
    assert!(stored.issued.iter().all(|(_, score)| inside(*score)), "somebody was let in outside the window");
}

#[test]
fn an_arrival_is_the_servers_time() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 1000 MODE INSTANT", "+OK")]);
    for user in 0..200 {
        let (before, _, after) = timed(&mut client, &format!("COUPON.REQUEST c {user}"));
        let stored = Stored::read(&mut client, "c");
        let (_, score) = stored.issued.last().expect("a user");
        // The servers' own TIME is up to a few µs off the machine's clock on newer ones, which keep it in between.
        let (before, after) = (before - 1000, after + 1000);
        assert!((before as f64..=after as f64).contains(score), "{score} is not between {before} and {after}");
        let granted_at = stored.grants.last().expect("a grant").granted_at_ms;
        assert!((before / 1000..=after / 1000).contains(&granted_at), "{granted_at} in ms, {before} to {after} in µs");
    }
}

#[test]
fn those_accepted_in_time_are_still_granted_and_then_it_is_over() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 5", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.OPEN c QUANTITY 5 EXPIRES 631152000000", "+OK"),
            ("COUPON.REQUEST c late", "CLOSED"),
            ("HGET c status", "AVAILABLE"),
            ("COUPON.ISSUE c COUNT 1", ":1"),
            ("HGET c status", "AVAILABLE"),
            ("COUPON.ISSUE c", ":1"),
            ("HGET c status", "EXPIRED"),
            ("COUPON.ISSUE c", ":0"),
            ("COUPON.STATUS c b", "GRANTED"),
        ],
    );
}

#[test]
fn a_coupon_nobody_waits_for_ends_with_the_next_issue() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 5 EXPIRES 631152000000", "+OK"),
            ("HGET c status", "AVAILABLE"),
            ("COUPON.ISSUE c", ":0"),
            ("HGET c status", "EXPIRED"),
        ],
    );
}

#[test]
fn a_sold_out_coupon_stays_issued_after_its_window() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 1 MODE INSTANT WAITLIST 1", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.REQUEST c w", "QUEUED"),
            ("COUPON.OPEN c QUANTITY 1 EXPIRES 631152000000", "+OK"),
            ("COUPON.ISSUE c", ":0"),
            ("HGET c status", "ISSUED"),
            ("COUPON.REQUEST c x", "CLOSED"),
        ],
    );
}

#[test]
fn a_time_in_seconds_that_was_set_by_hand_is_refused_by_every_command() {
    let redis = Redis::start();
    let mut client = redis.client();
    for (field, wrong) in [
        ("opens_at", "1795874262"),
        ("expires_at", "1795874262"),
        ("opens_at", "1"),
        ("expires_at", "1795874262000000"),
    ] {
        expect(
            &mut client,
            &[
                ("FLUSHALL".to_owned(), "+OK"),
                ("COUPON.OPEN c QUANTITY 5 EPOCH 1".into(), "+OK"),
                ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0".into(), "+OK"),
                ("COUPON.REQUEST c a".into(), "QUEUED"),
                (format!("HSET c {field} {wrong}"), ":0"),
            ],
        );
        for call in [
            "COUPON.REQUEST c b",
            "COUPON.REQUEST c a",
            "COUPON.MREQUEST c a b",
            "COUPON.ISSUE c",
            "COUPON.STATUS c a",
            "COUPON.WAIT c a 1",
            "COUPON.INFO c",
            "COUPON.CLOSE c",
            "COUPON.ACK c EPOCH 1 SEQ 0",
        ] {
            expect_without_effect(&redis, &[(call, "-ERR ")]);
            let error = client.run(call).to_string();
            let is_named =
                error.contains(field) || error.contains(field.trim_end_matches("_at").to_uppercase().as_str());
            assert!(is_named && error.contains("milliseconds"), "{call}: {error}");
        }
        // Set right by hand it is what it was.
        expect(
            &mut client,
            &[
                (format!("HSET c {field} 0"), ":0"),
                ("COUPON.REQUEST c a".into(), "DUPLICATE"),
                ("COUPON.ISSUE c".into(), ":1"),
            ],
        );
    }
}

#[test]
fn a_time_from_1990_on_that_was_set_by_hand_holds() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("HSET c status AVAILABLE quantity 5 opens_at 631152000000 expires_at 253402300799999", ":4"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("HSET c expires_at 631152000001", ":0"),
            ("COUPON.REQUEST c b", "CLOSED"),
        ],
    );
}
