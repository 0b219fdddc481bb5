//! Grants become rows, or dead letters, and the position moves over them, in one statement: both or neither.

use super::{ANSWER_TIMEOUT, Ledger, Statement, count, instant, settle};
use crate::error::{Error, Remedy};
use crate::model::grant::{Batch, Progress};
use coupon_core::grant::Grant;
use coupon_core::number::Epoch;
use sqlx::Connection;
use std::slice;
use time::OffsetDateTime;

/// Puts grants into a table where the ledger is found as it was thought to be, and else does nothing. It runs outside a
/// transaction block, so it is one transaction: there is no moment in which one half of it is true. What came in is compared with what
/// was granted, and a difference undoes the whole: rows are counted, and looked at in full where a trigger could change them (to
/// do so always would cost the relay a sixth).
macro_rules! put {
    ($place:literal, $table:literal) => { put!($place, $table, "", "") };
    ($place:literal, $table:literal, $more:literal, $values:literal) => {
        concat!("
            with place as (", $place, " returning coupon_id),
            granted as not materialized (
                select * from unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::bigint[])
                    as granted (user_id, seq, requested_at, granted_at, epoch, chain)
            ), came_in as (
                insert into ", $table, " (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain", $more, ")
                select place.coupon_id, granted.*", $values, " from place, granted
                returning user_id, seq, requested_at, granted_at, epoch, chain
            )
            select coupon_expect('", $table, "', (select count(*) from came_in), cardinality($2),
                not exists (select from pg_trigger where tgrelid = '", $table, "'::regclass and tgtype & 7 = 7)
                or (select bit_xor(hash_record_extended(came_in, 0)) from came_in)
                 = (select bit_xor(hash_record_extended(granted, 0)) from granted))
            from place")
    };
}

/// The whole guarantee of the relay in one statement. The position moves only from where this batch begins
/// (compare-and-set on epoch, seq and chain), and the rows are inserted only if it moved.
const COMMIT: &str = put!(
    "update coupon_position set seq = $11, chain = $12, granted = granted + cardinality($2::text[])
     where coupon_id = $1 and epoch = $8 and seq = $9 and chain = $10",
    "user_coupon"
);

/// The same for one grant that PostgreSQL refuses as a row.
const BURY: &str = put!(
    "update coupon_position set seq = $11, chain = $12
     where coupon_id = $1 and epoch = $8 and seq = $9 and chain = $10",
    "coupon_dead_letter",
    ", sqlstate, reason",
    ", $13, $14"
);

/// Rows of grants that the position covers already, which are counted anew. Whoever moves the position meanwhile waits, so what
/// is missing is so for good, and no grant is on its way.
const FILL: &str = put!(
    "update coupon_position p set granted = cardinality($2::text[]) +
         (select count(*) from user_coupon u where u.coupon_id = p.coupon_id and u.seq <= p.seq)
     where coupon_id = $1 and epoch = $8 and seq >= $9",
    "user_coupon"
);

/// The position moves over rows that are there, which are counted anew.
const CATCH_UP: &str = "
    update coupon_position p set
        seq = $5, chain = $6, told_quantity = greatest(told_quantity, $5 - released),
        granted = (select count(*) from user_coupon u where u.coupon_id = $1 and u.seq <= $5)
    where coupon_id = $1 and epoch = $2 and seq = $3 and chain = $4";

/// Rows and dead letters over which the position moves at once.
const PAGE: u32 = 10_000;

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

impl Ledger {
    /// Makes rows of a batch.
    ///
    /// # Errors
    /// [`Error::Moved`] if the ledger no longer stands where the batch begins: then nothing was written. After an
    /// error of the connection it is unknown whether it was; the position tells.
    pub async fn commit(&self, id: &str, batch: &Batch) -> Result<(), Error> {
        let columns = Columns::of(&batch.grants)?;
        let statement = columns.bind(sqlx::query(COMMIT).bind(id));
        self.execute(over(statement, batch)).await.and_then(moved)
    }

    /// Whether one of other grants would become a row where this batch is refused: each is tried, and taken back.
    pub async fn takes(&self, id: &str, batch: &Batch, others: impl Iterator<Item = &Grant>) -> Result<bool, Error> {
        for other in others {
            let columns = Columns::of(slice::from_ref(other))?;
            let mut connection = self.pool.acquire().await?;
            let trial = async {
                let mut trial = connection.begin().await?;
                over(columns.bind(sqlx::query(COMMIT).bind(id)), batch).execute(&mut *trial).await?;
                // Some triggers wait for the end, and refuse then.
                sqlx::query("set constraints all immediate").execute(&mut *trial).await?;
                trial.rollback().await
            };
            let answer = self.answer(ANSWER_TIMEOUT, trial).await;
            match settle(connection, answer) {
                Err(error) if matches!(error.remedy(), Remedy::Isolate | Remedy::Doubt(_)) => {}
                answer => return answer.map(|()| true),
            }
        }
        Ok(false)
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
        let statement = over(columns.bind(sqlx::query(BURY).bind(id)), batch);
        self.execute(statement.bind(&sqlstate).bind(&reason)).await.and_then(moved)?;
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
        let statement = columns.bind(sqlx::query(FILL).bind(id)).bind(count(epoch.0)).bind(count(last));
        self.execute(statement).await.and_then(moved)
    }

    /// Moves the position over rows and dead letters that continue it, as where somebody has put it back; whether there were any. The
    /// chain says that they are its own.
    ///
    /// # Errors
    /// [`Error::Moved`] if it stands elsewhere meanwhile.
    pub async fn catch_up(&self, id: &str, from: Progress) -> Result<bool, Error> {
        let mut to = from;
        for link in self.beyond(id, PAGE).await? {
            let Ok(next) = link.follow(to.position) else { break };
            to.position = next;
        }
        if to == from {
            return Ok(false);
        }
        let over_them = Batch { from, grants: Vec::new(), to };
        self.execute(over(sqlx::query(CATCH_UP).bind(id), &over_them)).await.and_then(moved)?;
        let (from, to) = (from.position, to.position);
        tracing::warn!(coupon = id, "the position was put back to {from}; it is at {to} again, where the rows end");
        Ok(true)
    }
}

/// A statement that moves the position over a batch.
fn over<'q>(statement: Statement<'q>, Batch { from, to, .. }: &Batch) -> Statement<'q> {
    let statement = statement.bind(count(from.epoch.0)).bind(count(from.position.seq.0)).bind(from.position.chain.0);
    statement.bind(count(to.position.seq.0)).bind(to.position.chain.0)
}

/// Nothing was written where the coupon is not where it was thought to be.
fn moved(rows: u64) -> Result<(), Error> {
    if rows == 0 { Err(Error::Moved) } else { Ok(()) }
}
