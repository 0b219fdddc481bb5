//! The one file that calls Redis, and the one that may hold `unsafe`.
//!
//! What it hands out is safe to use: handles borrow the [`Server`] of the command they were opened in, so none can
//! outlive it; strings are freed when dropped; no key stays open across [`Server::rank`]. It goes straight to the
//! low-level API (`redis_module::raw`) for speed: the crate's own command wrapper copies every argument, and
//! `ctx.call` costs about twice the direct call.
//!
//! Soundness, in common to all blocks below: Redis runs commands and events on one thread, under its own lock;
//! function pointers of the API are set once, before the first of our functions runs; every pointer handed to
//! Redis is alive for the call, and Redis copies or counts references to what it keeps.
#![allow(unsafe_code)]

use crate::commands::{Argument, Command, Kind, TABLE};
use crate::counters::{self, Counter};
use crate::fault::Fault;
use crate::settings::unpersisted_max;
use crate::{known, wait, waiters};
use coupon_core::chain::Chain;
use coupon_core::coupon::{Arrival, Companion, Epoch, Field, Moment, Now, Seq, Token};
use coupon_core::grant::{self, EntryId, Grant};
use coupon_core::refusal::Refusal;
use redis_module::{Context, raw};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_uint, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A function of the API that every supported server has (Redis 7.0 and later). It is looked up at load; were one
/// missing, [`missing_function`] refuses to load, so that the panic below cannot be reached afterwards.
macro_rules! api {
    ($name:ident) => {
        match raw::$name {
            Some(function) => function,
            None => lacks(stringify!($name)),
        }
    };
}

#[cold]
#[expect(clippy::panic, reason = "caught at the door; unreachable once `missing_function` has passed")]
fn lacks(name: &str) -> ! {
    panic!("server lacks {name}")
}

/// The first function that this server lacks, if any.
pub fn missing_function() -> Option<&'static str> {
    macro_rules! first_missing {
        ($($name:ident)+) => {
            // SAFETY: reads of pointers that were set before this call and are never written again.
            unsafe { $(if (&raw const raw::$name).read().is_none() { return Some(stringify!($name)); })+ }
        };
    }
    first_missing!(
        RedisModule_BlockClient RedisModule_CloseKey RedisModule_Call RedisModule_CallReplyInteger RedisModule_CallReplyType
        RedisModule_CreateCommand RedisModule_CreateString RedisModule_CreateStringFromLongLong RedisModule_FreeCallReply
        RedisModule_FreeString RedisModule_GetCommand RedisModule_GetContextFlags RedisModule_GetExpire RedisModule_GetRandomBytes
        RedisModule_GetBlockedClientHandle RedisModule_GetSelectedDb RedisModule_GetServerInfo RedisModule_FreeServerInfo RedisModule_ServerInfoGetField RedisModule_HashGet
        RedisModule_HashSet RedisModule_KeyType RedisModule_InfoAddFieldCString RedisModule_InfoAddFieldULongLong RedisModule_InfoAddSection RedisModule_LoadConfigs
        RedisModule_Log RedisModule_NotifyKeyspaceEvent RedisModule_OpenKey RedisModule_RegisterInfoFunc
        RedisModule_PublishMessage RedisModule_RegisterNumericConfig RedisModule_Replicate RedisModule_ReplyWithArray
        RedisModule_ReplyWithError RedisModule_ReplyWithLongLong RedisModule_ReplyWithMap RedisModule_ReplyWithSimpleString
        RedisModule_ReplyWithStringBuffer RedisModule_SetCommandInfo RedisModule_SetDisconnectCallback RedisModule_SetModuleOptions
        RedisModule_SignalModifiedKey RedisModule_StreamAdd RedisModule_StreamIteratorNextField
        RedisModule_StreamIteratorNextID RedisModule_StreamIteratorStart RedisModule_StreamIteratorStop
        RedisModule_StreamTrimByLength RedisModule_StringPtrLen RedisModule_SubscribeToKeyspaceEvents RedisModule_SubscribeToServerEvent
        RedisModule_UnblockClient RedisModule_UnlinkKey RedisModule_ValueLength RedisModule_ZsetAdd RedisModule_ZsetFirstInScoreRange RedisModule_ZsetLastInScoreRange
        RedisModule_ZsetRangeCurrentElement RedisModule_ZsetRangeEndReached RedisModule_ZsetRangeNext
        RedisModule_ZsetRangeStop RedisModule_ZsetScore
    );
    None
}

// ---------------------------------------------------------------------------------------------------------------
// Strings

