//! COUPON.ACK.

use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::{Client, expect};

/// A coupon of the ledger at epoch 3 with five grants to users 1 to 5.
fn five_grants(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.OPEN c QUANTITY 9 MODE INSTANT EPOCH 3", "+OK"),
            ("COUPON.RESUME c EPOCH 3 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c 1", "GRANTED"),
            ("COUPON.REQUEST c 2", "GRANTED"),
            ("COUPON.REQUEST c 3", "GRANTED"),
            ("COUPON.REQUEST c 4", "GRANTED"),
            ("COUPON.REQUEST c 5", "GRANTED"),
        ],
    );
}

fn entries(client: &mut Client) -> Vec<String> {
    client.run("XRANGE c:grants - +").array().iter().map(|entry| entry.array()[0].to_string()).collect()
}

#[test]
fn what_is_acknowledged_is_persisted_and_trimmed() {
    let redis = Redis::start();
    let mut client = redis.client();
    five_grants(&mut client);
    expect(&mut client, &[("COUPON.ACK c EPOCH 3 SEQ 2", "+OK"), ("HGET c persisted", "2")]);
    assert_eq!(entries(&mut client), ["3-2", "3-3", "3-4", "3-5"], "entry n stays, and all that follow");
    expect(
        &mut client,
        &[("COUPON.STATUS c 2", "PERSISTED"), ("COUPON.STATUS c 3", "GRANTED"), ("coupon.ack c seq 5 epoch 3", "+OK")],
    );
    assert_eq!(entries(&mut client), ["3-5"], "the newest entry is never trimmed");
    expect(&mut client, &[("COUPON.STATUS c 5", "PERSISTED"), ("COUPON.REQUEST c 6", "GRANTED")]);
    assert_eq!(entries(&mut client), ["3-5", "3-6"]);
}

#[test]
fn persisted_never_moves_back() {
    let redis = Redis::start();
    five_grants(&mut redis.client());
    expect(&mut redis.client(), &[("COUPON.ACK c EPOCH 3 SEQ 4", "+OK")]);
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK c EPOCH 3 SEQ 4", "+OK"),
            ("COUPON.ACK c EPOCH 3 SEQ 3", "+OK"),
            ("COUPON.ACK c EPOCH 3 SEQ 0", "+OK"),
            ("HGET c persisted", "4"),
        ],
    );
}

#[test]
fn what_redis_has_not_granted_cannot_be_acknowledged() {
    let redis = Redis::start();
    let mut client = redis.client();
    five_grants(&mut client);
    expect(&mut client, &[("COUPON.OPEN fenced QUANTITY 1 EPOCH 3", "+OK"), ("COUPON.OPEN byhand QUANTITY 1", "+OK")]);
    let chain = client.run("HGET c chain").text().to_owned();
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK c EPOCH 3 SEQ 6", &*format!("-BEHIND seq 5 chain {chain}: ")),
            ("COUPON.ACK c EPOCH 3 SEQ 9223372036854775807", "-BEHIND seq 5 "),
            ("COUPON.ACK c EPOCH 2 SEQ 1", "-STALEEPOCH "),
            ("COUPON.ACK c EPOCH 4 SEQ 1", "-STALEEPOCH "),
            ("COUPON.ACK byhand EPOCH 1 SEQ 0", "-STALEEPOCH "),
            ("COUPON.ACK fenced EPOCH 3 SEQ 0", "-TRYAGAIN "),
        ],
    );
}

#[test]
fn persisted_entries_can_be_kept() {
    let redis = Options::shipped().module_args("stream-keep 2").start();
    let mut client = redis.client();
    five_grants(&mut client);
    expect(&mut client, &[("COUPON.ACK c EPOCH 3 SEQ 4", "+OK")]);
    assert_eq!(entries(&mut client), ["3-2", "3-3", "3-4", "3-5"], "two beyond entry 4");
    expect(&mut client, &[("CONFIG SET coupon.stream-keep 0", "+OK"), ("COUPON.ACK c EPOCH 3 SEQ 5", "+OK")]);
    assert_eq!(entries(&mut client), ["3-5"]);
}

#[test]
fn entries_of_others_are_no_reason_to_trim_more() {
    for keep in ["0", "2"] {
        let redis = Options::shipped().module_args(&format!("stream-keep {keep}")).start();
        let mut client = redis.client();
        five_grants(&mut client);
        // By an application, with an ID of its own and with one of the server's.
        expect(&mut client, &[("XADD c:grants 4-100 what ever", "4-100")]);
        let newest = client.run("XADD c:grants * what ever").to_string();
        let mut expected = ["3-1", "3-2", "3-3", "3-4", "3-5", "4-100", &newest].to_vec();
        let keep: usize = keep.parse().expect("a number");
        for seq in 1..=5 {
            expect(&mut client, &[(format!("COUPON.ACK c EPOCH 3 SEQ {seq}"), "+OK")]);
            expected = expected.split_off(expected.len() - (8 - seq + keep).min(expected.len()));
            assert_eq!(entries(&mut client), expected, "entry {seq} stays, {keep} before it, and all that follow");
            expect(&mut client, &[(format!("COUPON.STATUS c {seq}"), "PERSISTED")]);
        }
        expect(&mut client, &[("HGET c persisted", "5")]);
    }
}

