//! COUPON.OPEN.

use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::{Value, expect};

#[test]
fn definition_is_stored_with_defaults_for_what_is_left_out() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5", "+OK")]);
    let hash = client.run("HGETALL c");
    let fields: Vec<String> = hash.pairs().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        fields.join(" "),
        "status=AVAILABLE mode=QUEUE quantity=5 remaining=5 waitlist=0 opens_at=0 expires_at=0 epoch=0 seq=0 chain=0 \
         persisted=0 revision=0 format=1"
    );
    expect(&mut client, &[("EXISTS c:issued c:grants", ":0")]);
}

#[test]
fn options_come_in_any_order_and_case() {
    let redis = Redis::start();
    let mut client = redis.client();
    let (opens, expires) = ("631152000000", "253402300799999");
    expect(
        &mut client,
        &[
            (
                &*format!(
                    "COUPON.OPEN a QUANTITY 7 MODE INSTANT WAITLIST 3 OPENS {opens} EXPIRES {expires} EPOCH 4 REVISION 5"
                ),
                "+OK",
            ),
            (
                &*format!(
                    "coupon.open b revision 5 epoch 4 expires {expires} opens {opens} waitlist 3 mode instant quantity 7"
                ),
                "+OK",
            ),
        ],
    );
    let a = client.run("HGETALL a");
    assert_eq!(client.run("HGETALL b"), a);
    let stored = |name| a.field(name).text();
    assert_eq!(
        ["mode", "quantity", "remaining", "waitlist", "opens_at", "expires_at", "epoch", "revision"].map(stored),
        ["INSTANT", "7", "7", "3", opens, expires, "4", "5"]
    );
}

#[test]
fn bounds_are_accepted() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN a QUANTITY 1", "+OK"),
            ("COUPON.OPEN b QUANTITY 1000000000 WAITLIST 1000000000", "+OK"),
            ("COUPON.OPEN c QUANTITY 1 OPENS 253402300799998 EXPIRES 253402300799999", "+OK"),
            // From 1990 on.
            ("COUPON.OPEN c QUANTITY 1 OPENS 631152000000 EXPIRES 631152000001", "+OK"),
            ("COUPON.OPEN c QUANTITY 1 OPENS 0 EXPIRES 631152000000", "+OK"),
            ("COUPON.OPEN c QUANTITY 1 OPENS 631152000000 EXPIRES 0", "+OK"),
            ("COUPON.OPEN c QUANTITY 1 OPENS 0 EXPIRES 0", "+OK"),
            ("COUPON.OPEN d QUANTITY 1 EPOCH 9223372036854775807", "+OK"),
            ("COUPON.OPEN d QUANTITY 1 EPOCH 9223372036854775807 REVISION 9007199254740991", "+OK"),
        ],
    );
}

#[test]
fn what_is_left_out_stays_as_it_is() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 5 MODE INSTANT WAITLIST 2 OPENS 631152000000 EXPIRES 253402300799999", "+OK"),
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            (
                "HMGET c status mode quantity remaining waitlist opens_at expires_at",
                "[AVAILABLE INSTANT 9 9 2 631152000000 253402300799999]",
            ),
            ("COUPON.OPEN c QUANTITY 9 WAITLIST 0 MODE QUEUE EXPIRES 0 OPENS 0", "+OK"),
            ("HMGET c mode waitlist opens_at expires_at", "[QUEUE 0 0 0]"),
        ],
    );
}

#[test]
fn the_same_call_twice_is_no_change() {
    let redis = Redis::start();
    let mut client = redis.client();
    let call = "COUPON.OPEN c QUANTITY 5 MODE INSTANT WAITLIST 2 OPENS 631152000000 EXPIRES 253402300799999";
    expect(&mut client, &[(call, "+OK"), ("COUPON.REQUEST c a", "GRANTED")]);
    expect_without_effect(&redis, &[(call, "+OK"), ("COUPON.OPEN c QUANTITY 5", "+OK")]);
    let published = "COUPON.OPEN c QUANTITY 5 EPOCH 1 REVISION 3";
    expect(&mut client, &[(published, "+OK")]);
    expect_without_effect(&redis, &[(published, "+OK"), ("COUPON.OPEN c QUANTITY 5 EPOCH 1", "+OK")]);
}

