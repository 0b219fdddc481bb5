//! Redis out of disk space, in the middle of a sale.

use coupon_tests::coupon::Stored;
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::dump::{await_replica, dump};
use coupon_tests::info::replication_offset;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, Value, expect};
use coupon_tests::torture::load::{KEY, Told};
use std::io;

/// Requests under way at once.
const PIPELINE: usize = 50;

/// Every command on the coupon that writes.
const WRITES: [&str; 6] = [
    "COUPON.REQUEST coupon:{torture} late",
    "COUPON.ISSUE coupon:{torture}",
    "COUPON.OPEN coupon:{torture} QUANTITY 2000000",
    "COUPON.CLOSE coupon:{torture}",
    "COUPON.RESUME coupon:{torture} EPOCH 2 SEQ 0 CHAIN 0",
    "COUPON.ACK coupon:{torture} EPOCH 1 SEQ 1",
];

fn sale(fsync: &str, mode: &str) -> Redis {
    let redis = Options::shipped()
        .line(format!("appendfsync {fsync}"))
        // Its own talk to replicas would move the offset.
        .line("repl-ping-replica-period 3600")
        .own_machine()
        .start();
    expect(
        &mut redis.client(),
        &[
            (format!("COUPON.OPEN {KEY} QUANTITY 1000000 MODE {mode} EPOCH 1"), "+OK"),
            (format!("COUPON.RESUME {KEY} EPOCH 1 SEQ 0 CHAIN 0"), "+OK"),
            (format!("COUPON.REQUEST {KEY} first"), if mode == "QUEUE" { "QUEUED" } else { "GRANTED" }),
        ],
    );
    redis
}

/// One pipeline of requests by new users. How many were refused.
fn request(client: &mut Client, prefix: &str, batch: usize, told: &mut Told) -> io::Result<usize> {
    let users: Vec<String> = (0..PIPELINE).map(|number| format!("{prefix}-{batch}-{number}")).collect();
    for user in &users {
        client.queue(&["COUPON.REQUEST", KEY, user]);
    }
    client.flush()?;
    let before = told.refused.len();
    for user in &users {
        told.hear(user, &client.read()?, &["MISCONF "]);
    }
    Ok(told.refused.len() - before)
}

fn request_until_refused(client: &mut Client, prefix: &str, told: &mut Told) {
    let mut batches = 0..;
    eventually_true("requests are refused", || {
        let batch = batches.next().expect("another batch");
        request(client, prefix, batch, told).expect("the server lives") > 0
    });
}

fn is_written(client: &mut Client) -> bool {
    let info = client.run("INFO persistence");
    // Under everysec a write is put off while the disk is slow to sync the one before.
    ["aof_last_write_status:ok", "aof_buffer_length:0\r"].iter().all(|line| info.text().contains(line))
}

#[test]
fn everysec_refuses_to_decide_and_goes_on_when_there_is_room() {
    for mode in ["QUEUE", "INSTANT"] {
        let mut redis = sale("everysec", mode);
        let mut client = redis.client();
        let replica = redis.replica();
        await_replica(&redis, &replica);
        let mut told = Told::default();
        request(&mut client, "before", 0, &mut told).expect("the server lives");
        assert_eq!(told.refused.len(), 0);
        redis.machine().fill_disk();
        request_until_refused(&mut client, "full", &mut told);

        let (stored, sent) = (Stored::read(&mut client, KEY), replication_offset(&mut client));
        expect(&mut client, &WRITES.map(|call| (call, "-MISCONF ")));
        let state = if mode == "QUEUE" { "WAITING" } else { "GRANTED" };
        expect(
            &mut client,
            &[(format!("COUPON.STATUS {KEY} first"), state), (format!("COUPON.WAIT {KEY} first 1"), state)],
        );
        assert_eq!(client.run(&format!("COUPON.INFO {KEY}")).field("fenced"), &Value::Int(0));
        assert_eq!(Stored::read(&mut client, KEY), stored, "a refused command has written");
        assert_eq!(replication_offset(&mut client), sent, "a refused command was replicated");
        stored.assert_promises();

        redis.machine().free_disk();
        let mut batches = 0..;
        eventually_true("requests are accepted again", || {
            let batch = batches.next().expect("another batch");
            request(&mut client, "after", batch, &mut told).expect("the server lives") == 0
        });
        eventually_true("all is written", || is_written(&mut client));
        told.check(&mut client);
        await_replica(&redis, &replica);
        let held = dump(&mut client);
        assert_eq!(dump(&mut replica.client()), held, "the replica holds what its primary does");
        redis.kill();
        redis.start_again();
        let mut client = redis.client();
        assert_eq!(dump(&mut client), held, "what was answered is in the file, and nothing else");
        told.check(&mut client);
    }
}

#[test]
fn always_ends_the_server_before_it_promises_what_it_cannot_keep() {
    for mode in ["QUEUE", "INSTANT"] {
        let mut redis = sale("always", mode);
        let mut client = redis.client();
        let mut told = Told::default();
        request(&mut client, "before", 0, &mut told).expect("the server lives");
        redis.machine().fill_disk();
        let mut batches = 0..;
        eventually("the server ends", || {
            let batch = batches.next().expect("another batch");
            request(&mut client, "full", batch, &mut told).err()
        });
        eventually_true("the server has ended", || !redis.is_alive());
        assert!(redis.log().contains("Can't recover from AOF write error"), "{}", redis.log());
        redis.machine().free_disk();
        redis.start_again();
        let mut client = redis.client();
        told.check(&mut client);
        // Nobody but the ledger opens it again.
        expect(
            &mut client,
            &[
                (format!("COUPON.REQUEST {KEY} later"), "-TRYAGAIN"),
                (format!("COUPON.RESUME {KEY} EPOCH 2 SEQ 0 CHAIN 0"), "+OK"),
            ],
        );
        request(&mut client, "after", 0, &mut told).expect("the server lives");
        told.check(&mut client);
    }
}

#[test]
fn an_aof_rewrite_without_room_fails_and_loses_nothing() {
    let mut redis = sale("everysec", "INSTANT");
    let mut client = redis.client();
    let mut told = Told::default();
    for batch in 0..20 {
        request(&mut client, "before", batch, &mut told).expect("the server lives");
    }
    eventually_true("all is written", || is_written(&mut client));
    redis.machine().fill_disk();
    client.run("BGREWRITEAOF");
    eventually_true("the rewrite fails", || {
        let info = client.run("INFO persistence");
        let info = info.text();
        info.contains("aof_last_bgrewrite_status:err") || redis.log().contains("Can't open or create append-only file")
    });
    redis.machine().free_disk();
    eventually_true("requests are accepted", || client.run(&format!("COUPON.REQUEST {KEY} x")).text() == "GRANTED");
    told.check(&mut client);
    redis.kill();
    redis.start_again();
    told.check(&mut redis.client());
}