#[test]
fn an_entry_of_somebody_else_is_not_taken_for_the_grant() {
    let redis = Redis::start();
    let mut client = redis.client();
    five_grants(&mut client);
    // Of the same number, and of the same form.
    expect(
        &mut client,
        &[
            ("XADD c:grants 9-2 user 5 requested_at 9007199254740991 granted_at 1 chain 1", "9-2"),
            ("COUPON.ACK c EPOCH 3 SEQ 2", "+OK"),
            ("COUPON.STATUS c 2", "PERSISTED"),
            ("COUPON.STATUS c 3", "GRANTED"),
        ],
    );
    assert_eq!(entries(&mut client), ["3-2", "3-3", "3-4", "3-5", "9-2"]);
}

/// A coupon with three grants of epoch 3, an entry of somebody else behind them, and two grants of epoch 4.
fn two_epochs(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.OPEN c QUANTITY 9 MODE INSTANT EPOCH 3", "+OK"),
            ("COUPON.RESUME c EPOCH 3 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.MREQUEST c 1 2 3", "[GRANTED GRANTED GRANTED]"),
            ("XADD c:grants 3-100 what ever", "3-100"),
            ("COUPON.RESUME c EPOCH 4 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.MREQUEST c 4 5", "[GRANTED GRANTED]"),
        ],
    );
    assert_eq!(entries(client), ["3-1", "3-2", "3-3", "3-100", "4-4", "4-5"]);
}

#[test]
fn entries_of_an_epoch_before_are_trimmed_by_their_own_ids() {
    for (keep, stay) in [
        ("0", &[(2, "3-2 3-3 3-100 4-4 4-5"), (3, "3-3 3-100 4-4 4-5"), (4, "4-4 4-5"), (5, "4-5")][..]),
        ("2", &[(2, "3-1 3-2 3-3 3-100 4-4 4-5"), (4, "3-2 3-3 3-100 4-4 4-5"), (5, "3-3 3-100 4-4 4-5")]),
    ] {
        let redis = Options::shipped().module_args(&format!("stream-keep {keep}")).start();
        let mut client = redis.client();
        two_epochs(&mut client);
        for (seq, stay) in stay {
            expect(&mut client, &[(format!("COUPON.ACK c EPOCH 4 SEQ {seq}"), "+OK")]);
            assert_eq!(entries(&mut client).join(" "), *stay, "keep {keep}, at {seq}");
        }
        expect(&mut client, &[("XADD c:grants 4-100 what ever", "4-100"), ("COUPON.STATUS c 5", "PERSISTED")]);
    }
}

#[test]
fn what_goes_is_replicated_by_the_first_id_that_stays() {
    let redis = Redis::start();
    let mut client = redis.client();
    two_epochs(&mut client);
    expect(&mut client, &[("XADD c:grants 4-100 what ever", "4-100")]);
    let mut stream = ReplicationStream::attach(&redis);
    for (seq, first) in [(2, "3-2"), (3, "3-3"), (5, "4-5")] {
        expect(&mut client, &[(format!("COUPON.ACK c EPOCH 4 SEQ {seq}"), "+OK")]);
        let lines = stream.lines();
        assert_eq!(lines[2..], [format!("XTRIM c:grants MINID = {first}"), "EXEC".into()], "{lines:?}");
    }
}

#[test]
fn misuse_is_refused() {
    let redis = Redis::start();
    five_grants(&mut redis.client());
    expect(&mut redis.client(), &[("SET s 1", "+OK")]);
    let epoch = "-ERR EPOCH is a whole number from 1 to 9223372036854775807, not ";
    let seq = "-ERR SEQ is a whole number from 0 to 9223372036854775807, not ";
    expect_without_effect(
        &redis,
        &[
            ("COUPON.ACK", "-ERR wrong number of arguments"),
            ("COUPON.ACK c EPOCH 3", "-ERR wrong number of arguments"),
            (
                "COUPON.ACK c EPOCH 3 SEQ 1 CHAIN 0",
                "-ERR unknown option 'CHAIN'; known are: EPOCH, SEQ, REFUSED, PERSISTED",
            ),
            ("COUPON.ACK c EPOCH 3 EPOCH 3", "-ERR option EPOCH is given twice"),
            ("COUPON.ACK c SEQ 3 SEQ 3", "-ERR option SEQ is given twice"),
            ("COUPON.ACK c EPOCH 3 CHAIN 1", "-ERR unknown option 'CHAIN'; known are: EPOCH, SEQ, "),
            ("COUPON.ACK c EPOCH 0 SEQ 1", epoch),
            ("COUPON.ACK c EPOCH -3 SEQ 1", epoch),
            ("COUPON.ACK c EPOCH 9223372036854775808 SEQ 1", epoch),
            ("COUPON.ACK c EPOCH 3 SEQ -1", seq),
            ("COUPON.ACK c EPOCH 3 SEQ 1.0", seq),
            ("COUPON.ACK c EPOCH 3 SEQ 9223372036854775808", seq),
            ("COUPON.ACK missing EPOCH 3 SEQ 1", "-NOCOUPON "),
            ("COUPON.ACK s EPOCH 3 SEQ 1", "-WRONGTYPE"),
        ],
    );
}
