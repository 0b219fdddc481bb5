//! What the audit reads of a coupon's three keys: plain commands, bounded pages, no writes.

use super::{Redis, unexpected};
use ::redis::{FromRedisValue, RedisResult, Value, cmd, pipe};
use coupon_core::coupon::{Coupon, Field};
use coupon_core::grant::{EntryId, Grant};
use coupon_core::key::{GRANTS, ISSUED};
use coupon_core::refusal::Refusal;

/// The status hash as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its fields as the module reads them, or why it cannot.
    pub coupon: Result<Coupon, Refusal>,
    /// The field `remaining`, which the module writes and never reads.
    pub remaining: Option<String>,
}

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its ID.
    pub id: EntryId,
    /// The grant, or the part that is malformed.
    pub grant: Result<Grant, &'static str>,
}

/// A page of the stream, and the hash at the same moment.
#[derive(Debug)]
pub struct EntriesPage {
    /// The hash; none if it is gone.
    pub held: Option<Held>,
    /// The entries.
    pub entries: Vec<Entry>,
}

impl Redis {
    /// The status hash; none if there is no such key.
    pub async fn held(&self, key: &str) -> RedisResult<Option<Held>> {
        held(self.call(&hash_fields(key)).await?)
    }

    /// A page of the stream from an ID, as XRANGE takes it, with the hash.
    pub async fn entries(&self, key: &str, from: &str, count: u32) -> RedisResult<EntriesPage> {
        let mut atomic = pipe();
        atomic.atomic().add_command(hash_fields(key));
        atomic.cmd("XRANGE").arg(format!("{key}{GRANTS}")).arg(from).arg("+").arg("COUNT").arg(count);
        let (fields, entries): (_, Value) = self.pipeline(&atomic).await?;
        Ok(EntriesPage { held: held(fields)?, entries: read_entries(&entries)? })
    }

    /// The entries of the stream between two IDs, at most so many.
    pub async fn entries_between(&self, key: &str, from: EntryId, to: EntryId, count: u32) -> RedisResult<Vec<Entry>> {
        let mut command = cmd("XRANGE");
        command.arg(format!("{key}{GRANTS}")).arg(from.to_string()).arg(to.to_string()).arg("COUNT").arg(count);
        read_entries(&self.call(&command).await?)
    }

    /// The scores of users in the sorted set.
    pub async fn scores(&self, key: &str, users: &[&str]) -> RedisResult<Vec<Option<f64>>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        self.call(cmd("ZMSCORE").arg(format!("{key}{ISSUED}")).arg(users)).await
    }

    /// A user's 0-based rank in the sorted set.
    pub async fn rank(&self, key: &str, user: &str) -> RedisResult<Option<u64>> {
        self.call(cmd("ZRANK").arg(format!("{key}{ISSUED}")).arg(user)).await
    }

    /// Members of the sorted set from a rank on, with their scores.
    pub async fn members(&self, key: &str, rank: u64, count: u32) -> RedisResult<Vec<(Vec<u8>, f64)>> {
        let last = rank.saturating_add(u64::from(count)).saturating_sub(1);
        self.call(cmd("ZRANGE").arg(format!("{key}{ISSUED}")).arg(rank).arg(last).arg("WITHSCORES")).await
    }

    /// How many members have this score or a lower one.
    pub async fn members_to(&self, key: &str, score: f64) -> RedisResult<u64> {
        self.call(cmd("ZCOUNT").arg(format!("{key}{ISSUED}")).arg("-inf").arg(score)).await
    }
}

fn hash_fields(key: &str) -> ::redis::Cmd {
    let mut command = cmd("HMGET");
    command.arg(key);
    for field in Field::ALL {
        command.arg(field.name());
    }
    command
}

fn held(fields: Vec<Option<Vec<u8>>>) -> RedisResult<Option<Held>> {
    if fields.len() != Field::ALL.len() {
        return Err(unexpected("HMGET gave another number of fields than were asked for"));
    }
    if fields.iter().all(Option::is_none) {
        return Ok(None);
    }
    let get = |field: Field| fields.get(field as usize).and_then(Option::as_deref);
    let remaining = get(Field::Remaining).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok(Some(Held { coupon: Coupon::decode(get), remaining }))
}

fn read_entries(reply: &Value) -> RedisResult<Vec<Entry>> {
    let Value::Array(entries) = reply else { return Err(unexpected("XRANGE gave no array")) };
    entries.iter().map(|entry| read_entry(entry).ok_or_else(|| unexpected("XRANGE gave no entry"))).collect()
}

fn read_entry(entry: &Value) -> Option<Entry> {
    let Value::Array(entry) = entry else { return None };
    let [id, Value::Array(fields)] = entry.as_slice() else { return None };
    let id = String::from_redis_value_ref(id).ok()?;
    let pairs = fields.chunks_exact(2).filter_map(|pair| match pair {
        [Value::BulkString(name), Value::BulkString(value)] => Some((name.as_slice(), value.as_slice())),
        _ => None,
    });
    Some(Entry { id: EntryId::parse(&id)?, grant: Grant::parse(&id, pairs) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn an_entry_that_is_no_grant_keeps_its_id() {
        let entry = Value::Array(vec![bulk("3-9"), Value::Array(vec![bulk("user"), bulk("u")])]);
        let read = read_entries(&Value::Array(vec![entry])).ok();
        let id = EntryId::parse("3-9");
        assert_eq!(
            read.and_then(|entries| entries.into_iter().next()).map(|entry| (Some(entry.id), entry.grant)),
            Some((id, Err("requested_at")))
        );
    }

    #[test]
    fn a_hash_without_fields_is_no_key() {
        assert_eq!(held(vec![None; Field::ALL.len()]).ok(), Some(None));
        let mut fields = vec![None; Field::ALL.len()];
        fields[Field::Remaining as usize] = Some(b"7".to_vec());
        let held = held(fields).ok().flatten();
        assert_eq!(held, Some(Held { coupon: Err(Refusal::NoCoupon), remaining: Some("7".into()) }));
    }
}
