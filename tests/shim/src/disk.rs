//! A full disk: blocks that a file has can be written again, and no file gets another block.
//!
//! So it is on a real one. A write ends early at the end of the file's last block (which is how a server comes to see
//! short writes), and one that begins there is refused with ENOSPC. What is preallocated, as a segment of PostgreSQL's
//! WAL, stays usable until it is used up. Standard output and error are let pass: the log is the test's witness.

use crate::control::{Control, regular_file, set_errno};
use libc::{FILE, c_int, c_void, iovec, off_t, size_t, ssize_t};

/// A file system's block.
const BLOCK_LEN: i64 = 4096;

unsafe extern "C" {
    fn fwrite_unlocked(data: *const c_void, size: size_t, count: size_t, stream: *mut FILE) -> size_t;
    fn flockfile(stream: *mut FILE);
    fn funlockfile(stream: *mut FILE);
}

/// How many bytes a write at this place may have; `None` if any. Without a place: where the file stands.
fn room(fd: c_int, place: Option<off_t>) -> Option<usize> {
    if !Control::get()?.is_disk_full() || matches!(fd, libc::STDOUT_FILENO | libc::STDERR_FILENO) {
        return None;
    }
    let stat = regular_file(fd)?;
    // SAFETY: plain numbers; the descriptor is open, as fstat has seen.
    let place = place.unwrap_or_else(|| unsafe {
        let is_append = libc::fcntl(fd, libc::F_GETFL) & libc::O_APPEND != 0;
        if is_append { stat.st_size } else { libc::lseek(fd, 0, libc::SEEK_CUR) }
    });
    let end = (stat.st_size + BLOCK_LEN - 1) / BLOCK_LEN * BLOCK_LEN;
    Some(usize::try_from(end - place).unwrap_or(0))
}

fn refuse() -> ssize_t {
    set_errno(libc::ENOSPC);
    -1
}

/// The length to write, if any may be.
fn cut(len: size_t, room: Option<usize>) -> Option<size_t> {
    match room {
        Some(0) if len > 0 => None,
        Some(room) => Some(len.min(room)),
        None => Some(len),
    }
}

/// The total of a vector, and whether it goes through whole.
///
/// # Safety
/// The vector has so many elements.
unsafe fn total(vector: *const iovec, count: c_int) -> size_t {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller's promise.
    (0..count).map(|index| unsafe { (*vector.add(index)).iov_len }).fold(0, size_t::saturating_add)
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, data: *const c_void, len: size_t) -> ssize_t {
    match cut(len, room(fd, None)) {
        // SAFETY: the caller's promise, of fewer bytes if any.
        Some(len) => unsafe { libc::syscall(libc::SYS_write, fd, data, len) as ssize_t },
        None => refuse(),
    }
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, len: size_t, place: off_t) -> ssize_t {
    match cut(len, room(fd, Some(place))) {
        // SAFETY: as in `write`.
        Some(len) => unsafe { libc::syscall(libc::SYS_pwrite64, fd, data, len, place) as ssize_t },
        None => refuse(),
    }
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, data: *const c_void, len: size_t, place: off_t) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { pwrite64(fd, data, len, place) }
}

/// # Safety
/// As writev(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe {
        match room(fd, None) {
            Some(room) if room < total(vector, count) => part(vector, count, |first| write(fd, first.0, first.1)),
            _ => libc::syscall(libc::SYS_writev, fd, vector, count) as ssize_t,
        }
    }
}

/// # Safety
/// As pwritev(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64(fd: c_int, vector: *const iovec, count: c_int, place: off_t) -> ssize_t {
    // SAFETY: the caller's promise. The kernel takes the place in two words, of which the upper is 0 on 64 bits.
    unsafe {
        match room(fd, Some(place)) {
            Some(room) if room < total(vector, count) => {
                part(vector, count, |first| pwrite64(fd, first.0, first.1, place))
            }
            _ => libc::syscall(libc::SYS_pwritev, fd, vector, count, place, 0) as ssize_t,
        }
    }
}

/// # Safety
/// As pwritev(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev(fd: c_int, vector: *const iovec, count: c_int, place: off_t) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { pwritev64(fd, vector, count, place) }
}

/// Of a vector that does not fit, only its first element that is not empty: a short write, as any may be.
///
/// # Safety
/// The vector has so many elements.
unsafe fn part(vector: *const iovec, count: c_int, write: impl FnOnce((*const c_void, size_t)) -> ssize_t) -> ssize_t {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller's promise.
    let first = (0..count).map(|index| unsafe { &*vector.add(index) }).find(|element| element.iov_len > 0);
    first.map_or(0, |element| write((element.iov_base, element.iov_len)))
}

/// # Safety
/// As fwrite(3): Redis writes snapshots with it, and libc calls its own write(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn fwrite(data: *const c_void, size: size_t, count: size_t, stream: *mut FILE) -> size_t {
    // SAFETY: the caller's promise. What stands in the stream's buffer is not in the file yet, so it is refused a little
    // before its time.
    unsafe {
        if room(libc::fileno(stream), None).is_some_and(|room| room < size.saturating_mul(count)) {
            set_errno(libc::ENOSPC);
            return 0;
        }
        flockfile(stream);
        let written = fwrite_unlocked(data, size, count, stream);
        funlockfile(stream);
        written
    }
}

/// # Safety
/// As posix_fallocate(3), which returns its error.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate64(fd: c_int, place: off_t, len: off_t) -> c_int {
    // SAFETY: the caller's promise.
    if unsafe { fallocate64(fd, 0, place, len) } == 0 {
        return 0;
    }
    // SAFETY: the thread's own.
    unsafe { *libc::__errno_location() }
}

/// # Safety
/// As posix_fallocate(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate(fd: c_int, place: off_t, len: off_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { posix_fallocate64(fd, place, len) }
}

/// # Safety
/// As fallocate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, place: off_t, len: off_t) -> c_int {
    // To punch a hole frees blocks.
    let takes = mode & libc::FALLOC_FL_PUNCH_HOLE == 0;
    if takes && room(fd, Some(place)).is_some_and(|room| usize::try_from(len).is_ok_and(|len| room < len)) {
        set_errno(libc::ENOSPC);
        return -1;
    }
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, place, len) as c_int }
}

/// # Safety
/// As fallocate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, place: off_t, len: off_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { fallocate64(fd, mode, place, len) }
}
