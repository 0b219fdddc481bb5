//! The token of this process's present history. Coupons that carry another one are shut until the reconciler has compared
//! them with the ledger.

use crate::redis::Server;
use crate::settings::unpersisted_max;
use coupon_core::coupon::Moment;
use coupon_core::number::{Now, Token};
use std::sync::atomic::{AtomicU64, Ordering};

static TOKEN: AtomicU64 = AtomicU64::new(0);

/// Draws another token: what the coupons hold now may not be what they held when their gate was opened.
pub fn draw(server: &Server) {
    // A number of 63 bits, so that it stays one for every reader of the hash; 0 is for a gate that is shut.
    TOKEN.store((server.random() >> 1).max(1), Ordering::Relaxed);
}

/// The token.
pub fn token() -> Token {
    Token(TOKEN.load(Ordering::Relaxed))
}

/// The server's clock, read once per command.
pub fn now(server: &Server) -> Now {
    Now { us: server.clock_us() }
}

/// What the rules have to know of the server.
pub fn moment(now: Now) -> Moment {
    Moment { now, token: token(), unpersisted_max: unpersisted_max() }
}
