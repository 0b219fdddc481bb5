//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from the first to the longest.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

/// A side that is away. Short, because a coupon has to be open again within a second of Redis being reachable.
pub const SIDE: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(500) };

/// One coupon, after an error that passes by itself.
pub const COUPON_RETRY: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// One coupon, after an error that needs an operator.
pub const COUPON_STOP: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

impl Backoff {
    /// The wait after so many failures in a row: between one half and the whole of the doubled time, so that many
    /// who failed together do not come back together.
    pub fn delay(self, failures: u32) -> Duration {
        let whole = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        for (failures, whole_ms) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 500), (99, 500)] {
            let delay = SIDE.delay(failures);
            let whole = Duration::from_millis(whole_ms);
            assert!(delay >= whole / 2 && delay <= whole, "{failures}: {delay:?}");
        }
    }
}
