//! How far the ledger is behind Redis, measured when somebody asks.

use crate::catalog::Lagging;
use crate::daemon::Daemon;
use crate::metrics::Gauges;
use crate::model::coupon::Info;
use crate::model::grant::Checkpoint;
use coupon_core::number::Seq;
use futures_util::future::join_all;
use std::time::Duration;

/// Coupons measured for one answer; a bound on what one who asks can cost.
const COUPONS_MAX: usize = 1000;

/// A measurement that takes longer is given up: a health check must answer.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(2);

/// A coupon's lag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Grants that are not in the ledger.
    pub entries: u64,
    /// When the oldest of them was granted.
    oldest_ms: Option<u64>,
}

impl Lag {
    /// Age of the oldest grant that is not in the ledger.
    pub fn age(&self, now_ms: u64) -> Duration {
        self.oldest_ms.map_or(Duration::ZERO, |oldest| Duration::from_millis(now_ms.saturating_sub(oldest)))
    }
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
            let now_ms = self.clock.now_ms();
            let oldest = lags.iter().map(|lag| lag.age(now_ms)).max().unwrap_or_default();
            gauges.oldest_unpersisted_seconds = oldest.as_secs_f64();
        }
        gauges
    }

    async fn lag(&self, coupon: &Lagging) -> Lag {
        let key = self.keys.key(&coupon.id);
        let Ok(Some(info)) = self.redis.info(&key).await else { return Lag::default() };
        self.lag_behind(&key, &info, coupon.checkpoint, Seq(0)).await
    }

    /// How far the ledger is behind a coupon's state in Redis; it is known to have come to `ledger`, and maybe further.
    pub async fn lag_behind(&self, key: &str, info: &Info, line: Option<Checkpoint>, ledger: Seq) -> Lag {
        let ledger = line.map_or(ledger, |line| line.progress.position.seq.max(ledger)).max(info.persisted);
        let entries = info.granted.0.saturating_sub(ledger.0);
        if entries == 0 {
            return Lag::default();
        }
        // Entries are trimmed up to what is persisted, which itself stays: two are enough to see the next.
        let after = line.map(|line| line.progress.entry).unwrap_or_default();
        let grants = self.redis.read(key, after, 2).await.unwrap_or_default();
        let oldest = grants.iter().find(|grant| grant.id.seq > ledger);
        Lag { entries, oldest_ms: oldest.map(|grant| grant.granted_at_ms) }
    }
}
