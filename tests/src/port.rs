//! Free TCP ports on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the range from which the kernel gives ports to outgoing connections, so that nobody takes a server's
/// port while the server is down; and low enough for Redis Cluster's bus at port + 10000.
const PORTS: Range<u16> = 10_000..32_000;

/// A port on which nobody listens now. Another process may be quicker; whoever starts a server tries again then.
///
/// # Panics
/// If none can be found.
#[must_use]
pub fn free() -> u16 {
    (0..1000)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("no free TCP port on loopback")
}
