//! Clocks that jump by an hour, Redis's and PostgreSQL's, under load and over restarts, with two reconcilers at work. Rows
//! have to be in the order of arrival throughout.

use super::stack::{self, Load};
use super::{Survived, count};
use crate::ledger;
use crate::machine::HOUR_US;
use crate::postgres_server::Postgres;
use crate::reconciler::{self, Reconciler};
use crate::redis_server::{Options, Redis};

/// Jumps of a round.
const JUMPS: u64 = 12;

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    let mut survived = Survived::new();
    let mut redis = Options::shipped().line("appendfsync always").own_machine().start();
    let mut postgres = Postgres::start_on_own_machine();
    let start = |redis: &Redis, postgres: &Postgres| reconciler::Options::between(redis, postgres).start();
    let mut reconcilers: [Reconciler; 2] = [start(&redis, &postgres), start(&redis, &postgres)];
    for reconciler in &mut reconcilers {
        reconciler.await_log("started");
    }
    stack::await_schema(&postgres);
    stack::insert(&postgres, random);

    let load = Load::new(redis.port, "c");
    load.during(|| {
        for _ in 0..JUMPS {
            load.await_answers(random.u64(1..300));
            let offset = [-HOUR_US, 0, HOUR_US][random.usize(0..3)];
            let kind = if random.bool() {
                redis.machine().set_clock(offset);
                "Redis's clock moved by an hour or two"
            } else {
                postgres.machine().set_clock(offset);
                "PostgreSQL's clock moved by an hour or two"
            };
            count(&mut survived, kind, 1);
            load.await_answers(random.u64(1..300));
            match random.u8(0..6) {
                0 => {
                    redis.kill();
                    redis.start_again();
                    count(&mut survived, "kill -9 of redis-server, its clock wrong", 1);
                }
                1 => {
                    let reconciler = &mut reconcilers[random.usize(0..2)];
                    reconciler.kill();
                    *reconciler = start(&redis, &postgres);
                    count(&mut survived, "kill -9 of a reconciler of two, a clock wrong", 1);
                }
                2 => {
                    postgres.crash();
                    postgres.start_again();
                    count(&mut survived, "PostgreSQL stopped at once, its clock wrong", 1);
                }
                _ => {}
            }
        }
    });
    load.check(&postgres);
    assert_eq!(ledger::dead_letters(&postgres, stack::ID), [], "a row was blamed for a clock");
    survived
}
