//! Power cuts, `appendfsync always`: what was not synced when the power went may be gone, from any byte on.
//!
//! Redis syncs before it answers. So when a client has all its answers and nothing else is under way, all that the AOF
//! holds is on the disk. What is written after that may be lost from any byte on, so the file is cut at one of them.
//!
//! The file is repaired by `redis-check-aof --fix` before the start, as scripts/redis.sh does. Redis could do without
//! (`aof-load-truncated yes`), but when the cut is in the middle of a transaction it leaves the MULTI in the file, and all
//! that is written behind it is dropped by the *next* start: this scenario found 58 acknowledged requests lost so, on
//! Redis 7.0.15. (Valkey has mended it in its pull request 4342 of 2026.)

use super::load::{self, KEY, Told};
use super::{Survived, count};
use crate::deadline::{DEADLINE, within};
use crate::redis_server::{Options, Redis};
use std::fs::{self, File};

/// Servers of a round, each with a coupon of its own, so that there is always something left to grant.
const SERVERS: u64 = 3;

/// Power cuts of one server.
const CUTS: u64 = 10;

/// Requests of which the answers are awaited, and of which they are not.
const REQUESTS: usize = 100;

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    for _ in 0..SERVERS {
        cut_one(random);
    }
    let mut survived = Survived::new();
    count(&mut survived, "power cut (always)", SERVERS * CUTS);
    survived
}

fn cut_one(random: &mut fastrand::Rng) {
    let mut redis = Options::shipped().line("appendfsync always").line("auto-aof-rewrite-percentage 0").start();
    let kind = load::open(&redis, random);
    let mut told = Told::default();
    for cut in 1..=CUTS {
        let mut client = redis.client();
        let users: Vec<String> = (0..random.usize(0..REQUESTS)).map(|number| format!("a{cut}-{number}")).collect();
        for user in &users {
            client.queue(&["COUPON.REQUEST", KEY, user]);
        }
        for (user, reply) in users.iter().zip(client.replies(users.len()).expect("the server runs")) {
            told.hear(user, &reply, load::FENCED);
        }
        let synced = aof_len(&redis);

        for number in 0..random.usize(1..REQUESTS) {
            client.queue(&["COUPON.REQUEST", KEY, &format!("b{cut}-{number}")]);
            if random.u8(0..10) == 0 {
                client.queue(&["COUPON.ISSUE", KEY, "COUNT", "9"]);
            }
        }
        client.flush().expect("the server runs");
        // Either it writes something, or all is sold out and nothing is to be written.
        let is_written = || (aof_len(&redis) > synced).then_some(());
        let _ = within(DEADLINE / 100, is_written);
        redis.kill();
        let written = aof_len(&redis);
        let kept = random.u64(synced..=written);
        File::options().write(true).open(redis.aof()).and_then(|file| file.set_len(kept)).expect("the AOF can be cut");

        redis.start_again();
        let mut client = redis.client();
        told.check(&mut client);
        kind.resume(&mut client, cut + 1);
        // Users of whom nothing was heard ask again; if they are in already they are told so.
    }
}

fn aof_len(redis: &Redis) -> u64 {
    fs::metadata(redis.aof()).expect("the AOF").len()
}
