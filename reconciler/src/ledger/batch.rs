//! Grants become rows, or dead letters, and the position moves over them, in one statement: both or neither.

use super::{Ledger, Statement, count, instant};
use crate::error::Error;
use crate::model::grant::Batch;
use coupon_core::grant::Grant;
use coupon_core::number::Epoch;
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
    users: Vec<&'a str>,
    seqs: Vec<i64>,
    requested_at: Vec<OffsetDateTime>,
    granted_at: Vec<OffsetDateTime>,
    epochs: Vec<i64>,
    chains: Vec<i64>,
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

    /// As the next six arguments of a statement.
    pub fn bind<'q>(&'q self, statement: Statement<'q>) -> Statement<'q> {
        statement
            .bind(&self.users)
            .bind(&self.seqs)
            .bind(&self.requested_at)
            .bind(&self.granted_at)
            .bind(&self.epochs)
            .bind(&self.chains)
    }
}

/// The same for one grant that PostgreSQL refuses as a row.
const BURY: &str = "
    with moved as (
        update coupon_position set seq = $5, chain = $6
        where coupon_id = $1 and epoch = $2 and seq = $3 and chain = $4
        returning coupon_id
    )
    insert into coupon_dead_letter (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain, sqlstate, reason)
    select moved.coupon_id, g.user_id, g.seq, g.requested_at, g.granted_at, g.epoch, g.chain, $13, $14
    from moved, unnest($7::text[], $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::bigint[])
        as g (user_id, seq, requested_at, granted_at, epoch, chain)";

/// Rows of grants that the position covers already, which are counted anew. Whoever moves the position meanwhile waits, so what
/// is missing is so for good, and no grant is on its way.
const FILL: &str = "
    with held as (
        update coupon_position p set granted = cardinality($4::text[]) +
            (select count(*) from user_coupon u where u.coupon_id = p.coupon_id and u.seq <= p.seq)
        where coupon_id = $1 and epoch = $2 and seq >= $3
        returning coupon_id
    )
    insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
    select held.coupon_id, g.user_id, g.seq, g.requested_at, g.granted_at, g.epoch, g.chain
    from held, unnest($4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[], $8::bigint[], $9::bigint[])
        as g (user_id, seq, requested_at, granted_at, epoch, chain)";

impl Ledger {
    /// Makes rows of a batch.
    ///
    /// # Errors
    /// [`Error::Moved`] if the ledger no longer stands where the batch begins: then nothing was written. After an
    /// error of the connection it is unknown whether it was; the position tells.
    pub async fn commit(&self, id: &str, batch: &Batch) -> Result<(), Error> {
        let columns = Columns::of(&batch.grants)?;
        let statement = columns.bind(moving(COMMIT, id, batch).bind(count(batch.len() as u64)));
        self.execute(statement).await.and_then(moved)
    }

    /// Makes a dead letter of a batch of one grant, which PostgreSQL refuses with this error.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub async fn bury(&self, id: &str, batch: &Batch, error: &Error) -> Result<(), Error> {
        let (sqlstate, reason) = match error {
            Error::Ledger(sqlx::Error::Database(error)) => {
                (error.code().unwrap_or_default().into_owned(), error.message().to_owned())
            }
            error => (String::new(), error.to_string()),
        };
        let columns = Columns::of(&batch.grants)?;
        let statement = columns.bind(moving(BURY, id, batch)).bind(&sqlstate).bind(&reason);
        self.execute(statement).await.and_then(moved)?;
        // Neither the user nor the text, which may name the user: both are in the table.
        tracing::error!(
            coupon = id,
            seq = batch.to.position.seq.0,
            sqlstate,
            "PostgreSQL refused a grant; it is in coupon_dead_letter with the reason, its followers went on"
        );
        Ok(())
    }

    /// Makes rows of grants that the position covers, up to the last of them, and that were lost.
    ///
    /// # Errors
    /// [`Error::Moved`] if the coupon is at another epoch meanwhile.
    pub async fn fill(&self, id: &str, epoch: Epoch, grants: &[Grant]) -> Result<(), Error> {
        let last = grants.last().map_or(0, |grant| grant.id.seq.0);
        let columns = Columns::of(grants)?;
        let statement = columns.bind(sqlx::query(FILL).bind(id).bind(count(epoch.0)).bind(count(last)));
        self.execute(statement).await.and_then(moved)
    }
}

/// A statement that moves the position over a batch.
fn moving<'q>(statement: &'static str, id: &'q str, batch: &Batch) -> Statement<'q> {
    let (from, to) = (batch.from, batch.to.position);
    sqlx::query(statement)
        .bind(id)
        .bind(count(from.epoch.0))
        .bind(count(from.position.seq.0))
        .bind(from.position.chain.0)
        .bind(count(to.seq.0))
        .bind(to.chain.0)
}

/// Nothing was written where the coupon is not where it was thought to be.
fn moved(rows: u64) -> Result<(), Error> {
    if rows == 0 { Err(Error::Moved) } else { Ok(()) }
}
