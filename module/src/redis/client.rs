//! Clients that are blocked, and timers.
//!
//! The server loses or doubles a reply where it lets a blocked client go itself (its own timeout, CLIENT UNBLOCK) while the
//! module has handed the client back and the server has not come to it yet. So there is no timeout of the server's, and a
//! client is handed back by a timer that has run out, after the commands of a turn of the event loop: what comes next is
//! the server's own round over the clients handed back.

use super::api::api;
use super::module::{disconnected, on_timer, timed_out, unblocked};
use super::server::{Blocked, RUNNING_OUT, Server};
use redis_module::raw;
use std::ffi::{c_longlong, c_void};
use std::ptr;
use std::sync::atomic::Ordering;

/// A timer.
#[derive(Debug)]
pub struct Timer {
    id: raw::RedisModuleTimerID,
    number: usize,
}

impl Server {
    /// Whether this client can be kept waiting, and what it waits for can be seen here.
    pub fn may_block(&self) -> bool {
        let never = raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_SLAVE;
        self.flags() & never == 0
    }

    /// Whether this server follows another.
    pub fn is_replica(&self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_SLAVE != 0
    }

    /// Blocks the client until it is handed back.
    pub fn block(&self) -> Option<Blocked> {
        // SAFETY: all three callbacks take the client as one that this function has blocked; no private data is handed
        // over that would have to be freed.
        unsafe {
            let client = api!(RedisModule_BlockClient)(self.ctx, Some(unblocked), Some(timed_out), None, NO_TIMEOUT);
            if client.is_null() {
                return None;
            }
            api!(RedisModule_SetDisconnectCallback)(client, Some(disconnected));
            Some(Blocked(client as usize))
        }
    }

    /// Hands a blocked client back: the server asks [`super::Module::answer`] for its reply, unless it is gone already.
    pub fn hand_back(&self, client: Blocked) {
        // SAFETY: whoever calls knows that the client is still blocked, and does so once, so the handle is alive.
        unsafe { api!(RedisModule_UnblockClient)(client.0 as *mut raw::RedisModuleBlockedClient, ptr::null_mut()) };
    }

    /// Closes the connection of the client that this context is about.
    pub fn close_connection(&self) {
        // SAFETY: see the top of redis.rs; an ID that no client has is refused by the server.
        unsafe {
            let id = api!(RedisModule_GetClientId)(self.ctx);
            api!(RedisModule_DeauthenticateAndCloseClient)(self.ctx, id);
        }
    }

    /// Calls [`super::Module::on_timer`] with this number after so many milliseconds; after 0, behind the commands of this turn of
    /// the event loop.
    pub fn start_timer(&self, milliseconds: u64, number: usize) -> Timer {
        let period = c_longlong::try_from(milliseconds).unwrap_or(c_longlong::MAX);
        // SAFETY: what is handed over is a number, not a pointer.
        let id = unsafe { api!(RedisModule_CreateTimer)(self.ctx, period, Some(on_timer), number as *mut c_void) };
        Timer { id, number }
    }

    /// Ends a timer. Of one that has run out, or is running out, the server knows nothing any more, and nothing happens.
    pub fn stop_timer(&self, timer: &Timer) {
        if RUNNING_OUT.load(Ordering::Relaxed) != timer.number {
            // SAFETY: see the top of redis.rs; it is not the one that the server is about to free.
            unsafe { api!(RedisModule_StopTimer)(self.ctx, timer.id, ptr::null_mut()) };
        }
    }
}

const NO_TIMEOUT: c_longlong = 0;