/// An argument of the running command.
#[repr(transparent)]
pub struct Arg(*mut raw::RedisModuleString);

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
    fn own(string: *mut raw::RedisModuleString) -> Self {
        match NonNull::new(string) {
            Some(string) => Self(string),
            None => panic!("Redis returned no string"),
        }
    }

    fn own_if_any(string: *mut raw::RedisModuleString) -> Option<Self> {
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
pub struct Vocabulary {
    fields: [Text; Field::ALL.len()],
    entry: [Text; grant::field::ALL.len()],
}

impl Vocabulary {
    fn get() -> &'static Self {
        static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
        VOCABULARY.get_or_init(|| Self {
            fields: Field::ALL.map(|field| Text::new(field.name().as_bytes())),
            entry: grant::field::ALL.map(|name| Text::new(name.as_bytes())),
        })
    }

    fn field(&self, field: Field) -> *mut raw::RedisModuleString {
        self.fields.get(field as usize).map_or(ptr::null_mut(), Text::ptr)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The server, as one command sees it

/// The server during one command.
pub struct Server {
    ctx: *mut raw::RedisModuleCtx,
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

/// How keys of this call are opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For a command that only reads.
    Read,
    /// For a command that may write.
    Write,
}

/// A key is open, and holds another type.
pub struct WrongType;

impl Server {
    const fn new(ctx: *mut raw::RedisModuleCtx) -> Self {
        Self { ctx, events: Cell::new(0) }
    }

    /// Notes an event of the coupon; once per command, and told when the command is over and has closed its keys, as
    /// other modules may act on them at once.
    pub fn note(&self, event: Event) {
        self.events.set(self.events.get() | 1 << event as u8);
    }

    fn tell_events(&self, args: &[Arg]) {
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
        // SAFETY: the info is freed once, after the field was copied out of it.
        unsafe {
            let info = api!(RedisModule_GetServerInfo)(self.ctx, c"memory".as_ptr());
            let field = api!(RedisModule_ServerInfoGetField)(self.ctx, info, c"maxmemory_policy".as_ptr());
            let policy = Text::own_if_any(field).map(|text| text.bytes().to_vec());
            api!(RedisModule_FreeServerInfo)(self.ctx, info);
            policy.unwrap_or_default()
        }
    }

    /// Writes to the server's log. The text is never used as a format, and must hold no client's bytes unquoted.
    pub fn log(&self, level: Level, text: &str) {
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the format is ours and takes one C string.
        unsafe { api!(RedisModule_Log)(self.ctx, level.name().as_ptr(), c"%s".as_ptr(), text.as_ptr()) };
    }

    // Effects, replicated with final values, in the order written; those of one command travel as one MULTI/EXEC.

    /// Replicates `ZADD name score member`.
    pub fn replicate_zadd(&self, name: &Text, arrival: Arrival, member: &impl AsRedis) {
        if Fault::ZaddNotReplicated.is_on() {
            return;
        }
        // SAFETY: the format says string, integer, string, and these follow.
        unsafe {
            let score = c_longlong::try_from(arrival.0).unwrap_or(c_longlong::MAX);
            api!(RedisModule_Replicate)(self.ctx, c"ZADD".as_ptr(), c"sls".as_ptr(), name.ptr(), score, member.ptr());
        }
    }

    /// Replicates `ZADD name score member …`.
    pub fn replicate_zadd_all(&self, name: &Text, members: &[(Arrival, &Arg)]) {
        let scores: Vec<Text> = members.iter().map(|(arrival, _)| Text::count(arrival.0)).collect();
        let mut pairs: Vec<*mut raw::RedisModuleString> =
            scores.iter().zip(members).flat_map(|(score, (_, member))| [score.ptr(), member.ptr()]).collect();
        // SAFETY: as in `replicate_hset`.
        unsafe {
            api!(RedisModule_Replicate)(
                self.ctx,
                c"ZADD".as_ptr(),
                c"sv".as_ptr(),
                name.ptr(),
                pairs.as_mut_ptr(),
                pairs.len(),
            );
        }
    }

    /// Replicates `UNLINK name`.
    pub fn replicate_unlink(&self, name: &Text) {
        // SAFETY: the format says one string, and it follows.
        unsafe { api!(RedisModule_Replicate)(self.ctx, c"UNLINK".as_ptr(), c"s".as_ptr(), name.ptr()) };
    }

    /// Replicates `HSET name field value …`.
    pub fn replicate_hset(&self, name: &Arg, fields: &[(Field, Text)]) {
        if Fault::HsetNotReplicated.is_on() {
            return;
        }
        let vocabulary = Vocabulary::get();
        let mut pairs: Vec<*mut raw::RedisModuleString> =
            fields.iter().flat_map(|(field, value)| [vocabulary.field(*field), value.ptr()]).collect();
        // SAFETY: the format says string and vector with its length, and these follow; Redis counts its own
        // references to the strings.
        unsafe {
            api!(RedisModule_Replicate)(
                self.ctx,
                c"HSET".as_ptr(),
                c"sv".as_ptr(),
                name.ptr(),
                pairs.as_mut_ptr(),
                pairs.len(),
            );
        }
    }

    /// Replicates `XADD name id field value …`.
    pub fn replicate_xadd(&self, name: &Text, id: EntryId, entry: &Entry<'_, impl AsRedis>) {
        if Fault::XaddNotReplicated.is_on() {
            return;
        }
        let id = Text::new(id.to_string().as_bytes());
        let mut pairs = entry.pairs();
        // SAFETY: as in `replicate_hset`.
        unsafe {
            api!(RedisModule_Replicate)(
                self.ctx,
                c"XADD".as_ptr(),
                c"ssv".as_ptr(),
                name.ptr(),
                id.ptr(),
                pairs.as_mut_ptr(),
                pairs.len(),
            );
        }
    }

    /// Replicates `XTRIM name MAXLEN = length`.
    pub fn replicate_xtrim(&self, name: &Text, length: u64) {
        // SAFETY: the format says string, two C strings, integer, and these follow.
        unsafe {
            let length = c_longlong::try_from(length).unwrap_or(c_longlong::MAX);
            api!(RedisModule_Replicate)(
                self.ctx,
                c"XTRIM".as_ptr(),
                c"sccl".as_ptr(),
                name.ptr(),
                c"MAXLEN".as_ptr(),
                c"=".as_ptr(),
                length,
            );
        }
    }
}

/// A client that waits. It is only a name: whoever takes it out of the line of `waiters` unblocks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blocked(usize);

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

// ---------------------------------------------------------------------------------------------------------------
// Keys

struct Key<'s> {
    /// Null for a missing key opened to read.
    handle: *mut raw::RedisModuleKey,
    server: PhantomData<&'s Server>,
}

impl<'s> Key<'s> {
    fn open(server: &'s Server, name: &impl AsRedis, access: Access, expected: isize) -> Result<Self, WrongType> {
        let mode = match access {
            Access::Read => raw::KeyMode::READ,
            Access::Write => raw::KeyMode::READ | raw::KeyMode::WRITE,
        };
        // SAFETY: the handle is closed once, by `drop`, before the command ends (its lifetime is the server's).
        let handle = unsafe { api!(RedisModule_OpenKey)(server.ctx, name.ptr(), mode.bits()) };
        let key = Self { handle: handle.cast(), server: PhantomData };
        let kind = key.kind();
        if kind == raw::REDISMODULE_KEYTYPE_EMPTY || kind == expected { Ok(key) } else { Err(WrongType) }
    }

    fn kind(&self) -> isize {
        // SAFETY: Redis takes a null handle here, and calls it empty.
        unsafe { api!(RedisModule_KeyType)(self.handle) as isize }
    }

    fn is_missing(&self) -> bool {
        self.kind() == raw::REDISMODULE_KEYTYPE_EMPTY
    }

    fn is_to_expire(&self) -> bool {
        // SAFETY: the key is open, or its handle is null, which is not looked into.
        !self.is_missing()
            && unsafe { api!(RedisModule_GetExpire)(self.handle) } != c_longlong::from(raw::REDISMODULE_NO_EXPIRE)
    }

    fn companion(&self) -> Companion {
        if self.is_missing() {
            return Companion::Missing;
        }
        // SAFETY: the key is open.
        Companion::Holds(unsafe { api!(RedisModule_ValueLength)(self.handle) as u64 })
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: open, and closed only here.
            unsafe { api!(RedisModule_CloseKey)(self.handle) }
        }
    }
}

