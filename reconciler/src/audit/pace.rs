//! How fast an audit goes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// In the background it rests so many times as long as it worked: 2 % of the time are its own, on whatever machine and
/// however slow the servers are.
const REST_PER_WORK: u32 = 49;

/// The pace of an audit.
#[derive(Debug)]
pub struct Pace {
    /// Ends the rests; none where somebody waits for the audit, which then has none.
    stop: Option<CancellationToken>,
    /// Since when it has worked without a rest.
    since: Mutex<Instant>,
}

impl Pace {
    /// Without rests.
    pub fn full() -> Self {
        Self { stop: None, since: Mutex::new(Instant::now()) }
    }

    /// Beside a sale, until the daemon stops.
    pub fn background(stop: CancellationToken) -> Self {
        Self { stop: Some(stop), since: Mutex::new(Instant::now()) }
    }

    /// Rests after a page; false if there is no going on.
    pub async fn rest(&self) -> bool {
        let Some(stop) = &self.stop else { return true };
        let worked = self.resume();
        let goes_on = pause(stop, worked.saturating_mul(REST_PER_WORK)).await;
        self.resume();
        goes_on
    }

    /// Begins to count anew, after waiting for something; how long it worked before.
    pub fn resume(&self) -> Duration {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *since, Instant::now()).elapsed()
    }
}

/// Waits, unless the daemon stops: then false.
pub async fn pause(stop: &CancellationToken, duration: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_that_stops_does_not_wait() {
        let stop = CancellationToken::new();
        assert!(pause(&stop, Duration::ZERO).await);
        stop.cancel();
        assert!(!pause(&stop, Duration::from_secs(3600)).await);
        assert!(!Pace::background(stop).rest().await);
        assert!(Pace::full().rest().await);
    }

    #[tokio::test(start_paused = true)]
    async fn rests_are_no_work() {
        const WORK: Duration = Duration::from_millis(2);
        let pace = Pace::background(CancellationToken::new());
        for _ in 0..3 {
            tokio::time::advance(WORK).await;
            let began = Instant::now();
            assert!(pace.rest().await);
            assert!(began.elapsed() < WORK * (REST_PER_WORK + 2), "it rests from its rest");
            assert!(began.elapsed() >= WORK * REST_PER_WORK);
        }
    }
}
