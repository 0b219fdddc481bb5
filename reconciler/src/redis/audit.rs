//! What the audit reads of a coupon's three keys: plain commands, bounded pages, no writes.

use super::{Entry, Redis, grants_key, issued_key, stream};
use ::redis::{Cmd, RedisResult, cmd, pipe};
use coupon_core::coupon::{Coupon, Field};
use coupon_core::grant::EntryId;
use coupon_core::refusal::Refusal;

/// The status hash as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its fields as the module reads them, or why it cannot.
    pub coupon: Result<Coupon, Refusal>,
    /// The field `remaining`, which the module writes and never reads.
    pub remaining: Option<String>,
}

/// All three keys at one moment.
#[derive(Debug)]
pub struct Moment {
    /// The hash; none if it is gone.
    pub held: Option<Held>,
    /// How many members the sorted set has.
    pub members: u64,
    /// What was asked for of the stream.
    pub entries: Vec<Entry>,
}

impl Redis {
    /// The status hash; none if there is no such key.
    pub async fn held(&self, key: &str) -> RedisResult<Option<Held>> {
        Ok(held(&self.call::<Vec<_>>(&hash_fields(key)).await?))
    }

    /// What can be compared without reading the coupon as a whole: of the stream the newest entry.
    pub async fn ends(&self, key: &str) -> RedisResult<Moment> {
        self.moment(key, cmd("XREVRANGE").arg((grants_key(key), "+", "-", "COUNT", 1))).await
    }

    /// A page of the stream from an entry on, with the rest of that moment.
    pub async fn page(&self, key: &str, from: EntryId, count: u32) -> RedisResult<Moment> {
        self.moment(key, &stream::entries(key, from, count)).await
    }

    async fn moment(&self, key: &str, entries: &Cmd) -> RedisResult<Moment> {
        let mut atomic = pipe();
        atomic.atomic().add_command(hash_fields(key)).zcard(issued_key(key)).add_command(entries.clone());
        let (fields, members, entries): (Vec<_>, _, _) = self.pipeline(&atomic).await?;
        Ok(Moment { held: held(&fields), members, entries })
    }

    /// The scores of users in the sorted set.
    pub async fn scores(&self, key: &str, users: &[&str]) -> RedisResult<Vec<Option<f64>>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        self.call(cmd("ZMSCORE").arg((issued_key(key), users))).await
    }

    /// A user's 0-based rank in the sorted set.
    pub async fn rank(&self, key: &str, user: &str) -> RedisResult<Option<u64>> {
        self.call(cmd("ZRANK").arg((issued_key(key), user))).await
    }

    /// How many members have this score or a lower one.
    pub async fn members_to(&self, key: &str, score: f64) -> RedisResult<u64> {
        self.call(cmd("ZCOUNT").arg((issued_key(key), "-inf", score))).await
    }
}

fn hash_fields(key: &str) -> Cmd {
    Cmd::hmget(key, &Field::ALL.map(Field::name))
}

fn held(fields: &[Option<Vec<u8>>]) -> Option<Held> {
    let get = |field: Field| fields.get(field as usize).and_then(Option::as_deref);
    let remaining = get(Field::Remaining).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    fields.iter().any(Option::is_some).then(|| Held { coupon: Coupon::decode(get), remaining })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_without_fields_is_no_key() {
        assert_eq!(held(&vec![None; Field::ALL.len()]), None);
        let mut fields = vec![None; Field::ALL.len()];
        fields[Field::Remaining as usize] = Some(b"7".to_vec());
        assert_eq!(held(&fields), Some(Held { coupon: Err(Refusal::NoCoupon), remaining: Some("7".into()) }));
    }
}
