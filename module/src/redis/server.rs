//! The server, as one command or event sees it.

use super::api::api;
use super::string::{Str, Text};
use redis_module::{Context, raw};
use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The server during one command or event.
pub struct Server {
    pub(super) ctx: *mut raw::RedisModuleCtx,
}

/// Whether keys live in slots; a server's mode never changes.
pub(super) static IS_CLUSTER: AtomicBool = AtomicBool::new(false);

/// A client that is blocked. It is only a name: whoever knows that it is still blocked hands it back, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocked(pub(super) usize);

impl Blocked {
    /// Its name as a number, for a timer.
    pub const fn number(self) -> usize {
        self.0
    }

    /// The client of that number.
    pub const fn of_number(number: usize) -> Self {
        Self(number)
    }
}

/// The number of the timer that is running out right now: the server frees it behind the call, and would free it twice if
/// it was stopped within.
pub(super) static RUNNING_OUT: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Server {
    pub(super) const fn new(ctx: *mut raw::RedisModuleCtx) -> Self {
        Self { ctx }
    }

    /// The server while the module is loaded or unloaded.
    pub const fn at(context: &Context) -> Self {
        Self { ctx: context.ctx }
    }

    /// Whether the server has all that is called here: Redis 7.0 or later. Valkey tells the version of Redis that it
    /// is compatible with.
    pub fn is_supported(&self) -> bool {
        const REDIS_7_0: c_int = 0x0007_0000;
        // SAFETY: a read of a pointer that was set before this call and is never written again.
        unsafe { (&raw const raw::RedisModule_GetServerVersion).read() }
            // SAFETY: the call takes nothing.
            .is_some_and(|version| unsafe { version() } >= REDIS_7_0)
    }

    /// Microseconds since 1970 by the server's clock. Redis 7.0 offers modules no microseconds, so it is the machine's,
    /// which is also Redis's own.
    pub fn clock_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// 64 bits that nobody can guess.
    pub fn random(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        // SAFETY: the server fills so many bytes.
        unsafe { api!(RedisModule_GetRandomBytes)(bytes.as_mut_ptr(), bytes.len()) };
        u64::from_le_bytes(bytes)
    }

    /// Whether keys live in slots.
    pub fn is_cluster(&self) -> bool {
        IS_CLUSTER.load(Ordering::Relaxed)
    }

    pub(super) fn flags(&self) -> u32 {
        // SAFETY: see the top of redis.rs. The flags are bits.
        unsafe { api!(RedisModule_GetContextFlags)(self.ctx).cast_unsigned() }
    }

    /// The client that was blocked, in a call about one.
    pub(super) fn blocked(&self) -> Blocked {
        // SAFETY: see the top of redis.rs.
        Blocked(unsafe { api!(RedisModule_GetBlockedClientHandle)(self.ctx) } as usize)
    }

    /// The selected database.
    pub fn database(&self) -> i32 {
        // SAFETY: see the top of redis.rs.
        unsafe { api!(RedisModule_GetSelectedDb)(self.ctx) }
    }

    /// Selects a database, in an event or a timer: there it is nobody's.
    pub fn select(&self, database: i32) {
        // SAFETY: see the top of redis.rs.
        unsafe { api!(RedisModule_SelectDb)(self.ctx, database) };
    }

    /// Tells watchers and caching clients that a key has changed. It is done by hand and only after a write, as the
    /// automatic way also tells of a refused command, which changed nothing.
    pub fn signal_modified(&self, key: &Str) {
        // SAFETY: see the top of redis.rs.
        unsafe { api!(RedisModule_SignalModifiedKey)(self.ctx, key.ptr()) };
    }

    /// Tells those who listen to events of modules what has happened to a key. Other modules may act on it at once, so no
    /// key may be open.
    pub fn notify(&self, event: &CStr, key: &Str) {
        let kind = raw::REDISMODULE_NOTIFY_MODULE;
        // SAFETY: see the top of redis.rs.
        unsafe { api!(RedisModule_NotifyKeyspaceEvent)(self.ctx, kind, event.as_ptr(), key.ptr()) };
    }

    /// Publishes a message.
    pub fn publish(&self, channel: &str, message: &Str) {
        let channel = Text::new(channel.as_bytes());
        // SAFETY: see the top of redis.rs.
        unsafe { api!(RedisModule_PublishMessage)(self.ctx, channel.ptr(), message.ptr()) };
    }

    /// Replicates a command, to replicas and AOF. All that one command of ours replicates travels as one MULTI/EXEC, in
    /// the order written.
    pub fn replicate<'a>(&self, command: &CStr, args: impl IntoIterator<Item = &'a Str>) {
        // Nearly every command has few arguments: an allocation would be a hundredth of a grant.
        let mut few = [ptr::null_mut(); 24];
        let mut many = Vec::new();
        let mut len = 0;
        for arg in args {
            match few.get_mut(len) {
                Some(place) => *place = arg.ptr(),
                None => {
                    if many.is_empty() {
                        many.extend(few);
                    }
                    many.push(arg.ptr());
                }
            }
            len += 1;
        }
        let args = if many.is_empty() { few.as_mut_ptr() } else { many.as_mut_ptr() };
        // SAFETY: the format says a vector with its length, and these follow; the server counts its own references to
        // the strings.
        unsafe {
            api!(RedisModule_Replicate)(self.ctx, command.as_ptr(), c"v".as_ptr(), args, len);
        }
    }

    /// The server's `maxmemory-policy`.
    pub fn eviction_policy(&self) -> Vec<u8> {
        self.info(c"memory", c"maxmemory_policy").unwrap_or_default()
    }

    /// The version of Valkey; empty on a Redis.
    pub fn valkey_version(&self) -> Vec<u8> {
        self.info(c"server", c"valkey_version").unwrap_or_default()
    }

    /// A field of the server's INFO, if it has one of that name.
    fn info(&self, section: &CStr, field: &CStr) -> Option<Vec<u8>> {
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

/// Levels of the server's log.
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
