//! Commands of the server's own, for what the low-level API lacks. No key may be open while the server runs one on it, so
//! each takes the handle of the key that it reads.

use super::api::api;
use super::key::{Access, SortedSet};
use super::server::Server;
use super::string::{Str, Text};
use redis_module::raw;
use std::ffi::CStr;

struct CallReply(*mut raw::RedisModuleCallReply);

impl Drop for CallReply {
    fn drop(&mut self) {
        // SAFETY: a reply is freed once, and its elements go with it.
        unsafe { api!(RedisModule_FreeCallReply)(self.0) }
    }
}

impl CallReply {
    fn kind(&self) -> isize {
        // SAFETY: the reply is alive.
        unsafe { api!(RedisModule_CallReplyType)(self.0) as isize }
    }

    fn integer(&self) -> Option<i64> {
        // SAFETY: the reply is alive, and an integer.
        (self.kind() == raw::REDISMODULE_REPLY_INTEGER).then(|| unsafe { api!(RedisModule_CallReplyInteger)(self.0) })
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        if self.kind() != raw::REDISMODULE_REPLY_STRING {
            return None;
        }
        let mut len = 0;
        // SAFETY: the reply is alive, and a string of so many bytes.
        unsafe {
            let start = api!(RedisModule_CallReplyStringPtr)(self.0, &raw mut len);
            Some(std::slice::from_raw_parts(start.cast::<u8>(), len).to_vec())
        }
    }

    /// What `read` makes of each element of an array.
    fn elements<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Vec<T> {
        if self.kind() != raw::REDISMODULE_REPLY_ARRAY {
            return Vec::new();
        }
        // SAFETY: the reply is alive, and an array of so many elements, which it goes on owning.
        unsafe {
            let len = api!(RedisModule_CallReplyLength)(self.0);
            let element =
                |index| std::mem::ManuallyDrop::new(Self(api!(RedisModule_CallReplyArrayElement)(self.0, index)));
            (0..len).filter_map(|index| read(&element(index))).collect()
        }
    }
}

impl Server {
    /// Runs a command of the server; none if it has none of that name, or cannot run it here.
    fn call(&self, command: &CStr, args: &[&Str]) -> Option<CallReply> {
        let mut args: Vec<*mut raw::RedisModuleString> = args.iter().map(|arg| arg.ptr()).collect();
        // SAFETY: the format says a vector with its length, and these follow.
        let reply =
            unsafe { api!(RedisModule_Call)(self.ctx, command.as_ptr(), c"v".as_ptr(), args.as_mut_ptr(), args.len()) };
        (!reply.is_null()).then(|| CallReply(reply))
    }

    /// The 1-based rank of a member.
    pub fn rank<A: Access>(&self, set: SortedSet<'_, A>, name: &Str, member: &Str) -> Option<u64> {
        drop(set);
        let rank = self.call(c"ZRANK", &[name, member])?.integer()?;
        u64::try_from(rank).ok().map(|rank| rank.saturating_add(1))
    }

    /// So many members from this 0-based rank on, with their scores.
    pub fn members<A: Access>(&self, set: SortedSet<'_, A>, name: &Str, from: u64, count: u64) -> Vec<(Text, f64)> {
        drop(set);
        let last = Text::count(from.saturating_add(count).saturating_sub(1));
        let Some(reply) = self.call(c"ZRANGE", &[name, &Text::count(from), &last, &Text::new(b"WITHSCORES")]) else {
            return Vec::new();
        };
        let elements = reply.elements(CallReply::bytes);
        let pair = |pair: &[Vec<u8>]| match pair {
            [member, score] => Some((Text::new(member), str::from_utf8(score).ok()?.parse().ok()?)),
            _ => None,
        };
        elements.chunks(2).filter_map(pair).collect()
    }

    /// Whether the server knows fields of a hash that expire by themselves.
    pub fn knows_field_ttl(&self) -> bool {
        let key = Text::new(b"");
        self.call(c"HPTTL", &[&key, &Text::new(b"FIELDS"), &Text::count(1), &key]).is_some_and(|reply| {
            // A key that does not exist is answered by an array, or by nothing; an unknown command by an error.
            reply.kind() != raw::REDISMODULE_REPLY_ERROR
        })
    }

    /// Whether all of these fields of a hash are there, and none of them is to expire by itself.
    pub fn have_no_ttl(&self, hash: &Str, fields: &[&Str]) -> bool {
        const NO_TTL: i64 = -1;
        let (word, count) = (Text::new(b"FIELDS"), Text::count(fields.len() as u64));
        let args: Vec<&Str> = [hash, &word, &count].into_iter().chain(fields.iter().copied()).collect();
        let ttls = self.call(c"HPTTL", &args).map(|reply| reply.elements(CallReply::integer)).unwrap_or_default();
        ttls.len() == fields.len() && ttls.iter().all(|ttl| *ttl == NO_TTL)
    }

    /// The slot of a key.
    pub fn slot(&self, key: &Str) -> Option<u16> {
        u16::try_from(self.call(c"CLUSTER", &[&Text::new(b"KEYSLOT"), key])?.integer()?).ok()
    }

    /// What this node knows of its cluster.
    pub fn cluster(&self) -> Cluster {
        let ask = |what: &[u8]| {
            let text = self.call(c"CLUSTER", &[&Text::new(what)]).and_then(|reply| reply.bytes());
            String::from_utf8(text.unwrap_or_default()).unwrap_or_default()
        };
        Cluster { nodes: ask(b"NODES"), is_down: ask(b"INFO").starts_with("cluster_state:fail") }
    }
}

/// A cluster, as one node sees it.
pub struct Cluster {
    /// The text of CLUSTER NODES.
    pub nodes: String,
    /// Whether it serves nobody.
    pub is_down: bool,
}
