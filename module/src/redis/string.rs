//! Strings that Redis holds.

use super::api::api;
use coupon_core::coupon::Field;
use coupon_core::grant;
use redis_module::raw;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

/// An argument of the running command.
#[repr(transparent)]
pub struct Arg(pub(super) *mut raw::RedisModuleString);

/// A string of our own.
pub struct Text(NonNull<raw::RedisModuleString>);

// SAFETY: the vocabulary is shared by all commands, and all commands run on one thread.
unsafe impl Send for Text {}
// SAFETY: as above.
unsafe impl Sync for Text {}

/// What Redis takes as a string.
pub trait AsRedis {
    /// The pointer, valid as long as `self`.
    fn ptr(&self) -> *mut raw::RedisModuleString;

    /// The bytes.
    fn bytes(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: the string is alive as long as `self`, and Redis never changes a string that it shares.
        unsafe {
            let start = api!(RedisModule_StringPtrLen)(self.ptr(), &raw mut len);
            std::slice::from_raw_parts(start.cast(), len)
        }
    }
}

impl AsRedis for Arg {
    fn ptr(&self) -> *mut raw::RedisModuleString {
        self.0
    }
}

impl AsRedis for Text {
    fn ptr(&self) -> *mut raw::RedisModuleString {
        self.0.as_ptr()
    }
}

impl Text {
    /// A copy of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        // SAFETY: Redis copies the bytes; without a context the string is ours to free.
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

    /// Takes a string that Redis gave us to free.
    #[expect(clippy::panic, reason = "Redis aborts by itself when out of memory, so the pointer is never null")]
    pub(super) fn own(string: *mut raw::RedisModuleString) -> Self {
        match NonNull::new(string) {
            Some(string) => Self(string),
            None => panic!("Redis returned no string"),
        }
    }

    pub(super) fn own_if_any(string: *mut raw::RedisModuleString) -> Option<Self> {
        NonNull::new(string).map(Self)
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: we own one reference, and give it back once.
        unsafe { api!(RedisModule_FreeString)(ptr::null_mut(), self.0.as_ptr()) }
    }
}

/// Names of fields, made once: to build them anew in each command would cost an allocation each.
pub(super) struct Vocabulary {
    fields: [Text; Field::ALL.len()],
    pub(super) entry: [Text; grant::field::ALL.len()],
}

impl Vocabulary {
    pub(super) fn get() -> &'static Self {
        static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
        VOCABULARY.get_or_init(|| Self {
            fields: Field::ALL.map(|field| Text::new(field.name().as_bytes())),
            entry: grant::field::ALL.map(|name| Text::new(name.as_bytes())),
        })
    }

    pub(super) fn field(&self, field: Field) -> *mut raw::RedisModuleString {
        self.fields.get(field as usize).map_or(ptr::null_mut(), Text::ptr)
    }
}