/// The status hash.
pub struct Hash<'s>(Key<'s>);

impl Hash<'_> {
    /// Whether there is no such key.
    pub fn is_missing(&self) -> bool {
        self.0.is_missing()
    }

    /// Whether it has a TTL.
    pub fn is_to_expire(&self) -> bool {
        self.0.is_to_expire()
    }

    /// Reads all fields.
    pub fn fields(&self) -> [Option<Text>; Field::ALL.len()] {
        let vocabulary = Vocabulary::get();
        Field::ALL.map(|field| {
            let mut value: *mut raw::RedisModuleString = ptr::null_mut();
            // SAFETY: the list of field and place for its value ends with a null, as the call wants; a value is
            // ours to free.
            unsafe {
                api!(RedisModule_HashGet)(
                    self.0.handle,
                    raw::REDISMODULE_HASH_NONE as c_int,
                    vocabulary.field(field),
                    &raw mut value,
                    ptr::null_mut::<c_void>(),
                );
            }
            Text::own_if_any(value)
        })
    }

    /// Sets a field. The call's result is not read: it says "error" for an update. The type was checked before.
    pub fn set(&mut self, field: Field, value: &Text) {
        // SAFETY: the list of field and value ends with a null, as the call wants.
        unsafe {
            api!(RedisModule_HashSet)(
                self.0.handle,
                raw::REDISMODULE_HASH_NONE as c_int,
                Vocabulary::get().field(field),
                value.ptr(),
                ptr::null_mut::<c_void>(),
            );
        }
    }
}

/// The sorted set of accepted users.
pub struct SortedSet<'s>(Key<'s>);

/// A member of the sorted set.
pub struct Member {
    /// The user id, as stored.
    pub user: Text,
    /// Its score.
    pub score: f64,
}

