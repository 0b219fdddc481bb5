//! Keyspace events: what happens to a coupon, for those who have asked the server for events of modules (`d`).

use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};

/// Runs a call, and returns the events it made.
fn events(client: &mut Client, listener: &mut Client, call: &str) -> Vec<String> {
    let reply = client.run(call);
    assert!(!reply.is_error(), "{call}: {reply}");
    client.run("PUBLISH end end");
    let mut events = Vec::new();
    loop {
        let message = listener.read().expect("a message");
        let [.., channel, what] = message.array() else { panic!("no message: {message}") };
        if channel.text() == "end" {
            return events;
        }
        assert_eq!(channel.text(), "__keyspace@0__:c");
        events.push(what.text().to_owned());
    }
}

fn listening(flags: &str) -> (Redis, Client, Client) {
    let redis = Options::shipped().line(format!("notify-keyspace-events {flags}")).start();
    let (client, mut listener) = (redis.client(), redis.client());
    listener.pipeline(&["PSUBSCRIBE __keyspace@0__:*", "SUBSCRIBE end"]);
    (redis, client, listener)
}

#[test]
fn each_event_is_told_once_for_each_call_that_makes_it() {
    let (_redis, mut client, mut listener) = listening("Kd");
    let table: [(&str, &[&str]); 19] = [
        ("COUPON.OPEN c QUANTITY 3", &[]),
        ("COUPON.REQUEST c a", &["coupon.queued"]),
        ("COUPON.REQUEST c a", &[]),
        ("COUPON.STATUS c a", &[]),
        ("COUPON.ISSUE c", &["coupon.granted"]),
        ("COUPON.ISSUE c", &[]),
        ("COUPON.OPEN c QUANTITY 3 MODE INSTANT WAITLIST 1", &[]),
        ("COUPON.REQUEST c b", &["coupon.granted"]),
        ("COUPON.MREQUEST c x y z", &["coupon.queued", "coupon.granted", "coupon.soldout"]),
        ("COUPON.REQUEST c late", &[]),
        ("COUPON.OPEN c QUANTITY 4", &[]),
        ("COUPON.ISSUE c", &["coupon.granted", "coupon.soldout"]),
        ("COUPON.OPEN c QUANTITY 4 WAITLIST 5", &[]),
        ("COUPON.REQUEST c w", &["coupon.queued"]),
        ("COUPON.LEAVE c w", &["coupon.left"]),
        ("COUPON.LEAVE c w", &[]),
        ("COUPON.LEAVE c a", &[]),
        ("COUPON.CLOSE c", &["coupon.closed"]),
        ("COUPON.CLOSE c", &[]),
    ];
    for (call, expected) in table {
        assert_eq!(events(&mut client, &mut listener, call), expected, "{call}");
    }
}

#[test]
fn a_coupon_that_ends_by_the_clock_is_closed_by_the_next_issue() {
    let (_redis, mut client, mut listener) = listening("Kd");
    assert_eq!(events(&mut client, &mut listener, "COUPON.OPEN c QUANTITY 3 EXPIRES 631152000000"), [""; 0]);
    assert_eq!(events(&mut client, &mut listener, "COUPON.ISSUE c"), ["coupon.closed"]);
}

#[test]
fn who_asks_for_other_events_gets_none_of_these() {
    let (_redis, mut client, mut listener) = listening("Kghzt");
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 3 MODE INSTANT", "+OK")]);
    assert_eq!(events(&mut client, &mut listener, "COUPON.REQUEST c a"), [""; 0]);
}
