//! What a server takes for its machine: a disk that can be full, a clock that can be wrong.
//!
//! The shim (tests/shim) is loaded into the server and all its children, and follows a file that this handle writes. No
//! root is needed, and the test's own clock and disk stay as they are. On Linux only.

use crate::artifact;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

/// The control file's length, and where in it is what: as tests/shim/src/control.rs describes it.
const LEN: u64 = 4096;
const DISK_FULL_AT: u64 = 0;
const OFFSET_IN_FORCE_AT: u64 = 1;
const CRASH_DUE_AT: u64 = 2;
const OFFSETS_AT: [u64; 2] = [8, 16];
const SYNCED_AT: u64 = 64;
const SYNCED_LEN: u64 = 16;

/// One hour, in µs.
pub const HOUR_US: i64 = 3_600_000_000;

/// A handle on one server's machine.
pub struct Machine {
    control: File,
    offset_in_force: AtomicU8,
    env: Vec<(String, String)>,
}

impl Machine {
    /// A sound machine for a server whose data are in this directory: its disk is the one that the directory is on. The
    /// shim is copied there too, as the account that a server runs as may not see the build's directory.
    ///
    /// # Panics
    /// If the shim is not built.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        let shim = directory.join("shim.so");
        fs::copy(artifact::shim(), &shim).expect("the shim can be copied");
        let path = directory.join("machine");
        let control = File::options().read(true).write(true).create_new(true).open(&path).expect("a control file");
        control.set_len(LEN).expect("a control file");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("a control file for any account");
        fs::set_permissions(&shim, Permissions::from_mode(0o755)).expect("a shim for any account");
        let env = [("LD_PRELOAD", &shim), ("COUPON_SHIM_CONTROL", &path)];
        let env = env.map(|(name, value)| (name.to_owned(), value.display().to_string())).into();
        Self { control, offset_in_force: AtomicU8::new(0), env }
    }

    /// What a program's environment needs to be on this machine.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// From now on no file gets another block.
    pub fn fill_disk(&self) {
        self.write(DISK_FULL_AT, &[1]);
    }

    /// Files can grow again.
    pub fn free_disk(&self) {
        self.write(DISK_FULL_AT, &[0]);
    }

    /// From now on the wall clock is so many microseconds off the true time.
    pub fn set_clock(&self, offset_us: i64) {
        // The offset that nobody reads is written, and then made the one in force.
        let next = 1 - self.offset_in_force.load(Ordering::Acquire);
        self.write(OFFSETS_AT[usize::from(next)], &offset_us.to_ne_bytes());
        self.write(OFFSET_IN_FORCE_AT, &[next]);
        self.offset_in_force.store(next, Ordering::Release);
    }

    /// The module's next look at the clock crashes the server.
    pub fn crash_at_the_clock(&self) {
        self.write(CRASH_DUE_AT, &[1]);
    }

    /// How much of a file was in it when it was last synced. `None` if that was never.
    ///
    /// # Panics
    /// If there is no such file.
    #[must_use]
    pub fn synced_len(&self, file: &Path) -> Option<u64> {
        let inode = fs::metadata(file).expect("the file").ino();
        (SYNCED_AT..LEN).step_by(SYNCED_LEN as usize).find_map(|at| {
            let mut slot = [0; SYNCED_LEN as usize];
            self.control.read_exact_at(&mut slot, at).expect("the control file");
            let [held, len] =
                [&slot[..8], &slot[8..]].map(|number| u64::from_ne_bytes(number.try_into().expect("eight bytes")));
            (held == inode).then_some(len)
        })
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.control.write_all_at(bytes, at).expect("the control file");
    }
}