impl SortedSet<'_> {
    /// What there is.
    pub fn companion(&self) -> Companion {
        self.0.companion()
    }

    /// A member's score.
    pub fn score(&self, member: &impl AsRedis) -> Option<f64> {
        if self.0.is_missing() {
            return None;
        }
        let mut score = 0.0;
        // SAFETY: the key is open and a sorted set.
        let status = unsafe { api!(RedisModule_ZsetScore)(self.0.handle, member.ptr(), &raw mut score) };
        (status == raw::REDISMODULE_OK as c_int).then_some(score)
    }

    /// The highest score.
    pub fn newest(&self) -> Option<f64> {
        if self.0.is_missing() {
            return None;
        }
        // SAFETY: the key is open and a sorted set; the iterator is stopped before it is used otherwise.
        unsafe {
            api!(RedisModule_ZsetLastInScoreRange)(self.0.handle, f64::NEG_INFINITY, f64::INFINITY, 0, 0);
            let newest = self.current().map(|member| member.score);
            api!(RedisModule_ZsetRangeStop)(self.0.handle);
            newest
        }
    }

    /// All members from this score on, in order.
    pub fn since(&mut self, score: f64) -> Members<'_> {
        if !self.0.is_missing() {
            // SAFETY: the key is open and a sorted set; it cannot change while the iterator borrows it.
            unsafe { api!(RedisModule_ZsetFirstInScoreRange)(self.0.handle, score, f64::INFINITY, 0, 0) };
        }
        Members { handle: self.0.handle, is_empty: self.0.is_missing(), set: PhantomData }
    }

    /// Adds a member. False, with nothing changed, if it is in already: found out by the write itself, so that
    /// nobody has to look first.
    #[must_use]
    pub fn add(&mut self, arrival: Arrival, member: &impl AsRedis) -> bool {
        let only_new = if Fault::DuplicateLetIn.is_on() { 0 } else { raw::REDISMODULE_ZADD_NX as c_int };
        let mut flags = only_new;
        // SAFETY: the key is open to write and a sorted set or empty.
        unsafe { api!(RedisModule_ZsetAdd)(self.0.handle, arrival.score(), member.ptr(), &raw mut flags) };
        flags & raw::REDISMODULE_ZADD_NOP as c_int == 0
    }

    /// Puts a member at this score, whether it is in or not.
    pub fn put(&mut self, arrival: Arrival, member: &impl AsRedis) {
        let mut flags = 0;
        // SAFETY: the key is open to write and a sorted set or empty.
        unsafe { api!(RedisModule_ZsetAdd)(self.0.handle, arrival.score(), member.ptr(), &raw mut flags) };
    }

    fn current(&self) -> Option<Member> {
        current(self.0.handle)
    }
}

fn current(handle: *mut raw::RedisModuleKey) -> Option<Member> {
    let mut score = 0.0;
    // SAFETY: the caller has started an iterator on this open sorted set; the string is ours to free.
    let user = unsafe { api!(RedisModule_ZsetRangeCurrentElement)(handle, &raw mut score) };
    Text::own_if_any(user).map(|user| Member { user, score })
}

/// Members of a sorted set, in order.
pub struct Members<'k> {
    handle: *mut raw::RedisModuleKey,
    is_empty: bool,
    set: PhantomData<&'k mut ()>,
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        // SAFETY: the iterator was started on this open key, and nothing can change the set while it is borrowed.
        if self.is_empty || unsafe { api!(RedisModule_ZsetRangeEndReached)(self.handle) } != 0 {
            return None;
        }
        let member = current(self.handle)?;
        // At the end this stays on the last element, and only the question above tells.
        // SAFETY: as above.
        unsafe { api!(RedisModule_ZsetRangeNext)(self.handle) };
        Some(member)
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        if !self.is_empty {
            // SAFETY: as in `next`.
            unsafe { api!(RedisModule_ZsetRangeStop)(self.handle) };
        }
    }
}

/// The stream of grants.
pub struct Stream<'s>(Key<'s>);

/// The values of a stream entry to write.
pub struct Entry<'a, U> {
    user: &'a U,
    requested_at: Text,
    granted_at: &'a Text,
    chain: Text,
}

impl<'a, U: AsRedis> Entry<'a, U> {
    /// The entry of one grant.
    pub fn new(user: &'a U, requested_at: Arrival, granted_at_ms: &'a Text, chain: Chain) -> Self {
        Self {
            user,
            requested_at: Text::count(requested_at.0),
            granted_at: granted_at_ms,
            chain: Text::number(chain.0),
        }
    }

    fn pairs(&self) -> [*mut raw::RedisModuleString; 8] {
        let [user, requested_at, granted_at, chain] = &Vocabulary::get().entry;
        [
            user.ptr(),
            self.user.ptr(),
            requested_at.ptr(),
            self.requested_at.ptr(),
            granted_at.ptr(),
            self.granted_at.ptr(),
            chain.ptr(),
            self.chain.ptr(),
        ]
    }
}

