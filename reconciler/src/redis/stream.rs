//! The one reader of a coupon's stream.

use super::{grants_key, unexpected};
use ::redis::{Cmd, FromRedisValue, ParsingError, RedisResult, Value, cmd, from_redis_value};
use coupon_core::grant::{EntryId, Grant};

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its ID.
    pub id: EntryId,
    /// The grant, or the part that is malformed.
    pub grant: Result<Grant, &'static str>,
}

/// Asks for the entries from one on.
pub(super) fn entries(key: &str, from: EntryId, count: u32) -> Cmd {
    cmd("XRANGE").arg((grants_key(key), from.to_string(), "+", "COUNT", count)).take()
}

/// The grants of entries that nobody else has written.
pub(super) fn grants(entries: impl IntoIterator<Item = Entry>) -> RedisResult<Vec<Grant>> {
    let grants: Result<_, _> = entries.into_iter().map(|entry| entry.grant).collect();
    grants.map_err(|_| unexpected("the stream holds an entry that is no grant"))
}

impl FromRedisValue for Entry {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, fields): (String, Value) = from_redis_value(value)?;
        let fields: Vec<(Vec<u8>, Vec<u8>)> = from_redis_value(fields)?;
        let pairs = fields.iter().map(|(name, value)| (&**name, &**value));
        Ok(Self { id: EntryId::parse(&id).ok_or("an entry of the stream has no ID")?, grant: Grant::parse(&id, pairs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(fields: &[&str]) -> Option<Entry> {
        let fields = fields.iter().copied().map(bulk).collect();
        from_redis_value(Value::Array(vec![bulk("3-9"), Value::Array(fields)])).ok()
    }

    #[test]
    fn an_entry_is_read() {
        let read = entry(&["user", "u", "requested_at", "7", "granted_at", "8", "chain", "-5"]);
        let seen = read.as_ref().map(|entry| (entry.id.to_string(), entry.grant.as_ref().map(|grant| &*grant.user)));
        assert_eq!(seen, Some(("3-9".into(), Ok("u"))));
        assert_eq!(grants(read).map(|grants| grants.len()).ok(), Some(1));
    }

    #[test]
    fn an_entry_that_is_no_grant_keeps_its_id() {
        let read = entry(&["user", "u"]);
        assert_eq!(
            read.clone().map(|entry| (Some(entry.id), entry.grant)),
            Some((EntryId::parse("3-9"), Err("requested_at")))
        );
        assert!(grants(read).is_err());
    }
}
