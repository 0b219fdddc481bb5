//! Redis, PostgreSQL and the reconciler killed, stopped, paused and cut off, in any order, under load.

use super::stack::{self, Load};
use super::{Survived, count};
use crate::postgres_server::Postgres;
use crate::proxy::Proxy;
use crate::reconciler::{self, Reconciler};
use crate::redis_server::{self, Redis};

/// Faults of a round.
const FAULTS: u64 = 12;

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    let mut survived = Survived::new();
    let mut redis = redis_server::Options::shipped().line("appendfsync always").start();
    let mut postgres = Postgres::start();
    // The reconciler's ways to both sides can be cut at any moment, between COMMIT and its answer too.
    let to_redis = Proxy::start(redis.port);
    let to_postgres = Proxy::start(postgres.port);
    let batch_max = random.u32(1..400).to_string();
    let start = |redis: &Redis, postgres: &Postgres| {
        reconciler::Options::between(redis, postgres)
            .redis_url(format!("redis://127.0.0.1:{}", to_redis.port))
            .database_url(postgres.url_at(to_postgres.port))
            .args(&["--batch-max", &batch_max])
            .start()
    };
    let mut reconciler: Reconciler = start(&redis, &postgres).await_ready();
    stack::insert(&postgres, random);

    let load = Load::new(redis.port, "u");
    load.during(|| {
        for _ in 0..FAULTS {
            load.await_answers(random.u64(1..300));
            let kind = match random.u8(0..8) {
                0 => {
                    redis.kill();
                    redis.start_again();
                    "kill -9 of redis-server (always), whole system"
                }
                1 => {
                    redis.stop();
                    redis.start_again();
                    "redis-server stopped and started"
                }
                2 => {
                    reconciler.kill();
                    reconciler = start(&redis, &postgres);
                    "kill -9 of the reconciler"
                }
                3 => {
                    // Before that it is no daemon yet, and ends as any process does.
                    reconciler.await_log("started");
                    assert!(reconciler.end("TERM").success(), "the reconciler ends in order on SIGTERM");
                    reconciler = start(&redis, &postgres);
                    "reconciler stopped and started"
                }
                4 => {
                    postgres.crash();
                    load.await_answers(random.u64(1..200));
                    postgres.start_again();
                    "PostgreSQL stopped at once (immediate), and started"
                }
                5 => {
                    to_postgres.cut();
                    "connections to PostgreSQL cut"
                }
                6 => {
                    to_redis.cut();
                    "connections to Redis cut"
                }
                _ => {
                    // Another one takes over meanwhile; the one that was paused wakes up in the middle of what it did.
                    reconciler.signal("STOP");
                    let mut other = start(&redis, &postgres);
                    load.await_answers(random.u64(1..300));
                    reconciler.signal("CONT");
                    load.await_answers(random.u64(1..100));
                    other.kill();
                    "reconciler paused, another one in its place"
                }
            };
            count(&mut survived, kind, 1);
        }
    });
    load.check(&postgres);
    survived
}
