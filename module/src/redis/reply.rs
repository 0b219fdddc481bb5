//! What a command answers.

use super::api::api;
use super::server::Server;
use coupon_core::refusal::Refusal;
use redis_module::raw;
use std::ffi::{CString, c_longlong};

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
    pub(super) fn reply(&self, reply: Result<Reply, Refusal>) {
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
