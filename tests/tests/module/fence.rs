//! The fence, and COUPON.RESUME that opens it.

use crate::info_section::is_told_of_changes;
use coupon_tests::deadline::eventually_true;
use coupon_tests::dump::await_replica;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, expect};

/// A coupon of the ledger at epoch 1 with three grants, of which one is persisted, and one user who waits.
pub fn sale(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.OPEN c QUANTITY 9 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c 1", "QUEUED"),
            ("COUPON.REQUEST c 2", "QUEUED"),
            ("COUPON.REQUEST c 3", "QUEUED"),
            ("COUPON.ISSUE c", ":3"),
            ("COUPON.ACK c EPOCH 1 SEQ 1", "+OK"),
            ("COUPON.REQUEST c w", "QUEUED"),
        ],
    );
}

fn chain_at(client: &mut Client, seq: u64) -> String {
    client.run(&format!("XRANGE c:grants 1-{seq} 1-{seq}")).array()[0].array()[1].field("chain").text().to_owned()
}

/// What a fence stops, and what it lets through.
fn assert_fenced(redis: &Redis) {
    expect_without_effect(
        redis,
        &[
            ("COUPON.REQUEST c new", "-TRYAGAIN coupon is fenced"),
            // Whoever asks again must not learn from a Redis that may have lost the answer.
            ("COUPON.REQUEST c 1", "-TRYAGAIN coupon is fenced"),
            ("COUPON.ISSUE c", "-TRYAGAIN coupon is fenced"),
            ("COUPON.ACK c EPOCH 1 SEQ 3", "-TRYAGAIN coupon is fenced"),
            ("COUPON.STATUS c w", "WAITING"),
        ],
    );
    assert_eq!(redis.client().run("COUPON.INFO c").field("fenced").int(), 1);
}

#[test]
fn restart_shuts_the_gate_and_resume_opens_it() {
    let mut redis = Options::shipped().line("appendonly yes").line("appendfsync always").start();
    sale(&mut redis.client());
    for (life, end) in [Redis::kill as fn(&mut Redis), Redis::stop].into_iter().enumerate() {
        end(&mut redis);
        redis.start_again();
        assert_fenced(&redis);
        let mut client = redis.client();
        let chain = client.run("HGET c chain").text().to_owned();
        expect(
            &mut client,
            &[
                (&*format!("COUPON.RESUME c EPOCH {} SEQ 3 CHAIN {chain}", life + 2), "+OK"),
                ("COUPON.STATUS c 1", "PERSISTED"),
                ("COUPON.REQUEST c 1", "DUPLICATE"),
                (&*format!("COUPON.REQUEST c new{life}"), "QUEUED"),
            ],
        );
    }
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.ISSUE c", ":3")]);
    let ids = client.run("XRANGE c:grants - +");
    let ids: Vec<&str> = ids.array().iter().map(|entry| entry.array()[0].text()).collect();
    assert_eq!(ids, ["1-1", "1-2", "1-3", "3-4", "3-5", "3-6"]);
}

#[test]
fn data_loaded_anew_shuts_the_gate() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    assert_fenced(&redis);
}

#[test]
fn promotion_shuts_the_gate() {
    let mut primary = Redis::start();
    let replica = primary.replica();
    sale(&mut primary.client());
    await_replica(&primary, &replica);
    let mut client = replica.client();
    // A replica takes no writes anyway, and answers what it knows.
    expect(&mut client, &[("COUPON.REQUEST c new", "-READONLY"), ("COUPON.STATUS c 1", "PERSISTED")]);
    primary.kill();
    expect(&mut client, &[("REPLICAOF NO ONE", "+OK")]);
    assert_fenced(&replica);
    let chain = client.run("HGET c chain").text().to_owned();
    expect(
        &mut client,
        &[(&*format!("COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN {chain}"), "+OK"), ("COUPON.REQUEST c new", "QUEUED")],
    );
}

#[test]
fn demoted_and_promoted_again_the_gate_is_shut() {
    let primary = Redis::start();
    let other = Redis::start();
    sale(&mut other.client());
    let mut client = primary.client();
    expect(&mut client, &[(&*format!("REPLICAOF 127.0.0.1 {}", other.port), "+OK")]);
    eventually_true("the data has come", || client.run("EXISTS c").int() == 1);
    await_replica(&other, &primary);
    expect(&mut client, &[("REPLICAOF NO ONE", "+OK")]);
    assert_fenced(&primary);
}

#[test]
fn a_primary_that_lost_grants_to_its_own_replica_is_shut_when_it_is_primary_again() {
    let first = Redis::start();
    let second = first.replica();
    let mut client = first.client();
    sale(&mut client);
    await_replica(&first, &second);
    expect(&mut second.client(), &[("REPLICAOF NO ONE", "+OK")]);
    // What only the first one knows is lost when it follows the second.
    expect(&mut client, &[("COUPON.ISSUE c", ":1"), (&*format!("REPLICAOF 127.0.0.1 {}", second.port), "+OK")]);
    eventually_true("the fourth grant is lost", || client.run("HGET c seq").text() == "3");
    await_replica(&second, &first);
    expect(&mut client, &[("REPLICAOF NO ONE", "+OK")]);
    assert_fenced(&first);
}

#[test]
fn a_coupon_opened_by_hand_has_no_fence() {
    let mut redis = Options::shipped().line("appendonly yes").line("appendfsync always").start();
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 9 MODE INSTANT", "+OK"), ("COUPON.REQUEST c 1", "GRANTED")]);
    redis.kill();
    redis.start_again();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.REQUEST c 2", "GRANTED"),
            // Adopted: from then on it has one.
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c 3", "GRANTED"),
            ("HMGET c epoch seq", "[1 3]"),
            ("DEBUG RELOAD", "+OK"),
            ("COUPON.REQUEST c 4", "-TRYAGAIN"),
        ],
    );
}

