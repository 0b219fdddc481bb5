//! The server, as one command sees it.

use super::api::api;
use super::door::{disconnected, unblock, unblocked};
use super::event::TOKEN;
use super::key::{Access, Hash, Key, SortedSet, Stream, WrongType};
use super::load::IS_CLUSTER;
use super::string::{Arg, AsRedis, Text};
use crate::settings::unpersisted_max;
use coupon_core::coupon::{Moment, Now, Token};
use redis_module::raw;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_longlong};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// The server during one command.
pub struct Server {
    pub(super) ctx: *mut raw::RedisModuleCtx,
    /// What has happened to the coupon, one bit for each [`Event`].
    events: Cell<u8>,
}

/// What happens to a coupon, as its keyspace event says.
#[derive(Clone, Copy)]
pub enum Event {
    /// Users have joined the line.
    Queued,
    /// Units were granted.
    Granted,
    /// The last unit was granted.
    SoldOut,
    /// The coupon has ended.
    Closed,
}

impl Event {
    const ALL: [(Self, &'static CStr); 4] = [
        (Self::Queued, c"coupon.queued"),
        (Self::Granted, c"coupon.granted"),
        (Self::SoldOut, c"coupon.soldout"),
        (Self::Closed, c"coupon.closed"),
    ];
}

impl Server {
    pub(super) const fn new(ctx: *mut raw::RedisModuleCtx) -> Self {
        Self { ctx, events: Cell::new(0) }
    }

    /// Notes an event of the coupon; once per command, and told when the command is over and has closed its keys, as
    /// other modules may act on them at once.
    pub fn note(&self, event: Event) {
        self.events.set(self.events.get() | 1 << event as u8);
    }

    pub(super) fn tell_events(&self, args: &[Arg]) {
        let (noted, Some(key)) = (self.events.get(), args.get(1)) else { return };
        if noted == 0 {
            return;
        }
        for (event, name) in Event::ALL {
            if noted & 1 << event as u8 != 0 {
                let kind = raw::REDISMODULE_NOTIFY_MODULE;
                // SAFETY: a C string of our own, and an argument of the running command.
                unsafe { api!(RedisModule_NotifyKeyspaceEvent)(self.ctx, kind, name.as_ptr(), key.ptr()) };
            }
        }
    }

