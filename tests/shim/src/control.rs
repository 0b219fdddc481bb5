//! The file by which a test leads the shim, mapped into the server and all its children.
//!
//! | at | content |
//! |---|---|
//! | 0 | 1: the disk is full |
//! | 1 | which of the two offsets counts, so that a new one appears at once and never in halves |
//! | 2 | 1: the next look at the wall clock crashes |
//! | 8, 16 | offsets of the wall clock in µs, signed, in the machine's byte order |
//! | 64 … | 252 pairs of inode and synced length, 0 where there is none yet |

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// The environment variable that names the file.
const VARIABLE: &CStr = c"COUPON_SHIM_CONTROL";

/// The file's length: one page.
const LEN: usize = 4096;

/// The file's content.
#[repr(C)]
pub struct Control {
    is_disk_full: AtomicU8,
    offset_in_force: AtomicU8,
    is_crash_due: AtomicU8,
    _reserved: [u8; 5],
    offsets_us: [AtomicI64; 2],
    _reserved_too: [u64; 5],
    synced: [Synced; 252],
}

/// How much of a file is on the disk for certain.
#[repr(C)]
pub struct Synced {
    inode: AtomicU64,
    len: AtomicU64,
}

const _: () = assert!(size_of::<Control>() == LEN);

static CONTROL: AtomicPtr<Control> = AtomicPtr::new(ptr::null_mut());

/// The file system that the control file is on: this is the disk that is full.
static DEVICE: AtomicU64 = AtomicU64::new(0);

/// Before `main`, and before the server writes over its environment, as PostgreSQL does.
#[used]
#[unsafe(link_section = ".init_array")]
static OPEN: extern "C" fn() = open;

extern "C" fn open() {
    // SAFETY: before main there is one thread; the name is a C string, and what getenv returns is one or null. The mapping
    // is as long as the file, is never unmapped, and is only ever seen through atomics.
    unsafe {
        let file: *const c_char = libc::getenv(VARIABLE.as_ptr());
        if file.is_null() {
            return;
        }
        let fd = libc::open(file, libc::O_RDWR | libc::O_CLOEXEC);
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        if fd < 0 || libc::fstat(fd, stat.as_mut_ptr()) != 0 {
            refuse();
        }
        let stat = stat.assume_init();
        let mapped = libc::mmap(ptr::null_mut(), LEN, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0);
        if stat.st_size != LEN as libc::off_t || mapped == libc::MAP_FAILED {
            refuse();
        }
        libc::close(fd);
        DEVICE.store(stat.st_dev, Ordering::Relaxed);
        CONTROL.store(mapped.cast(), Ordering::Release);
    }
}

/// A server that runs on without its faults would pass every test.
fn refuse() -> ! {
    const WORDS: &[u8] = b"coupon-shim: COUPON_SHIM_CONTROL names no control file\n";
    // SAFETY: a pointer and its length; then the end.
    unsafe {
        libc::syscall(libc::SYS_write, libc::STDERR_FILENO, WORDS.as_ptr(), WORDS.len());
        libc::_exit(112)
    }
}

impl Control {
    /// The test's word, if there is a test.
    pub fn get() -> Option<&'static Self> {
        // SAFETY: null, or the mapping that is never taken away.
        unsafe { CONTROL.load(Ordering::Acquire).as_ref() }
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        self.is_disk_full.load(Ordering::Acquire) != 0
    }

    /// How much the wall clock is off.
    pub fn offset_us(&self) -> i64 {
        let [first, second] = &self.offsets_us;
        let offset = if self.offset_in_force.load(Ordering::Acquire) == 0 { first } else { second };
        offset.load(Ordering::Acquire)
    }

    /// Whether it is time to crash: once, so that the report of the crash is written.
    pub fn is_crash_due(&self) -> bool {
        self.is_crash_due.swap(0, Ordering::AcqRel) != 0
    }

    /// Notes that so much of a file is on the disk.
    pub fn note_synced(&self, inode: u64, len: u64) {
        for slot in &self.synced {
            let is_ours = match slot.inode.compare_exchange(0, inode, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => true,
                Err(held) => held == inode,
            };
            if is_ours {
                slot.len.store(len, Ordering::Release);
                return;
            }
        }
    }
}

/// What is known of a regular file on the disk in question; `None` for all else: sockets, pipes, other disks.
pub fn regular_file(fd: libc::c_int) -> Option<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the structure or says that it did not.
    let stat = unsafe {
        if libc::fstat(fd, stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    let is_regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    (is_regular && stat.st_dev == DEVICE.load(Ordering::Relaxed)).then_some(stat)
}

/// Sets errno.
pub fn set_errno(errno: libc::c_int) {
    // SAFETY: the thread's own.
    unsafe { *libc::__errno_location() = errno };
}
