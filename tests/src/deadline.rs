//! Waiting for something to become true, with an end.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. No promise of speed: long enough for a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until `look` finds something, and hands it out.
///
/// # Panics
/// At the deadline, saying what never came.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, look).unwrap_or_else(|| panic!("not within {DEADLINE:?}: {what}"))
}

/// As [`eventually`], for a condition.
///
/// # Panics
/// At the deadline.
pub fn eventually_true(what: &str, mut is_true: impl FnMut() -> bool) {
    eventually(what, || is_true().then_some(()));
}

/// Looks until `look` finds something or the time is up.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