    /// The server's clock, read once per command. Redis 7.0 offers modules no microseconds, so it is the
    /// machine's, which is also Redis's own.
    pub fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) }
    }

    /// What the rules have to know of the server.
    pub fn moment(&self, now: Now) -> Moment {
        Moment { now, token: self.token(), unpersisted_max: unpersisted_max() }
    }

    /// The token of this process's present history.
    pub fn token(&self) -> Token {
        Token(TOKEN.load(Ordering::Relaxed))
    }

    /// Whether keys live in slots.
    pub fn is_cluster(&self) -> bool {
        IS_CLUSTER.load(Ordering::Relaxed)
    }

    /// Opens the status hash.
    pub fn hash(&self, name: &impl AsRedis, access: Access) -> Result<Hash<'_>, WrongType> {
        Key::open(self, name, access, raw::REDISMODULE_KEYTYPE_HASH).map(Hash)
    }

    /// Opens a sorted set.
    pub fn sorted_set(&self, name: &impl AsRedis, access: Access) -> Result<SortedSet<'_>, WrongType> {
        Key::open(self, name, access, raw::REDISMODULE_KEYTYPE_ZSET).map(SortedSet)
    }

    /// Opens a stream.
    pub fn stream(&self, name: &impl AsRedis, access: Access) -> Result<Stream<'_>, WrongType> {
        Key::open(self, name, access, raw::REDISMODULE_KEYTYPE_STREAM).map(Stream)
    }

    /// The 1-based rank of a member: the low-level API has no call for it. It takes the set by value, as no key may
    /// be open while Redis runs a command on it.
    pub fn rank(&self, set: SortedSet<'_>, name: &Text, member: &Arg) -> Option<u64> {
        drop(set);
        // SAFETY: the format says two strings, and two follow; the reply is freed once.
        unsafe {
            let reply = api!(RedisModule_Call)(self.ctx, c"ZRANK".as_ptr(), c"ss".as_ptr(), name.ptr(), member.ptr());
            if reply.is_null() {
                return None;
            }
            let is_integer = api!(RedisModule_CallReplyType)(reply) as isize == raw::REDISMODULE_REPLY_INTEGER;
            let rank = is_integer.then(|| api!(RedisModule_CallReplyInteger)(reply));
            api!(RedisModule_FreeCallReply)(reply);
            rank.and_then(|rank| u64::try_from(rank).ok()).map(|rank| rank.saturating_add(1))
        }
    }

    /// Tells watchers and caching clients that a key has changed. It is done by hand and only after a write, as the
    /// automatic way also tells of a refused command, which changed nothing.
    pub fn signal_modified(&self, name: &impl AsRedis) {
        // SAFETY: see the top of the file.
        unsafe { api!(RedisModule_SignalModifiedKey)(self.ctx, name.ptr()) };
    }

    /// Publishes that there is something to do for a coupon.
    pub fn publish(&self, channel: &str, key: &Arg) {
        let channel = Text::new(channel.as_bytes());
        // SAFETY: see the top of the file.
        unsafe { api!(RedisModule_PublishMessage)(self.ctx, channel.ptr(), key.ptr()) };
    }

    /// The database that the client has selected.
    pub fn database(&self) -> i32 {
        // SAFETY: see the top of the file.
        unsafe { api!(RedisModule_GetSelectedDb)(self.ctx) }
    }

    /// Whether this client can be kept waiting, and what it waits for can be seen here.
    pub fn may_block(&self) -> bool {
        let never = raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_SLAVE;
        // SAFETY: see the top of the file.
        unsafe { api!(RedisModule_GetContextFlags)(self.ctx) & never as c_int == 0 }
    }

    /// Blocks the client; 0 is for no limit of time.
    pub fn block(&self, timeout_ms: u64) -> Option<Blocked> {
        let timeout = c_longlong::try_from(timeout_ms).unwrap_or(c_longlong::MAX);
        // SAFETY: both callbacks answer; no private data is handed over that would have to be freed.
        let client =
            unsafe { api!(RedisModule_BlockClient)(self.ctx, Some(unblocked), Some(unblocked), None, timeout) };
        if client.is_null() {
            return None;
        }
        // SAFETY: the client was just blocked.
        unsafe { api!(RedisModule_SetDisconnectCallback)(client, Some(disconnected)) };
        Some(Blocked(client as usize))
    }

    /// Wakes blocked clients: each is answered as things are once the running command is over.
    pub fn wake(&self, clients: Vec<Blocked>) {
        clients.into_iter().for_each(unblock);
    }

    /// The server's `maxmemory-policy`.
    pub fn eviction_policy(&self) -> Vec<u8> {
        self.info(c"memory", c"maxmemory_policy").unwrap_or_default()
    }

    /// A field of the server's INFO, if it has one of that name.
    pub(super) fn info(&self, section: &CStr, field: &CStr) -> Option<Vec<u8>> {
        // SAFETY: the info is freed once, after the field was copied out of it.
        unsafe {
            let info = api!(RedisModule_GetServerInfo)(self.ctx, section.as_ptr());
            let field = api!(RedisModule_ServerInfoGetField)(self.ctx, info, field.as_ptr());
            let value = Text::own_if_any(field).map(|text| text.bytes().to_vec());
            api!(RedisModule_FreeServerInfo)(self.ctx, info);
            value
        }
    }

    /// Writes to the server's log. The text is never used as a format, and must hold no client's bytes unquoted.
    pub fn log(&self, level: Level, text: &str) {
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the format is ours and takes one C string.
        unsafe { api!(RedisModule_Log)(self.ctx, level.name().as_ptr(), c"%s".as_ptr(), text.as_ptr()) };
    }
}

/// A client that waits. It is only a name: whoever takes it out of the line of `waiters` unblocks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blocked(pub(super) usize);

/// Levels of Redis's log.
#[derive(Clone, Copy)]
pub enum Level {
    /// Of interest to an operator.
    Notice,
    /// Something is wrong.
    Warning,
}

impl Level {
    const fn name(self) -> &'static CStr {
        match self {
            Self::Notice => c"notice",
            Self::Warning => c"warning",
        }
    }
}
