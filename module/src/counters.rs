//! What the module has done since it was loaded: `INFO coupon`.

use coupon_core::words::Outcome;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters with their names in INFO.
macro_rules! counters {
    ($($(#[$doc:meta])* $counter:ident = $name:literal,)+) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $counter,)+ }

        const NAMES: &[&CStr] = &[$($name,)+];
        static COUNTS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];
    };
}

counters! {
    /// Requests answered QUEUED.
    Queued = c"requests_queued_total",
    /// Requests answered GRANTED.
    Granted = c"requests_granted_total",
    /// Requests answered DUPLICATE.
    Duplicate = c"requests_duplicate_total",
    /// Requests answered SOLDOUT.
    SoldOut = c"requests_soldout_total",
    /// Requests answered NOTOPEN.
    NotOpen = c"requests_notopen_total",
    /// Requests answered CLOSED.
    Closed = c"requests_closed_total",
    /// Users who left the line.
    Left = c"left_total",
    /// Units granted by ISSUE.
    Issued = c"issued_total",
    /// Grants brought back by RESTORE.
    Restored = c"restored_total",
    /// Positions recorded by ACK.
    Acknowledged = c"acks_total",
    /// Calls of any command answered TRYAGAIN.
    TryAgain = c"tryagain_total",
    /// Calls of any command answered with any other error.
    Refused = c"refused_total",
}

impl From<Outcome> for Counter {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Queued => Self::Queued,
            Outcome::Granted => Self::Granted,
            Outcome::Duplicate => Self::Duplicate,
            Outcome::SoldOut => Self::SoldOut,
            Outcome::NotOpen => Self::NotOpen,
            Outcome::Closed => Self::Closed,
        }
    }
}

/// Counts so many.
pub fn add(counter: Counter, count: u64) {
    if let Some(total) = COUNTS.get(counter as usize) {
        // Only the server's one thread counts, so nothing is lost between the two steps, and they cost less than one
        // that is atomic.
        total.store(total.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
}

/// All of them, by name.
pub fn all() -> impl Iterator<Item = (&'static CStr, u64)> {
    NAMES.iter().zip(&COUNTS).map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
}
