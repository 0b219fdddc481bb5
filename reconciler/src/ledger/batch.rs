//! A batch of grants becomes rows, and the position moves over them, in one statement: both or neither.

use super::{Ledger, count, instant};
use crate::error::Error;
use crate::model::grant::Batch;
use coupon_core::grant::Grant;
use time::OffsetDateTime;

/// The whole guarantee of the relay in one statement. The position moves only from where this batch begins
/// (compare-and-set on epoch, seq and chain), and the rows are inserted only if it moved. It runs outside a
/// transaction block, so it is one transaction: there is no moment in which one half of it is true.
const COMMIT: &str = "
    with moved as (
        update coupon_position set seq = $5, chain = $6, granted = granted + $7
        where coupon_id = $1 and epoch = $2 and seq = $3 and chain = $4
        returning coupon_id
    )
    insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
    select moved.coupon_id, g.user_id, g.seq, g.requested_at, g.granted_at, g.epoch, g.chain
    from moved, unnest($8::text[], $9::bigint[], $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::bigint[])
        as g (user_id, seq, requested_at, granted_at, epoch, chain)";

/// Grants as the arrays that `unnest` takes.
pub(super) struct Columns<'a> {
    pub users: Vec<&'a str>,
    pub seqs: Vec<i64>,
    pub requested_at: Vec<OffsetDateTime>,
    pub granted_at: Vec<OffsetDateTime>,
    pub epochs: Vec<i64>,
    pub chains: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub fn of(grants: &'a [Grant]) -> Result<Self, Error> {
        let instants = |us: fn(&Grant) -> u64| grants.iter().map(|grant| instant(us(grant))).collect::<Result<_, _>>();
        Ok(Self {
            users: grants.iter().map(|grant| grant.user.as_str()).collect(),
            seqs: grants.iter().map(|grant| count(grant.id.seq.0)).collect(),
            requested_at: instants(|grant| grant.requested_at.0)?,
            granted_at: instants(|grant| grant.granted_at_ms.saturating_mul(1000))?,
            epochs: grants.iter().map(|grant| count(grant.id.epoch.0)).collect(),
            chains: grants.iter().map(|grant| grant.chain.0).collect(),
        })
    }
}

impl Ledger {
    /// Makes rows of a batch.
    ///
    /// # Errors
    /// [`Error::Moved`] if the ledger no longer stands where the batch begins: then nothing was written. After an
    /// error of the connection it is unknown whether it was; the position tells.
    pub async fn commit(&self, id: &str, batch: &Batch) -> Result<(), Error> {
        let columns = Columns::of(&batch.grants)?;
        let statement = sqlx::query(COMMIT)
            .bind(id)
            .bind(count(batch.from.epoch.0))
            .bind(count(batch.from.position.seq.0))
            .bind(batch.from.position.chain.0)
            .bind(count(batch.to.position.seq.0))
            .bind(batch.to.position.chain.0)
            .bind(count(batch.len() as u64))
            .bind(&columns.users)
            .bind(&columns.seqs)
            .bind(&columns.requested_at)
            .bind(&columns.granted_at)
            .bind(&columns.epochs)
            .bind(&columns.chains);
        match self.execute(statement).await? {
            0 => Err(Error::Moved),
            _ => Ok(()),
        }
    }
}
