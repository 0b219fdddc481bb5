//! What the audit asks of the ledger.

use super::Ledger;
use super::history::Stored;
use crate::error::Error;
use crate::model::grant::Link;

const BEYOND: &str = "
    select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint as requested_us,
           (extract(epoch from granted_at) * 1000)::bigint as granted_ms, chain, false as is_dead
    from user_coupon
    where coupon_id = $1 and seq > (select seq from coupon_position where coupon_id = $1)
    order by seq limit $2";

const WITHOUT_GRANT: &str = "
    select user_id from unnest($2::text[]) as asked (user_id)
    where not exists (select from user_coupon where coupon_id = $1 and user_id = asked.user_id)
      and not exists (select from coupon_dead_letter where coupon_id = $1 and user_id = asked.user_id)";

impl Ledger {
    /// Rows beyond the coupon's position, at most so many: the relay writes none such.
    pub async fn beyond(&self, id: &str, limit: u32) -> Result<Vec<Link>, Error> {
        let rows: Vec<Stored> = self.fetch(sqlx::query_as(BEYOND).bind(id).bind(i64::from(limit))).await?;
        Ok(rows.into_iter().map(Link::from).collect())
    }

    /// Those of these users who have neither a row nor a dead letter.
    pub async fn without_grant(&self, id: &str, users: &[String]) -> Result<Vec<String>, Error> {
        let users: Vec<(String,)> = self.fetch(sqlx::query_as(WITHOUT_GRANT).bind(id).bind(users)).await?;
        Ok(users.into_iter().map(|(user,)| user).collect())
    }
}
