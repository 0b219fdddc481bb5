//! Channels on which the module says that there is something to do.
//!
//! A message carries the coupon's key. Messages can be lost, so each only shortens a wait: the reconciler
//! looks by itself as well, more slowly.

/// A coupon was opened, redefined or closed by hand (without EPOCH).
pub const OPENED: &str = "coupon.opened";

/// Somebody waits where nobody waited.
pub const WAITING: &str = "coupon.waiting";

/// There is a grant that is not in the ledger, where all were.
pub const GRANTED: &str = "coupon.granted";

/// All of them.
pub const CHANNELS: [&str; 3] = [OPENED, WAITING, GRANTED];
