//! What reaches replicas and the AOF: the effects as plain commands with final values, one atomic group a call.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::Redis;
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::{Client, expect};

/// A server, a client, and its replication stream.
fn attached() -> (Redis, Client, ReplicationStream) {
    let redis = Redis::start();
    let (client, stream) = (redis.client(), ReplicationStream::attach(&redis));
    (redis, client, stream)
}

fn group(commands: &[String]) -> Vec<String> {
    [&["MULTI".to_owned()][..], commands, &["EXEC".to_owned()]].concat()
}

/// The XADD of a grant, as it must have been replicated.
fn xadd(stored: &Stored, seq: usize) -> String {
    let grant = &stored.grants[seq - 1];
    format!(
        "XADD c:grants {} user {} requested_at {} granted_at {} chain {}",
        grant.id, grant.user, grant.requested_at, grant.granted_at_ms, grant.chain
    )
}

fn zadd(stored: &Stored, rank: usize) -> String {
    let (user, score) = &stored.issued[rank - 1];
    format!("ZADD c:issued {score} {user}")
}

fn score(stored: &Stored, rank: usize) -> String {
    stored.issued[rank - 1].1.to_string()
}

#[test]
fn open_replicates_the_fields_that_change() {
    let (_redis, mut client, mut stream) = attached();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5 EXPIRES 253402300799999", "+OK")]);
    assert_eq!(
        stream.lines(),
        ["HSET c status AVAILABLE mode QUEUE quantity 5 remaining 5 waitlist 0 opens_at 0 expires_at 253402300799999 \
          epoch 0 seq 0 chain 0 persisted 0 revision 0 format 1"]
    );
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 6 MODE INSTANT", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c mode INSTANT quantity 6 remaining 6"]);
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 6 EPOCH 1 REVISION 3", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c revision 3"]);
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 7 EPOCH 1 REVISION 4", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c quantity 7 remaining 7 revision 4"]);
}

#[test]
fn a_queued_request_replicates_its_place() {
    let (_redis, mut client, mut stream) = attached();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5", "+OK")]);
    stream.lines();
    expect(&mut client, &[("COUPON.REQUEST c a", "QUEUED")]);
    let first = stream.lines();
    expect(&mut client, &[("COUPON.REQUEST c b WITHRANK", "[QUEUED :2]")]);
    let stored = Stored::read(&mut client, "c");
    assert_eq!(first, group(&[zadd(&stored, 1), format!("HSET c first_at {}", score(&stored, 1))]));
    assert_eq!(stream.lines(), [zadd(&stored, 2)]);
}

#[test]
fn an_instant_grant_replicates_as_one_group() {
    let (_redis, mut client, mut stream) = attached();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2 MODE INSTANT", "+OK")]);
    stream.lines();
    for (seq, rest) in [(1, "remaining 1"), (2, "status ISSUED remaining 0")] {
        expect(&mut client, &[(format!("COUPON.REQUEST c user{seq}"), "GRANTED")]);
        let stored = Stored::read(&mut client, "c");
        let chain = stored.number("chain");
        let at = score(&stored, seq);
        let first = if seq == 1 { format!(" first_at {at}") } else { String::new() };
        let hset = format!("HSET c {rest} seq {seq} chain {chain} granted_to {at}{first}");
        assert_eq!(stream.lines(), group(&[xadd(&stored, seq), zadd(&stored, seq), hset]));
    }
}

#[test]
fn issue_replicates_all_its_grants_as_one_group() {
    let (_redis, mut client, mut stream) = attached();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 3", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.REQUEST c z", "QUEUED"),
        ],
    );
    stream.lines();
    expect(&mut client, &[("COUPON.ISSUE c COUNT 2", ":2")]);
    let stored = Stored::read(&mut client, "c");
    let hset = format!("HSET c remaining 1 seq 2 chain {} granted_to {}", stored.grants[1].chain, score(&stored, 2));
    assert_eq!(stream.lines(), group(&[xadd(&stored, 1), xadd(&stored, 2), hset]));
    expect(&mut client, &[("COUPON.ISSUE c", ":1")]);
    let stored = Stored::read(&mut client, "c");
    let hset = format!(
        "HSET c status ISSUED remaining 0 seq 3 chain {} granted_to {}",
        stored.grants[2].chain,
        score(&stored, 3)
    );
    assert_eq!(stream.lines(), group(&[xadd(&stored, 3), hset]));
}

