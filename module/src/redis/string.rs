//! Strings that the server holds.

use super::api::api;
use redis_module::raw;
use std::cell::Cell;
use std::ops::Deref;
use std::ptr::{self, NonNull};

/// A string, borrowed: an argument of the running command, or a [`Text`].
#[repr(transparent)]
pub struct Str(NonNull<raw::RedisModuleString>);

impl Str {
    pub(super) fn ptr(&self) -> *mut raw::RedisModuleString {
        self.0.as_ptr()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: the string is alive as long as `self`, and the server never changes a string that it shares.
        unsafe {
            let start = api!(RedisModule_StringPtrLen)(self.ptr(), &raw mut len);
            std::slice::from_raw_parts(start.cast(), len)
        }
    }
}

/// A string of our own.
#[repr(transparent)]
pub struct Text(Str);

// SAFETY: all that touches it runs under the server's lock.
unsafe impl Send for Text {}
// SAFETY: as above.
unsafe impl Sync for Text {}

impl Deref for Text {
    type Target = Str;

    fn deref(&self) -> &Str {
        &self.0
    }
}

impl Text {
    /// A copy of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        // SAFETY: the server copies the bytes; without a context the string is ours to free.
        unsafe { Self::own(api!(RedisModule_CreateString)(ptr::null_mut(), bytes.as_ptr().cast(), bytes.len())) }
    }

    /// A number's decimal digits.
    pub fn number(number: i64) -> Self {
        // SAFETY: without a context the string is ours to free.
        unsafe { Self::own(api!(RedisModule_CreateStringFromLongLong)(ptr::null_mut(), number)) }
    }

    /// A count's decimal digits; every count of the contract is within PostgreSQL's bigint.
    pub fn count(count: u64) -> Self {
        Self::number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Takes a string that the server gave us to free.
    #[expect(clippy::panic, reason = "the server aborts by itself when out of memory, so the pointer is never null")]
    pub(super) fn own(string: *mut raw::RedisModuleString) -> Self {
        match Self::own_if_any(string) {
            Some(text) => text,
            None => panic!("the server returned no string"),
        }
    }

    pub(super) fn own_if_any(string: *mut raw::RedisModuleString) -> Option<Self> {
        NonNull::new(string).map(|string| Self(Str(string)))
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: we own one reference, and give it back once.
        unsafe { api!(RedisModule_FreeString)(ptr::null_mut(), self.ptr()) }
    }
}

/// A word that is said again and again, made once: to build it anew in each command would cost an allocation each.
pub struct Static {
    text: &'static str,
    made: Cell<Option<Text>>,
}

// SAFETY: all that touches it runs under the server's lock.
unsafe impl Sync for Static {}

impl Static {
    /// It is made when first said.
    pub const fn new(text: &'static str) -> Self {
        Self { text, made: Cell::new(None) }
    }

    /// The word.
    pub fn get(&self) -> &Str {
        // SAFETY: under the server's lock nobody else looks at the cell; what it holds is replaced by nobody but `free`,
        // which runs when no command does, so that no reference of before is alive.
        unsafe {
            let made = &mut *self.made.as_ptr();
            made.get_or_insert_with(|| Text::new(self.text.as_bytes()))
        }
    }

    /// Gives it back, when the module goes.
    pub fn free(&self) {
        self.made.set(None);
    }
}
