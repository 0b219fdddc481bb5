//! Redis's clock, by which windows open and end and grants are dated, as it is seen from here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Redis's clock.
#[derive(Debug, Default)]
pub struct Clock {
    /// Redis's time less the local one.
    offset_ms: AtomicI64,
}

impl Clock {
    /// The time there, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        let now = local_now_ms().saturating_add(self.offset_ms.load(Ordering::Relaxed));
        u64::try_from(now).unwrap_or(0)
    }

    /// Takes over what Redis has just said.
    pub fn set(&self, server_ms: u64) {
        let offset = i64::try_from(server_ms).unwrap_or(i64::MAX).saturating_sub(local_now_ms());
        self.offset_ms.store(offset, Ordering::Relaxed);
    }
}

fn local_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