#[test]
fn resume_asks_for_the_ledgers_history() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    let (newest, middle, persisted) = (chain_at(&mut client, 3), chain_at(&mut client, 2), chain_at(&mut client, 1));
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    let diverged = format!("-DIVERGED seq 3 chain {newest}: ");
    expect_without_effect(
        &redis,
        &[
            (&*format!("COUPON.RESUME c EPOCH 2 SEQ 4 CHAIN {newest}"), &*format!("-BEHIND seq 3 chain {newest}: ")),
            ("COUPON.RESUME c EPOCH 2 SEQ 9223372036854775807 CHAIN 0", "-BEHIND seq 3 "),
            ("COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN 0", &diverged),
            (&*format!("COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN {middle}"), &diverged),
            (&*format!("COUPON.RESUME c EPOCH 2 SEQ 2 CHAIN {newest}"), &diverged),
            ("COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 1", &diverged),
        ],
    );
    assert_fenced(&redis);
    // Redis may be ahead of the ledger, as far as its stream still tells.
    for (epoch, seq, chain) in [(2, 1, &*persisted), (3, 2, &middle), (4, 3, &newest), (5, 0, "0")] {
        expect(
            &mut client,
            &[
                (&*format!("COUPON.RESUME c EPOCH {epoch} SEQ {seq} CHAIN {chain}"), "+OK"),
                ("COUPON.INFO c", &*client_info(epoch)),
                ("DEBUG RELOAD", "+OK"),
            ],
        );
    }
    expect_without_effect(&redis, &[(&*format!("COUPON.RESUME c EPOCH 4 SEQ 3 CHAIN {newest}"), "-STALEEPOCH ")]);
}

fn client_info(epoch: u32) -> String {
    format!(
        "[status AVAILABLE mode QUEUE quantity :9 remaining :6 requested :4 waiting :1 granted :3 persisted :1 \
         waitlist :0 opens_at :0 expires_at :0 epoch :{epoch} fenced :0 revision :0 refused :0]"
    )
}

#[test]
fn what_is_trimmed_can_no_longer_be_proved() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    let first = chain_at(&mut client, 1);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 3", "+OK"), ("DEBUG RELOAD", "+OK")]);
    expect_without_effect(
        &redis,
        &[(&*format!("COUPON.RESUME c EPOCH 2 SEQ 1 CHAIN {first}"), "-DIVERGED seq 3 chain ")],
    );
}

#[test]
fn resume_twice_is_no_change() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    let newest = chain_at(&mut client, 3);
    let call = format!("COUPON.RESUME c EPOCH 1 SEQ 3 CHAIN {newest}");
    expect_without_effect(&redis, &[(&*call, "+OK"), (&*call, "+OK")]);
}

#[test]
fn misuse_is_refused() {
    let redis = Redis::start();
    sale(&mut redis.client());
    expect(&mut redis.client(), &[("SET s 1", "+OK")]);
    let chain = "-ERR CHAIN is a signed 64-bit integer, not ";
    expect_without_effect(
        &redis,
        &[
            ("COUPON.RESUME", "-ERR wrong number of arguments"),
            ("COUPON.RESUME c EPOCH 2 SEQ 3", "-ERR wrong number of arguments"),
            ("COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN", "-ERR wrong number of arguments"),
            ("COUPON.RESUME c EPOCH 2 SEQ 3 SEQ 3", "-ERR option SEQ is given twice"),
            ("COUPON.RESUME c EPOCH 2 SEQ 3 AFTER 3", "-ERR unknown option 'AFTER'; known are: EPOCH, SEQ, CHAIN"),
            ("COUPON.RESUME c EPOCH 0 SEQ 3 CHAIN 0", "-ERR EPOCH is a whole number from 1 to "),
            ("COUPON.RESUME c EPOCH 2 SEQ -1 CHAIN 0", "-ERR SEQ is a whole number from 0 to "),
            ("COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN 9223372036854775808", chain),
            ("COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN -9223372036854775809", chain),
            ("COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN 0x1", chain),
            (r#"COUPON.RESUME c EPOCH 2 SEQ 3 CHAIN """#, chain),
            ("COUPON.RESUME missing EPOCH 2 SEQ 0 CHAIN 0", "-NOCOUPON "),
            ("COUPON.RESUME s EPOCH 2 SEQ 0 CHAIN 0", "-WRONGTYPE"),
        ],
    );
}

#[test]
fn a_coupon_that_comes_back_is_shut_whatever_token_it_carries() {
    let redis = Redis::start();
    let mut client = redis.client();
    if !is_told_of_changes(&mut client) {
        // Such a server tells no module of keys that come.
        return;
    }
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
        ],
    );
    // As a slot that has gone to another node and back.
    let script = "local old = redis.call('DUMP', 'c'); return redis.call('RESTORE', 'c', '0', old, 'REPLACE')";
    assert_eq!(client.call(&["EVAL", script, "0"]).to_string(), "+OK");
    expect(
        &mut client,
        &[
            ("COUPON.REQUEST c b", "-TRYAGAIN coupon is fenced"),
            ("COUPON.ISSUE c", "-TRYAGAIN coupon is fenced"),
            ("COUPON.STATUS c a", "WAITING"),
            ("COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c b", "QUEUED"),
        ],
    );
}
