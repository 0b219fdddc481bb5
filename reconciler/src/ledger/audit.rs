//! What the audit asks of the ledger, and the two things that it may put right there.
//!
//! Both repairs hold the lock of the coupon's row, as the relay does with every batch: what is counted or missing then
//! is so for good, and no grant is on its way meanwhile.

use super::history::Stored;
use super::isolate::insert;
use super::{Ledger, count, unsigned};
use crate::error::Error;
use crate::model::grant::Link;
use coupon_core::grant::Grant;
use coupon_core::number::{Epoch, Seq};
use sqlx::{Postgres, Transaction};

/// One statement sees one moment: the three numbers belong together.
const TALLY: &str = "
    select p.seq, p.granted,
           (select count(*) from coupon_dead_letter d where d.coupon_id = p.coupon_id and d.seq <= p.seq) as dead
    from coupon_position p where p.coupon_id = $1";

const BEYOND: &str = "
    select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint as requested_us,
           (extract(epoch from granted_at) * 1000)::bigint as granted_ms, chain, false as is_dead
    from user_coupon
    where coupon_id = $1 and seq > (select seq from coupon_position where coupon_id = $1)
    order by seq limit $2";

const WITHOUT_GRANT: &str = "
    select place from unnest($2::text[]) with ordinality as asked (user_id, place)
    where not exists (select from user_coupon where coupon_id = $1 and user_id = asked.user_id)
      and not exists (select from coupon_dead_letter where coupon_id = $1 and user_id = asked.user_id)
    order by place";

const LOCK: &str = "select 1 from coupon_position where coupon_id = $1 and epoch = $2 and seq >= $3 for update";

/// Counts only rows that are whole: with the dead letters they make up every grant there was.
const RECOUNT: &str = "
    update coupon_position set granted = counted.rows
    from (select (select count(*) from user_coupon u join coupon_position p on p.coupon_id = u.coupon_id
                  where u.coupon_id = $1 and u.seq <= p.seq) as rows,
                 (select count(*) from coupon_dead_letter d join coupon_position p on p.coupon_id = d.coupon_id
                  where d.coupon_id = $1 and d.seq <= p.seq) as dead) as counted
    where coupon_id = $1 and counted.rows + counted.dead = seq";

/// How many grants a coupon counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The newest grant.
    pub seq: Seq,
    /// What the coupon says of its rows.
    pub granted: u64,
    /// Dead letters up to there.
    pub dead_letters: u64,
}

/// A repair under the lock of a coupon's row. Dropped without [`Mending::commit`] it has done nothing.
pub struct Mending {
    transaction: Transaction<'static, Postgres>,
    id: String,
}

impl Ledger {
    /// Counts.
    pub async fn tally(&self, id: &str) -> Result<Option<Tally>, Error> {
        let tally: Option<(i64, i64, i64)> = self.fetch(sqlx::query_as(TALLY).bind(id)).await?.pop();
        Ok(tally.map(|(seq, granted, dead)| Tally {
            seq: Seq(unsigned(seq)),
            granted: unsigned(granted),
            dead_letters: unsigned(dead),
        }))
    }

    /// Rows beyond the coupon's position, at most so many: the relay writes none such.
    pub async fn beyond(&self, id: &str, limit: u32) -> Result<Vec<Link>, Error> {
        let rows: Vec<Stored> = self.fetch(sqlx::query_as(BEYOND).bind(id).bind(i64::from(limit))).await?;
        Ok(rows.into_iter().map(Link::from).collect())
    }

    /// Which of these users have neither a row nor a dead letter, by their places in the list.
    pub async fn without_grant(&self, id: &str, users: &[&str]) -> Result<Vec<usize>, Error> {
        let places: Vec<(i64,)> = self.fetch(sqlx::query_as(WITHOUT_GRANT).bind(id).bind(users)).await?;
        // Counted from 1.
        Ok(places.into_iter().map(|(n,)| usize::try_from(n).unwrap_or(usize::MAX).wrapping_sub(1)).collect())
    }

    /// Begins a repair of grants up to a number.
    ///
    /// # Errors
    /// [`Error::Moved`] if the coupon is at another epoch meanwhile.
    pub async fn mend(&self, id: &str, epoch: Epoch, to: Seq) -> Result<Mending, Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(LOCK)
            .bind(id)
            .bind(count(epoch.0))
            .bind(count(to.0))
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or(Error::Moved)?;
        Ok(Mending { transaction, id: id.to_owned() })
    }
}

impl Mending {
    /// Inserts rows.
    pub async fn insert(&mut self, grants: &[Grant]) -> Result<(), Error> {
        insert(&mut self.transaction, &self.id, grants).await
    }

    /// Sets `granted` to the number of rows, if they are whole; whether they are.
    pub async fn recount(&mut self) -> Result<bool, Error> {
        let done = sqlx::query(RECOUNT).bind(&self.id).execute(&mut *self.transaction).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Makes it last.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.transaction.commit().await?)
    }
}
