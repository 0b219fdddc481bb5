//! The grant as a stream entry: ID `<epoch>-<seq>`, fields user, requested_at, granted_at, chain.

use crate::limit::ARRIVAL_US_MAX;
use crate::number::{Arrival, Chain, Epoch, Seq, number};
use crate::user::UserId;
use std::fmt;

/// Names of the entry's fields, in their order.
pub mod field {
    /// The user id.
    pub const USER: &str = "user";
    /// When the request was accepted, in microseconds.
    pub const REQUESTED_AT: &str = "requested_at";
    /// When the unit was granted, in milliseconds.
    pub const GRANTED_AT: &str = "granted_at";
    /// The digest of all grants up to this one.
    pub const CHAIN: &str = "chain";
    /// All of them.
    pub const ALL: [&str; 4] = [USER, REQUESTED_AT, GRANTED_AT, CHAIN];
}

/// An entry's ID. A later epoch sorts above all of an earlier one, so a slow clock can never put a new entry
/// below a position already read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct EntryId {
    /// The epoch under which it was granted.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
}

impl EntryId {
    /// Reads `<epoch>-<seq>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.split_once('-')?;
        Some(Self { epoch: Epoch(number(epoch.as_bytes())?), seq: Seq(number(seq.as_bytes())?) })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// A grant, as read back from the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its ID.
    pub id: EntryId,
    /// The user, valid by [`UserId::parse`].
    pub user: String,
    /// When the request was accepted.
    pub requested_at: Arrival,
    /// When it was granted, Unix milliseconds.
    pub granted_at_ms: u64,
    /// The chain at this grant, as stored.
    pub chain: Chain,
}

impl Grant {
    /// Reads an entry. Fields may come in any order; unknown ones are passed over.
    ///
    /// # Errors
    /// The name of the part that is missing or malformed.
    pub fn parse<'a>(id: &str, fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, &'static str> {
        let id = EntryId::parse(id).ok_or("id")?;
        let (mut user, mut requested_at, mut granted_at, mut chain) = (None, None, None, None);
        for (name, value) in fields {
            match str::from_utf8(name) {
                Ok(field::USER) => user = UserId::parse(value).ok(),
                Ok(field::REQUESTED_AT) => requested_at = number(value).filter(|n| *n <= ARRIVAL_US_MAX),
                Ok(field::GRANTED_AT) => granted_at = number(value).filter(|n| *n <= ARRIVAL_US_MAX / 1000),
                Ok(field::CHAIN) => chain = str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                _ => {}
            }
        }
        Ok(Self {
            id,
            user: user.ok_or(field::USER)?.as_str().to_owned(),
            requested_at: Arrival(requested_at.ok_or(field::REQUESTED_AT)?),
            granted_at_ms: granted_at.ok_or(field::GRANTED_AT)?,
            chain: Chain(chain.ok_or(field::CHAIN)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_by_epoch_first() {
        let id = |text| EntryId::parse(text);
        assert!(id("2-1") > id("1-900"));
        assert_eq!(id("2-1").map(|id| id.to_string()).as_deref(), Some("2-1"));
        for bad in ["", "1", "-1", "1-", "1-+2", "1-2-3", "a-b", "99999999999999999999-1"] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_entry_names_its_broken_part() {
        let good: [(&[u8], &[u8]); 4] =
            [(b"chain", b"-5"), (b"user", b"u"), (b"requested_at", b"7"), (b"granted_at", b"8")];
        let grant = Grant::parse("1-1", good);
        assert_eq!(
            grant.map(|g| (g.user, g.requested_at, g.granted_at_ms, g.chain)),
            Ok(("u".into(), Arrival(7), 8, Chain(-5)))
        );
        assert_eq!(Grant::parse("1", good), Err("id"));
        for (part, _) in good {
            let without = good.into_iter().filter(|(name, _)| *name != part);
            assert_eq!(Grant::parse("1-1", without).err().map(str::as_bytes), Some(part));
        }
    }

    #[test]
    fn the_times_of_an_entry_have_the_same_bound() {
        let parse = |requested_at: &str, granted_at: &str| {
            let fields: [(&[u8], &[u8]); 4] = [
                (b"chain", b"0"),
                (b"user", b"u"),
                (b"requested_at", requested_at.as_bytes()),
                (b"granted_at", granted_at.as_bytes()),
            ];
            Grant::parse("1-1", fields).map(|grant| (grant.requested_at.0, grant.granted_at_ms))
        };
        assert_eq!(parse("9007199254740992", "9007199254740"), Ok((9_007_199_254_740_992, 9_007_199_254_740)));
        assert_eq!(parse("9007199254740993", "1"), Err("requested_at"));
        assert_eq!(parse("1", "9007199254741"), Err("granted_at"));
    }
}
