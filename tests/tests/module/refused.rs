//! REFUSED: a grant whose row PostgreSQL does not take, from COUPON.ACK or COUPON.RESTORE until a later ACK says that it has one.

use crate::wait::{answer, blocked};
use coupon_tests::artifact;
use coupon_tests::dump::await_replica;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::{Client, expect};

/// Four grants: `a` persisted, `b` refused, `c` and `d` granted; `w` waits.
fn sale(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.OPEN c QUANTITY 5 WAITLIST 9 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.MREQUEST c a b c d w", "[QUEUED QUEUED QUEUED QUEUED QUEUED]"),
            ("COUPON.ISSUE c COUNT 4", ":4"),
            ("COUPON.ACK c EPOCH 1 SEQ 2 REFUSED 1 b", "+OK"),
        ],
    );
}

fn assert_b_is_refused(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.STATUS c a", "PERSISTED"),
            ("COUPON.STATUS c b", "REFUSED"),
            ("ZRANGE c:refused 0 -1", "[b]"),
            ("HGET c refused", "1"),
        ],
    );
}

#[test]
fn a_refused_user_keeps_the_place_and_is_told_apart() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    assert_b_is_refused(&mut client);
    expect(
        &mut client,
        &[
            ("COUPON.STATUS c b WITHRANK", "[REFUSED :2 :0]"),
            ("COUPON.WAIT c b 86400000", "REFUSED"),
            ("COUPON.REQUEST c b", "DUPLICATE"),
            ("COUPON.STATUS c c", "GRANTED"),
            ("COUPON.STATUS c w", "WAITING"),
            ("COUPON.STATUS c nobody", "NONE"),
            ("COUPON.ACK c EPOCH 1 SEQ 4 REFUSED 1 d", "+OK"),
            ("COUPON.STATUS c b", "REFUSED"),
            ("COUPON.STATUS c c", "PERSISTED"),
            ("COUPON.STATUS c d", "REFUSED"),
        ],
    );
    let info = client.run("COUPON.INFO c");
    assert_eq!(["granted", "persisted", "refused"].map(|field| info.field(field).int()), [4, 4, 2]);
    // Said again, of one that is acknowledged already.
    expect_without_effect(&redis, &[("COUPON.ACK c EPOCH 1 SEQ 4 REFUSED 2 b d", "+OK")]);
}

#[test]
fn one_that_became_a_row_is_persisted_and_nothing_is_left_of_the_last() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    expect(
        &mut client,
        &[
            ("COUPON.ACK c EPOCH 1 SEQ 4 REFUSED 1 d", "+OK"),
            ("COUPON.ACK c EPOCH 1 SEQ 4 PERSISTED 1 b", "+OK"),
            ("COUPON.STATUS c b", "PERSISTED"),
            ("COUPON.STATUS c d", "REFUSED"),
            ("COUPON.ACK c EPOCH 1 SEQ 0 REFUSED 1 a PERSISTED 1 d", "+OK"),
            ("COUPON.STATUS c d", "PERSISTED"),
            ("COUPON.STATUS c a", "REFUSED"),
            ("COUPON.ACK c EPOCH 1 SEQ 0 PERSISTED 2 a w", "+OK"),
            ("COUPON.STATUS c a", "PERSISTED"),
            ("COUPON.STATUS c w", "WAITING"),
            ("EXISTS c:refused", ":0"),
            ("HEXISTS c refused", ":0"),
        ],
    );
}

#[test]
fn whoever_waits_is_told_with_the_ack() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    let mut waiting = blocked(&redis, &["c", "d", "w"]);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1 c", "+OK")]);
    assert_eq!(answer(&mut waiting[0]), "REFUSED");
    // Though it is not acknowledged yet.
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1 d", "+OK")]);
    assert_eq!(answer(&mut waiting[1]), "REFUSED");
    expect(&mut client, &[("COUPON.CLOSE c", "+OK")]);
    assert_eq!(answer(&mut waiting[2]), "WAITING");
}