impl Stream<'_> {
    /// What there is.
    pub fn companion(&self) -> Companion {
        self.0.companion()
    }

    /// Whether it has a TTL.
    pub fn is_to_expire(&self) -> bool {
        self.0.is_to_expire()
    }

    /// Appends an entry. False, with nothing written, if the stream holds a later ID.
    #[must_use]
    pub fn append(&mut self, id: EntryId, entry: &Entry<'_, impl AsRedis>) -> bool {
        let mut id = raw::RedisModuleStreamID { ms: id.epoch.0, seq: id.seq.0 };
        let flags = if Fault::StarIds.is_on() { raw::REDISMODULE_STREAM_ADD_AUTOID as c_int } else { 0 };
        let mut pairs = entry.pairs();
        // SAFETY: the key is open to write and a stream or empty; four pairs of field and value are handed over.
        let status = unsafe { api!(RedisModule_StreamAdd)(self.0.handle, flags, &raw mut id, pairs.as_mut_ptr(), 4) };
        status == raw::REDISMODULE_OK as c_int
    }

    /// Removes the whole stream; its memory is freed in the background.
    pub fn remove(&mut self) -> bool {
        // SAFETY: the key is open to write; its handle stays valid, for an empty key.
        !self.0.is_missing() && unsafe { api!(RedisModule_UnlinkKey)(self.0.handle) } == raw::REDISMODULE_OK as c_int
    }

    /// Keeps the newest entries, so many.
    pub fn trim(&mut self, length: u64) -> bool {
        let length = c_longlong::try_from(length).unwrap_or(c_longlong::MAX);
        // SAFETY: the key is open to write and a stream.
        unsafe { api!(RedisModule_StreamTrimByLength)(self.0.handle, 0, length) > 0 }
    }

    /// The grant with this number, if it is still in the stream. IDs are `<epoch>-<seq>` and the epoch is not known,
    /// so each epoch in the stream is tried: one seek each, and there are as many as restarts since the last trim.
    pub fn find(&mut self, seq: Seq) -> Option<Grant> {
        let mut epoch = Epoch(0);
        loop {
            let first = self.first_from(EntryId { epoch, seq: Seq(0) })?.id;
            if let Some(grant) =
                self.first_from(EntryId { epoch: first.epoch, seq }).filter(|grant| grant.id.seq == seq)
            {
                return Some(grant);
            }
            epoch = Epoch(first.epoch.0.checked_add(1)?);
        }
    }

    fn first_from(&mut self, start: EntryId) -> Option<Grant> {
        if self.0.is_missing() {
            return None;
        }
        let mut start = raw::RedisModuleStreamID { ms: start.epoch.0, seq: start.seq.0 };
        let mut id = raw::RedisModuleStreamID { ms: 0, seq: 0 };
        let mut count = 0;
        let mut fields = Vec::with_capacity(grant::field::ALL.len());
        // SAFETY: the key is open and a stream; the iterator is stopped before anything else; field and value are
        // ours to free.
        unsafe {
            let handle = self.0.handle;
            if api!(RedisModule_StreamIteratorStart)(handle, 0, &raw mut start, ptr::null_mut())
                != raw::REDISMODULE_OK as c_int
            {
                return None;
            }
            if api!(RedisModule_StreamIteratorNextID)(handle, &raw mut id, &raw mut count)
                == raw::REDISMODULE_OK as c_int
            {
                let (mut name, mut value) = (ptr::null_mut(), ptr::null_mut());
                while api!(RedisModule_StreamIteratorNextField)(handle, &raw mut name, &raw mut value)
                    == raw::REDISMODULE_OK as c_int
                {
                    fields.push((Text::own(name), Text::own(value)));
                }
            }
            api!(RedisModule_StreamIteratorStop)(handle);
        }
        let id = EntryId { epoch: Epoch(id.ms), seq: Seq(id.seq) }.to_string();
        Grant::parse(&id, fields.iter().map(|(name, value)| (name.bytes(), value.bytes()))).ok()
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Replies

/// What a command answers. It is sent after the command has returned, so a panic can never leave half a reply.
pub enum Reply {
    /// None now: the client is blocked, and is answered later.
    Later,
    /// `OK`.
    Done,
    /// One bulk string: some clients can read nothing else.
    Word(&'static str),
    /// An array of bulk strings.
    Words(Vec<&'static str>),
    /// An integer.
    Count(u64),
    /// An array of a bulk string and integers.
    Ranked(&'static str, Vec<u64>),
    /// A map: RESP3; RESP2 makes a flat array of it.
    Map(Vec<(&'static str, Value)>),
}

/// A value in a map.
pub enum Value {
    /// A bulk string.
    Word(&'static str),
    /// An integer.
    Count(u64),
}

impl Server {
    fn reply(&self, reply: Result<Reply, Refusal>) {
        match reply {
            Ok(Reply::Later) => {}
            Ok(Reply::Done) => {
                // SAFETY: a C string of our own.
                unsafe { api!(RedisModule_ReplyWithSimpleString)(self.ctx, c"OK".as_ptr()) };
            }
            Ok(Reply::Word(word)) => self.reply_word(word),
            Ok(Reply::Words(words)) => {
                // SAFETY: as many elements follow.
                unsafe { api!(RedisModule_ReplyWithArray)(self.ctx, words.len() as _) };
                words.into_iter().for_each(|word| self.reply_word(word));
            }
            Ok(Reply::Count(count)) => self.reply_count(count),
            Ok(Reply::Ranked(word, counts)) => {
                // SAFETY: as many elements follow.
                unsafe { api!(RedisModule_ReplyWithArray)(self.ctx, counts.len().saturating_add(1) as _) };
                self.reply_word(word);
                for count in counts {
                    self.reply_count(count);
                }
            }
            Ok(Reply::Map(pairs)) => {
                // SAFETY: as many pairs follow.
                unsafe { api!(RedisModule_ReplyWithMap)(self.ctx, pairs.len() as _) };
                for (name, value) in pairs {
                    self.reply_word(name);
                    match value {
                        Value::Word(word) => self.reply_word(word),
                        Value::Count(count) => self.reply_count(count),
                    }
                }
            }
            Err(refusal) => {
                // A refusal quotes clients' bytes in printable ASCII only, so there is no NUL to cut it short.
                let text = CString::new(refusal.to_string()).unwrap_or_default();
                // SAFETY: a C string, copied by Redis.
                unsafe { api!(RedisModule_ReplyWithError)(self.ctx, text.as_ptr()) };
            }
        }
    }

    fn reply_word(&self, word: &str) {
        // SAFETY: Redis copies the bytes.
        unsafe { api!(RedisModule_ReplyWithStringBuffer)(self.ctx, word.as_ptr().cast(), word.len()) };
    }

    fn reply_count(&self, count: u64) {
        // SAFETY: see the top of the file.
        unsafe {
            api!(RedisModule_ReplyWithLongLong)(self.ctx, c_longlong::try_from(count).unwrap_or(c_longlong::MAX))
        };
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Doors: where Redis calls us. No panic gets through one, as it would end the server.

type Door = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// One door per row of the command table, as Redis does not tell a door which command it was called for.
const DOORS: [Door; TABLE.len()] = [
    door::<0>, door::<1>, door::<2>, door::<3>, door::<4>, door::<5>, door::<6>, door::<7>, door::<8>, door::<9>,
    door::<10>,
];

unsafe extern "C" fn door<const ROW: usize>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    enter(ctx, argv, argc, |server, args| match TABLE.get(ROW) {
        Some(command) if command.takes(args.len()) => (command.call)(server, args.get(1..).unwrap_or_default()),
        _ => Err(Refusal::usage("wrong number of arguments")),
    })
}

/// A client that was blocked is answered: it was woken, or its time is over.
unsafe extern "C" fn unblocked(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    enter(ctx, argv, argc, |server, args| {
        // SAFETY: Redis calls this for a client that `Server::block` has blocked.
        let client = Blocked(unsafe { api!(RedisModule_GetBlockedClientHandle)(server.ctx) } as usize);
        waiters::remove(client);
        wait::answer(server, args.get(1..).unwrap_or_default())
    })
}

/// A client went away while it was blocked.
unsafe extern "C" fn disconnected(_: *mut raw::RedisModuleCtx, client: *mut raw::RedisModuleBlockedClient) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // Only whoever takes a client out of the line may unblock it, so that it is done once.
        if waiters::remove(Blocked(client as usize)) {
            unblock(Blocked(client as usize));
        }
    }));
}

fn enter(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    call: impl FnOnce(&Server, &[Arg]) -> Result<Reply, Refusal>,
) -> c_int {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let server = Server::new(ctx);
        // SAFETY: Redis hands over `argc` strings that live as long as the call; `Arg` is one such pointer. The first
        // is the command's own name.
        let args = unsafe { std::slice::from_raw_parts(argv.cast::<Arg>(), usize::try_from(argc).unwrap_or(0)) };
        let reply = catch_unwind(AssertUnwindSafe(|| call(&server, args)));
        let reply = reply.unwrap_or_else(|_| {
            server.log(Level::Warning, "a command panicked; this is a bug in the coupon module, please report it");
            Err(Refusal::usage("internal error of the coupon module; the server's log says more"))
        });
        match &reply {
            Ok(_) => {}
            Err(Refusal::TryAgain(_)) => counters::add(Counter::TryAgain, 1),
            Err(_) => counters::add(Counter::Refused, 1),
        }
        server.reply(reply);
        server.tell_events(args);
    }));
    raw::REDISMODULE_OK as c_int
}

/// Lets a blocked client be answered, as soon as the running command is over.
fn unblock(client: Blocked) {
    // SAFETY: a client leaves the line of `waiters` once, and is unblocked only then, so the handle is alive.
    unsafe { api!(RedisModule_UnblockClient)(client.0 as *mut raw::RedisModuleBlockedClient, ptr::null_mut()) };
}

// ---------------------------------------------------------------------------------------------------------------
// The fence's token, and the events on which it is drawn anew

static TOKEN: AtomicU64 = AtomicU64::new(0);
static IS_CLUSTER: AtomicBool = AtomicBool::new(false);

fn draw_token() {
    let mut bytes = [0_u8; 8];
    // SAFETY: Redis fills so many bytes.
    unsafe { api!(RedisModule_GetRandomBytes)(bytes.as_mut_ptr(), bytes.len()) };
    // A number of 63 bits, so that it stays one for every reader of the hash; 0 is for a gate that is shut.
    TOKEN.store((u64::from_le_bytes(bytes) >> 1).max(1), Ordering::Relaxed);
}

/// Data was loaded (at start, by a full synchronization, by DEBUG RELOAD), or the role changed: what the coupons hold
/// now may not be what they held when their gate was opened.
unsafe extern "C" fn on_history_change(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    let _ = catch_unwind(|| {
        if !Fault::TokenKept.is_on() {
            draw_token();
        }
        known::forget_all();
    });
}

/// Keys came and went without an event of their own.
unsafe extern "C" fn on_data_change(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    let _ = catch_unwind(known::forget_all);
}

/// A key was changed by somebody else: what this module writes makes no event.
unsafe extern "C" fn on_key_change(
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

// ---------------------------------------------------------------------------------------------------------------
// Loading

/// A numeric config.
pub struct Config {
    /// Its name behind `coupon.`.
    pub name: &'static CStr,
    /// Its lowest, default and highest value.
    pub range: [i64; 3],
    /// Where it lives.
    pub value: &'static AtomicI64,
}

unsafe extern "C" fn get_config(_: *const c_char, value: *mut c_void) -> c_longlong {
    // SAFETY: the pointer is the static that `load` registered.
    unsafe { &*value.cast::<AtomicI64>() }.load(Ordering::Relaxed)
}

unsafe extern "C" fn set_config(
    _: *const c_char,
    new: c_longlong,
    value: *mut c_void,
    _: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: as in `get_config`; Redis has checked the range.
    unsafe { &*value.cast::<AtomicI64>() }.store(new, Ordering::Relaxed);
    raw::REDISMODULE_OK as c_int
}

/// Writes the section `coupon` of INFO; the server puts the module's name before that of each field.
unsafe extern "C" fn write_info(info: *mut raw::RedisModuleInfoCtx, _: c_int) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the info is alive for the call, and Redis copies names and values.
        unsafe {
            if api!(RedisModule_InfoAddSection)(info, c"".as_ptr()) != raw::REDISMODULE_OK as c_int {
                return;
            }
            api!(RedisModule_InfoAddFieldCString)(info, c"version".as_ptr(), VERSION.as_ptr());
            let gauges = [(c"waiting_clients", waiters::count()), (c"hashes_in_mind", known::count())];
            for (name, value) in counters::all().chain(gauges) {
                api!(RedisModule_InfoAddFieldULongLong)(info, name.as_ptr(), value);
            }
        }
    }));
}

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// Registers everything with the server.
///
/// # Errors
/// A sentence for the log.
pub fn load(context: &Context, configs: &[Config]) -> Result<(), String> {
    if let Some(name) = missing_function() {
        return Err(format!("this server lacks {name}: Redis 7.0 or later, or Valkey, is needed"));
    }
    let server = Server::new(context.ctx);
    draw_token();
    // SAFETY: the context is the one of OnLoad; all strings are copied; the callbacks live as long as the library.
    unsafe {
        let flags = api!(RedisModule_GetContextFlags)(server.ctx);
        IS_CLUSTER.store(flags & raw::REDISMODULE_CTX_FLAGS_CLUSTER as c_int != 0, Ordering::Relaxed);
        // See `signal_modified`.
        api!(RedisModule_SetModuleOptions)(server.ctx, raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED as c_int);
        let events: [(u64, unsafe extern "C" fn(_, _, _, _)); 5] = [
            (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, on_history_change),
            (raw::REDISMODULE_EVENT_LOADING, on_history_change),
            (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, on_data_change),
            (raw::REDISMODULE_EVENT_FLUSHDB, on_data_change),
            (raw::REDISMODULE_EVENT_SWAPDB, on_data_change),
        ];
        for (id, callback) in events {
            let event = raw::RedisModuleEvent { id, dataver: 1 };
            if api!(RedisModule_SubscribeToServerEvent)(server.ctx, event, Some(callback))
                != raw::REDISMODULE_OK as c_int
            {
                return Err("cannot subscribe to the server's events".into());
            }
        }
        // Of no other type, so that strings, lists and sets of other applications are not slowed down.
        let kinds = raw::REDISMODULE_NOTIFY_HASH
            | raw::REDISMODULE_NOTIFY_STREAM
            | raw::REDISMODULE_NOTIFY_GENERIC
            | raw::REDISMODULE_NOTIFY_EXPIRED
            | raw::REDISMODULE_NOTIFY_EVICTED;
        if api!(RedisModule_SubscribeToKeyspaceEvents)(server.ctx, kinds, Some(on_key_change))
            != raw::REDISMODULE_OK as c_int
        {
            return Err("cannot subscribe to the events of keys".into());
        }
        if api!(RedisModule_RegisterInfoFunc)(server.ctx, Some(write_info)) != raw::REDISMODULE_OK as c_int {
            return Err("cannot register the section of INFO".into());
        }
        for config in configs {
            let [min, default, max] = config.range;
            let status = api!(RedisModule_RegisterNumericConfig)(
                server.ctx,
                config.name.as_ptr(),
                default,
                raw::REDISMODULE_CONFIG_DEFAULT as c_uint,
                min,
                max,
                Some(get_config),
                Some(set_config),
                None,
                ptr::from_ref(config.value).cast_mut().cast(),
            );
            if status != raw::REDISMODULE_OK as c_int {
                return Err(format!("cannot register the config {:?}", config.name));
            }
        }
        if api!(RedisModule_LoadConfigs)(server.ctx) != raw::REDISMODULE_OK as c_int {
            return Err("a config is out of range".into());
        }
    }
    add_category(&server);
    for (command, door) in TABLE.iter().zip(DOORS) {
        register(&server, command, door)?;
    }
    Ok(())
}

