//! Free TCP ports on loopback.

use std::env::temp_dir;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

/// Below the range from which the kernel gives ports to outgoing connections, so that nobody takes a server's
/// port while the server is down; and low enough for Redis Cluster's bus at port + 10000.
const PORTS: Range<u16> = 10_000..32_000;

/// A port on which nobody listens now, and that no other test takes as long as this process lives, so that a server that
/// was stopped finds it free again.
///
/// # Panics
/// If none can be found.
#[must_use]
pub fn free() -> u16 {
    (0..1000)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| reserve(*port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("no free TCP port on loopback")
}

/// Takes a port for this process, by a lock that the kernel gives back when the process ends.
fn reserve(port: u16) -> bool {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let directory = temp_dir().join("coupon-test-ports");
    let opened = fs::create_dir_all(&directory).and_then(|()| File::create(directory.join(port.to_string())));
    match opened {
        Ok(file) => {
            let is_mine = file.try_lock().is_ok();
            if is_mine {
                HELD.lock().expect("not poisoned").push(file);
            }
            is_mine
        }
        // Another account's tests have made the folder: then there is only luck.
        Err(_) => true,
    }
}
