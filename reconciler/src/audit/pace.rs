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
    /// Ends it; none where somebody waits for the audit, which then takes no rests.
    stop: Option<CancellationToken>,
    /// Since when it has worked without a rest.
    since: Instant,
}

impl Pace {
    /// Without rests.
    pub fn full() -> Self {
        Self { stop: None, since: Instant::now() }
    }

    /// Beside a sale, until the daemon stops.
    pub fn background(stop: CancellationToken) -> Self {
        Self { stop: Some(stop), since: Instant::now() }
    }

    /// Rests from what it has done.
    ///
    /// # Errors
    /// [`Error::Stopping`] if the daemon stops.
    pub async fn rest(&mut self) -> Result<(), Error> {
        match self.stop {
            None => Ok(()),
            Some(_) => self.wait(self.since.elapsed().saturating_mul(REST_PER_WORK)).await,
        }
    }

    /// Shows whoever waits how far it is, and nothing more at the end.
    pub fn show(&self, id: &str, at: Seq, of: Seq) {
        if self.stop.is_none() && io::stderr().is_terminal() {
            let far = if at < of { format!("{}: {at} of {of} grants", id.escape_debug()) } else { String::new() };
            eprint!("\r\x1b[K{far}");
        }
    }

    /// Waits, which is no work; the same error.
    pub async fn wait(&mut self, duration: Duration) -> Result<(), Error> {
        match &self.stop {
            None => sleep(duration).await,
            Some(stop) => tokio::select! {
                () = stop.cancelled() => return Err(Error::Stopping),
                () = sleep(duration) => {}
            },
        }
        self.since = Instant::now();
        Ok(())
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
