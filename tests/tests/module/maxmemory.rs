//! A server that reaches its memory's limit in the middle of a sale.

use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::dump::dump;
use coupon_tests::info::{replication_offset, used_memory};
use coupon_tests::redis_server::Options;
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::{Client, expect};
use coupon_tests::torture::load::{KEY, Told};
use std::sync::Mutex;

const CONNECTIONS: usize = 4;
const PIPELINE: usize = 20;

/// Left to fill when the limit is set: some thousand users.
const ROOM_BYTES: i64 = 1 << 20;

/// Requests over several connections until each of them was refused.
fn request_until_refused(port: u16, prefix: &str, told: &Mutex<Told>) {
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut client = Client::connect(port).expect("the server lives");
                let mut batches = 0..;
                eventually_true("requests are refused", || {
                    let batch = batches.next().expect("another batch");
                    let users: Vec<String> =
                        (0..PIPELINE).map(|user| format!("{prefix}{connection}-{batch}-{user}")).collect();
                    for user in &users {
                        client.queue(&["COUPON.REQUEST", KEY, user]);
                    }
                    let replies = client.replies(PIPELINE).expect("the server lives");
                    let mut told = told.lock().expect("not poisoned");
                    for (user, reply) in users.iter().zip(&replies) {
                        told.hear(user, reply, &["OOM ", "TRYAGAIN "]);
                    }
                    replies.iter().all(coupon_tests::resp::Value::is_error)
                });
            });
        }
    });
}

#[test]
fn requests_are_refused_and_what_makes_room_goes_on() {
    for mode in ["QUEUE", "INSTANT"] {
        let redis = Options::shipped().line("repl-ping-replica-period 3600").start();
        let mut client = redis.client();
        let is_queue = mode == "QUEUE";
        let outcome = if is_queue { "QUEUED" } else { "GRANTED" };
        expect(
            &mut client,
            &[
                (format!("COUPON.OPEN {KEY} QUANTITY 1000000 MODE {mode} EPOCH 1"), "+OK"),
                (format!("COUPON.RESUME {KEY} EPOCH 1 SEQ 0 CHAIN 0"), "+OK"),
                (format!("COUPON.REQUEST {KEY} first"), outcome),
                (format!("COUPON.ISSUE {KEY}"), if is_queue { ":1" } else { ":0" }),
            ],
        );
        let _replica = ReplicationStream::attach(&redis);
        let told = Mutex::new(Told::default());
        let limit = used_memory(&mut client) + ROOM_BYTES;
        expect(&mut client, &[(format!("CONFIG SET maxmemory {limit}"), "+OK")]);
        request_until_refused(redis.port, "u", &told);
        // From here on even small things are too much.
        expect(&mut client, &[("CONFIG SET maxmemory 1", "+OK")]);
        let (stored, sent) = (Stored::read(&mut client, KEY), replication_offset(&mut client));
        expect(
            &mut client,
            &[
                (format!("COUPON.REQUEST {KEY} late"), "-OOM "),
                (format!("COUPON.ISSUE {KEY}"), "-OOM "),
                (format!("COUPON.OPEN {KEY} QUANTITY 2000000"), "-OOM "),
                (format!("COUPON.STATUS {KEY} first"), "GRANTED"),
                (format!("COUPON.STATUS {KEY} late"), "NONE"),
            ],
        );
        assert_eq!(Stored::read(&mut client, KEY), stored, "a refused command has written");
        assert_eq!(replication_offset(&mut client), sent, "a refused command was replicated");
        stored.assert_promises();
        told.lock().expect("not poisoned").check(&mut client);
        let lens = |client: &mut Client| client.run(&format!("XLEN {KEY}:grants")).int();
        expect(
            &mut client,
            &[
                (format!("COUPON.ACK {KEY} EPOCH 1 SEQ {}", stored.number("seq")), "+OK"),
                (format!("COUPON.STATUS {KEY} first"), "PERSISTED"),
            ],
        );
        assert_eq!(lens(&mut client), 1, "what is a row was trimmed");
        expect(
            &mut client,
            &[
                ("CONFIG SET maxmemory 0".into(), "+OK"),
                (format!("COUPON.REQUEST {KEY} late"), outcome),
                (format!("COUPON.STATUS {KEY} late"), if is_queue { "WAITING" } else { "GRANTED" }),
            ],
        );
        let last = Stored::read(&mut client, KEY);
        assert_eq!(last.issued.len(), stored.issued.len() + 1, "all who were accepted are still there");
        assert_eq!(last.issued[..stored.issued.len()], stored.issued);
    }
}

#[test]
fn a_companion_that_is_evicted_under_load_ends_all_decisions() {
    for policy in ["volatile-ttl", "volatile-lru", "volatile-random"] {
        for companion in ["issued", "grants"] {
            let redis = Options::shipped().start();
            let mut client = redis.client();
            expect(
                &mut client,
                &[
                    (format!("COUPON.OPEN {KEY} QUANTITY 1000000 MODE INSTANT"), "+OK"),
                    (format!("COUPON.REQUEST {KEY} first"), "GRANTED"),
                    // Alone in having an end, it is what these policies evict.
                    (format!("EXPIRE {KEY}:{companion} 3600"), ":1"),
                    (format!("CONFIG SET maxmemory-policy {policy}"), "+OK"),
                ],
            );
            let limit = used_memory(&mut client) + ROOM_BYTES;
            expect(&mut client, &[(format!("CONFIG SET maxmemory {limit}"), "+OK")]);
            let told = Mutex::new(Told::default());
            request_until_refused(redis.port, "u", &told);
            assert_eq!(client.run(&format!("EXISTS {KEY}:{companion}")).int(), 0, "it was not evicted");
            expect(
                &mut client,
                &[("CONFIG SET maxmemory-policy noeviction", "+OK"), ("CONFIG SET maxmemory 0", "+OK")],
            );
            let before = dump(&mut client);
            expect(
                &mut client,
                &[
                    (format!("COUPON.REQUEST {KEY} first"), "-TRYAGAIN "),
                    (format!("COUPON.REQUEST {KEY} late"), "-TRYAGAIN "),
                    (format!("COUPON.ISSUE {KEY}"), "-TRYAGAIN "),
                    (format!("COUPON.STATUS {KEY} first"), "-TRYAGAIN "),
                ],
            );
            assert_eq!(dump(&mut client), before, "a coupon that lacks a key was begun anew");
            let granted: i64 = client.run(&format!("HGET {KEY} seq")).text().parse().expect("a number");
            let told = told.lock().expect("not poisoned");
            assert!(told.outcomes.values().all(|outcome| outcome == "GRANTED"));
            assert_eq!(granted, told.outcomes.len() as i64 + 1, "one unit for each who was told so, and no other");
        }
    }
}