#[test]
fn an_issue_that_only_ends_the_coupon_replicates_its_status() {
    let (_redis, mut client, mut stream) = attached();
    expect(
        &mut client,
        &[("COUPON.OPEN c QUANTITY 3", "+OK"), ("COUPON.OPEN c QUANTITY 3 EXPIRES 631152000000", "+OK")],
    );
    stream.lines();
    expect(&mut client, &[("COUPON.ISSUE c", ":0")]);
    assert_eq!(stream.lines(), ["HSET c status EXPIRED"]);
    expect(&mut client, &[("COUPON.RESTORE c EPOCH 3", "+OK"), ("COUPON.RESTORE c EPOCH 3", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c epoch 3 fence 0"]);
}

#[test]
fn the_reconcilers_calls_replicate_what_they_change() {
    let (_redis, mut client, mut stream) = attached();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5 MODE INSTANT EPOCH 1", "+OK")]);
    stream.lines();
    expect(&mut client, &[("COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0", "+OK")]);
    let fence = client.run("HGET c fence").text().to_owned();
    assert_eq!(stream.lines(), [format!("HSET c epoch 2 fence {fence}")]);
    for user in 1..=4 {
        expect(&mut client, &[(format!("COUPON.REQUEST c {user}"), "GRANTED")]);
    }
    stream.lines();
    let before = Stored::read(&mut client, "c");
    expect(&mut client, &[("COUPON.ACK c EPOCH 2 SEQ 3", "+OK"), ("COUPON.ACK c EPOCH 2 SEQ 3", "+OK")]);
    let to = client.run("HGET c persisted_to").text().to_owned();
    assert!(to == score(&before, 3) || to == format!("{} 3", score(&before, 3)), "{to}");
    let lines = stream.commands();
    let shown: Vec<Vec<String>> = lines
        .iter()
        .map(|words| words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
        .collect();
    assert_eq!(
        shown,
        [
            vec!["MULTI"],
            vec!["HSET", "c", "persisted", "3", "persisted_to", &to],
            // By the ID of the first entry that stays.
            vec!["XTRIM", "c:grants", "MINID", "=", "2-3"],
            vec!["EXEC"]
        ]
    );
    expect(&mut client, &[("COUPON.CLOSE c", "+OK"), ("COUPON.CLOSE c", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c status EXPIRED"]);
    expect(&mut client, &[("COUPON.CLOSE c EPOCH 2 REVISION 3", "+OK"), ("COUPON.CLOSE c EPOCH 2 REVISION 3", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c revision 3"]);
    expect(&mut client, &[("COUPON.RESTORE c EPOCH 3", "+OK"), ("COUPON.RESTORE c EPOCH 3", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c epoch 3 fence 0"]);
}

#[test]
fn a_restore_replicates_the_shutting_and_each_batch_as_one_group() {
    let (_redis, mut client, mut stream) = attached();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5 EPOCH 2 REVISION 4", "+OK")]);
    stream.lines();
    let batch = "COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 1 a 5 6";
    expect(&mut client, &[(batch, "-TRYAGAIN coupon is not shut")]);
    assert_eq!(stream.lines(), [""; 0]);
    expect(&mut client, &[("COUPON.RESTORE c EPOCH 2", "+OK")]);
    assert_eq!(stream.lines(), ["HSET c fence 0"]);
    expect(&mut client, &[(batch, "+OK")]);
    let stored = Stored::read(&mut client, "c");
    let chain = stored.number("chain");
    let hset = format!(
        "HSET c status AVAILABLE mode QUEUE quantity 5 remaining 4 waitlist 0 opens_at 0 expires_at 0 epoch 2 seq 1 \
         chain {chain} persisted 1 fence 0 granted_to 5 first_at 5 persisted_to 5 revision 4 format 1"
    );
    assert_eq!(stream.lines(), group(&[xadd(&stored, 1), zadd(&stored, 1), hset]));
}

#[test]
fn a_transaction_and_a_script_replicate_as_one_group() {
    let (_redis, mut client, mut stream) = attached();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5", "+OK"), ("COUPON.REQUEST c first", "QUEUED")]);
    stream.lines();
    client.pipeline(&["MULTI", "COUPON.REQUEST c a", "COUPON.REQUEST c a", "COUPON.REQUEST c b", "EXEC"]);
    let stored = Stored::read(&mut client, "c");
    assert_eq!(stream.lines(), group(&[zadd(&stored, 2), zadd(&stored, 3)]));
    let script = "redis.call('COUPON.REQUEST', KEYS[1], 'x'); return redis.call('COUPON.REQUEST', KEYS[1], 'y')";
    assert_eq!(client.call(&["EVAL", script, "1", "c"]).to_string(), "QUEUED");
    let stored = Stored::read(&mut client, "c");
    assert_eq!(stream.lines(), group(&[zadd(&stored, 4), zadd(&stored, 5)]));
}

#[test]
fn the_bytes_of_a_user_reach_replicas_as_they_are() {
    let (_redis, mut client, mut stream) = attached();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 5 MODE INSTANT", "+OK")]);
    stream.lines();
    let user = "a b\r\n%n\"쿠폰";
    assert_eq!(client.call(&["COUPON.REQUEST", "c", user]).text(), "GRANTED");
    let commands = stream.commands();
    assert_eq!(commands[1][4], user.as_bytes(), "XADD key id user <user>");
    assert_eq!(commands[2][3], user.as_bytes(), "ZADD key score <user>");
}
