//! The scheduler: grants to waiting users, and ends coupons whose window has ended.

use crate::catalog::{Due, Reason};
use crate::daemon::Daemon;
use crate::error::Error;
use futures_util::{StreamExt, stream};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Coupons issued at the same time. Redis does one after the other anyway; this only hides the way there.
const COUPONS_AT_ONCE: usize = 16;

impl Daemon {
    /// Issues at every beat.
    pub async fn issue_at(&self, every: Duration) {
        let mut beat = interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.sides.redis.present().await;
            let due = self.catalog.take_due(self.clock.now_ms());
            stream::iter(due).for_each_concurrent(COUPONS_AT_ONCE, |due| self.issue(due)).await;
        }
    }

    async fn issue(&self, due: Due) {
        if !self.shards.hold(&due.id) {
            return;
        }
        let key = self.keys.key(&due.id);
        match self.issue_all(&due, &key).await {
            Ok(()) if due.edge => self.catalog.mark(&due.id, Reason::Doubt),
            Ok(()) => {}
            Err(error) => {
                // Not lost: noted again for the next beat.
                self.catalog.expect_waiting(&due.id);
                self.doubt(&error).await;
                self.catalog.mark(&due.id, Reason::Doubt);
            }
        }
    }

    /// Every call is bounded by the server's `coupon.issue-max`; zero says that there is nothing left to grant.
    async fn issue_all(&self, due: &Due, key: &str) -> Result<(), Error> {
        loop {
            let granted = self.redis.issue(key).await?;
            if granted == 0 || self.stop.is_cancelled() {
                return Ok(());
            }
            self.metrics.issued.add(granted);
            self.catalog.mark(&due.id, Reason::Grants);
        }
    }
}
