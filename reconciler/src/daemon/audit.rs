//! When the audit goes round.

use crate::audit::{Pace, Rounds};
use crate::error::Error;
use crate::side::Sides;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two rounds over every grant there is time for so many of the cheap ones.
const REST_FROM_GRANTS: u32 = 10;

/// Both rounds, until the daemon stops. An error ends a round, and the next begins anew.
pub async fn audit_at<Doubted: Future<Output = ()>>(
    rounds: &Rounds<'_>,
    every: Duration,
    sides: &Sides,
    stop: &CancellationToken,
    doubt: impl Fn(Error) -> Doubted,
) {
    let counts = async {
        let mut pace = Pace::background(stop.clone());
        while pace.wait(every).await.is_ok() && are_there(sides, stop).await {
            if let Err(error) = rounds.counts(&mut pace).await {
                doubt(error).await;
            }
        }
    };
    let grants = async {
        let (mut pace, mut rest) = (Pace::background(stop.clone()), every);
        while pace.wait(rest).await.is_ok() && are_there(sides, stop).await {
            rest = every.saturating_mul(REST_FROM_GRANTS);
            if let Err(error) = rounds.grants(&mut pace).await {
                rest = every;
                doubt(error).await;
            }
        }
    };
    tokio::join!(counts, grants);
}

/// Waits for both sides; false if the daemon stops.
async fn are_there(sides: &Sides, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = sides.both() => true,
    }
}
