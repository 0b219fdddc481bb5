//! COUPON.REQUEST.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::expect;

#[test]
fn queue_mode_keeps_the_order_of_arrival() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 WAITLIST 1", "+OK"),
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.REQUEST c a WITHRANK", "[QUEUED :2]"),
            ("coupon.request c z withrank", "[QUEUED :3]"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    let users: Vec<&str> = stored.issued.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["b", "a", "z"]);
    assert_eq!(stored.number("first_at") as f64, stored.issued[0].1);
}

#[test]
fn instant_mode_grants_in_the_request() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 MODE INSTANT WAITLIST 1", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.REQUEST c b WITHRANK", "[GRANTED :2]"),
            ("HMGET c status remaining", "[ISSUED 0]"),
            ("COUPON.REQUEST c w WITHRANK", "[QUEUED :3]"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    assert_eq!(stored.granted(), ["a", "b"]);
}

#[test]
fn instant_mode_lets_nobody_pass_who_waits() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 3", "+OK"),
            ("COUPON.REQUEST c first", "QUEUED"),
            ("COUPON.OPEN c QUANTITY 3 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST c second", "QUEUED"),
            ("COUPON.ISSUE c COUNT 1", ":1"),
            ("COUPON.REQUEST c third", "QUEUED"),
            ("COUPON.ISSUE c", ":2"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    stored.assert_promises();
    assert_eq!(stored.granted(), ["first", "second", "third"]);
}

#[test]
fn second_request_keeps_the_first_rank() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 3 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.OPEN c QUANTITY 3 MODE QUEUE", "+OK"),
            ("COUPON.REQUEST c b", "QUEUED"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.REQUEST c a", "DUPLICATE"),
            ("COUPON.REQUEST c b", "DUPLICATE"),
            ("COUPON.REQUEST c b WITHRANK", "[DUPLICATE :2]"),
            ("COUPON.REQUEST c a WITHRANK", "[DUPLICATE :1]"),
        ],
    );
}

#[test]
fn beyond_quantity_and_waitlist_nothing_is_stored() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN q QUANTITY 1 WAITLIST 1", "+OK"),
            ("COUPON.REQUEST q a", "QUEUED"),
            ("COUPON.REQUEST q b", "QUEUED"),
            ("COUPON.OPEN i QUANTITY 1 MODE INSTANT", "+OK"),
            ("COUPON.REQUEST i a", "GRANTED"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.REQUEST q c", "SOLDOUT"),
            ("COUPON.REQUEST q c WITHRANK", "[SOLDOUT :0]"),
            ("COUPON.REQUEST i b", "SOLDOUT"),
            ("COUPON.REQUEST i a", "DUPLICATE"),
        ],
    );
    // A raised quantity makes room again.
    expect(&mut client, &[("COUPON.OPEN q QUANTITY 2", "+OK"), ("COUPON.REQUEST q c", "QUEUED")]);
}

#[test]
fn status_decides_before_stock() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("HSET standard status STANDARD quantity 0", ":2"),
            ("COUPON.OPEN closed QUANTITY 1", "+OK"),
            ("COUPON.REQUEST closed in", "QUEUED"),
            ("COUPON.CLOSE closed", "+OK"),
        ],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.REQUEST standard a", "NOTOPEN"),
            ("COUPON.REQUEST standard a WITHRANK", "[NOTOPEN :0]"),
            ("COUPON.REQUEST closed a", "CLOSED"),
            ("COUPON.REQUEST closed a WITHRANK", "[CLOSED :0]"),
            ("COUPON.REQUEST closed in", "DUPLICATE"),
        ],
    );
}

#[test]
fn clock_behind_the_newest_arrival_reorders_nobody() {
    let redis = Redis::start();
    let mut client = redis.client();
    // As left by a primary whose clock was ahead.
    let ahead = 4_000_000_000_000_000_u64;
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 5", "+OK"),
            (&*format!("ZADD c:issued {ahead} early"), ":1"),
            ("COUPON.REQUEST c later WITHRANK", "[QUEUED :2]"),
            ("COUPON.REQUEST c last WITHRANK", "[QUEUED :3]"),
            ("ZSCORE c:issued later", &(ahead + 1).to_string()),
            ("ZSCORE c:issued last", &(ahead + 2).to_string()),
        ],
    );
}

#[test]
fn a_score_after_which_no_order_is_left_is_refused() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5", "+OK")]);
    for score in ["9007199254740992", "1e300", "+inf"] {
        expect(&mut client, &[(format!("ZADD c:issued {score} far"), if score.len() > 10 { ":1" } else { ":0" })]);
        expect_without_effect(&redis, &[("COUPON.REQUEST c a", "-ERR the :issued key holds a score beyond 2^53")]);
    }
}

#[test]
fn misuse_is_refused() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[("COUPON.OPEN c QUANTITY 5", "+OK"), ("SET s 1", "+OK"), ("HSET other field value", ":1")],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.REQUEST", "-ERR wrong number of arguments"),
            ("COUPON.REQUEST c", "-ERR wrong number of arguments"),
            ("COUPON.REQUEST c a WITHSCORE", "-ERR unknown option 'WITHSCORE'; known are: WITHRANK"),
            ("COUPON.REQUEST c a b", "-ERR unknown option 'b'"),
            (r#"COUPON.REQUEST c a """#, "-ERR unknown option ''"),
            ("COUPON.REQUEST c a WITHRANK WITHRANK", "-ERR option WITHRANK is given twice"),
            ("COUPON.REQUEST c a WITHRANK x", "-ERR unknown option 'x'"),
            ("COUPON.REQUEST missing a", "-NOCOUPON "),
            ("COUPON.REQUEST other a", "-NOCOUPON "),
            (r#"COUPON.REQUEST "" a"#, "-ERR key has 0 bytes, 1 to 1024 are allowed"),
            ("COUPON.REQUEST s a", "-WRONGTYPE"),
        ],
    );
}

#[test]
fn a_keys_length_is_bounded() {
    let redis = Redis::start();
    let longest = "k".repeat(1024);
    expect(&mut redis.client(), &[(format!("COUPON.OPEN {longest} QUANTITY 5"), "+OK")]);
    let error = "-ERR key has 1025 bytes, 1 to 1024 are allowed";
    let table = [("OPEN", "QUANTITY 5"), ("REQUEST", "a"), ("ISSUE", ""), ("STATUS", "a"), ("INFO", ""), ("CLOSE", "")];
    expect_without_effect(&redis, &table.map(|(command, rest)| (format!("COUPON.{command} {longest}k {rest}"), error)));
}

#[test]
fn keys_are_bytes() {
    let redis = Redis::start();
    let mut client = redis.client();
    let key = r#""k\x00\xff\r\n%n""#;
    expect(
        &mut client,
        &[
            (&*format!("COUPON.OPEN {key} QUANTITY 5 MODE INSTANT"), "+OK"),
            (&*format!("COUPON.REQUEST {key} a"), "GRANTED"),
            (&*format!("COUPON.STATUS {key} a"), "GRANTED"),
            (r#"ZCARD "k\x00\xff\r\n%n:issued""#, ":1"),
            (r#"XLEN "k\x00\xff\r\n%n:grants""#, ":1"),
        ],
    );
}
