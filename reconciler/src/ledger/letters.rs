//! Dead letters: grants that PostgreSQL refused as rows, and what an operator does about them.

use super::{Ledger, count, unsigned};
use crate::error::Error;
use coupon_core::limit::REFUSED_MAX;
use coupon_core::number::Seq;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// A dead letter.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Letter {
    /// The coupon.
    pub coupon_id: String,
    /// The grant's number.
    pub seq: i64,
    /// The error's SQLSTATE.
    pub sqlstate: String,
    /// The error's text.
    pub reason: String,
    /// When it was given up.
    pub discarded_at: Option<String>,
    /// The other columns of `coupon_dead_letter`, as PostgreSQL writes them.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

const LETTERS: &str = "
    select to_jsonb(letter)::text from coupon_dead_letter letter
    where ($1::text is null or coupon_id = $1) and ($2::bigint is null or seq = $2) and ($3 or discarded_at is null)
    order by coupon_id, seq";

/// The row takes the letter's place, and the coupon counts it, in one statement: both or neither. The daemon hears of it, and
/// tells Redis. The position does not move: the letter's number and its link of the chain have been in the ledger all along.
const RETRY: &str = "
    with letter as (
        delete from coupon_dead_letter where coupon_id = $1 and seq = $2
        returning coupon_id, user_id, seq, requested_at, granted_at, epoch, chain
    ), counted as (
        update coupon_position set granted = granted + 1 where coupon_id in (select coupon_id from letter)
    ), came_in as (
        insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain) select * from letter
        returning coupon_id, user_id, seq, requested_at, granted_at, epoch, chain
    )
    select pg_notify('coupon', coupon_id),
        coupon_expect('user_coupon', (select count(*) from came_in), 1, (select came_in = letter from came_in))
    from letter";

const DISCARD: &str =
    "update coupon_dead_letter set discarded_at = now() where coupon_id = $1 and seq = $2 and discarded_at is null";

const COUNT: &str = "
    select coupon_id, count(*) as letters from coupon_dead_letter
    where coupon_id = any($1) and discarded_at is null
    group by coupon_id";

/// Those given up too: their users are no less refused.
const COUNT_ALL: &str = "select count(*) from coupon_dead_letter where coupon_id = $1";

const REFUSED: &str = "
    select seq, user_id from coupon_dead_letter where coupon_id = $1 and seq > $2 and seq <= $3 order by seq limit $4";

const WITH_ROW: &str =
    "select user_id from user_coupon where coupon_id = $1 and user_id = any($2) and released_at is null";

impl Ledger {
    /// How many dead letters a coupon has, those given up too.
    pub async fn count_all_letters(&self, coupon: &str) -> Result<u64, Error> {
        self.one(sqlx::query_as(COUNT_ALL).bind(coupon)).await.map(unsigned)
    }

    /// Number and user of the dead letters after a grant, up to another one; at most [`REFUSED_MAX`].
    pub async fn refused(&self, coupon: &str, after: Seq, to: Seq) -> Result<Vec<(Seq, String)>, Error> {
        let query = sqlx::query_as(REFUSED).bind(coupon).bind(count(after.0)).bind(count(to.0));
        let letters: Vec<(i64, String)> = self.fetch(query.bind(count(REFUSED_MAX))).await?;
        Ok(letters.into_iter().map(|(seq, user)| (Seq(unsigned(seq)), user)).collect())
    }

    /// Those of these users who have a row.
    pub async fn with_row(&self, coupon: &str, users: &[String]) -> Result<Vec<String>, Error> {
        let users: Vec<(String,)> = self.fetch(sqlx::query_as(WITH_ROW).bind(coupon).bind(users)).await?;
        Ok(users.into_iter().map(|(user,)| user).collect())
    }

    /// How many dead letters these coupons have that were not given up; those that have none are left out.
    pub async fn count_letters(&self, coupons: &[&str]) -> Result<HashMap<String, u64>, Error> {
        let counted: Vec<(String, i64)> = self.fetch(sqlx::query_as(COUNT).bind(coupons)).await?;
        Ok(counted.into_iter().map(|(id, letters)| (id, unsigned(letters))).collect())
    }

    /// Dead letters: of one coupon or of all, one or all of them, those given up too or not.
    pub async fn letters(
        &self,
        coupon: Option<&str>,
        seq: Option<Seq>,
        with_discarded: bool,
    ) -> Result<Vec<Letter>, Error> {
        let read = sqlx::query_as(LETTERS).bind(coupon).bind(seq.map(|seq| count(seq.0))).bind(with_discarded);
        let letters: Vec<(String,)> = self.fetch(read).await?;
        let parsed: Result<_, _> = letters.iter().map(|(letter,)| serde_json::from_str(letter)).collect();
        parsed.map_err(|error| sqlx::Error::Decode(error.into()).into())
    }

    /// Makes a row of a dead letter; whether there was one.
    pub async fn retry_letter(&self, coupon: &str, seq: i64) -> Result<bool, Error> {
        Ok(self.execute(sqlx::query(RETRY).bind(coupon).bind(seq)).await? > 0)
    }

    /// Gives a dead letter up; whether there was one that was not.
    pub async fn discard_letter(&self, coupon: &str, seq: i64) -> Result<bool, Error> {
        Ok(self.execute(sqlx::query(DISCARD).bind(coupon).bind(seq)).await? > 0)
    }
}
