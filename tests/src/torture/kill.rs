//! kill -9 of redis-server under load, `appendfsync always`.

use super::load::{self, Told};
use super::{Survived, count};
use crate::deadline::{DEADLINE, within};
use crate::redis_server::Options;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Servers of a round, each with a coupon of its own, so that there is always something left to grant.
const SERVERS: u64 = 8;

/// Kills of one server.
const KILLS: u64 = 25;

/// Connections that send requests.
const CLIENTS: usize = 4;

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    for _ in 0..SERVERS {
        kill_one(random);
    }
    let mut survived = Survived::new();
    count(&mut survived, "kill -9 of redis-server (always)", SERVERS * KILLS);
    survived
}

fn kill_one(random: &mut fastrand::Rng) {
    let mut redis = Options::shipped().line("appendfsync always").start();
    let kind = load::open(&redis, random);
    let told = Mutex::new(Told::default());
    for kill in 1..=KILLS {
        let acknowledged = AtomicU64::new(0);
        // After so many replies, among them none: then it is killed while it starts to work.
        let moment = random.u64(0..300);
        std::thread::scope(|scope| {
            let (told, acknowledged, port) = (&told, &acknowledged, redis.port);
            let prefix = format!("u{kill}");
            scope.spawn(move || load::request_until_gone(port, CLIENTS, &prefix, told, acknowledged));
            let reached = within(DEADLINE, || (acknowledged.load(Ordering::Acquire) >= moment).then_some(()));
            redis.kill();
            assert!(
                reached.is_some(),
                "the server stopped answering after {} replies",
                acknowledged.load(Ordering::Acquire)
            );
        });
        redis.start_again();
        let mut client = redis.client();
        told.lock().expect("not poisoned").check(&mut client);
        kind.resume(&mut client, kill + 1);
    }
}
