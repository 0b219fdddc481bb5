//! A crowd: never more than the quantity, never two for one user, and the order is kept.

use coupon_tests::coupon::Stored;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const CONNECTIONS: usize = 64;
const USERS: usize = 3000;
const QUANTITY: usize = 1000;
const WAITLIST: usize = 500;

/// What each connection was told, in the order in which it asked.
type Told = Vec<(usize, String, i64)>;

/// Every user asks on two connections, in an order of its own on each.
fn crowd(redis: &Redis, seed: u64) -> Vec<Told> {
    let ask = |connection: usize| {
        let mut users: Vec<usize> =
            (0..USERS).filter(|user| [user % CONNECTIONS, (user + 7) % CONNECTIONS].contains(&connection)).collect();
        fastrand::Rng::with_seed(seed + connection as u64).shuffle(&mut users);
        let mut client = redis.client();
        let answer = |user: usize| {
            let reply = client.run(&format!("COUPON.REQUEST c {user} WITHRANK"));
            let [outcome, rank] = reply.array() else { panic!("{reply}") };
            (user, outcome.text().to_owned(), rank.int())
        };
        users.into_iter().map(answer).collect()
    };
    thread::scope(|scope| {
        let asking: Vec<_> = (0..CONNECTIONS).map(|connection| scope.spawn(move || ask(connection))).collect();
        asking.into_iter().map(|thread| thread.join().expect("a connection")).collect()
    })
}

fn assert_fair(stored: &Stored, told: &[Told]) {
    stored.assert_promises();
    assert_eq!(stored.issued.len(), QUANTITY + WAITLIST, "every place is taken, and no more");
    assert_eq!(stored.grants.len(), QUANTITY, "every unit is granted, and no more");
    let place: HashMap<&str, i64> = (1..).zip(&stored.issued).map(|(rank, (user, _))| (&**user, rank)).collect();
    let (mut accepted, mut granted) = (0, 0);
    for connection in told {
        let mut last = 0;
        for (user, outcome, rank) in connection {
            let held = place.get(&*user.to_string()).copied().unwrap_or(0);
            match outcome.as_str() {
                "SOLDOUT" => assert_eq!((held, *rank), (0, 0), "user {user} was turned away"),
                "DUPLICATE" => assert_eq!(*rank, held, "the rank of user {user}"),
                _ => {
                    assert_eq!(*rank, held, "the rank of user {user}");
                    assert!(last < held, "user {user} was answered later on its connection and stands before");
                    (accepted, last) = (accepted + 1, held);
                    granted += usize::from(outcome == "GRANTED");
                }
            }
        }
    }
    assert_eq!(accepted, QUANTITY + WAITLIST, "each accepted user was accepted once");
    assert!(granted == 0 || granted == QUANTITY, "{granted}");
}

#[test]
fn in_queue_mode_with_a_scheduler_running() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[(format!("COUPON.OPEN c QUANTITY {QUANTITY} WAITLIST {WAITLIST}"), "+OK")]);
    let is_over = AtomicBool::new(false);
    // Two schedulers that do not know of each other.
    let told = thread::scope(|scope| {
        let issue = || {
            let mut client = redis.client();
            let mut issued = 0;
            while !is_over.load(Ordering::Relaxed) {
                issued += client.run("COUPON.ISSUE c COUNT 7").int();
            }
            issued
        };
        let schedulers = [scope.spawn(issue), scope.spawn(issue)];
        let told = crowd(&redis, 1);
        is_over.store(true, Ordering::Relaxed);
        let issued: i64 = schedulers.into_iter().map(|thread| thread.join().expect("a scheduler")).sum();
        let rest = client.run("COUPON.ISSUE c").int();
        assert_eq!(issued + rest, QUANTITY as i64);
        told
    });
    assert_fair(&Stored::read(&mut client, "c"), &told);
}

#[test]
fn in_instant_mode() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[(format!("COUPON.OPEN c QUANTITY {QUANTITY} WAITLIST {WAITLIST} MODE INSTANT"), "+OK")]);
    let told = crowd(&redis, 2);
    assert_fair(&Stored::read(&mut client, "c"), &told);
}
