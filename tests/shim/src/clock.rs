//! The wall clock.

use crate::control::Control;
use libc::{c_int, c_long, clockid_t, time_t, timespec, timeval};

const NS_PER_US: i64 = 1000;
const NS_PER_SECOND: i64 = 1_000_000_000;

/// The kernel's answer, moved by the offset if it is the wall clock's.
fn read(clock: clockid_t) -> Result<timespec, c_int> {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure or says that it did not. It is asked by number: libc's own function is the
    // one that is replaced.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, c_long::from(clock), &raw mut time) };
    if result != 0 {
        return Err(-1);
    }
    let is_wall = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let offset_us = if is_wall { Control::get().map_or(0, Control::offset_us) } else { 0 };
    if offset_us != 0 {
        let ns = time.tv_nsec + offset_us % 1_000_000 * NS_PER_US;
        time.tv_sec += offset_us / 1_000_000 + ns.div_euclid(NS_PER_SECOND);
        time.tv_nsec = ns.rem_euclid(NS_PER_SECOND);
    }
    Ok(time)
}

/// # Safety
/// As clock_gettime(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // Servers take the wall clock from gettimeofday: this is the module's look at it.
    if clock == libc::CLOCK_REALTIME && Control::get().is_some_and(Control::is_crash_due) {
        // SAFETY: it takes nothing but the signal.
        unsafe { libc::raise(libc::SIGSEGV) };
    }
    match read(clock) {
        Ok(read) => {
            // SAFETY: the caller's promise.
            unsafe { time.write(read) };
            0
        }
        Err(result) => result,
    }
}

/// # Safety
/// As gettimeofday(2). The time zone is none, as everywhere on Linux.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut libc::c_void) -> c_int {
    match read(libc::CLOCK_REALTIME) {
        Ok(read) => {
            if !time.is_null() {
                // SAFETY: the caller's promise.
                unsafe { time.write(timeval { tv_sec: read.tv_sec, tv_usec: read.tv_nsec / NS_PER_US }) };
            }
            0
        }
        Err(result) => result,
    }
}

/// # Safety
/// As time(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn time(place: *mut time_t) -> time_t {
    let now = read(libc::CLOCK_REALTIME).map_or(-1, |read| read.tv_sec);
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { place.write(now) };
    }
    now
}
