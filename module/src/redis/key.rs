//! Keys, open during one command.

use super::api::api;
use super::server::Server;
use super::string::{Str, Text};
use redis_module::raw;
use std::ffi::{c_int, c_longlong, c_void};
use std::marker::PhantomData;
use std::ptr;

/// How a key is opened.
pub trait Access {
    #[doc(hidden)]
    const MODE: raw::KeyMode;
}

/// By a command that only reads.
pub struct Read;

/// By a command that may write.
pub struct Write;

impl Access for Read {
    const MODE: raw::KeyMode = raw::KeyMode::READ;
}

impl Access for Write {
    const MODE: raw::KeyMode = raw::KeyMode::READ.union(raw::KeyMode::WRITE);
}

/// A key holds another type.
pub struct WrongType;

struct Key<'s, A> {
    /// Null for a missing key opened to read.
    handle: *mut raw::RedisModuleKey,
    server: PhantomData<(&'s Server, A)>,
}

impl<'s, A: Access> Key<'s, A> {
    fn open(server: &'s Server, name: &Str, expected: isize) -> Result<Self, WrongType> {
        // SAFETY: the handle is closed once, by `drop`, before the command ends (its lifetime is the server's).
        let handle = unsafe { api!(RedisModule_OpenKey)(server.ctx, name.ptr(), A::MODE.bits()) };
        let key = Self { handle: handle.cast(), server: PhantomData };
        let kind = key.kind();
        if kind == raw::REDISMODULE_KEYTYPE_EMPTY || kind == expected { Ok(key) } else { Err(WrongType) }
    }
}

impl<A> Key<'_, A> {
    fn kind(&self) -> isize {
        // SAFETY: the server takes a null handle here, and calls it empty.
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

    fn len(&self) -> Option<u64> {
        // SAFETY: the key is open.
        (!self.is_missing()).then(|| unsafe { api!(RedisModule_ValueLength)(self.handle) as u64 })
    }
}

impl Key<'_, Write> {
    /// Removes the key; its memory is freed in the background. False if there was none.
    fn remove(&mut self) -> bool {
        // SAFETY: the key is open to write; its handle stays valid, for an empty key.
        !self.is_missing() && unsafe { api!(RedisModule_UnlinkKey)(self.handle) } == raw::REDISMODULE_OK as c_int
    }
}

impl<A> Drop for Key<'_, A> {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: open, and closed only here.
            unsafe { api!(RedisModule_CloseKey)(self.handle) }
        }
    }
}

/// A hash.
pub struct Hash<'s, A>(Key<'s, A>);

impl<'s, A: Access> Hash<'s, A> {
    /// Opens it.
    pub fn open(server: &'s Server, name: &Str) -> Result<Self, WrongType> {
        Key::open(server, name, raw::REDISMODULE_KEYTYPE_HASH).map(Self)
    }

    /// Whether there is no such key.
    pub fn is_missing(&self) -> bool {
        self.0.is_missing()
    }

    /// Whether it has a TTL.
    pub fn is_to_expire(&self) -> bool {
        self.0.is_to_expire()
    }

    /// Reads a field.
    pub fn get(&self, field: &Str) -> Option<Text> {
        if self.0.handle.is_null() {
            return None;
        }
        let mut value: *mut raw::RedisModuleString = ptr::null_mut();
        // SAFETY: the key is open; the list of field and place for its value ends with a null, as the call wants; a value
        // is ours to free.
        unsafe {
            api!(RedisModule_HashGet)(
                self.0.handle,
                raw::REDISMODULE_HASH_NONE as c_int,
                field.ptr(),
                &raw mut value,
                ptr::null_mut::<c_void>(),
            );
        }
        Text::own_if_any(value)
    }
}

impl Hash<'_, Write> {
    /// Sets a field.
    pub fn set(&mut self, field: &Str, value: &Str) {
        self.write(field, value.ptr());
    }

    /// Removes a field.
    pub fn remove(&mut self, field: &Str) {
        self.write(field, raw::REDISMODULE_HASH_DELETE.cast_mut());
    }

    /// The call's result is not read: it says "error" for an update. The type was checked before.
    fn write(&mut self, field: &Str, value: *mut raw::RedisModuleString) {
        // SAFETY: the key is open to write; the list of field and value ends with a null, as the call wants.
        unsafe {
            api!(RedisModule_HashSet)(
                self.0.handle,
                raw::REDISMODULE_HASH_NONE as c_int,
                field.ptr(),
                value,
                ptr::null_mut::<c_void>(),
            );
        }
    }
}

