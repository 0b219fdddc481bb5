//! User ids: 1 to 128 bytes of UTF-8 without NUL, the same at every door.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Value, expect};

/// Ids that look like trouble and are none.
fn good() -> Vec<String> {
    let all = [
        "1",
        " ",
        "쿠폰",
        "%n%s%x",
        "a\r\nb",
        "\n",
        "\t",
        "\\x00",
        "\"",
        "'; drop table user_coupon; --",
        "-1",
        "+inf",
    ];
    let mut ids: Vec<String> = all.map(str::to_owned).into();
    ids.extend(["x".repeat(127), "x".repeat(128), "é".repeat(64), "WITHRANK".into(), "9".repeat(128)]);
    ids
}

#[test]
fn any_text_of_1_to_128_bytes_is_a_user() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN i QUANTITY 100 MODE INSTANT", "+OK"), ("COUPON.OPEN q QUANTITY 100", "+OK")]);
    for user in good() {
        assert_eq!(client.call(&["COUPON.REQUEST", "i", &user]), Value::Bulk(b"GRANTED".into()), "{user:?}");
        assert_eq!(client.call(&["COUPON.REQUEST", "q", &user]), Value::Bulk(b"QUEUED".into()), "{user:?}");
        assert_eq!(client.call(&["COUPON.REQUEST", "q", &user]), Value::Bulk(b"DUPLICATE".into()), "{user:?}");
        assert_eq!(client.call(&["COUPON.STATUS", "i", &user]), Value::Bulk(b"GRANTED".into()), "{user:?}");
    }
    assert_eq!(client.run("COUPON.ISSUE q").int(), good().len() as i64);
    for key in ["i", "q"] {
        let stored = Stored::read(&mut client, key);
        stored.assert_promises();
        assert_eq!(stored.granted(), good());
    }
}

#[test]
fn other_bytes_are_refused_at_every_door() {
    let redis = Redis::start();
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 100", "+OK")]);
    let bad = [
        (r#""""#.to_owned(), "-ERR user id has 0 bytes, 1 to 128 are allowed"),
        ("x".repeat(129), "-ERR user id has 129 bytes, 1 to 128 are allowed"),
        ("é".repeat(65), "-ERR user id has 130 bytes"),
        ("x".repeat(1_000_000), "-ERR user id has 1000000 bytes"),
        (r#""a\x00b""#.to_owned(), "-ERR user id holds a NUL byte"),
        (r#""\x00""#.to_owned(), "-ERR user id holds a NUL byte"),
        (r#""\xff\xfe""#.to_owned(), "-ERR user id is not UTF-8"),
        (r#""\xed\xa0\x80""#.to_owned(), "-ERR user id is not UTF-8"),
        (r#""\xc0\x80""#.to_owned(), "-ERR user id is not UTF-8"),
        (r#""a\xe2\x82""#.to_owned(), "-ERR user id is not UTF-8"),
    ];
    let calls = |command: &str| bad.iter().map(|(id, error)| (format!("{command} c {id}"), *error)).collect::<Vec<_>>();
    expect_without_effect(&redis, &calls("COUPON.REQUEST"));
    expect_without_effect(&redis, &calls("COUPON.STATUS"));
    let with = |call: &str, rest: &str| {
        calls(call).into_iter().map(|(call, error)| (format!("{call} {rest}"), error)).collect::<Vec<_>>()
    };
    expect_without_effect(&redis, &with("COUPON.WAIT", "1"));
    let restore = |(id, error): &(String, &'static str)| {
        (format!("COUPON.RESTORE c EPOCH 1 AFTER 0 CHAIN 0 GRANTS 1 {id} 1 1"), *error)
    };
    expect_without_effect(&redis, &bad.iter().map(restore).collect::<Vec<_>>());
}
