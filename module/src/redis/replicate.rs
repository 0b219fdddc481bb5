//! Effects, replicated with final values, in the order written; those of one command travel as one MULTI/EXEC.

use super::api::api;
use super::key::Entry;
use super::server::Server;
use super::string::{Arg, AsRedis, Text, Vocabulary};
use crate::fault::Fault;
use coupon_core::coupon::{Arrival, Field};
use coupon_core::grant::EntryId;
use redis_module::raw;
use std::ffi::c_longlong;

impl Server {
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