/// A sorted set.
pub struct SortedSet<'s, A>(Key<'s, A>);

impl<'s, A: Access> SortedSet<'s, A> {
    /// Opens it.
    pub fn open(server: &'s Server, name: &Str) -> Result<Self, WrongType> {
        Key::open(server, name, raw::REDISMODULE_KEYTYPE_ZSET).map(Self)
    }

    /// How many members it has; none if there is no such key.
    pub fn len(&self) -> Option<u64> {
        self.0.len()
    }

    /// Whether it has a TTL.
    pub fn is_to_expire(&self) -> bool {
        self.0.is_to_expire()
    }

    /// A member's score.
    pub fn score(&self, member: &Str) -> Option<f64> {
        if self.0.is_missing() {
            return None;
        }
        let mut score = 0.0;
        // SAFETY: the key is open and a sorted set.
        let status = unsafe { api!(RedisModule_ZsetScore)(self.0.handle, member.ptr(), &raw mut score) };
        (status == raw::REDISMODULE_OK as c_int).then_some(score)
    }

    /// The highest score.
    pub fn highest(&self) -> Option<f64> {
        if self.0.is_missing() {
            return None;
        }
        // SAFETY: the key is open and a sorted set; the iterator is stopped before it is used otherwise.
        unsafe {
            api!(RedisModule_ZsetLastInScoreRange)(self.0.handle, f64::NEG_INFINITY, f64::INFINITY, 0, 0);
            let highest = current(self.0.handle).map(|(_, score)| score);
            api!(RedisModule_ZsetRangeStop)(self.0.handle);
            highest
        }
    }

    /// All members with higher scores, in order.
    pub fn above(&mut self, score: f64) -> Members<'_> {
        // Of the lowest score that there is, nothing lies below: the first call is for all.
        let is_open_end = c_int::from(score > f64::NEG_INFINITY);
        if !self.0.is_missing() {
            // SAFETY: the key is open and a sorted set; it cannot change while the iterator borrows it.
            unsafe {
                api!(RedisModule_ZsetFirstInScoreRange)(self.0.handle, score, f64::INFINITY, is_open_end, 0);
            }
        }
        Members { handle: self.0.handle, is_empty: self.0.is_missing(), set: PhantomData }
    }
}

impl SortedSet<'_, Write> {
    /// Adds a member. False, with nothing changed, if it is in already: found out by the write itself, so that
    /// nobody has to look first.
    #[must_use]
    pub fn add(&mut self, score: f64, member: &Str) -> bool {
        let mut flags = raw::REDISMODULE_ZADD_NX as c_int;
        // SAFETY: the key is open to write and a sorted set or empty.
        unsafe { api!(RedisModule_ZsetAdd)(self.0.handle, score, member.ptr(), &raw mut flags) };
        flags & raw::REDISMODULE_ZADD_NOP as c_int == 0
    }

    /// Takes a member out; with the last one the key goes. False if it was not in.
    #[must_use]
    pub fn take_out(&mut self, member: &Str) -> bool {
        let mut is_out = 0;
        // SAFETY: the key is open to write and a sorted set or empty; its handle stays valid, for an empty key.
        unsafe { api!(RedisModule_ZsetRem)(self.0.handle, member.ptr(), &raw mut is_out) };
        is_out != 0
    }

    /// Removes the whole set.
    pub fn remove(&mut self) -> bool {
        self.0.remove()
    }

    /// Puts a member at this score, whether it is in or not.
    pub fn put(&mut self, score: f64, member: &Str) {
        let mut flags = 0;
        // SAFETY: the key is open to write and a sorted set or empty.
        unsafe { api!(RedisModule_ZsetAdd)(self.0.handle, score, member.ptr(), &raw mut flags) };
    }
}

