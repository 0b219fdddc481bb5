//! Redis's clock, by which windows open and end and grants are dated, as it is seen from here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Redis's time less the local one, which wraps around where that is ahead.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// The time there, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        local_now_ms().wrapping_add(self.0.load(Ordering::Relaxed))
    }

    /// Takes over what Redis has just said.
    pub fn set(&self, server_ms: u64) {
        self.0.store(server_ms.wrapping_sub(local_now_ms()), Ordering::Relaxed);
    }
}

fn local_now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64
}
