//! How fast an audit goes.

use crate::error::Error;
use coupon_core::number::Seq;
use std::io::{self, IsTerminal};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// In the background it rests so many times as long as it worked: 2 % of the time are its own, on whatever machine and
/// however slow the servers are.
const REST_PER_WORK: u32 = 49;

/// The pace of an audit.
#[derive(Debug)]
pub struct Pace {
    rest_per_work: u32,
    /// Ends it.
    stop: CancellationToken,
    /// Since when it has worked without a rest.
    since: Instant,
}

impl Pace {
    /// Without rests, as somebody waits for it.
    pub fn full() -> Self {
        Self { rest_per_work: 0, ..Self::background(CancellationToken::new()) }
    }

    /// Beside a sale, until the daemon stops.
    pub fn background(stop: CancellationToken) -> Self {
        Self { rest_per_work: REST_PER_WORK, stop, since: Instant::now() }
    }

    /// Shows how far it is to whoever waits for it at a terminal, until the end is reached.
    pub fn show(&self, id: &str, at: Seq, end: Seq) {
        if self.rest_per_work == 0 && io::stderr().is_terminal() {
            match at < end {
                true => eprint!("\r{}: {at} of {end} grants\x1b[K", id.escape_debug()),
                false => eprint!("\r\x1b[K"),
            }
        }
    }

    /// Rests from what it has done.
    ///
    /// # Errors
    /// [`Error::Stopping`] if the daemon stops.
    pub async fn rest(&mut self) -> Result<(), Error> {
        if self.rest_per_work == 0 {
            return Ok(());
        }
        self.wait(self.since.elapsed().saturating_mul(self.rest_per_work)).await
    }

    /// Waits, which is no work; the same error.
    pub async fn wait(&mut self, duration: Duration) -> Result<(), Error> {
        let waited = self.stop.run_until_cancelled(sleep(duration)).await;
        self.since = Instant::now();
        waited.ok_or(Error::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_that_stops_does_not_wait() {
        let stop = CancellationToken::new();
        let mut pace = Pace::background(stop.clone());
        assert!(pace.wait(Duration::ZERO).await.is_ok());
        stop.cancel();
        assert!(pace.wait(Duration::from_secs(3600)).await.is_err());
        assert!(pace.rest().await.is_err());
        assert!(Pace::full().rest().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn rests_are_no_work() {
        const WORK: Duration = Duration::from_millis(2);
        let mut pace = Pace::background(CancellationToken::new());
        for _ in 0..3 {
            tokio::time::advance(WORK).await;
            let began = Instant::now();
            assert!(pace.rest().await.is_ok());
            assert!(began.elapsed() < WORK * (REST_PER_WORK + 2), "it rests from its rest");
            assert!(began.elapsed() >= WORK * REST_PER_WORK);
        }
    }
}
