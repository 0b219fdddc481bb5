//! Keys, open during one command.

use super::api::api;
use super::server::Server;
use super::string::{AsRedis, Text, Vocabulary};
use crate::fault::Fault;
use coupon_core::chain::Chain;
use coupon_core::coupon::{Arrival, Companion, Epoch, Field, Seq};
use coupon_core::grant::{self, EntryId, Grant};
use redis_module::raw;
use std::ffi::{c_int, c_longlong, c_void};
use std::marker::PhantomData;
use std::ptr;

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

pub(super) struct Key<'s> {
    /// Null for a missing key opened to read.
    handle: *mut raw::RedisModuleKey,
    server: PhantomData<&'s Server>,
}

impl<'s> Key<'s> {
    pub(super) fn open(
        server: &'s Server,
        name: &impl AsRedis,
        access: Access,
        expected: isize,
    ) -> Result<Self, WrongType> {
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
pub struct Hash<'s>(pub(super) Key<'s>);

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
pub struct SortedSet<'s>(pub(super) Key<'s>);

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

    /// Whether it has a TTL.
    pub fn is_to_expire(&self) -> bool {
        self.0.is_to_expire()
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
pub struct Stream<'s>(pub(super) Key<'s>);

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

    pub(super) fn pairs(&self) -> [*mut raw::RedisModuleString; 8] {
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
