//! Where the tests' servers and daemons run: on this machine, or in containers.

#[cfg(feature = "containers")]
pub mod engine;

#[cfg(feature = "containers")]
pub use engine::start;

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Says where.
pub const BACKEND: &str = "COUPON_TEST_BACKEND";

/// Where the module lies in the images.
pub const MODULE: &str = "/usr/local/lib/redis-coupon/libcoupon.so";

/// Whether they run in containers.
///
/// # Panics
/// If the variable says neither that nor that they do not, or says it to a build that cannot.
#[must_use]
pub fn is_backend() -> bool {
    match env::var(BACKEND).as_deref() {
        Err(_) | Ok("local") => false,
        Ok("containers") if cfg!(feature = "containers") => true,
        Ok("containers") => panic!("{BACKEND} is 'containers': build with --features coupon-tests/containers"),
        Ok(other) => panic!("{BACKEND} is '{other}': local and containers are allowed"),
    }
}

/// Lets the users of containers at a file or directory outside of their program's own, which is the test's alone otherwise.
///
/// # Panics
/// If it cannot be changed.
pub fn show(path: &Path) {
    if is_backend() {
        fs::set_permissions(path, Permissions::from_mode(0o777)).expect("a file of the test's own");
    }
}

/// Starts a program in a container, if it is to run in one; in this build none is.
///
/// # Panics
/// If the variable asks for containers.
#[cfg(not(feature = "containers"))]
#[must_use]
pub fn start(_: &crate::process::Program) -> Option<Box<dyn crate::process::Life>> {
    assert!(!is_backend());
    None
}
