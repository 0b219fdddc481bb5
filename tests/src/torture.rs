//! Torture: faults in a loop, under load, with a seed; after each one the promises.
//!
//! A [`Scenario`] plays one round: it starts real servers, breaks them some times in its own way, and checks after each
//! break what must hold. A broken promise is a panic that names it. The round's seed decides all that chance decides,
//! so that a failing round can be played again (up to what the machine's own timing decides).

pub mod clock;
pub mod disk_full;
pub mod failover;
pub mod hosts;
pub mod kill;
pub mod load;
pub mod memory;
pub mod operator;
pub mod outage;
pub mod power_cut;
pub mod run;
pub mod stack;

use std::collections::BTreeMap;
use std::time::Duration;

/// How many faults of which kind were survived.
pub type Survived = BTreeMap<&'static str, u64>;

/// A way to break things.
pub struct Scenario {
    /// Its name, for `--scenario`.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Plays one round.
    pub round: fn(&mut fastrand::Rng) -> Survived,
    /// A shorter plan does without it, unless it asks for it by name.
    pub time_min: Duration,
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill",
        about: "kill -9 of redis-server under load, appendfsync always: nothing acknowledged is lost",
        round: kill::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "power-cut",
        about: "the AOF cut at any byte after the last fsync, appendfsync always: nothing acknowledged is lost",
        round: power_cut::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "outage",
        about: "Redis, PostgreSQL and the reconciler killed, stopped, paused and cut off, in any order",
        round: outage::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "failover",
        about: "a replica that is behind becomes primary, the old one may go on, and may come back",
        round: failover::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "operator",
        about: "keys deleted, renamed and expired, FLUSHALL, a lost AOF, an old backup put back",
        round: operator::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "disk-full",
        about: "Redis and PostgreSQL out of disk space: refused or ended, and nothing acknowledged is lost",
        round: disk_full::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "clock",
        about: "the clocks of Redis and PostgreSQL an hour forward and back: the order of arrival holds",
        round: clock::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "memory",
        about: "maxmemory reached, and keys evicted: refused, or shut until the ledger's grants are brought back",
        round: memory::round,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "hosts",
        about: "hosts cut off from each other without a word, at random and at named moments, and failovers meanwhile",
        round: hosts::round,
        time_min: Duration::from_secs(120),
    },
    Scenario {
        name: "hosts-long",
        about: "the same, cut off for up to a minute and a half",
        round: hosts::long_round,
        time_min: Duration::from_secs(1200),
    },
];

/// Counts a fault.
pub fn count(survived: &mut Survived, kind: &'static str, faults: u64) {
    *survived.entry(kind).or_default() += faults;
}
