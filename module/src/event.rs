//! What happens to a coupon, as its keyspace events say: each once per command, and told when the command is over and has
//! closed its keys, as other modules may act on it at once.

use crate::redis::{Server, Str};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Something that has happened to a coupon.
#[derive(Clone, Copy)]
pub enum Event {
    /// Users have joined the line.
    Queued,
    /// Units were granted.
    Granted,
    /// The last unit was granted.
    SoldOut,
    /// The coupon has ended.
    Closed,
    /// A user has left the line.
    Left,
}

const NAMES: [&CStr; 5] = [c"coupon.queued", c"coupon.granted", c"coupon.soldout", c"coupon.closed", c"coupon.left"];

/// One bit for each event of the running command.
static NOTED: AtomicU8 = AtomicU8::new(0);

/// Notes an event of the running command.
pub fn note(event: Event) {
    NOTED.store(NOTED.load(Ordering::Relaxed) | 1 << event as u8, Ordering::Relaxed);
}

/// Tells what was noted.
pub fn tell(server: &Server, key: &Str) {
    if NOTED.load(Ordering::Relaxed) == 0 {
        return;
    }
    let noted = NOTED.swap(0, Ordering::Relaxed);
    for (bit, name) in NAMES.iter().enumerate() {
        if noted & 1 << bit != 0 {
            server.notify(name, key);
        }
    }
}
