//! The modules of a server: they too are to see this machine's clock.
//!
//! Valkey has loaded modules with `RTLD_DEEPBIND` since 8.1 (valkey-io/valkey#1703): what a module calls is then looked up
//! in the module and in what it is linked with, libc, before what was loaded ahead of libc. The module would read the
//! kernel's clock, and the server this one's.

use libc::{c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

type Dlopen = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;

/// # Safety
/// As dlopen(3). It looks for a name without a slash from here and not from the caller; servers load modules by paths.
#[unsafe(no_mangle)]
unsafe extern "C" fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void {
    static NEXT: OnceLock<Option<Dlopen>> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        // SAFETY: what libc has under this name is a function of this type.
        unsafe {
            let found = libc::dlsym(libc::RTLD_NEXT, c"dlopen".as_ptr());
            (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Dlopen>(found))
        }
    });
    match next {
        // SAFETY: the caller's promise.
        Some(next) => unsafe { next(file, flags & !libc::RTLD_DEEPBIND) },
        None => ptr::null_mut(),
    }
}
