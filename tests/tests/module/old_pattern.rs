//! Coupons of the old pattern: a hash set by hand, users added with ZADD NX by an application.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::expect;

#[test]
fn users_added_before_the_coupon_was_opened_wait_in_their_order() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("ZADD coupon:42:issued NX 1700000000002 second", ":1"),
            ("ZADD coupon:42:issued NX 1700000000001 first", ":1"),
            ("ZADD coupon:42:issued NX 1700000000003 third", ":1"),
            ("ZADD coupon:42:issued NX 1700000000009 first", ":0"),
            ("COUPON.OPEN coupon:42 QUANTITY 2 WAITLIST 9", "+OK"),
            ("COUPON.STATUS coupon:42 first WITHRANK", "[WAITING :1 :0]"),
            ("COUPON.REQUEST coupon:42 third WITHRANK", "[DUPLICATE :3]"),
            ("COUPON.REQUEST coupon:42 fourth WITHRANK", "[QUEUED :4]"),
            ("COUPON.ISSUE coupon:42", ":2"),
            ("COUPON.STATUS coupon:42 second", "GRANTED"),
            ("COUPON.STATUS coupon:42 third", "WAITING"),
            // The application reads on as before.
            ("ZRANK coupon:42:issued fourth", ":3"),
            ("ZCARD coupon:42:issued", ":4"),
        ],
    );
    let stored = Stored::read(&mut client, "coupon:42");
    stored.assert_promises();
    assert_eq!(stored.granted(), ["first", "second"]);
    assert_eq!(stored.grants[0].requested_at.0, 1_700_000_000_001);
}

#[test]
fn an_application_may_go_on_adding_while_others_request() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("HSET c status AVAILABLE quantity 3", ":2"),
            ("ZADD c:issued NX 1700000000001 old1", ":1"),
            ("COUPON.REQUEST c new1", "QUEUED"),
            ("COUPON.ISSUE c COUNT 1", ":1"),
            ("ZADD c:issued NX 4000000000000000 old2", ":1"),
            ("COUPON.REQUEST c new2", "SOLDOUT"),
            ("COUPON.ISSUE c", ":2"),
            ("HGET c status", "ISSUED"),
        ],
    );
    assert_eq!(Stored::read(&mut client, "c").granted(), ["old1", "new1", "old2"]);
}

#[test]
fn users_who_share_a_score_are_granted_one_after_the_other() {
    let redis = Redis::start();
    let mut client = redis.client();
    let users = ["a", "a b", "b", "b!", "쿠폰", "쿠폰함"];
    expect(
        &mut client,
        &[("COUPON.OPEN c QUANTITY 6 EPOCH 1", "+OK"), ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK")],
    );
    for user in users {
        client.call(&["ZADD", "c:issued", "1700000000001", user]);
    }
    for granted in 1..=users.len() {
        expect(&mut client, &[("COUPON.ISSUE c COUNT 1", ":1")]);
        for (index, user) in users.iter().enumerate() {
            let state = match index {
                _ if index + 1 < granted => "PERSISTED",
                _ if index < granted => "GRANTED",
                _ => "WAITING",
            };
            assert_eq!(client.call(&["COUPON.STATUS", "c", user]).text(), state, "{user} after {granted} grants");
        }
        let stored = Stored::read(&mut client, "c");
        assert_eq!(stored.granted().last(), Some(&users[granted - 1]));
        expect(&mut client, &[(format!("COUPON.ACK c EPOCH 1 SEQ {granted}"), "+OK")]);
    }
    expect(&mut client, &[("HMGET c status remaining", "[ISSUED 0]"), ("COUPON.ISSUE c", ":0")]);
}

#[test]
fn a_user_added_at_the_newest_score_is_not_taken_for_granted() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            ("ZADD c:issued 1700000000001 a", ":1"),
            ("COUPON.ISSUE c", ":1"),
            ("ZADD c:issued 1700000000002 z", ":1"),
            ("COUPON.STATUS c z", "WAITING"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.STATUS c z", "GRANTED"),
        ],
    );
    assert_eq!(Stored::read(&mut client, "c").granted(), ["a", "z"]);
}

#[test]
fn a_user_added_below_those_granted_costs_nobody_a_unit() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.ISSUE c", ":1"),
            ("ZADD c:issued 1 smuggled", ":1"),
        ],
    );
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.REQUEST c d", "QUEUED"),
            ("COUPON.ISSUE c", ":2"),
            ("ZREM c:issued smuggled", ":1"),
            ("COUPON.ISSUE c", ":0"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    assert_eq!(stored.granted(), ["a", "b", "d"]);
}

