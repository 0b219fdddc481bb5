//! The history of a coupon as the ledger holds it: rows and dead letters together, in the order of their grants.

use super::{Ledger, count};
use crate::error::Error;
use coupon_core::number::{Arrival, Chain, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::collections::HashMap;

/// A grant of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: Seq,
    /// The user.
    pub user: String,
    /// When the request was accepted.
    pub requested_at: Arrival,
    /// When it was granted, Unix milliseconds.
    pub granted_at_ms: u64,
    /// The chain at this grant, as stored.
    pub chain: Chain,
    /// Whether it is a dead letter.
    pub is_dead: bool,
}

impl Link {
    /// The position with one more grant, this one.
    ///
    /// # Errors
    /// What breaks the proof at this grant.
    pub fn follow(&self, at: Position) -> Result<Position, String> {
        let expected = at.seq.next();
        if self.seq == at.seq {
            return Err(format!("seq {} is both a row and a dead letter", self.seq));
        }
        if self.seq != expected {
            return Err(format!("seq {expected} is missing: {} follows {}", self.seq, at.seq));
        }
        let chain = UserId::parse(self.user.as_bytes())
            .map(|user| at.chain.next(user, self.requested_at))
            .map_err(|_| format!("seq {expected} has a user id that Redis would not have taken"))?;
        if chain != self.chain {
            return Err(format!("seq {expected} breaks the chain: it has {}, and {chain} follows", self.chain));
        }
        Ok(Position { seq: expected, chain })
    }
}

/// Both tables are read by their key (coupon, seq), so a page costs the same wherever it begins. The upper bound says so to
/// PostgreSQL too: with a limit alone it sorts all the rest of the coupon where the table has not been analyzed yet.
/// `extract` is exact: since PostgreSQL 14 it gives numeric.
const HISTORY: &str = "
    select seq, user_id, requested_us, granted_ms, chain, is_dead from (
        (select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint as requested_us,
                (extract(epoch from granted_at) * 1000)::bigint as granted_ms, chain, false as is_dead
         from user_coupon where coupon_id = $1 and seq > $2 and seq <= $3 order by seq limit $4)
        union all
        (select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint,
                (extract(epoch from granted_at) * 1000)::bigint, chain, true
         from coupon_dead_letter where coupon_id = $1 and seq > $2 and seq <= $3 order by seq limit $4)
    ) as grants
    order by seq, is_dead
    limit $4";

const CHAINS: &str = "
    select seq, chain from user_coupon where coupon_id = $1 and seq = any($2)
    union all
    select seq, chain from coupon_dead_letter where coupon_id = $1 and seq = any($2)";

impl Ledger {
    /// The chain at these grants, as far as the ledger holds them.
    pub async fn chains(&self, id: &str, seqs: impl Iterator<Item = Seq>) -> Result<HashMap<Seq, Chain>, Error> {
        let seqs: Vec<i64> = seqs.map(|seq| count(seq.0)).collect();
        let rows = self.fetch(sqlx::query(CHAINS).bind(id).bind(&seqs)).await?;
        let link = |row: &PgRow| {
            let seq = u64::try_from(row.try_get::<i64, _>("seq")?).unwrap_or(0);
            Ok((Seq(seq), Chain(row.try_get("chain")?)))
        };
        Ok(rows.iter().map(link).collect::<Result<_, sqlx::Error>>()?)
    }

    /// The grants after a number, at most so many.
    pub async fn history(&self, id: &str, after: Seq, limit: u32) -> Result<Vec<Link>, sqlx::Error> {
        self.links(id, after, Seq(u64::MAX), limit.into()).await
    }

    /// The grants after a number, up to another one: fewer if the ledger has a gap there.
    pub async fn span(&self, id: &str, after: Seq, to: Seq) -> Result<Vec<Link>, sqlx::Error> {
        // A number that is both a row and a dead letter, by mistake, comes twice.
        self.links(id, after, to, count(to.0.saturating_sub(after.0)).saturating_mul(2)).await
    }

    async fn links(&self, id: &str, after: Seq, to: Seq, limit: i64) -> Result<Vec<Link>, sqlx::Error> {
        let query = sqlx::query(HISTORY).bind(id).bind(count(after.0)).bind(count(to.0)).bind(limit);
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }
}

pub(super) fn read(row: &PgRow) -> Result<Link, sqlx::Error> {
    let number = |column: &str| row.try_get::<i64, _>(column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(Link {
        seq: Seq(number("seq")?),
        user: row.try_get("user_id")?,
        requested_at: Arrival(number("requested_us")?),
        granted_at_ms: number("granted_ms")?,
        chain: Chain(row.try_get("chain")?),
        is_dead: row.try_get("is_dead")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(seq: u64, chain: i64) -> Link {
        let requested_at = Arrival(seq);
        Link { seq: Seq(seq), user: "u".into(), requested_at, granted_at_ms: 1, chain: Chain(chain), is_dead: false }
    }

    #[test]
    fn the_first_grant_that_does_not_follow_is_named() -> Result<(), coupon_core::refusal::Refusal> {
        let user = UserId::parse(b"u")?;
        let first = Chain::START.next(user, Arrival(1));
        let start = Position::default();
        assert_eq!(link(1, first.0).follow(start), Ok(Position { seq: Seq(1), chain: first }));
        for (bad, word) in [(link(2, 0), "missing"), (link(1, 5), "breaks the chain"), (link(0, 0), "both")] {
            assert!(bad.follow(start).is_err_and(|why| why.contains(word)), "{bad:?}");
        }
        Ok(())
    }
}
