//! Memory's limit, under load: without eviction requests are refused and nothing is lost; with eviction, which nobody should
//! switch on, keys of the coupon go. Then nothing is decided until the operator brings back what the ledger holds.

use super::stack::{self, Load, Order, key};
use super::{Survived, count};
use crate::deadline::{eventually_true, within};
use crate::info::used_memory;
use crate::ledger;
use crate::postgres_server::Postgres;
use crate::reconciler::Reconciler;
use crate::redis_server::{Options, Redis};
use crate::resp::Client;
use std::time::Duration;

/// Limits reached in a round.
const LIMITS: u64 = 4;

/// More than a round can sell.
const UNITS: u32 = 10_000_000;

/// Keys that are nobody's coupon: what a cache beside it holds.
const OTHER_KEYS: u64 = 200;

/// Between two looks whether something is gone.
const EVICTED_WITHIN: Duration = Duration::from_secs(5);

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    let mut survived = Survived::new();
    let redis = Options::shipped().line("appendfsync always").start();
    let postgres = Postgres::start();
    let mut reconciler = Reconciler::start(&redis, &postgres);
    stack::insert_of(&postgres, random, UNITS);
    stack::await_level(redis.port, &postgres);
    for limit in 0..LIMITS {
        let load = Load::new(redis.port, &format!("e{limit}")).expecting(&["OOM "]);
        if random.bool() {
            refuse(&redis, &load, random);
            load.check(&postgres);
            count(&mut survived, "maxmemory reached (noeviction)", 1);
        } else {
            let policy = ["allkeys-lru", "allkeys-random", "volatile-ttl"][random.usize(0..3)];
            if evict(&redis, &load, policy, random) {
                stack::bring_back(&redis, &postgres);
                load.forget_unpersisted();
                load.check_on(redis.port, &postgres, Order::PerEpoch);
                count(&mut survived, "keys of the coupon evicted", 1);
            } else {
                load.check_on(redis.port, &postgres, Order::PerEpoch);
            }
        }
        assert_eq!(ledger::dead_letters(&postgres, stack::ID), [], "a row was blamed for a lack of memory");
        assert!(reconciler.is_alive(), "the reconciler ended:\n{}", reconciler.log());
    }
    survived
}

fn refuse(redis: &Redis, load: &Load, random: &mut fastrand::Rng) {
    let mut client = redis.client();
    load.during(|| {
        load.await_answers(random.u64(1..300));
        set_maxmemory(&mut client, random.i64(1 << 14..1 << 18));
        eventually_true("Redis refuses", || load.refused("OOM ") > 0);
        load.await_answers(random.u64(1..300));
        lift(&mut client);
        load.await_answers(random.u64(1..300));
    });
}

/// Whether a key of the coupon was evicted.
fn evict(redis: &Redis, load: &Load, policy: &str, random: &mut fastrand::Rng) -> bool {
    let mut client = redis.client();
    for number in 0..OTHER_KEYS {
        client.run(&format!("SET other:{number} {} EX 3600", "x".repeat(1000)));
    }
    if policy.starts_with("volatile") {
        // Only what has an end is evicted: somebody has given the coupon's keys one.
        for suffix in ["", ":issued", ":grants"] {
            client.run(&format!("EXPIRE {}{suffix} 1800", key()));
        }
    }
    client.run(&format!("CONFIG SET maxmemory-policy {policy}"));
    let mut is_gone = false;
    load.during(|| {
        load.await_answers(random.u64(1..300));
        // Less than it holds, so that something has to go.
        set_maxmemory(&mut client, 0);
        is_gone = within(EVICTED_WITHIN, || (held(&mut client) < 3).then_some(())).is_some();
        load.await_answers(random.u64(1..300));
        client.run("CONFIG SET maxmemory-policy noeviction");
        lift(&mut client);
        load.await_answers(random.u64(1..300));
    });
    for suffix in ["", ":issued", ":grants"] {
        client.run(&format!("PERSIST {}{suffix}", key()));
    }
    is_gone
}

/// Keys of the coupon that are there.
fn held(client: &mut Client) -> i64 {
    client.run(&format!("EXISTS {0} {0}:issued {0}:grants", key())).int()
}

fn set_maxmemory(client: &mut Client, more_bytes: i64) {
    let limit = used_memory(client) + more_bytes;
    assert_eq!(client.run(&format!("CONFIG SET maxmemory {limit}")).to_string(), "+OK");
}

fn lift(client: &mut Client) {
    assert_eq!(client.run("CONFIG SET maxmemory 0").to_string(), "+OK");
}
