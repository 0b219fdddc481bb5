//! COUPON.RESTORE: the ledger's grants come back into a Redis that lost them, or has others.

use coupon_core::grant::Grant;
use coupon_tests::coupon::Stored;
use coupon_tests::dump::{await_replica, dump};
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, expect};

/// A coupon at epoch 1 with six units, four of them granted to users 1 to 4; user `w` waits.
fn sale() -> (Redis, Client, Vec<Grant>) {
    let redis = Options::shipped().module_args("stream-keep 1000000").start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 6 WAITLIST 9 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c 1", "QUEUED"),
            ("COUPON.REQUEST c 2", "QUEUED"),
            ("COUPON.REQUEST c 3", "QUEUED"),
            ("COUPON.REQUEST c 4", "QUEUED"),
            ("COUPON.ISSUE c", ":4"),
            ("COUPON.REQUEST c w", "QUEUED"),
        ],
    );
    let ledger = Stored::read(&mut client, "c").grants;
    (redis, client, ledger)
}

/// RESTORE of grants after the common part, as the ledger holds them.
fn restore(epoch: u64, ledger: &[Grant], after: usize, to: usize) -> String {
    let chain = after.checked_sub(1).map_or(0, |last| ledger[last].chain.0);
    let grants: Vec<String> = ledger[after..to]
        .iter()
        .map(|grant| format!("{} {} {}", grant.user, grant.requested_at, grant.granted_at_ms))
        .collect();
    format!("COUPON.RESTORE c EPOCH {epoch} AFTER {after} CHAIN {chain} GRANTS {} {}", grants.len(), grants.join(" "))
}

fn resume(epoch: u64, ledger: &[Grant]) -> String {
    let (seq, chain) = ledger.last().map_or((0, 0), |last| (last.id.seq.0, last.chain.0));
    format!("COUPON.RESUME c EPOCH {epoch} SEQ {seq} CHAIN {chain}")
}

#[test]
fn what_was_lost_comes_back_in_order_and_nothing_is_issued_twice() {
    let (_redis, mut client, ledger) = sale();
    expect(
        &mut client,
        &[
            ("FLUSHALL", "+OK"),
            ("COUPON.OPEN c QUANTITY 6 WAITLIST 9 EPOCH 2 REVISION 4", "+OK"),
            (&*resume(2, &ledger), "-BEHIND seq 0 chain 0: "),
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            (&*restore(2, &ledger, 0, 3), "+OK"),
            // Shut until all of it is there.
            ("COUPON.REQUEST c new", "-TRYAGAIN"),
            (&*resume(2, &ledger), "-BEHIND seq 3 "),
            (&*restore(2, &ledger, 3, 4), "+OK"),
            (&*resume(2, &ledger), "+OK"),
            ("HMGET c status remaining seq persisted revision", "[AVAILABLE 2 4 4 4]"),
            ("COUPON.STATUS c 1 WITHRANK", "[PERSISTED :1 :0]"),
            ("COUPON.STATUS c 4 WITHRANK", "[PERSISTED :4 :0]"),
            ("COUPON.REQUEST c 3 WITHRANK", "[DUPLICATE :3]"),
            ("COUPON.REQUEST c new WITHRANK", "[QUEUED :5]"),
            ("COUPON.REQUEST c newer", "QUEUED"),
            ("COUPON.REQUEST c newest", "QUEUED"),
            ("COUPON.ISSUE c", ":2"),
            ("HMGET c status remaining seq", "[ISSUED 0 6]"),
        ],
    );
    let stored = Stored::read(&mut client, "c");
    let restored: Vec<(&str, u64, u64, i64)> =
        stored.grants.iter().map(|g| (&*g.user, g.requested_at.0, g.granted_at_ms, g.chain.0)).collect();
    let held: Vec<(&str, u64, u64, i64)> =
        ledger.iter().map(|g| (&*g.user, g.requested_at.0, g.granted_at_ms, g.chain.0)).collect();
    assert_eq!(restored[..4], held);
    assert_eq!(stored.granted()[4..], ["new", "newer"]);
    stored.assert_promises();
}

