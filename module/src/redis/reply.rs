//! What a command answers, and what INFO tells.

use super::api::api;
use super::server::Server;
use redis_module::raw;
use std::ffi::{CStr, CString, c_longlong};

/// A reply, or the text of an error, with its code first and no NUL in it.
pub type Answer = Result<Reply, String>;

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
    pub(super) fn reply(&self, answer: Answer) {
        match answer {
            Ok(Reply::Later) => {}
            Ok(Reply::Done) => {
                // SAFETY: a C string of our own.
                unsafe { api!(RedisModule_ReplyWithSimpleString)(self.ctx, c"OK".as_ptr()) };
            }
            Ok(Reply::Word(word)) => self.reply_word(word),
            Ok(Reply::Words(words)) => {
                self.reply_array(words.len());
                words.into_iter().for_each(|word| self.reply_word(word));
            }
            Ok(Reply::Count(count)) => self.reply_count(count),
            Ok(Reply::Ranked(word, counts)) => {
                self.reply_array(counts.len().saturating_add(1));
                self.reply_word(word);
                counts.into_iter().for_each(|count| self.reply_count(count));
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
            Err(text) => {
                let text = CString::new(text).unwrap_or_default();
                // SAFETY: a C string, copied by the server.
                unsafe { api!(RedisModule_ReplyWithError)(self.ctx, text.as_ptr()) };
            }
        }
    }

    fn reply_array(&self, len: usize) {
        // SAFETY: as many elements follow.
        unsafe { api!(RedisModule_ReplyWithArray)(self.ctx, len as _) };
    }

    fn reply_word(&self, word: &str) {
        // SAFETY: the server copies the bytes.
        unsafe { api!(RedisModule_ReplyWithStringBuffer)(self.ctx, word.as_ptr().cast(), word.len()) };
    }

    fn reply_count(&self, count: u64) {
        // SAFETY: see the top of redis.rs.
        unsafe {
            api!(RedisModule_ReplyWithLongLong)(self.ctx, c_longlong::try_from(count).unwrap_or(c_longlong::MAX))
        };
    }
}

/// The module's section of INFO. The server puts the module's name before that of each field.
pub struct Report(pub(super) *mut raw::RedisModuleInfoCtx);

impl Report {
    pub(super) fn begin(info: *mut raw::RedisModuleInfoCtx) -> Option<Self> {
        // SAFETY: the info is alive for the call.
        let begun = unsafe { api!(RedisModule_InfoAddSection)(info, c"".as_ptr()) };
        (begun == raw::REDISMODULE_OK as std::ffi::c_int).then_some(Self(info))
    }

    /// Adds a field.
    pub fn text(&mut self, name: &CStr, value: &CStr) {
        // SAFETY: the info is alive for the call, and the server copies both.
        unsafe { api!(RedisModule_InfoAddFieldCString)(self.0, name.as_ptr(), value.as_ptr()) };
    }

    /// Adds a field.
    pub fn count(&mut self, name: &CStr, value: u64) {
        // SAFETY: as in `text`.
        unsafe { api!(RedisModule_InfoAddFieldULongLong)(self.0, name.as_ptr(), value) };
    }
}
