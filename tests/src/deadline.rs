//! Waiting for something to become true, with an end.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. No promise of speed: long enough for a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait between two looks; twice as long as a look takes, up to the second one, so that looking leaves most of the
/// machine to what is waited for: a look at PostgreSQL starts a program.
const LOOK_EVERY: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

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
        let began = Instant::now();
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        let [least, most] = LOOK_EVERY;
        std::thread::sleep((began.elapsed() * 2).clamp(least, most));
    }
}
