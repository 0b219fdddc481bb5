//! How long to wait before the next try.

use std::time::Duration;

/// Before the second try.
const FIRST: Duration = Duration::from_millis(100);

/// At most for a side that is away. Short, because a coupon has to be open again within a second of Redis being reachable.
pub const SIDE_MAX: Duration = Duration::from_millis(500);

/// At most for one coupon, after an error that passes by itself.
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// At most for one coupon, after an error that needs an operator.
pub const STOP_MAX: Duration = Duration::from_secs(30);

/// The wait after so many failures in a row, which doubles up to the longest: between one half and the whole of it, so that
/// many who failed together do not come back together.
pub fn delay(failures: u32, longest: Duration) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        for (failures, whole_ms) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 500), (99, 500)] {
            let delay = delay(failures, SIDE_MAX);
            let whole = Duration::from_millis(whole_ms);
            assert!(delay >= whole / 2 && delay <= whole, "{failures}: {delay:?}");
        }
    }
}