#[test]
fn what_redis_granted_on_its_own_goes_back_to_the_queue() {
    let (_redis, mut client, ledger) = sale();
    // Redis went on under a past that the ledger does not know.
    expect(
        &mut client,
        &[
            ("COUPON.ISSUE c COUNT 1", ":1"),
            ("COUPON.STATUS c w", "GRANTED"),
            ("DEBUG RELOAD", "+OK"),
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            (&*restore(2, &ledger, 2, 4), "+OK"),
            (&*resume(2, &ledger), "+OK"),
            ("COUPON.STATUS c w WITHRANK", "[WAITING :5 :0]"),
            ("HMGET c status remaining seq", "[AVAILABLE 2 4]"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.STATUS c w", "GRANTED"),
        ],
    );
}

#[test]
fn a_stream_that_outlived_its_hash_is_not_kept_beside_the_ledgers_grants() {
    let (_redis, mut client, ledger) = sale();
    // A fifth grant that the ledger does not hold, and then the hash is gone.
    expect(
        &mut client,
        &[
            ("COUPON.ISSUE c COUNT 1", ":1"),
            ("DEL c", ":1"),
            ("COUPON.OPEN c QUANTITY 6 WAITLIST 9 EPOCH 2", "+OK"),
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            (&*restore(2, &ledger, 0, 4), "+OK"),
            (&*resume(2, &ledger), "+OK"),
        ],
    );
    Stored::read(&mut client, "c").assert_promises();
}

#[test]
fn a_replica_and_a_restart_hold_what_was_restored() {
    let mut redis = Options::shipped().line("appendonly yes").line("appendfsync always").start();
    let replica = redis.replica();
    let (_, _, ledger) = sale();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 6 EPOCH 2", "+OK"),
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            (&*restore(2, &ledger, 0, 2), "+OK"),
            (&*restore(2, &ledger, 2, 4), "+OK"),
            (&*resume(2, &ledger), "+OK"),
        ],
    );
    await_replica(&redis, &replica);
    let held = dump(&mut client);
    assert_eq!(dump(&mut replica.client()), held);
    redis.kill();
    redis.start_again();
    assert_eq!(dump(&mut redis.client()), held);
}

#[test]
fn without_grants_the_gate_is_shut_and_the_rest_left() {
    let (redis, mut client, ledger) = sale();
    expect(&mut client, &[("COUPON.ISSUE c COUNT 1", ":1"), ("COUPON.REQUEST c v", "QUEUED")]);
    let mut before = Stored::read(&mut client, "c");
    expect(&mut client, &[("COUPON.RESTORE c EPOCH 2", "+OK"), ("HMGET c epoch fence", "[2 0]")]);
    let mut after = Stored::read(&mut client, "c");
    for stored in [&mut before, &mut after] {
        stored.hash.retain(|field, _| !["epoch", "fence"].contains(&field.as_str()));
    }
    assert_eq!(after, before);
    expect_without_effect(
        &redis,
        &[
            // Shut already.
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            ("COUPON.REQUEST c new", "-TRYAGAIN"),
            ("COUPON.ISSUE c", "-TRYAGAIN"),
            ("COUPON.STATUS c w", "GRANTED"),
            ("COUPON.STATUS c v", "WAITING"),
            ("COUPON.RESTORE c EPOCH 1", "-STALEEPOCH "),
            ("COUPON.RESTORE missing EPOCH 2", "-NOCOUPON "),
        ],
    );
    // What was granted before it was shut continues the ledger.
    expect(&mut client, &[(&*resume(3, &ledger), "+OK"), ("COUPON.ISSUE c", ":1"), ("COUPON.STATUS c v", "GRANTED")]);
    Stored::read(&mut client, "c").assert_promises();
}

