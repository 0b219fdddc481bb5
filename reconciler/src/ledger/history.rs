//! The history of a coupon as the ledger holds it: rows and dead letters together, in the order of their grants.

use super::{Ledger, count};
use coupon_core::chain::Chain;
use coupon_core::coupon::{Arrival, Seq};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

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

/// Both tables are read by their key (coupon, seq), so a page costs the same wherever it begins. `extract` is exact:
/// since PostgreSQL 14 it gives numeric.
const HISTORY: &str = "
    select seq, user_id, requested_us, granted_ms, chain, is_dead from (
        (select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint as requested_us,
                (extract(epoch from granted_at) * 1000)::bigint as granted_ms, chain, false as is_dead
         from user_coupon where coupon_id = $1 and seq > $2 order by seq limit $3)
        union all
        (select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint,
                (extract(epoch from granted_at) * 1000)::bigint, chain, true
         from coupon_dead_letter where coupon_id = $1 and seq > $2 order by seq limit $3)
    ) as grants
    order by seq, is_dead
    limit $3";

impl Ledger {
    /// The grants after a number, at most so many.
    pub async fn history(&self, id: &str, after: Seq, limit: u32) -> Result<Vec<Link>, sqlx::Error> {
        let rows =
            sqlx::query(HISTORY).bind(id).bind(count(after.0)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &PgRow) -> Result<Link, sqlx::Error> {
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
