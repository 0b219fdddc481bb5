//! The ledger as a sale sees it: all SQL of the load generator.

use anyhow::{Context, Result};
use coupon_core::words::Mode;
use sqlx::postgres::{PgPool, PgPoolOptions};

/// The proof of order in SQL alone; also for people, who can paste it into psql.
const CHAIN: &str = include_str!("../sql/chain.sql");

/// A connection to the ledger, for one coupon.
pub struct Ledger {
    pool: PgPool,
    id: String,
}

/// What a sale offers.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Units.
    pub quantity: u32,
    /// When a request is decided.
    pub mode: Mode,
    /// Users who may wait beyond the units.
    pub waitlist: u32,
}

/// A grant as it stands in the ledger.
pub struct Row {
    /// Its number.
    pub seq: i64,
    /// Who got it.
    pub user_id: String,
    /// When the request was accepted, in microseconds.
    pub requested_us: i64,
    /// The chain at this grant, as stored.
    pub chain: i64,
}

/// The coupon's own row.
pub struct Position {
    /// Rows, as counted by the relay.
    pub granted: i64,
    /// The newest grant.
    pub seq: i64,
    /// The chain at it.
    pub chain: i64,
    /// Where the coupon is in its life.
    pub status: String,
    /// Grants that are no rows.
    pub dead_letters: i64,
}

/// The rows, counted.
pub struct Counts {
    /// All.
    pub rows: i64,
    /// Different users among them.
    pub users: i64,
}

/// The answer of [`CHAIN`].
pub struct ChainProof {
    /// Grants looked at.
    pub links: i64,
    /// The first that breaks the chain.
    pub first_broken: Option<i64>,
    /// Whether the coupon's row ends where the grants end.
    pub ends_at_position: bool,
}

impl Ledger {
    /// Connects; `id` is the coupon's.
    pub async fn connect(url: &str, id: String) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(2).connect(url).await;
        Ok(Self { pool: pool.context("no connection to PostgreSQL; is DATABASE_URL right?")?, id })
    }

    /// Puts the coupon on offer as any application does: with a row.
    pub async fn offer(&self, offer: Offer) -> Result<()> {
        sqlx::query(
            "insert into coupon (id, name, quantity, status, mode, waitlist)
             values ($1, 'A sale by coupon-bench', $2, 'AVAILABLE', $3::coupon_mode, $4)",
        )
        .bind(&self.id)
        .bind(i64::from(offer.quantity))
        .bind(offer.mode.word())
        .bind(i64::from(offer.waitlist))
        .execute(&self.pool)
        .await
        .context("the coupon's row cannot be inserted; does `coupon-reconciler check` find the tables?")?;
        Ok(())
    }

    /// How many grants are rows by now.
    pub async fn granted(&self) -> Result<u64> {
        let granted: i64 =
            sqlx::query_scalar("select coalesce(max(granted), 0) from coupon_position where coupon_id = $1")
                .bind(&self.id)
                .fetch_one(&self.pool)
                .await?;
        Ok(granted.unsigned_abs())
    }

    /// The coupon's own row.
    pub async fn position(&self) -> Result<Position> {
        let (granted, seq, chain, status, dead_letters) = sqlx::query_as(
            "select granted, seq, chain, status::text as status,
                    (select count(*) from coupon_dead_letter where coupon_dead_letter.coupon_id = id) as dead_letters
             from coupon join coupon_position on coupon_id = id where id = $1",
        )
        .bind(&self.id)
        .fetch_one(&self.pool)
        .await?;
        Ok(Position { granted, seq, chain, status, dead_letters })
    }

    /// Counts the rows.
    pub async fn counts(&self) -> Result<Counts> {
        let (rows, users) = sqlx::query_as(
            "select count(*) as rows, count(distinct user_id) as users from user_coupon where coupon_id = $1",
        )
        .bind(&self.id)
        .fetch_one(&self.pool)
        .await?;
        Ok(Counts { rows, users })
    }

    /// The next rows after a grant, in their order.
    pub async fn rows_after(&self, seq: i64, limit: u32) -> Result<Vec<Row>> {
        let rows = sqlx::query_as(
            "select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint as requested_us, chain
             from user_coupon where coupon_id = $1 and seq > $2 order by seq limit $3",
        )
        .bind(&self.id)
        .bind(seq)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let row = |(seq, user_id, requested_us, chain)| Row { seq, user_id, requested_us, chain };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Lets PostgreSQL recompute the chain.
    pub async fn prove_chain(&self) -> Result<ChainProof> {
        let (links, first_broken, ends_at_position) =
            sqlx::query_as(CHAIN).bind(&self.id).fetch_one(&self.pool).await?;
        Ok(ChainProof { links, first_broken, ends_at_position })
    }
}