fn current(handle: *mut raw::RedisModuleKey) -> Option<(Text, f64)> {
    let mut score = 0.0;
    // SAFETY: the caller has started an iterator on this open sorted set; the string is ours to free.
    let member = unsafe { api!(RedisModule_ZsetRangeCurrentElement)(handle, &raw mut score) };
    Text::own_if_any(member).map(|member| (member, score))
}

/// Members of a sorted set with their scores, in order.
pub struct Members<'k> {
    handle: *mut raw::RedisModuleKey,
    is_empty: bool,
    set: PhantomData<&'k mut ()>,
}

impl Iterator for Members<'_> {
    type Item = (Text, f64);

    fn next(&mut self) -> Option<Self::Item> {
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

/// An entry's ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId {
    /// Its first part.
    pub ms: u64,
    /// Its second part.
    pub seq: u64,
}

/// A stream.
pub struct Stream<'s, A>(Key<'s, A>);

impl<'s, A: Access> Stream<'s, A> {
    /// Opens it.
    pub fn open(server: &'s Server, name: &Str) -> Result<Self, WrongType> {
        Key::open(server, name, raw::REDISMODULE_KEYTYPE_STREAM).map(Self)
    }

    /// How many entries it has; none if there is no such key.
    pub fn len(&self) -> Option<u64> {
        self.0.len()
    }

    /// Whether it has a TTL.
    pub fn is_to_expire(&self) -> bool {
        self.0.is_to_expire()
    }

    /// The first entry with this ID or a later one: its ID, and its fields with their values.
    pub fn first_from(&mut self, start: StreamId) -> Option<(StreamId, Vec<(Text, Text)>)> {
        if self.0.is_missing() {
            return None;
        }
        let mut start = raw::RedisModuleStreamID { ms: start.ms, seq: start.seq };
        let mut id = raw::RedisModuleStreamID { ms: 0, seq: 0 };
        let mut count = 0;
        // SAFETY: the key is open and a stream; the iterator is stopped before anything else; field and value are
        // ours to free.
        unsafe {
            let handle = self.0.handle;
            if api!(RedisModule_StreamIteratorStart)(handle, 0, &raw mut start, ptr::null_mut())
                != raw::REDISMODULE_OK as c_int
            {
                return None;
            }
            let mut found = None;
            if api!(RedisModule_StreamIteratorNextID)(handle, &raw mut id, &raw mut count)
                == raw::REDISMODULE_OK as c_int
            {
                let mut fields = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
                let (mut name, mut value) = (ptr::null_mut(), ptr::null_mut());
                while api!(RedisModule_StreamIteratorNextField)(handle, &raw mut name, &raw mut value)
                    == raw::REDISMODULE_OK as c_int
                {
                    fields.push((Text::own(name), Text::own(value)));
                }
                found = Some((StreamId { ms: id.ms, seq: id.seq }, fields));
            }
            api!(RedisModule_StreamIteratorStop)(handle);
            found
        }
    }
}

impl Stream<'_, Write> {
    /// Appends an entry. False, with nothing written, if the stream holds a later ID.
    #[must_use]
    pub fn append<const N: usize>(&mut self, id: StreamId, fields: &[(&Str, &Str); N]) -> bool {
        let mut id = raw::RedisModuleStreamID { ms: id.ms, seq: id.seq };
        let mut pairs = fields.map(|(field, value)| [field.ptr(), value.ptr()]);
        let count = N as c_longlong;
        // SAFETY: the key is open to write and a stream or empty; so many pairs of field and value are handed over.
        let status =
            unsafe { api!(RedisModule_StreamAdd)(self.0.handle, 0, &raw mut id, pairs.as_mut_ptr().cast(), count) };
        status == raw::REDISMODULE_OK as c_int
    }

    /// Removes the whole stream.
    pub fn remove(&mut self) -> bool {
        self.0.remove()
    }

    /// Removes all entries before this ID. False if there were none.
    pub fn trim_before(&mut self, id: StreamId) -> bool {
        let mut id = raw::RedisModuleStreamID { ms: id.ms, seq: id.seq };
        // SAFETY: the key is open to write and a stream.
        !self.0.is_missing() && unsafe { api!(RedisModule_StreamTrimByID)(self.0.handle, 0, &raw mut id) > 0 }
    }
}
