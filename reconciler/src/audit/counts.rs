//! The cheap comparison: what can be seen of a coupon by one round trip to Redis and one statement for many.

use super::Audit;
use super::hash::{self, Witness};
use crate::error::Error;
use crate::ledger::Row;
use crate::plan::is_on_offer;
use crate::policy::{self, Remedy};
use crate::redis::Ends;
use coupon_core::number::Seq;
use coupon_core::position::Position;

impl Audit<'_> {
    /// Those of these coupons that have to be looked at grant by grant.
    pub async fn odd<'r>(&self, rows: impl Iterator<Item = &'r Row>) -> Result<Vec<&'r str>, Error> {
        let mut seen = Vec::new();
        for row in rows.filter(|row| is_on_offer(row.status)) {
            match self.redis.ends(&self.keys.key(&row.id)).await {
                Ok(ends) => seen.push((row, ends)),
                Err(error) if matches!(policy::redis_remedy(&error), Remedy::Reconnect(_)) => return Err(error.into()),
                // Something is wrong with this coupon's keys, which its visit says.
                Err(_) => {}
            }
        }
        // Read after Redis, which can only be behind with its acknowledgement.
        let ids: Vec<&str> = seen.iter().map(|(row, _)| &*row.id).collect();
        let ledger = self.ledger.whole_ends(&ids).await?;
        let odd = seen.iter().filter(|(row, ends)| is_odd(row, ends, ledger.get(&row.id).copied()));
        Ok(odd.map(|(row, _)| &*row.id).collect())
    }
}

/// Whether the ends of a coupon do not fit together; `ledger` is the newest grant there, if the ledger's own end is whole.
fn is_odd(row: &Row, ends: &Ends, ledger: Option<Seq>) -> bool {
    let Some(held) = &ends.held else { return false };
    let Ok(coupon) = &held.coupon else { return true };
    if coupon.epoch != row.epoch {
        // Opened, resumed or restored just now.
        return false;
    }
    let stream = match &ends.newest {
        None => Some(Position::default()),
        Some(entry) => entry.grant.as_ref().ok().map(|grant| Position { seq: entry.id.seq, chain: grant.chain }),
    };
    let witness = Witness { stream, ledger, line: None };
    stream.is_none()
        || ledger.is_none()
        || ends.members < coupon.position.seq.0
        || !hash::judge(held, witness).is_empty()
}
