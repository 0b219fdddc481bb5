//! Disks that are full, under load: Redis's, which refuses (everysec) or ends (always), and PostgreSQL's, which refuses
//! rows, or ends when there is no room for its WAL.

use super::stack::{self, Load};
use super::{Survived, count};
use crate::deadline::{eventually_true, within};
use crate::ledger;
use crate::postgres_server::Postgres;
use crate::reconciler::Reconciler;
use crate::redis_server::{Options, Redis};
use crate::resp::Client;
use std::time::Duration;

/// Full disks of a round.
const FULL_DISKS: u64 = 5;

/// More than a round can sell, so that there is always something left to write.
const UNITS: u32 = 10_000_000;

/// Grants that may be missing in the ledger: so many stay in the stream while PostgreSQL has no room.
const UNPERSISTED_MAX: i64 = 500;

/// How long the WAL is used up; what was preallocated may suffice.
const WAL_WITHIN: Duration = Duration::from_secs(5);

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    let mut survived = Survived::new();
    let is_always = random.bool();
    let fsync = if is_always { "always" } else { "everysec" };
    let mut redis = Options::shipped()
        .line(format!("appendfsync {fsync}"))
        .line("auto-aof-rewrite-percentage 0")
        .module_args(&format!("unpersisted-max {UNPERSISTED_MAX}"))
        .own_machine()
        .start();
    let mut postgres = Postgres::start_on_own_machine();
    let mut reconciler = Reconciler::start(&redis, &postgres);
    stack::insert_of(&postgres, random, UNITS);
    stack::await_level(redis.port, &postgres);

    for full in 0..FULL_DISKS {
        let load = Load::new(redis.port, &format!("d{full}")).expecting(&["MISCONF "]);
        let kind = match (random.bool(), is_always) {
            (true, true) => {
                end_redis(&mut redis, &load, random);
                "Redis's disk full (always), which ends it"
            }
            (true, false) => {
                refuse_in_redis(&redis, &load, random);
                "Redis's disk full (everysec), which makes it refuse"
            }
            (false, _) => {
                let has_ended = refuse_in_postgres(&mut postgres, &redis, &load, random);
                if has_ended { "PostgreSQL's disk full, to its end" } else { "PostgreSQL's disk full" }
            }
        };
        load.check(&postgres);
        assert_eq!(ledger::dead_letters(&postgres, stack::ID), [], "a row was blamed for a full disk");
        assert!(reconciler.is_alive(), "the reconciler ended:\n{}", reconciler.log());
        count(&mut survived, kind, 1);
    }
    survived
}

fn end_redis(redis: &mut Redis, load: &Load, random: &mut fastrand::Rng) {
    load.during(|| {
        load.await_answers(random.u64(1..300));
        redis.machine().fill_disk();
        eventually_true("Redis ends", || !redis.is_alive());
        redis.machine().free_disk();
        redis.start_again();
        load.await_answers(random.u64(1..300));
    });
}

fn refuse_in_redis(redis: &Redis, load: &Load, random: &mut fastrand::Rng) {
    let mut client = redis.client();
    let mut is_written = || client.run("INFO persistence").text().contains("aof_last_write_status:ok");
    load.during(|| {
        load.await_answers(random.u64(1..300));
        redis.machine().fill_disk();
        eventually_true("Redis refuses", || load.refused("MISCONF ") > 0);
        load.await_answers(random.u64(1..300));
        redis.machine().free_disk();
        eventually_true("Redis writes again", &mut is_written);
        load.await_answers(random.u64(1..300));
    });
    // Acknowledged before the first refusal, or after the last: what was not written in between was kept, and is by now.
    eventually_true("Redis has written all", &mut is_written);
}

/// Whether PostgreSQL ended.
fn refuse_in_postgres(postgres: &mut Postgres, redis: &Redis, load: &Load, random: &mut fastrand::Rng) -> bool {
    let mut client = redis.client();
    load.during(|| {
        load.await_answers(random.u64(1..300));
        postgres.machine().fill_disk();
        // What the tables' last pages can take still becomes rows.
        eventually_true("PostgreSQL refuses rows", || unpersisted(&mut client) >= Some(UNPERSISTED_MAX));
        if random.bool() {
            use_up_wal(postgres);
        }
        load.await_answers(random.u64(1..300));
        let behind = unpersisted(&mut client).unwrap_or(0);
        assert!(behind <= UNPERSISTED_MAX, "{behind} grants are no rows, more than allowed");
        postgres.machine().free_disk();
        let has_ended = postgres.revive();
        load.await_answers(random.u64(1..300));
        has_ended
    })
}

/// Each switch asks for another segment of the WAL. Where there is no room for one PostgreSQL restarts itself, and ends if
/// it cannot.
fn use_up_wal(postgres: &Postgres) {
    let _ = within(WAL_WITHIN, || postgres.try_run("select pg_switch_wal()").err());
}

/// Grants that are no rows yet, as Redis knows it.
fn unpersisted(client: &mut Client) -> Option<i64> {
    let info = client.call(&["COUPON.INFO", &stack::key()]);
    (!info.is_error()).then(|| info.field("granted").int() - info.field("persisted").int())
}
