//! What was synced: the part of a file that a power cut cannot take.

use crate::control::{Control, regular_file};
use libc::{c_int, c_long};

/// Syncs, and notes the length that the file had before: what is written meanwhile need not be on the disk.
fn note(fd: c_int, call: c_long) -> c_int {
    let file = Control::get().and_then(|control| Some((control, regular_file(fd)?)));
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(call, fd) as c_int };
    if let (0, Some((control, stat))) = (result, file) {
        control.note_synced(stat.st_ino, u64::try_from(stat.st_size).unwrap_or(0));
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    note(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    note(fd, libc::SYS_fdatasync)
}
