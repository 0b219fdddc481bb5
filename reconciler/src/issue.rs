//! The scheduler: grants to waiting users, and ends coupons whose window has ended.

use crate::catalog::{Due, Id, Reason};
use crate::daemon::Daemon;
use crate::error::Error;
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Coupons issued at the same time. Redis does one after the other anyway; this only hides the way there.
const COUPONS_AT_ONCE: usize = 16;

impl Daemon {
    /// Issues at every beat.
    pub async fn issue_at(&self, every: Duration) {
        let mut beat = interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Tried again at each beat, but told of once.
        let mut problems = HashMap::new();
        loop {
            beat.tick().await;
            self.sides.redis.present().await;
            let due = self.catalog.take_due(self.clock.now_ms());
            let mut issued = stream::iter(due).map(|due| self.issue(due)).buffer_unordered(COUPONS_AT_ONCE);
            while let Some((id, result)) = issued.next().await {
                match result {
                    Ok(()) => {
                        if problems.remove(&id).is_some() {
                            tracing::info!(coupon = &*id, "issued again");
                        }
                    }
                    Err(error) => {
                        // Not lost: noted again for the next beat.
                        self.catalog.expect_waiting(&id);
                        if let Some(problem) = self.react(&error).await
                            && problems.get(&id) != Some(&problem)
                        {
                            tracing::error!(coupon = &*id, "waiting users are not granted: {problem}");
                            problems.insert(Arc::clone(&id), problem);
                        }
                        self.catalog.mark(&id, Reason::Doubt);
                    }
                }
            }
        }
    }

    async fn issue(&self, due: Due) -> (Id, Result<(), Error>) {
        if !self.shards.hold(&due.id) {
            return (due.id, Ok(()));
        }
        let key = self.keys.key(&due.id);
        let result = self.issue_all(&due, &key).await;
        if result.is_ok() && due.edge {
            self.catalog.mark(&due.id, Reason::Doubt);
        }
        (due.id, result)
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
