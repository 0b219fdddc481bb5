//! What the daemon says of itself, to who shows it.

use super::grant::Progress;
use std::collections::HashMap;
use std::time::Duration;

/// How things stand at a moment.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The name of this process among several.
    pub instance: String,
    /// For how long it has been there.
    pub uptime: Duration,
    /// The time by Redis's clock.
    pub now_ms: u64,
    /// Why Redis is away, if it is.
    pub redis_away: Option<String>,
    /// Why PostgreSQL is away, if it is.
    pub postgresql_away: Option<String>,
    /// Shards that this process holds.
    pub shards_held: u32,
    /// Shards in all.
    pub shards: usize,
    /// Coupons that are remembered.
    pub known: usize,
    /// Those of them that wait for an operator.
    pub stopped: usize,
    /// What is remembered of those with work at hand, or with drift.
    pub coupons: HashMap<String, Known>,
    /// Findings of the audit that are left, by kind; all kinds are here.
    pub drift: Vec<(&'static str, u64)>,
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
