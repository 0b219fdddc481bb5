//! What the audit asks of the ledger.

use super::Ledger;
use crate::error::Error;

const WITHOUT_GRANT: &str = "
    select user_id from unnest($2::text[]) as asked (user_id)
    where not exists (select from user_coupon where coupon_id = $1 and user_id = asked.user_id)
      and not exists (select from coupon_dead_letter where coupon_id = $1 and user_id = asked.user_id)";

impl Ledger {
    /// Those of these users who have neither a row nor a dead letter.
    pub async fn without_grant(&self, id: &str, users: &[String]) -> Result<Vec<String>, Error> {
        let users: Vec<(String,)> = self.fetch(sqlx::query_as(WITHOUT_GRANT).bind(id).bind(users)).await?;
        Ok(users.into_iter().map(|(user,)| user).collect())
    }
}