/// The server while the module is loaded.
pub fn at_load(context: &Context) -> Server {
    Server::new(context.ctx)
}

/// The ACL category of all commands.
const CATEGORY: &CStr = c"coupon";

/// Adds the category where the server has any for modules (Redis 7.4, Valkey 8). One that is there already is ours, of
/// before an unload: servers keep them.
fn add_category(server: &Server) {
    // SAFETY: a read of a pointer that was set before this call; the name is copied.
    unsafe {
        if let Some(add) = (&raw const raw::RedisModule_AddACLCategory).read() {
            add(server.ctx, CATEGORY.as_ptr());
        }
    }
}

fn register(server: &Server, command: &Command, door: Door) -> Result<(), String> {
    let version = raw::RedisModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
        sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
    };
    let mut args = arguments(command.args);
    // SAFETY: all zero is a valid value of this struct of numbers, pointers and unions of such, and marks its end.
    let end: raw::RedisModuleCommandKeySpec = unsafe { std::mem::zeroed() };
    let mut spec = end;
    spec.flags = u64::from(command.key);
    spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    spec.bs.index.pos = 1;
    spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
    spec.fk.range = raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 { lastkey: 0, keystep: 1, limit: 0 };
    let mut key_specs = [spec, end];
    let info = raw::RedisModuleCommandInfo {
        version: &raw const version,
        summary: command.summary.as_ptr(),
        complexity: command.complexity.as_ptr(),
        since: command.since.as_ptr(),
        history: ptr::null_mut(),
        tips: ptr::null(),
        arity: command.arity,
        key_specs: key_specs.as_mut_ptr(),
        args: args.as_mut_ptr(),
    };
    // SAFETY: Redis copies all of the info; it lives to the end of this block.
    unsafe {
        let (ctx, name) = (server.ctx, command.name.as_ptr());
        let created = api!(RedisModule_CreateCommand)(ctx, name, Some(door), command.flags.as_ptr(), 1, 1, 1);
        if created != raw::REDISMODULE_OK as c_int {
            return Err(format!("cannot register {:?}: another module has a command of that name", command.name));
        }
        let handle = api!(RedisModule_GetCommand)(ctx, name);
        if api!(RedisModule_SetCommandInfo)(handle, &raw const info) != raw::REDISMODULE_OK as c_int {
            return Err(format!("cannot describe {:?}", command.name));
        }
        // Redis 7.2 knows how to put a command into a category, and has none of a module's own: that fails, and rights
        // go by the commands' names there, as on 7.0.
        if let Some(set) = (&raw const raw::RedisModule_SetCommandACLCategories).read() {
            set(handle, CATEGORY.as_ptr());
        }
    }
    Ok(())
}

