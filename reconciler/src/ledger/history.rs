//! The history of a coupon as the ledger holds it: rows and dead letters together, in the order of their grants.

use super::{Ledger, count, unsigned};
use crate::error::Error;
use crate::model::grant::Link;
use coupon_core::number::{Arrival, Chain, Seq};
use std::collections::HashMap;

/// Both tables are read by their key (coupon, seq), so a page costs the same wherever it begins: after a number, or after the
/// coupon's position. The upper bound says so to PostgreSQL too: with a limit alone it sorts all the rest of the coupon where the table has
/// not been analyzed yet. `extract` is exact: since PostgreSQL 14 it gives numeric.
const HISTORY: &str = "
    with start as (select coalesce($2, (select seq from coupon_position where coupon_id = $1)) as seq)
    select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint as requested_us,
           (extract(epoch from granted_at) * 1000)::bigint as granted_ms, chain, is_dead
    from (
        (select seq, user_id, requested_at, granted_at, chain, false as is_dead from user_coupon
         where coupon_id = $1 and seq > (select seq from start) and seq <= $3 order by seq limit $4)
        union all
        (select seq, user_id, requested_at, granted_at, chain, true from coupon_dead_letter
         where coupon_id = $1 and seq > (select seq from start) and seq <= $3 order by seq limit $4)
    ) as grants
    order by seq, is_dead
    limit $4";

const CHAINS: &str = "
    select seq, chain from user_coupon where coupon_id = $1 and seq = any($2)
    union all
    select seq, chain from coupon_dead_letter where coupon_id = $1 and seq = any($2)";

from_row! {
    struct Stored {
        seq: i64,
        user_id: String,
        requested_us: i64,
        granted_ms: i64,
        chain: i64,
        is_dead: bool,
    }
}

impl Ledger {
    /// The chain at these grants, as far as the ledger holds them.
    pub async fn chains(&self, id: &str, seqs: impl Iterator<Item = Seq>) -> Result<HashMap<Seq, Chain>, Error> {
        let seqs: Vec<i64> = seqs.map(|seq| count(seq.0)).collect();
        let chains: Vec<(i64, i64)> = self.fetch(sqlx::query_as(CHAINS).bind(id).bind(&seqs)).await?;
        Ok(chains.into_iter().map(|(seq, chain)| (Seq(unsigned(seq)), Chain(chain))).collect())
    }

    /// The grants after a number, at most so many.
    pub async fn history(&self, id: &str, after: Seq, limit: u32) -> Result<Vec<Link>, Error> {
        self.links(id, Some(after), Seq(u64::MAX), limit.into()).await
    }

    /// The grants after a number, up to another one: fewer if the ledger has a gap there.
    pub async fn span(&self, id: &str, after: Seq, to: Seq) -> Result<Vec<Link>, Error> {
        // A number that is both a row and a dead letter, by mistake, comes twice.
        self.links(id, Some(after), to, count(to.0.saturating_sub(after.0)).saturating_mul(2)).await
    }

    /// The grants beyond the coupon's position, at most so many: the relay writes none such.
    pub async fn beyond(&self, id: &str, limit: u32) -> Result<Vec<Link>, Error> {
        self.links(id, None, Seq(u64::MAX), limit.into()).await
    }

    async fn links(&self, id: &str, after: Option<Seq>, to: Seq, limit: i64) -> Result<Vec<Link>, Error> {
        let query =
            sqlx::query_as(HISTORY).bind(id).bind(after.map(|after| count(after.0))).bind(count(to.0)).bind(limit);
        Ok(self.fetch::<Stored>(query).await?.into_iter().map(Link::from).collect())
    }
}

impl From<Stored> for Link {
    fn from(row: Stored) -> Self {
        Self {
            seq: Seq(unsigned(row.seq)),
            user: row.user_id,
            requested_at: Arrival(unsigned(row.requested_us)),
            granted_at_ms: unsigned(row.granted_ms),
            chain: Chain(row.chain),
            is_dead: row.is_dead,
        }
    }
}
