//! How far the ledger is behind Redis, measured when somebody asks.

use crate::catalog::Lagging;
use crate::daemon::Daemon;
use crate::metrics::Gauges;
use futures_util::future::join_all;
use std::time::Duration;

/// Coupons measured for one answer; a bound on what one who asks can cost.
const COUPONS_MAX: usize = 1000;

/// A measurement that takes longer is given up: a health check must answer.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(2);

/// A coupon's lag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lag {
    entries: u64,
    /// When the oldest of them was granted.
    oldest_ms: Option<u64>,
}

impl Daemon {
    /// Measures.
    pub async fn gauges(&self) -> Gauges {
        let totals = self.catalog.totals();
        let mut gauges = Gauges {
            redis_up: self.sides.redis.is_up(),
            postgresql_up: self.sides.postgresql.is_up(),
            fenced: totals.stopped,
            known: totals.known,
            shards: self.shards.len(),
            ..Gauges::default()
        };
        if gauges.redis_up {
            let lagging = self.catalog.lagging(COUPONS_MAX);
            let measure = join_all(lagging.iter().map(|coupon| self.lag(coupon)));
            let lags = tokio::time::timeout(MEASURE_TIMEOUT, measure).await.unwrap_or_default();
            gauges.lag_entries = lags.iter().map(|lag| lag.entries).sum();
            if let Some(oldest) = lags.iter().filter_map(|lag| lag.oldest_ms).min() {
                let age = Duration::from_millis(self.server_now_ms().saturating_sub(oldest));
                gauges.oldest_unpersisted_seconds = age.as_secs_f64();
            }
        }
        gauges
    }

    async fn lag(&self, coupon: &Lagging) -> Lag {
        let key = self.keys.key(&coupon.id);
        let Ok(Some(info)) = self.redis.info(&key).await else { return Lag::default() };
        let ledger = coupon.line.map_or(info.persisted, |line| line.progress.position.seq.max(info.persisted));
        let entries = info.granted.0.saturating_sub(ledger.0);
        if entries == 0 {
            return Lag::default();
        }
        // Entries are trimmed up to what is persisted, which itself stays: two are enough to see the next.
        let after = coupon.line.map(|line| line.progress.entry).unwrap_or_default();
        let grants = self.redis.read(&key, after, 2).await.unwrap_or_default();
        let oldest = grants.iter().find(|grant| grant.id.seq > ledger);
        Lag { entries, oldest_ms: oldest.map(|grant| grant.granted_at_ms) }
    }
}