#[test]
fn what_is_refused_is_replicated_as_plain_effects() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    let mut stream = ReplicationStream::attach(&redis);
    let mut told = |call: &str| {
        expect(&mut client, &[(call, "+OK")]);
        stream.lines()
    };
    let lines = told("COUPON.ACK c EPOCH 1 SEQ 4 REFUSED 2 c d PERSISTED 1 b");
    assert_eq!(lines[..3], ["MULTI", "ZADD c:refused 0 c 0 d", "ZREM c:refused b"], "{lines:?}");
    assert!(lines[3].starts_with("HSET c persisted 4 persisted_to ") && lines[3].ends_with(" refused 2"), "{lines:?}");
    assert_eq!(told("COUPON.ACK c EPOCH 1 SEQ 4 REFUSED 1 d"), [""; 0]);
    let lines = told("COUPON.ACK c EPOCH 1 SEQ 4 REFUSED 1 b PERSISTED 1 c");
    assert_eq!(lines, ["MULTI", "ZADD c:refused 0 b", "ZREM c:refused c", "EXEC"]);
    assert_eq!(
        told("COUPON.ACK c EPOCH 1 SEQ 4 PERSISTED 2 b d"),
        ["MULTI", "ZREM c:refused b d", "HDEL c refused", "EXEC"]
    );
}

#[test]
fn it_outlives_the_process_the_copy_and_the_module() {
    let mut redis = Options::shipped()
        .without_module()
        .line("enable-module-command yes")
        .line("appendonly yes")
        .line("appendfsync always")
        .start();
    let load = format!("MODULE LOAD {}", artifact::module().display());
    let mut client = redis.client();
    expect(&mut client, &[(load.as_str(), "+OK")]);
    sale(&mut client);
    expect(&mut client, &[("MODULE UNLOAD coupon", "+OK"), (&load, "+OK")]);
    assert_b_is_refused(&mut client);
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    assert_b_is_refused(&mut client);
    redis.kill();
    redis.start_again();
    let mut client = redis.client();
    expect(&mut client, &[(load.as_str(), "+OK")]);
    assert_b_is_refused(&mut client);
}

#[test]
fn a_replica_says_it_too_and_after_its_promotion() {
    let mut primary = Redis::start();
    let replica = primary.replica();
    sale(&mut primary.client());
    await_replica(&primary, &replica);
    let mut client = replica.client();
    assert_b_is_refused(&mut client);
    primary.kill();
    expect(&mut client, &[("REPLICAOF NO ONE", "+OK")]);
    assert_b_is_refused(&mut client);
}

#[test]
fn a_list_that_is_gone_or_incomplete_makes_nobody_persisted() {
    for (damage, done) in [
        ("DEL c:refused", ":1"),
        ("RENAME c:refused elsewhere", "+OK"),
        ("MOVE c:refused 5", ":1"),
        ("PEXPIREAT c:refused 1", ":1"),
        ("ZREM c:refused b", ":1"),
        ("HSET c refused 2", ":0"),
    ] {
        let redis = Redis::start();
        sale(&mut redis.client());
        expect(&mut redis.client(), &[(damage, done)]);
        let error = "-TRYAGAIN the :refused key";
        expect_without_effect(
            &redis,
            &[
                ("COUPON.STATUS c b", error),
                ("COUPON.WAIT c b 1", error),
                ("COUPON.REQUEST c new", error),
                ("COUPON.ISSUE c", error),
                ("COUPON.INFO c", error),
                ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1 c", error),
            ],
        );
        // The ledger's word on all of it.
        expect(
            &mut redis.client(),
            &[
                ("COUPON.RESTORE c EPOCH 2", "+OK"),
                ("COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 REFUSED 1 b GRANTS 2 a 1 1 b 2 1", "+OK"),
            ],
        );
        assert_b_is_refused(&mut redis.client());
    }
}