#[test]
fn a_user_added_below_those_granted_is_named_when_nobody_else_waits() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.ISSUE c", ":1"),
            ("ZADD c:issued 1 smuggled", ":1"),
        ],
    );
    expect_without_effect(&redis, &[("COUPON.ISSUE c", "-ERR users wait in the :issued key with scores below")]);
}

#[test]
fn a_member_that_is_no_user_stops_the_line_and_is_named() {
    for (member, score) in [
        (format!("{:0>129}", ""), "1700000000002"),
        (r#""a\x00b""#.into(), "1700000000002"),
        (r#""\xff""#.into(), "1700000000002"),
        (r#""""#.into(), "1700000000002"),
        ("fraction".into(), "1700000000001.5"),
        ("infinite".into(), "+inf"),
        ("negative".into(), "-5"),
    ] {
        let redis = Redis::start();
        let mut client = redis.client();
        let is_first = score == "-5";
        expect(&mut client, &[("COUPON.OPEN c QUANTITY 9", "+OK"), ("ZADD c:issued 1700000000001 good", ":1")]);
        expect(&mut client, &[(format!("ZADD c:issued {score} {member}"), ":1")]);
        if !is_first {
            // Whoever stands before it is served.
            expect(&mut client, &[("COUPON.ISSUE c", ":1")]);
        }
        expect_without_effect(&redis, &[("COUPON.ISSUE c", "-ERR the next in line in the :issued key")]);
        expect(&mut client, &[(format!("ZREM c:issued {member}"), ":1")]);
        expect(&mut client, &[("COUPON.ISSUE c", if is_first { ":1" } else { ":0" })]);
    }
}

#[test]
fn any_hash_with_status_and_quantity_is_a_coupon() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("HSET c status AVAILABLE quantity 1 name Welcome owner 7", ":4"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.ISSUE c", ":1"),
            ("HMGET c status quantity remaining seq name owner", "[ISSUED 1 0 1 Welcome 7]"),
            ("HSET instant status AVAILABLE quantity 1 mode INSTANT", ":3"),
            ("COUPON.REQUEST instant a", "GRANTED"),
            // Lowered by hand below what is granted: none is left.
            ("HSET c quantity 0 status AVAILABLE", ":0"),
            ("COUPON.ISSUE c", ":0"),
            ("COUPON.STATUS c a", "GRANTED"),
        ],
    );
    Stored::read(&mut client, "instant").assert_promises();
}

#[test]
fn a_field_that_holds_nonsense_is_named_and_nothing_is_decided() {
    for (field, value) in [
        ("status", "OPEN"),
        ("status", r#""""#),
        ("quantity", "five"),
        ("quantity", "-1"),
        ("quantity", "1000000001"),
        ("quantity", r#""5\x00""#),
        ("mode", "SOON"),
        ("waitlist", "1.5"),
        ("opens_at", "now"),
        ("expires_at", "253402300800000"),
        ("epoch", "-1"),
        ("seq", "99999999999999999999"),
        ("chain", "%n%n"),
        ("persisted", "x"),
        ("fence", "-"),
        ("first_at", "9007199254740993"),
        ("granted_to", r#""\xff 1""#),
        ("persisted_to", r#""x y""#),
        ("revision", "9007199254740992"),
        ("format", "two"),
        ("format", "0"),
    ] {
        let redis = Redis::start();
        expect(
            &mut redis.client(),
            &[("COUPON.OPEN c QUANTITY 5 MODE INSTANT", "+OK"), ("COUPON.REQUEST c a", "GRANTED")],
        );
        redis.client().run(&format!("HSET c {field} {value}"));
        let error = format!("-ERR field {field} of the coupon holds ");
        expect_without_effect(
            &redis,
            &[
                ("COUPON.REQUEST c b", &*error),
                ("COUPON.ISSUE c", &error),
                ("COUPON.STATUS c a", &error),
                ("COUPON.INFO c", &error),
                ("COUPON.CLOSE c", &error),
                ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", &error),
                ("COUPON.ACK c EPOCH 1 SEQ 1", &error),
            ],
        );
    }
}

#[test]
fn a_hash_that_claims_more_than_the_keys_hold_is_not_believed() {
    let redis = Redis::start();
    expect(&mut redis.client(), &[("HSET c status AVAILABLE quantity 9 seq 3 chain 5", ":4")]);
    expect_without_effect(
        &redis,
        &[("COUPON.REQUEST c a", "-TRYAGAIN the :issued key"), ("COUPON.ISSUE c", "-TRYAGAIN the :issued key")],
    );
}
