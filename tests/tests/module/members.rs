//! Of a coupon that turns users away the module learns who is in, and then turns away whoever is not without looking. Whoever
//! is in is told so all the same, however they came in.

use crate::info_section::is_told_of_changes;
use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, expect};

/// Users who are in, more than are read at a time.
const USERS: usize = 100;

/// Waits until it is known who is in `c`, by requests of strangers that are all answered so.
fn learn(client: &mut Client, answer: &str) {
    // Without word of changes nothing is kept in mind.
    if !is_told_of_changes(client) {
        return;
    }
    let mut stranger = 0;
    eventually_true("the members are known", || {
        stranger += 1;
        expect(client, &[(format!("COUPON.REQUEST c stranger{stranger}"), answer)]);
        client.run("INFO coupon").text().contains("coupon_sets_in_mind:1\r")
    });
    assert!(stranger <= 2 * USERS / 32 + 2, "{stranger} requests to learn {USERS} members");
}

/// A coupon that is sold out, and of which it is known who is in: `u0` to `u99`.
fn sold_out(redis: &Redis) -> Client {
    let mut client = redis.client();
    expect(&mut client, &[(format!("COUPON.OPEN c QUANTITY {USERS}"), "+OK")]);
    let requests: Vec<String> = (0..USERS).map(|user| format!("COUPON.REQUEST c u{user}")).collect();
    assert!(client.pipeline(&requests).iter().all(|reply| reply.to_string() == "QUEUED"));
    learn(&mut client, "SOLDOUT");
    client
}

#[test]
fn everybody_is_told_what_holds_for_them() {
    let redis = Redis::start();
    let mut client = sold_out(&redis);
    let members: Vec<String> = (0..USERS).map(|user| format!("COUPON.REQUEST c u{user}")).collect();
    assert!(client.pipeline(&members).iter().all(|reply| reply.to_string() == "DUPLICATE"));
    // Enough of them that some are taken for members at first sight.
    let strangers: Vec<String> = (0..2000).map(|user| format!("COUPON.REQUEST c x{user}")).collect();
    assert!(client.pipeline(&strangers).iter().all(|reply| reply.to_string() == "SOLDOUT"));
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST c x WITHRANK", "[SOLDOUT :0]"),
            ("COUPON.REQUEST c u7 WITHRANK", "[DUPLICATE :8]"),
            ("COUPON.MREQUEST c x y z", "[SOLDOUT SOLDOUT SOLDOUT]"),
            ("COUPON.MREQUEST c x u1 z", "[SOLDOUT DUPLICATE SOLDOUT]"),
            ("COUPON.ISSUE c", ":100"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("COUPON.CLOSE c", "+OK"),
            ("COUPON.REQUEST c x", "CLOSED"),
            ("COUPON.REQUEST c u1", "DUPLICATE"),
            ("ZCARD c:issued", ":100"),
        ],
    );
}

#[test]
fn whoever_comes_in_is_in_from_then_on() {
    let redis = Redis::start();
    let mut client = sold_out(&redis);
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 101", "+OK"),
            ("COUPON.REQUEST c late", "QUEUED"),
            ("COUPON.REQUEST c late", "DUPLICATE"),
            // As few units as when nobody else was in.
            ("COUPON.OPEN c QUANTITY 100", "+OK"),
            ("COUPON.REQUEST c late", "DUPLICATE"),
            ("COUPON.REQUEST c x", "SOLDOUT"),
            ("COUPON.REQUEST c late", "DUPLICATE"),
        ],
    );
    learn(&mut client, "SOLDOUT");
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST c late", "DUPLICATE"),
            ("COUPON.OPEN c QUANTITY 102", "+OK"),
            ("COUPON.MREQUEST c later x y", "[QUEUED SOLDOUT SOLDOUT]"),
            ("COUPON.REQUEST c later", "DUPLICATE"),
        ],
    );
    learn(&mut client, "SOLDOUT");
    expect(&mut client, &[("COUPON.MREQUEST c late later x", "[DUPLICATE DUPLICATE SOLDOUT]")]);
}

#[test]
fn whoever_is_put_in_by_hand_is_in() {
    for put in [
        "ZADD c:issued 5 x",
        "ZINCRBY c:issued 5 x",
        "ZUNIONSTORE c:issued 2 c:issued others",
        "ZRANGESTORE c:issued others 0 -1",
        "RENAME others c:issued",
        "COPY others c:issued REPLACE",
        "GEOADD c:issued 13 38 x",
    ] {
        let redis = Redis::start();
        let mut client = sold_out(&redis);
        let users: String = (0..USERS).map(|user| format!(" 1 u{user}")).collect();
        expect(&mut client, &[(format!("ZADD others 5 x{users}"), ":101")]);
        assert!(!client.run(put).is_error(), "{put}");
        expect(&mut client, &[("COUPON.REQUEST c x", "DUPLICATE"), ("COUPON.REQUEST c y", "SOLDOUT")]);
    }
}

#[test]
fn a_change_within_a_transaction_or_a_script_is_noticed() {
    let redis = Redis::start();
    let mut client = sold_out(&redis);
    let replies = client.pipeline(&["MULTI", "COUPON.REQUEST c x", "ZADD c:issued 5 x", "COUPON.REQUEST c x", "EXEC"]);
    assert_eq!(replies.last().map(ToString::to_string), Some("[SOLDOUT :1 DUPLICATE]".into()));
    learn(&mut client, "SOLDOUT");
    let script = "redis.call('ZADD', KEYS[2], 5, 'y'); return redis.call('COUPON.REQUEST', KEYS[1], 'y')";
    assert_eq!(client.call(&["EVAL", script, "2", "c", "c:issued"]).to_string(), "DUPLICATE");
}