#[test]
fn open_never_touches_who_was_granted() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 MODE INSTANT WAITLIST 2", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.REQUEST c b", "GRANTED"),
            ("HMGET c status remaining", "[ISSUED 0]"),
            ("COUPON.REQUEST c w", "QUEUED"),
            // A raised quantity puts it on offer again; who waits goes first.
            ("COUPON.OPEN c QUANTITY 4", "+OK"),
            ("HMGET c status remaining seq", "[AVAILABLE 2 2]"),
            ("COUPON.REQUEST c x", "QUEUED"),
            ("COUPON.ISSUE c", ":2"),
            ("COUPON.STATUS c w", "GRANTED"),
            ("HMGET c status remaining seq", "[ISSUED 0 4]"),
            // Lowered to what is granted: nothing is left.
            ("COUPON.OPEN c QUANTITY 9", "+OK"),
            ("COUPON.OPEN c QUANTITY 4", "+OK"),
            ("HMGET c status remaining quantity", "[ISSUED 0 4]"),
        ],
    );
    expect_without_effect(&redis, &[("COUPON.OPEN c QUANTITY 3", "-ERR QUANTITY 3 is below the 4 units")]);
}

#[test]
fn a_closed_coupon_can_be_opened_again() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 2", "+OK"),
            ("COUPON.CLOSE c", "+OK"),
            ("COUPON.REQUEST c a", "CLOSED"),
            ("COUPON.OPEN c QUANTITY 2", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            // Its window has ended: the same definition does not wake it, a new window does.
            ("COUPON.OPEN c QUANTITY 2 EXPIRES 631152000000", "+OK"),
            ("COUPON.CLOSE c", "+OK"),
            ("COUPON.OPEN c QUANTITY 2", "+OK"),
            ("HGET c status", "EXPIRED"),
            ("COUPON.OPEN c QUANTITY 2 EXPIRES 0", "+OK"),
            ("HGET c status", "AVAILABLE"),
        ],
    );
}

#[test]
fn epoch_is_stored_at_birth_and_only_checked_later() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 EPOCH 3", "+OK"),
            ("HGET c epoch", "3"),
            // Fenced from birth.
            ("COUPON.REQUEST c a", "-TRYAGAIN"),
            ("COUPON.OPEN c QUANTITY 4 EPOCH 5", "+OK"),
            ("HMGET c epoch quantity", "[3 4]"),
            // By hand it can be redefined too, and stays fenced.
            ("COUPON.OPEN c QUANTITY 5", "+OK"),
            ("HMGET c epoch quantity", "[3 5]"),
            ("COUPON.REQUEST c a", "-TRYAGAIN"),
        ],
    );
    expect_without_effect(&redis, &[("COUPON.OPEN c QUANTITY 6 EPOCH 2", "-STALEEPOCH ")]);
}

#[test]
fn an_older_definition_never_takes_the_place_of_a_newer_one() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 EPOCH 3 REVISION 7", "+OK"),
            ("COUPON.OPEN c QUANTITY 3 EPOCH 3 REVISION 7", "+OK"),
            ("COUPON.OPEN c QUANTITY 4 EPOCH 3 REVISION 9", "+OK"),
            ("HMGET c quantity revision", "[4 9]"),
        ],
    );
    let stale = "-STALEEPOCH revision 8 was given, and a newer definition is there, revision 9; ";
    expect_without_effect(
        &redis,
        &[
            ("COUPON.OPEN c QUANTITY 3 EPOCH 3 REVISION 8", stale),
            // A later epoch makes it no newer, and an earlier one is told first.
            ("COUPON.OPEN c QUANTITY 3 EPOCH 4 REVISION 8", stale),
            ("COUPON.OPEN c QUANTITY 3 EPOCH 2 REVISION 10", "-STALEEPOCH coupon is at epoch 3; "),
        ],
    );
    // By hand, and from a reconciler that does not count, the definition changes and its number stays; so it does under all
    // that happens to the coupon otherwise.
    for call in [
        "COUPON.OPEN c QUANTITY 5",
        "COUPON.OPEN c QUANTITY 6 EPOCH 3",
        "COUPON.RESTORE c EPOCH 4",
        "COUPON.RESTORE c EPOCH 4 AFTER 0 CHAIN 0 GRANTS 1 a 1 1",
        "COUPON.RESUME c EPOCH 4 SEQ 0 CHAIN 0",
        "COUPON.REQUEST c b",
        "COUPON.ISSUE c",
        "COUPON.ACK c EPOCH 4 SEQ 2",
        "COUPON.CLOSE c",
        "COUPON.OPEN c QUANTITY 9",
    ] {
        client.run(call);
        assert_eq!(client.run("HGET c revision").text(), "9", "{call}");
    }
    expect_without_effect(&redis, &[("COUPON.OPEN c QUANTITY 9 EPOCH 4 REVISION 8", stale)]);
}

