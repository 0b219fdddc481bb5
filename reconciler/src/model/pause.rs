//! Named points at which a test can stop the daemon, to kill it there. Without the feature `pause-points` nothing of it is left.
//!
//! `COUPON_PAUSE_AT` names the point, `COUPON_PAUSE_FILE` a file: when the point is first reached the file is made
//! (it holds the name), and the daemon waits there until the file is gone. At the point that `COUPON_PANIC_AT` names, it panics.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs};

const LOOK_EVERY: Duration = Duration::from_millis(5);

static HELD: AtomicBool = AtomicBool::new(false);

/// Waits here, if a test asked for it.
pub async fn at(point: &str) {
    static REACHED: AtomicBool = AtomicBool::new(false);

    if !cfg!(feature = "pause-points") {
        return;
    }
    assert_ne!(env::var("COUPON_PANIC_AT").as_deref(), Ok(point), "a test asked for it");
    if env::var("COUPON_PAUSE_AT").as_deref() != Ok(point) {
        return;
    }
    if REACHED.swap(true, Ordering::SeqCst) {
        return;
    }
    let file = PathBuf::from(env::var_os("COUPON_PAUSE_FILE").unwrap_or_default());
    // Renamed into place, so that whoever sees the file also reads the whole name.
    let written = file.with_extension("new");
    if let Err(error) = fs::write(&written, point).and_then(|()| fs::rename(&written, &file)) {
        tracing::error!(%error, "COUPON_PAUSE_FILE could not be written; going on");
        return;
    }
    HELD.store(true, Ordering::SeqCst);
    while file.exists() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    HELD.store(false, Ordering::SeqCst);
}

/// Whether the daemon is held at a point.
pub fn is_held() -> bool {
    cfg!(feature = "pause-points") && HELD.load(Ordering::SeqCst)
}