#[test]
fn whoever_was_taken_out_can_come_in_again() {
    for taken in ["ZREM c:issued u7", "ZPOPMIN c:issued", "ZREMRANGEBYRANK c:issued 0 0"] {
        let redis = Redis::start();
        let mut client = sold_out(&redis);
        assert!(!client.run(taken).is_error(), "{taken}");
        expect(&mut client, &[("COUPON.REQUEST c x", "QUEUED"), ("COUPON.REQUEST c y", "SOLDOUT")]);
    }
}

#[test]
fn a_set_that_is_gone_is_noticed_by_the_tripwire() {
    for gone in
        ["DEL c:issued", "UNLINK c:issued", "RENAME c:issued elsewhere", "MOVE c:issued 5", "PEXPIREAT c:issued 1"]
    {
        let redis = Redis::start();
        let mut client = sold_out(&redis);
        assert!(!client.run(gone).is_error(), "{gone}");
        expect(&mut client, &[("COUPON.REQUEST c x", "-TRYAGAIN the :issued key")]);
    }
    for gone in ["FLUSHDB", "FLUSHALL ASYNC", "SWAPDB 0 5"] {
        let redis = Redis::start();
        let mut client = sold_out(&redis);
        assert!(!client.run(gone).is_error(), "{gone}");
        expect(&mut client, &[("COUPON.REQUEST c x", "-NOCOUPON")]);
    }
}

#[test]
fn a_set_overwritten_by_another_type_is_noticed_at_once() {
    for overwrite in
        ["SET c:issued x", "SUNIONSTORE c:issued set", "BITOP NOT c:issued string", "SORT list STORE c:issued"]
    {
        // Each of them is the first to see it, in the place of an answer from memory.
        for call in ["COUPON.REQUEST c x", "COUPON.REQUEST c u1", "COUPON.MREQUEST c x y", "COUPON.STATUS c x"] {
            let redis = Redis::start();
            let mut client = sold_out(&redis);
            client.pipeline(&["SADD set x", "SET string x", "RPUSH list 1"]);
            assert!(!client.run(overwrite).is_error(), "{overwrite}");
            expect(
                &mut client,
                &[(call, "-WRONGTYPE the :issued key"), ("COUPON.ISSUE c", "-WRONGTYPE the :issued key")],
            );
        }
    }
}

#[test]
fn a_set_that_is_to_expire_is_never_kept_in_mind() {
    let redis = Redis::start();
    let mut client = sold_out(&redis);
    expect(&mut client, &[("DEBUG SET-ACTIVE-EXPIRE 0", "+OK"), ("PEXPIRE c:issued 50", ":1")]);
    eventually_true("the set has run out", || {
        let reply = client.run("COUPON.REQUEST c x").to_string();
        assert!(reply == "SOLDOUT" || reply.starts_with("-TRYAGAIN the :issued key"), "{reply}");
        reply != "SOLDOUT"
    });
    assert_eq!(client.run("EXISTS c:issued").int(), 0);
}

#[test]
fn a_set_loaded_anew_is_learned_anew() {
    let redis = Redis::start();
    let mut client = sold_out(&redis);
    expect(
        &mut client,
        &[("DEBUG RELOAD", "+OK"), ("COUPON.REQUEST c u5", "DUPLICATE"), ("COUPON.REQUEST c x", "SOLDOUT")],
    );
    learn(&mut client, "SOLDOUT");
}

#[test]
fn many_users_at_one_score_are_told_apart() {
    let redis = Redis::start();
    let mut client = redis.client();
    let users: String = (0..USERS).map(|user| format!(" 5 u{user}")).collect();
    expect(
        &mut client,
        &[(format!("COUPON.OPEN c QUANTITY {USERS}"), "+OK"), (format!("ZADD c:issued{users}"), ":100")],
    );
    // As soon as if they were apart.
    learn(&mut client, "SOLDOUT");
    for round in 0..20 {
        expect(
            &mut client,
            &[
                (format!("COUPON.REQUEST c x{round}"), "SOLDOUT"),
                (format!("COUPON.REQUEST c u{round}"), "DUPLICATE"),
                (format!("COUPON.REQUEST c u{}", USERS - 1 - round), "DUPLICATE"),
            ],
        );
    }
}

#[test]
fn the_clock_goes_on_for_those_who_are_turned_away() {
    let redis = Redis::start();
    let mut client = redis.client();
    let now = client.run("TIME").array()[0].text().parse::<u64>().expect("seconds");
    let (opens, expires) = ((now + 2) * 1000, (now + 4) * 1000);
    expect(&mut client, &[(format!("COUPON.OPEN c QUANTITY 1 OPENS {opens} EXPIRES {expires}"), "+OK")]);
    learn(&mut client, "NOTOPEN");
    let mut answers = Vec::new();
    eventually_true("the window has been open", || {
        let answer = client.run("COUPON.REQUEST c x").to_string();
        if answers.last() != Some(&answer) {
            answers.push(answer);
        }
        answers.last().is_some_and(|answer| answer == "DUPLICATE")
    });
    learn(&mut client, "SOLDOUT");
    eventually_true("the window has ended", || {
        let answer = client.run("COUPON.REQUEST c y").to_string();
        if answers.last() != Some(&answer) {
            answers.push(answer);
        }
        answers.last().is_some_and(|answer| answer == "CLOSED")
    });
    assert_eq!(answers, ["NOTOPEN", "QUEUED", "DUPLICATE", "SOLDOUT", "CLOSED"]);
}
