//! What the daemon says of itself.

use super::Daemon;
use crate::model::standing::{Source, Standing};
use crate::shards;

/// Coupons with work at hand that it tells of: those that wait for an operator first.
const COUPONS_MAX: usize = 2000;

impl Source for Daemon {
    fn standing(&self) -> Standing {
        let totals = self.catalog.totals();
        let mut coupons = self.catalog.at_work(COUPONS_MAX);
        for (id, drift) in self.drift.left_by_coupon() {
            coupons.entry(id).or_default().drift = drift;
        }
        Standing {
            instance: self.instance.clone(),
            uptime: self.since.elapsed(),
            now_ms: self.clock.now_ms(),
            redis_away: self.sides.redis.why(),
            postgresql_away: self.sides.postgresql.why(),
            shards_held: self.shards.len(),
            shards: shards::COUNT,
            known: totals.known,
            stopped: totals.stopped,
            coupons,
            drift: self.drift.left().map(|(kind, left)| (kind.name(), left)).collect(),
        }
    }

    fn holds(&self, id: &str) -> bool {
        self.shards.hold(id)
    }
}
