//! Named points at which a test can stop the daemon, to kill it there. Compiled to nothing without the feature
//! `pause-points`.
//!
//! `COUPON_PAUSE_AT` names the point, `COUPON_PAUSE_FILE` a file: when the point is first reached the file is made
//! (it holds the name), and the daemon waits there until the file is gone.

/// Declares the points and their names.
macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A point in the daemon's work.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $variant,)+ }

        /// The names of all points.
        #[cfg(feature = "pause-points")]
        pub const ALL: &[&str] = &[$($name,)+];

        #[cfg(feature = "pause-points")]
        impl Point {
            const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

points! {
    /// The relay is about to read the stream.
    BeforeRead = "before-read",
    /// The relay holds entries that are not in the ledger.
    AfterRead = "after-read",
    /// The batch is about to be sent to PostgreSQL.
    BeforeCommit = "before-commit",
    /// The batch is committed, and Redis does not know.
    AfterCommit = "after-commit",
    /// COUPON.ACK is about to be sent.
    BeforeAck = "before-ack",
    /// Redis knows.
    AfterAck = "after-ack",
    /// The next epoch is taken in PostgreSQL, and Redis does not know.
    AfterTakeEpoch = "after-take-epoch",
    /// The gate is about to be opened under the new epoch.
    BeforeResume = "before-resume",
    /// The gate is shut, and what Redis granted beyond the common part is named.
    AfterNaming = "after-naming",
    /// A batch of the ledger's grants is back in Redis, and the gate is shut.
    AfterRestoreBatch = "after-restore-batch",
    /// The gate is open under the new epoch.
    AfterResume = "after-resume",
    /// It is said that Redis is told a definition, and Redis has not heard of it.
    BeforePublish = "before-publish",
    /// The definition is in Redis.
    AfterPublish = "after-publish",
    /// The audit has looked once, and found something.
    BetweenLooks = "between-looks",
    /// A row stands for a coupon opened by hand, which has no epoch yet.
    AfterAdopt = "after-adopt",
}

/// Waits here, if a test asked for it.
#[cfg(not(feature = "pause-points"))]
#[inline]
#[expect(clippy::unused_async, reason = "the same shape as with the feature")]
pub async fn reach(_: Point) {}

#[cfg(feature = "pause-points")]
static HELD: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Waits here, if a test asked for it.
#[cfg(feature = "pause-points")]
pub async fn reach(point: Point) {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::{env, fs, path::PathBuf, time::Duration};

    static REACHED: AtomicBool = AtomicBool::new(false);
    const LOOK_EVERY: Duration = Duration::from_millis(5);

    if env::var("COUPON_PAUSE_AT").ok().as_deref() != Some(point.name()) || REACHED.swap(true, Ordering::SeqCst) {
        return;
    }
    let Some(file) = env::var_os("COUPON_PAUSE_FILE").map(PathBuf::from) else {
        tracing::error!("COUPON_PAUSE_AT is set and COUPON_PAUSE_FILE is not; going on");
        return;
    };
    // Renamed into place, so that whoever sees the file also reads the whole name.
    let written = file.with_extension("new");
    if let Err(error) = fs::write(&written, point.name()).and_then(|()| fs::rename(&written, &file)) {
        tracing::error!(%error, "the pause file could not be written; going on");
        return;
    }
    HELD.store(true, Ordering::SeqCst);
    while file.exists() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    HELD.store(false, Ordering::SeqCst);
}

/// Whether the daemon is held at a point.
#[cfg(feature = "pause-points")]
pub fn is_held() -> bool {
    HELD.load(std::sync::atomic::Ordering::SeqCst)
}

/// Whether the daemon is held at a point: never.
#[cfg(not(feature = "pause-points"))]
pub const fn is_held() -> bool {
    false
}

/// A point that no daemon knows would never be reached.
#[cfg(feature = "pause-points")]
pub fn check() -> Result<(), String> {
    match std::env::var("COUPON_PAUSE_AT") {
        Ok(name) if !ALL.contains(&name.as_str()) => {
            Err(format!("COUPON_PAUSE_AT={name} is no point; known are: {}", ALL.join(", ")))
        }
        _ => Ok(()),
    }
}