#[test]
fn misuse_is_refused_and_named() {
    let redis = Redis::start();
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 5 OPENS 631152000010", "+OK"), ("SET s 1", "+OK")]);
    let number = |name: &str, value: &str| format!("-ERR {name} is a whole number from {value}");
    let quantity = number("QUANTITY", "1 to 1000000000, not ");
    let waitlist = number("WAITLIST", "0 to 1000000000, not ");
    let window = |name| format!("-ERR {name} is a time in Unix milliseconds ");
    let epoch = number("EPOCH", "1 to 9223372036854775807, not ");
    let revision = number("REVISION", "1 to 9007199254740991, not ");
    expect_without_effect(
        &redis,
        &[
            ("COUPON.OPEN", "-ERR wrong number of arguments"),
            ("COUPON.OPEN c", "-ERR wrong number of arguments"),
            ("COUPON.OPEN c QUANTITY", "-ERR wrong number of arguments"),
            ("COUPON.OPEN new WAITLIST 5", "-ERR option QUANTITY is missing"),
            ("COUPON.OPEN c QUANTITY 5 MODE", "-ERR option MODE needs a value"),
            ("COUPON.OPEN c QUANTITY 5 QUANTITY 5", "-ERR option QUANTITY is given twice"),
            (
                "COUPON.OPEN c QUANTITY 5 COLOUR red",
                "-ERR unknown option 'COLOUR'; known are: QUANTITY, STATUS, MODE, ",
            ),
            ("COUPON.OPEN c 5 QUANTITY", "-ERR unknown option '5'"),
            ("COUPON.OPEN c QUANTITY 0", &quantity),
            ("COUPON.OPEN c QUANTITY -1", &quantity),
            ("COUPON.OPEN c QUANTITY +1", &quantity),
            ("COUPON.OPEN c QUANTITY 1.5", &quantity),
            ("COUPON.OPEN c QUANTITY 1e3", &quantity),
            ("COUPON.OPEN c QUANTITY 0x10", &quantity),
            ("COUPON.OPEN c QUANTITY five", &quantity),
            (r#"COUPON.OPEN c QUANTITY """#, &quantity),
            (r#"COUPON.OPEN c QUANTITY " 5""#, &quantity),
            (r#"COUPON.OPEN c QUANTITY "5\x00""#, &quantity),
            ("COUPON.OPEN c QUANTITY 1000000001", &quantity),
            ("COUPON.OPEN c QUANTITY 9223372036854775808", &quantity),
            ("COUPON.OPEN c QUANTITY 18446744073709551616", &quantity),
            ("COUPON.OPEN c QUANTITY 999999999999999999999999999999999999999999", &quantity),
            ("COUPON.OPEN c QUANTITY 5 WAITLIST -1", &waitlist),
            ("COUPON.OPEN c QUANTITY 5 WAITLIST 1000000001", &waitlist),
            ("COUPON.OPEN c QUANTITY 5 OPENS -1", &window("OPENS")),
            ("COUPON.OPEN c QUANTITY 5 EXPIRES tomorrow", &window("EXPIRES")),
            ("COUPON.OPEN c QUANTITY 5 EPOCH 0", &epoch),
            ("COUPON.OPEN c QUANTITY 5 EPOCH 9223372036854775808", &epoch),
            ("COUPON.OPEN c QUANTITY 5 EPOCH 1 REVISION 0", &revision),
            ("COUPON.OPEN c QUANTITY 5 EPOCH 1 REVISION 9007199254740992", &revision),
            ("COUPON.OPEN c QUANTITY 5 EPOCH 1 REVISION", "-ERR option REVISION needs a value"),
            ("COUPON.OPEN c QUANTITY 5 EPOCH 1 REVISION 1 REVISION 1", "-ERR option REVISION is given twice"),
            ("COUPON.OPEN c QUANTITY 5 REVISION 1", "-ERR option EPOCH is missing: REVISION is the reconciler's"),
            ("COUPON.OPEN new QUANTITY 5 REVISION 1", "-ERR option EPOCH is missing: REVISION is the reconciler's"),
            ("COUPON.OPEN c QUANTITY 5 MODE LATER", "-ERR MODE is QUEUE or INSTANT, not 'LATER'"),
            // An empty window, with one bound given and one stored.
            (
                "COUPON.OPEN c QUANTITY 5 EXPIRES 631152000010",
                "-ERR EXPIRES 631152000010 is not after OPENS 631152000010",
            ),
            (
                "COUPON.OPEN new QUANTITY 5 OPENS 631152000008 EXPIRES 631152000007",
                "-ERR EXPIRES 631152000007 is not after OPENS 631152000008",
            ),
            ("COUPON.OPEN s QUANTITY 5", "-WRONGTYPE"),
            // Bytes of a client appear escaped and cut, never as they are.
            (
                r#"COUPON.OPEN c QUANTITY "%n%s\r\n\x00""#,
                r"-ERR QUANTITY is a whole number from 1 to 1000000000, not '%n%s\r\n\x00'",
            ),
        ],
    );
}

/// The same moment in seconds, in microseconds and in nanoseconds; and what lies at the edges.
const OTHER_UNITS: [&str; 8] = [
    "1795874262",
    "1795874262000000",
    "1795874262000000000",
    "1",
    "631151999999",
    "253402300800000",
    "9223372036854775807",
    "18446744073709551615",
];

#[test]
fn a_time_in_another_unit_is_refused_and_the_right_one_named() {
    let redis = Redis::start();
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 5", "+OK")]);
    for time in OTHER_UNITS {
        for (call, option) in [
            ("COUPON.OPEN c QUANTITY 5 OPENS {}", "OPENS"),
            ("COUPON.OPEN c QUANTITY 5 EXPIRES {}", "EXPIRES"),
            ("COUPON.OPEN new QUANTITY 5 OPENS {}", "OPENS"),
            ("COUPON.OPEN new QUANTITY 5 OPENS 1795874262000 EXPIRES {}", "EXPIRES"),
            ("COUPON.OPEN new QUANTITY 5 EXPIRES {} OPENS 0", "EXPIRES"),
        ] {
            let call = call.replace("{}", time);
            expect_without_effect(&redis, &[(&*call, &*format!("-ERR {option} "))]);
            let error = redis.client().run(&call).to_string();
            assert!(error.contains(time) && error.contains("milliseconds"), "{call}: {error}");
        }
    }
}

#[test]
fn long_arguments_are_cut_in_the_error() {
    let redis = Redis::start();
    let long = "x".repeat(1_000_000);
    let Value::Error(error) = redis.client().call(&["COUPON.OPEN", "c", "QUANTITY", "5", &long]) else {
        panic!("an unknown option was accepted");
    };
    assert!(error.len() < 300, "{} bytes", error.len());
}

#[test]
fn a_coupon_that_lost_its_hash_does_not_start_over() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[("COUPON.OPEN c QUANTITY 2 MODE INSTANT", "+OK"), ("COUPON.REQUEST c a", "GRANTED"), ("DEL c", ":1")],
    );
    expect_without_effect(
        &redis,
        &[
            ("COUPON.OPEN c QUANTITY 2", "-TRYAGAIN"),
            ("COUPON.REQUEST c b", "-NOCOUPON"),
            ("COUPON.ISSUE c", "-NOCOUPON"),
        ],
    );
    // The reconciler can open it: it is fenced from birth.
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2 EPOCH 1", "+OK"), ("COUPON.REQUEST c b", "-TRYAGAIN")]);
}

#[test]
fn an_evicting_policy_is_refused() {
    let redis = Redis::start();
    let mut client = redis.client();
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        expect(&mut client, &[(format!("CONFIG SET maxmemory-policy {policy}"), "+OK")]);
        expect_without_effect(&redis, &[("COUPON.OPEN c QUANTITY 2", "-ERR maxmemory-policy")]);
    }
    // These evict keys with a TTL, which a coupon's have not.
    expect(&mut client, &[("CONFIG SET maxmemory-policy volatile-lru", "+OK"), ("COUPON.OPEN c QUANTITY 2", "+OK")]);
}

#[test]
fn only_the_call_that_changes_something_is_replicated() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2", "+OK")]);
    let mut stream = ReplicationStream::attach(&redis);
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2 WAITLIST 1", "+OK"), ("COUPON.OPEN c QUANTITY 2", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c waitlist 1"]);
}
