//! Table `coupon_orphan`: grants that a Redis made in a history which is not the ledger's.

use super::Ledger;
use super::batch::Columns;
use crate::error::Error;
use coupon_core::grant::Grant;

/// Whoever is in the ledger has a unit, whatever number the other history gave; and what is named stays named once.
const NAME: &str = "
    insert into coupon_orphan (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain, reason)
    select $1, g.user_id, g.seq, g.requested_at, g.granted_at, g.epoch, g.chain, $8
    from unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::bigint[])
        as g (user_id, seq, requested_at, granted_at, epoch, chain)
    where not exists (select 1 from user_coupon r where r.coupon_id = $1 and r.user_id = g.user_id)
      and not exists (select 1 from coupon_dead_letter d where d.coupon_id = $1 and d.user_id = g.user_id)
    on conflict do nothing";

impl Ledger {
    /// Names those of these grants whose users the ledger lacks; how many were not named before.
    pub async fn name_orphans(&self, id: &str, grants: &[Grant], reason: &str) -> Result<u64, Error> {
        let columns = Columns::of(grants)?;
        self.execute(columns.bind(sqlx::query(NAME).bind(id)).bind(reason)).await
    }
}