/// The description of the arguments, ended by an empty one.
fn arguments(list: &[Argument]) -> Vec<raw::RedisModuleCommandArg> {
    let argument = |name, kind, token, flags| raw::RedisModuleCommandArg {
        name,
        type_: kind,
        // The only key is described by the only key spec.
        key_spec_index: if kind == raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY { 0 } else { -1 },
        token,
        summary: ptr::null(),
        since: ptr::null(),
        flags,
        deprecated_since: ptr::null(),
        subargs: ptr::null_mut(),
        display_text: ptr::null(),
    };
    let mut described: Vec<_> = list
        .iter()
        .map(|arg| {
            let kind = match arg.kind {
                Kind::Key => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY,
                Kind::Text | Kind::Texts => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
                Kind::Integer => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER,
                Kind::Time => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_UNIX_TIME,
                Kind::Flag => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN,
            };
            let mut flags =
                if arg.is_optional { raw::REDISMODULE_CMD_ARG_OPTIONAL } else { raw::REDISMODULE_CMD_ARG_NONE };
            if matches!(arg.kind, Kind::Texts) {
                flags |= raw::REDISMODULE_CMD_ARG_MULTIPLE;
            }
            argument(arg.name.as_ptr(), kind, arg.token.map_or(ptr::null(), CStr::as_ptr), flags as c_int)
        })
        .collect();
    described.push(argument(ptr::null(), 0, ptr::null(), 0));
    described
}
