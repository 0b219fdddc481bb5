//! The pattern this project grew out of: applications add each user to a sorted set with `ZADD NX` and a time of their own;
//! a scheduler wakes at an interval, takes the first users, writes a row for each, and closes the coupon.
//!
//! Why it is fair: users come in the same pipelines as ours. The scheduler reads and writes in batches of the size that our
//! relay has, by one prepared statement for each batch, where such schedulers commonly insert row by row. It writes
//! fewer columns and has no digest to compute. It checks nothing for a user but `ZADD`'s own answer: no window, no stock.

use crate::template::Template;
use anyhow::Result;
use redis::aio::MultiplexedConnection;
use sqlx::postgres::PgPool;
use std::time::{Duration, Instant};

const LINE: &str = "coupon:old:issued";
const BATCH_ROWS: u32 = 5000;

/// What an application sends for a user.
#[must_use]
pub fn request() -> Template {
    Template::new(&["ZADD", LINE, "NX", "{score}", "{user}"])
}

/// Its two tables, empty, with the constraints that such a schema has.
pub async fn prepare(ledger: &PgPool, units: u32) -> Result<()> {
    sqlx::raw_sql(include_str!("old_pattern.sql")).execute(ledger).await?;
    sqlx::query("insert into old_coupon (id, quantity, status) values (1, $1, 'AVAILABLE')")
        .bind(i64::from(units))
        .execute(ledger)
        .await?;
    Ok(())
}

/// The application's scheduler.
pub struct Scheduler {
    /// Its connection to Redis.
    pub redis: MultiplexedConnection,
    /// Its connections to the database.
    pub ledger: PgPool,
    /// Units of the coupon.
    pub units: u32,
}

impl Scheduler {
    /// Wakes for the first time at that moment and then at the interval, until all units are rows; how many there are, and since when.
    pub async fn run(mut self, first: Instant, interval: Duration) -> Result<(u64, Instant)> {
        let mut ticks = tokio::time::interval_at(first.into(), interval);
        let mut rows = 0;
        while rows < self.units {
            ticks.tick().await;
            rows = self.issue(rows).await?;
        }
        let end = Instant::now();
        let rows: i64 = sqlx::query_scalar("select count(*) from old_user_coupon").fetch_one(&self.ledger).await?;
        Ok((rows.unsigned_abs(), end))
    }

    /// One round: rows for those of the first users who have none yet; how many have one now.
    async fn issue(&mut self, mut rows: u32) -> Result<u32> {
        while rows < self.units {
            let until = self.units.min(rows + BATCH_ROWS) - 1;
            let users: Vec<String> =
                redis::cmd("ZRANGE").arg(LINE).arg(rows).arg(until).query_async(&mut self.redis).await?;
            if users.is_empty() {
                return Ok(rows);
            }
            sqlx::query(
                "insert into old_user_coupon (coupon_id, user_id) select 1, user_id from unnest($1::text[]) as user_id",
            )
            .bind(&users)
            .execute(&self.ledger)
            .await?;
            rows += u32::try_from(users.len())?;
        }
        sqlx::query("update old_coupon set status = 'ISSUED' where id = 1").execute(&self.ledger).await?;
        Ok(rows)
    }
}