#[test]
fn a_list_of_another_type_is_refused_and_an_older_one_is_forgotten() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    expect(&mut client, &[("SET c:refused x", "+OK")]);
    expect_without_effect(&redis, &[("COUPON.STATUS c b", "-WRONGTYPE "), ("COUPON.REQUEST c new", "-WRONGTYPE ")]);
    expect(
        &mut client,
        &[
            ("DEL c c:issued c:grants c:refused", ":4"),
            // Left over from an earlier life: nothing counts it.
            ("ZADD c:refused 0 a 0 z", ":2"),
        ],
    );
    sale(&mut client);
    assert_b_is_refused(&mut client);
}

#[test]
fn a_restore_brings_its_own_list() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    expect(
        &mut client,
        &[
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            ("COUPON.STATUS c b", "REFUSED"),
            ("COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 REFUSED 1 d GRANTS 2 b 1 1 d 2 1", "+OK"),
            ("COUPON.STATUS c d", "REFUSED"),
            ("COUPON.STATUS c b", "PERSISTED"),
            ("COUPON.STATUS c a", "WAITING"),
        ],
    );
    // A part that comes after another keeps what that has said.
    let chain = client.run("HGET c chain").text().to_owned();
    expect(
        &mut client,
        &[
            (format!("COUPON.RESTORE c EPOCH 2 AFTER 2 CHAIN {chain} REFUSED 1 x GRANTS 2 a 3 1 x 4 1"), "+OK"),
            ("COUPON.STATUS c d".into(), "REFUSED"),
            ("COUPON.STATUS c x".into(), "REFUSED"),
            ("COUPON.STATUS c a".into(), "PERSISTED"),
            ("HGET c refused".into(), "2"),
            ("COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 1 d 1 1".into(), "+OK"),
            ("COUPON.STATUS c d".into(), "PERSISTED"),
            ("EXISTS c:refused".into(), ":0"),
            ("HEXISTS c refused".into(), ":0"),
        ],
    );
}

#[test]
fn a_fence_keeps_what_was_said() {
    let redis = Redis::start();
    sale(&mut redis.client());
    expect(&mut redis.client(), &[("DEBUG RELOAD", "+OK")]);
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK c EPOCH 1 SEQ 2 PERSISTED 1 b", "-TRYAGAIN coupon is fenced"),
            ("COUPON.ACK c EPOCH 1 SEQ 4 REFUSED 1 c", "-TRYAGAIN coupon is fenced"),
            ("COUPON.STATUS c b", "REFUSED"),
        ],
    );
}

#[test]
fn misuse_is_refused() {
    let redis = Redis::start();
    sale(&mut redis.client());
    let long = "x".repeat(129);
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED", "-ERR option REFUSED needs a value"),
            ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED b", "-ERR REFUSED is a whole number from 1 to 1000, not 'b'"),
            ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1001 b", "-ERR REFUSED is a whole number from 1 to 1000, not "),
            ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 2 b", "-ERR option REFUSED needs a value"),
            (
                "COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1 b c",
                "-ERR unknown option 'c'; known are: EPOCH, SEQ, REFUSED, PERSISTED",
            ),
            ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 2 c c", "-ERR user 'c' is named twice"),
            ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1 c PERSISTED 1 c", "-ERR user 'c' is named twice"),
            ("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1 c REFUSED 1 d", "-ERR option REFUSED is given twice"),
            (&format!("COUPON.ACK c EPOCH 1 SEQ 3 REFUSED 1 {long}"), "-ERR user id has 129 bytes"),
            ("COUPON.ACK c EPOCH 1 SEQ 5 REFUSED 1 c", "-BEHIND "),
            ("COUPON.ACK c EPOCH 2 SEQ 3 REFUSED 1 c", "-STALEEPOCH "),
            ("COUPON.RESTORE c EPOCH 2 REFUSED 1 b", "-ERR option GRANTS is missing"),
            (
                "COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 REFUSED 1 b GRANTS 1 a 1 1",
                "-ERR user 'b' is refused and not granted",
            ),
        ],
    );
}
