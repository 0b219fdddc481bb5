//! A batch of which PostgreSQL refuses a row: that row goes to the dead letters, its followers are not held up.

use super::batch::Columns;
use super::{Ledger, count, instant};
use crate::error::{Error, Remedy};
use crate::model::grant::Batch;
use coupon_core::grant::Grant;
use sqlx::{Acquire, PgConnection, Postgres, Transaction};

/// The same compare-and-set as that of a whole batch, held by the row's lock until the end of the transaction.
const LOCK: &str =
    "select 1 from coupon_position where coupon_id = $1 and epoch = $2 and seq = $3 and chain = $4 for update";

/// So that a constraint which an application made deferrable speaks at its row and not at COMMIT.
const SPEAK_AT_ONCE: &str = "set constraints all immediate";

const INSERT: &str = "
    insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
    select $1, g.user_id, g.seq, g.requested_at, g.granted_at, g.epoch, g.chain
    from unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::bigint[])
        as g (user_id, seq, requested_at, granted_at, epoch, chain)";

const BURY: &str = "
    insert into coupon_dead_letter (coupon_id, seq, user_id, requested_at, granted_at, epoch, chain, sqlstate, reason)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const MOVE: &str = "update coupon_position set seq = $2, chain = $3, granted = granted + $4 where coupon_id = $1";

impl Ledger {
    /// Makes rows of all grants of a batch that PostgreSQL takes, and dead letters of the others; how many of these.
    ///
    /// # Errors
    /// As [`Ledger::commit`]; then neither rows nor dead letters were written, unless the connection broke.
    pub async fn commit_isolated(&self, id: &str, batch: &Batch) -> Result<u64, Error> {
        let mut transaction = self.pool.begin().await?;
        let from = batch.from;
        sqlx::query(LOCK)
            .bind(id)
            .bind(count(from.epoch.0))
            .bind(count(from.position.seq.0))
            .bind(from.position.chain.0)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or(Error::Moved)?;
        sqlx::query(SPEAK_AT_ONCE).execute(&mut *transaction).await?;
        let dead = insert_or_bury(&mut transaction, id, &batch.grants).await?;
        sqlx::query(MOVE)
            .bind(id)
            .bind(count(batch.to.position.seq.0))
            .bind(batch.to.position.chain.0)
            .bind(count((batch.len() as u64).saturating_sub(dead)))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(dead)
    }
}

/// Halves what is refused until the refused rows stand alone: few refused rows cost few statements.
async fn insert_or_bury(transaction: &mut Transaction<'_, Postgres>, id: &str, grants: &[Grant]) -> Result<u64, Error> {
    let mut open = vec![grants];
    let mut dead = 0;
    while let Some(grants) = open.pop() {
        let mut savepoint = transaction.begin().await?;
        match insert(&mut savepoint, id, grants).await {
            Ok(()) => savepoint.commit().await?,
            Err(error) => {
                if error.remedy() != Remedy::Isolate {
                    return Err(error);
                }
                savepoint.rollback().await?;
                match grants {
                    [grant] => {
                        bury(transaction, id, grant, &error).await?;
                        dead += 1;
                    }
                    _ => {
                        let (first, second) = grants.split_at(grants.len() / 2);
                        open.extend([second, first]);
                    }
                }
            }
        }
    }
    Ok(dead)
}

/// The rows alone; only beside a move of the position in the same transaction is that right.
pub(super) async fn insert(connection: &mut PgConnection, id: &str, grants: &[Grant]) -> Result<(), Error> {
    let columns = Columns::of(grants)?;
    sqlx::query(INSERT)
        .bind(id)
        .bind(&columns.users)
        .bind(&columns.seqs)
        .bind(&columns.requested_at)
        .bind(&columns.granted_at)
        .bind(&columns.epochs)
        .bind(&columns.chains)
        .execute(connection)
        .await?;
    Ok(())
}

async fn bury(
    transaction: &mut Transaction<'_, Postgres>,
    id: &str,
    grant: &Grant,
    error: &Error,
) -> Result<(), Error> {
    let (sqlstate, reason) = match error {
        Error::Ledger(sqlx::Error::Database(error)) => {
            (error.code().unwrap_or_default().into_owned(), error.message().to_owned())
        }
        error => (String::new(), error.to_string()),
    };
    sqlx::query(BURY)
        .bind(id)
        .bind(count(grant.id.seq.0))
        .bind(&grant.user)
        .bind(instant(grant.requested_at.0)?)
        .bind(instant(grant.granted_at_ms.saturating_mul(1000))?)
        .bind(count(grant.id.epoch.0))
        .bind(grant.chain.0)
        .bind(&sqlstate)
        .bind(&reason)
        .execute(&mut **transaction)
        .await?;
    // Neither the user nor the text, which may name the user: both are in the table.
    tracing::error!(
        coupon = id,
        seq = grant.id.seq.0,
        sqlstate,
        "PostgreSQL refused a grant; it is in coupon_dead_letter with the reason, its followers went on"
    );
    Ok(())
}
