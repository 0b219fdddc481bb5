//! What the daemon says of itself, to who shows it.

use super::counters::Counters;
use super::grant::Progress;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// How things stand at a moment.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// What is shown as it is.
    pub process: Process,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// Coupons that are remembered.
    pub known: usize,
    /// Those of them that wait for an operator.
    pub stopped: usize,
    /// What is remembered of those with work at hand, or with drift.
    pub coupons: HashMap<String, Known>,
    /// Findings of the audit that are left, by kind; all kinds are here.
    pub drift: Vec<(&'static str, u64)>,
}

/// A process, and what it works on and with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    /// The program's.
    pub version: String,
    /// The name of this process among several.
    pub instance: String,
    /// For how long it has been there.
    pub uptime_seconds: u64,
    /// The time by Redis's clock.
    pub now_ms: u64,
    /// What it works on.
    pub shards: Shards,
    /// Whether Redis is there.
    pub redis: Health,
    /// Whether PostgreSQL is there.
    pub postgresql: Health,
    /// Which grants wait although both are there, and why.
    #[serde(default)]
    pub stalled: Option<String>,
}

impl Process {
    /// Whether it can do all of its part.
    pub fn is_ready(&self) -> bool {
        self.redis.up && self.postgresql.up && self.shards.why.is_none() && self.stalled.is_none()
    }
}

/// What a process works on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Shards {
    /// Its own.
    pub held: u32,
    /// All.
    pub of: usize,
    /// Why it has no share of them.
    #[serde(default)]
    pub why: Option<String>,
}

/// Whether a server is there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Health {
    /// It is.
    pub up: bool,
    /// Why it is not.
    pub why: Option<String>,
}

/// What is remembered of a coupon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Where the relay is.
    pub progress: Option<Progress>,
    /// What an operator is needed for.
    pub problem: Option<String>,
    /// Findings of the audit that are left.
    pub drift: u64,
}

/// Who knows how things stand: the daemon.
pub trait Source: Send + Sync {
    /// How they stand now.
    fn standing(&self) -> Standing;

    /// Whether a coupon is this process's to work on.
    fn holds(&self, id: &str) -> bool;
}
