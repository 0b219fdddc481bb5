//! Every copy of a coupon is the coupon: on a replica, from the AOF, from an RDB, and without the module.

use coupon_tests::dump::{await_replica, dump};
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};

/// Coupons in every state a coupon can be in.
fn sale(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.OPEN queue QUANTITY 3 WAITLIST 5 EPOCH 1", "+OK"),
            ("COUPON.RESUME queue EPOCH 2 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST queue a", "QUEUED"),
            ("COUPON.REQUEST queue b", "QUEUED"),
            ("COUPON.ISSUE queue", ":2"),
            ("COUPON.ACK queue EPOCH 2 SEQ 2", "+OK"),
            ("COUPON.REQUEST queue x", "QUEUED"),
            ("COUPON.REQUEST queue y", "QUEUED"),
            ("COUPON.OPEN instant QUANTITY 2 MODE INSTANT WAITLIST 1", "+OK"),
            ("COUPON.REQUEST instant a", "GRANTED"),
            (r#"COUPON.REQUEST instant "\xec\xbf\xa0 \r\n%n""#, "GRANTED"),
            ("COUPON.REQUEST instant w", "QUEUED"),
            ("COUPON.OPEN empty QUANTITY 2 OPENS 631152000000 EXPIRES 253402300799999", "+OK"),
            ("COUPON.OPEN closed QUANTITY 2", "+OK"),
            ("COUPON.REQUEST closed a", "QUEUED"),
            ("COUPON.CLOSE closed", "+OK"),
            ("COUPON.OPEN fenced QUANTITY 2 EPOCH 7 REVISION 3", "+OK"),
            ("HSET byhand status AVAILABLE quantity 2", ":2"),
            ("ZADD byhand:issued 5 tie1 5 tie2 6 later", ":3"),
            ("COUPON.ISSUE byhand COUNT 1", ":1"),
            ("COUPON.REQUEST queue a", "DUPLICATE"),
            ("COUPON.REQUEST closed b", "CLOSED"),
        ],
    );
    for user in 0..200 {
        client.run(&format!("COUPON.REQUEST empty {user}"));
    }
}

fn durable() -> Options {
    Options::shipped().line("appendonly yes").line("appendfsync always")
}

fn rdb_only() -> Options {
    Options::shipped().line("appendonly no").line("save 3600 1")
}

#[test]
fn a_replica_equals_its_primary_whenever_it_came() {
    let primary = Redis::start();
    let there_before = primary.replica();
    await_replica(&primary, &there_before);
    sale(&mut primary.client());
    let came_later = primary.replica();
    await_replica(&primary, &there_before);
    await_replica(&primary, &came_later);
    let held = dump(&mut primary.client());
    assert_eq!(held.len(), 14, "the test writes 14 keys: {:?}", held.keys());
    assert_eq!(dump(&mut there_before.client()), held);
    assert_eq!(dump(&mut came_later.client()), held);
    // It answers what its primary answers.
    for call in ["COUPON.STATUS queue a WITHRANK", "COUPON.STATUS queue y WITHRANK"] {
        assert_eq!(there_before.client().run(call), primary.client().run(call), "{call}");
    }
}

#[test]
fn a_replica_without_the_module_follows_too() {
    let primary = Redis::start();
    let replica = Options::shipped().without_module().line(format!("replicaof 127.0.0.1 {}", primary.port)).start();
    await_replica(&primary, &replica);
    sale(&mut primary.client());
    await_replica(&primary, &replica);
    assert_eq!(dump(&mut replica.client()), dump(&mut primary.client()));
}

#[test]
fn the_aof_brings_back_everything_after_a_kill() {
    for preamble in ["yes", "no"] {
        let mut redis = durable().line(format!("aof-use-rdb-preamble {preamble}")).start();
        sale(&mut redis.client());
        let held = dump(&mut redis.client());
        redis.kill();
        redis.start_again();
        assert_eq!(dump(&mut redis.client()), held);
        // Rewritten, it holds the same.
        expect(&mut redis.client(), &[("BGREWRITEAOF", "+Background append only file rewriting started")]);
        coupon_tests::deadline::eventually_true("the AOF is rewritten", || {
            redis.client().run("INFO persistence").text().contains("aof_rewrite_in_progress:0")
        });
        redis.kill();
        redis.start_again();
        assert_eq!(dump(&mut redis.client()), held);
    }
}

#[test]
fn an_rdb_brings_back_everything_after_a_stop() {
    let mut redis = rdb_only().start();
    sale(&mut redis.client());
    let held = dump(&mut redis.client());
    redis.stop();
    redis.start_again();
    assert_eq!(dump(&mut redis.client()), held);
}

#[test]
fn debug_reload_changes_nothing() {
    let redis = Redis::start();
    let mut client = redis.client();
    sale(&mut client);
    let held = dump(&mut client);
    expect(&mut client, &[("DEBUG RELOAD", "+OK")]);
    assert_eq!(dump(&mut client), held);
}

#[test]
fn data_loads_on_a_server_without_the_module() {
    for options in [durable(), durable().line("aof-use-rdb-preamble no"), rdb_only()] {
        let mut redis = options.start();
        sale(&mut redis.client());
        let held = dump(&mut redis.client());
        redis.stop();
        redis.start_again_without_module();
        let mut client = redis.client();
        assert_eq!(dump(&mut client), held);
        expect(
            &mut client,
            &[
                ("COUPON.INFO queue", "-ERR unknown command"),
                // An application of the old pattern reads on.
                ("ZRANK queue:issued x", ":2"),
                ("ZCARD queue:issued", ":4"),
                ("HMGET queue status remaining", "[AVAILABLE 1]"),
                ("XLEN instant:grants", ":2"),
            ],
        );
    }
}