#[test]
fn a_history_is_taken_only_by_a_coupon_that_is_shut_under_its_epoch() {
    let (redis, mut client, ledger) = sale();
    let refused = |epoch: u64| [(restore(epoch, &ledger, 2, 4), "-TRYAGAIN coupon is not shut under this epoch")];
    // Open.
    expect_without_effect(&redis, &refused(1));
    expect_without_effect(&redis, &refused(2));
    // Fenced by the token of another process, which knew the epoch.
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    expect_without_effect(&redis, &refused(1));
    // Shut, but by somebody else.
    expect(&mut client, &[("COUPON.RESTORE c EPOCH 2", "+OK")]);
    expect_without_effect(&redis, &refused(3));
    expect_without_effect(&redis, &[(restore(1, &ledger, 2, 4), "-STALEEPOCH ")]);
    // Opened since.
    expect(&mut client, &[(&*resume(2, &ledger), "+OK")]);
    expect_without_effect(&redis, &refused(2));
    // Without a field that could say so, as it is from birth.
    expect(&mut client, &[("HDEL c fence", ":1")]);
    expect_without_effect(&redis, &refused(2));
    // An older state, from before the coupon was adopted: it is open, and grants.
    expect(&mut client, &[("HMSET c epoch 0 fence 0", "+OK")]);
    expect_without_effect(&redis, &refused(2));
    expect(
        &mut client,
        &[
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            (&*restore(2, &ledger, 0, 2), "+OK"),
            // Which leaves it shut.
            (&*restore(2, &ledger, 2, 4), "+OK"),
            (&*resume(2, &ledger), "+OK"),
        ],
    );
    Stored::read(&mut client, "c").assert_promises();
}

#[test]
fn a_coupon_without_a_companion_key_can_be_shut() {
    let (_redis, mut client, _) = sale();
    expect(
        &mut client,
        &[
            ("DEL c:issued", ":1"),
            ("COUPON.INFO c", "-TRYAGAIN"),
            ("COUPON.RESTORE c EPOCH 2", "+OK"),
            ("HMGET c epoch fence", "[2 0]"),
        ],
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let (redis, mut client, ledger) = sale();
    expect(&mut client, &[("COUPON.RESTORE c EPOCH 2", "+OK"), ("SET s 1", "+OK")]);
    let newest = ledger[3].chain.0;
    let good = restore(2, &ledger, 2, 4);
    let broken = |from: &str, to: &str| good.replacen(from, to, 1);
    expect_without_effect(
        &redis,
        &[
            ("COUPON.RESTORE c EPOCH".into(), "-ERR wrong number of arguments"),
            ("COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 1".into(), "-ERR option GRANTS needs a value"),
            ("COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0".into(), "-ERR option GRANTS is missing"),
            ("COUPON.RESTORE c AFTER 0".into(), "-ERR option GRANTS is missing"),
            ("COUPON.RESTORE c EPOCH 0".into(), "-ERR EPOCH is a whole number from 1 to "),
            (broken("EPOCH 2", "EPOCH 0"), "-ERR EPOCH is a whole number from 1 to "),
            (broken("AFTER 2", "AFTER -1"), "-ERR AFTER is a whole number from 0 to "),
            (broken("GRANTS 2", "GRANTS 1"), "-ERR "),
            (broken("GRANTS 2", "GRANTS 3"), "-ERR "),
            (broken("GRANTS 2", "GRANTS 0"), "-ERR GRANTS is a whole number from 1 to "),
            (broken("GRANTS 2", "GRANTS 1000001"), "-ERR GRANTS is a whole number from 1 to "),
            (broken("EPOCH 2", "COUNT 2"), "-ERR unknown option 'COUNT'"),
            ("COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 2 a 1 1 a 2 2".into(), "-ERR user 'a' is granted twice"),
            (
                "COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 1 a soon 1".into(),
                "-ERR requested_at is a whole number",
            ),
            ("COUPON.RESTORE c EPOCH 2 AFTER 0 CHAIN 0 GRANTS 1 a 1 -1".into(), "-ERR granted_at is a whole number"),
            (
                format!("COUPON.RESTORE c EPOCH 2 AFTER 4 CHAIN {newest} GRANTS 1 1 5 5"),
                "-ERR user '1' is granted already",
            ),
            (format!("COUPON.RESTORE c EPOCH 2 AFTER 5 CHAIN {newest} GRANTS 1 a 1 1"), "-BEHIND seq 4 chain "),
            (format!("COUPON.RESTORE c EPOCH 2 AFTER 3 CHAIN {newest} GRANTS 1 a 1 1"), "-DIVERGED seq 4 chain "),
            (good.replacen(" c ", " missing ", 1), "-NOCOUPON "),
            (good.replacen(" c ", " s ", 1), "-WRONGTYPE"),
        ],
    );
    expect(&mut client, &[(&*resume(3, &ledger), "+OK")]);
    expect_without_effect(&redis, &[(good, "-STALEEPOCH ")]);
}
