//! The fence's token, and the events on which it is drawn anew or what is known of keys is forgotten.

use super::api::api;
use super::server::Server;
use super::string::{Arg, AsRedis};
use crate::fault::Fault;
use crate::known;
use redis_module::raw;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) static TOKEN: AtomicU64 = AtomicU64::new(0);

pub(super) fn draw_token() {
    let mut bytes = [0_u8; 8];
    // SAFETY: Redis fills so many bytes.
    unsafe { api!(RedisModule_GetRandomBytes)(bytes.as_mut_ptr(), bytes.len()) };
    // A number of 63 bits, so that it stays one for every reader of the hash; 0 is for a gate that is shut.
    TOKEN.store((u64::from_le_bytes(bytes) >> 1).max(1), Ordering::Relaxed);
}

/// Data was loaded (at start, by a full synchronization, by DEBUG RELOAD), or the role changed: what the coupons hold
/// now may not be what they held when their gate was opened.
pub(super) unsafe extern "C" fn on_history_change(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    let _ = catch_unwind(|| {
        if !Fault::TokenKept.is_on() {
            draw_token();
        }
        known::forget_all();
    });
}

/// Keys came and went without an event of their own.
pub(super) unsafe extern "C" fn on_data_change(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    let _ = catch_unwind(known::forget_all);
}

/// A key was changed by somebody else: what this module writes makes no event.
pub(super) unsafe extern "C" fn on_key_change(
    ctx: *mut raw::RedisModuleCtx,
    _: c_int,
    _: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if !Fault::ChangeUnnoticed.is_on() {
            known::forget_whose(Server::new(ctx).database(), Arg(key).bytes());
        }
    }));
    raw::REDISMODULE_OK as c_int
}
