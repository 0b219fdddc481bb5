//! Table `coupon_orphan`: grants that a Redis made in a history which is not the ledger's.

use super::batch::Columns;
use super::{Ledger, unsigned};
use crate::error::Error;
use coupon_core::grant::Grant;
use coupon_core::number::Seq;

/// Whoever is in the ledger has a unit, whatever number the other history gave; and what is named stays named once.
const NAME: &str = "
    insert into coupon_orphan (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain, reason)
    select $1, g.user_id, g.seq, g.requested_at, g.granted_at, g.epoch, g.chain, $8
    from unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::bigint[])
        as g (user_id, seq, requested_at, granted_at, epoch, chain)
    where not exists (select 1 from user_coupon r where r.coupon_id = $1 and r.user_id = g.user_id)
      and not exists (select 1 from coupon_dead_letter d where d.coupon_id = $1 and d.user_id = g.user_id)
    on conflict do nothing
    returning seq";

impl Ledger {
    /// Names those of these grants whose users the ledger lacks; the numbers of those not named before.
    pub async fn name_orphans(&self, id: &str, grants: &[Grant], reason: &str) -> Result<Vec<Seq>, Error> {
        if grants.is_empty() {
            return Ok(Vec::new());
        }
        let columns = Columns::of(grants)?;
        let statement = sqlx::query_as(NAME)
            .bind(id)
            .bind(&columns.users)
            .bind(&columns.seqs)
            .bind(&columns.requested_at)
            .bind(&columns.granted_at)
            .bind(&columns.epochs)
            .bind(&columns.chains)
            .bind(reason);
        let named: Vec<(i64,)> = self.fetch(statement).await?;
        Ok(named.into_iter().map(|(seq,)| Seq(unsigned(seq))).collect())
    }
}
