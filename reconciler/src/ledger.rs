//! The ledger: every statement that is sent to PostgreSQL.
//!
//! - `address`: where it is, and TLS on the way
//! - `coupon`: what is on offer, what Redis was told of it, and the epochs
//! - `batch`: a batch of grants and the move of the position, in one statement
//! - `history`: all grants of a coupon in their order
//! - `lease`: which reconciler works on which coupons
//! - `letters`: what becomes of refused rows
//! - `orphan`: grants of another history
//! - `audit`: what is compared with Redis, and what of it is put right
//! - `schema`: the migrations
//! - `requirement`: what has to be so for anything to work

/// A struct that is made of a row by the names of its columns. (sqlx's own derive would bring PostgreSQL's client, TLS and the runtime
/// into the build a second time, for the compiler.)
macro_rules! from_row {
    ($(#[$doc:meta])* $visible:vis struct $type:ident { $($column:ident: $of:ty),+ $(,)? }) => {
        $(#[$doc])*
        $visible struct $type { $($column: $of),+ }

        impl ::sqlx::FromRow<'_, ::sqlx::postgres::PgRow> for $type {
            fn from_row(row: &::sqlx::postgres::PgRow) -> Result<Self, ::sqlx::Error> {
                Ok(Self { $($column: ::sqlx::Row::try_get(row, stringify!($column))?),+ })
            }
        }
    };
}

mod address;
mod audit;
mod batch;
mod coupon;
mod history;
mod lease;
mod letters;
mod orphan;
mod requirement;
mod schema;

pub use letters::Letter;
pub use requirement::Requirement;

use crate::cli::Address;
use crate::error::{self, Error};
use futures_util::future::join_all;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgListener, PgNotification, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, Executor, FromRow, Postgres};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::timeout;

/// A connection that is not there within this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A statement that is not answered within this time has an unknown outcome; its connection is given up. Above
/// PostgreSQL's own limit, which gives the better error: this one is for a network that swallows answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The same for the question whether the server is there.
const BEAT_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two such questions to the connection that listens.
const LISTEN_BEAT: Duration = Duration::from_secs(3);

/// PostgreSQL's limit for one statement; and PERSISTED has to mean that it survives a crash of PostgreSQL, whatever the role's
/// default is. Said to each connection afterwards, as a pooler would refuse to be told with its start.
const SETTINGS: &str = "
    select set_config('statement_timeout', '30s', false),
           case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', false) end";

/// The channel on which the trigger of table `coupon` names changed coupons.
const CHANNEL: &str = "coupon";

/// A statement with its arguments.
type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// One that gives rows.
type QueryAs<'q, T> = sqlx::query::QueryAs<'q, Postgres, T, PgArguments>;

/// PostgreSQL, connected when needed.
pub struct Ledger {
    pool: PgPool,
    address: Mutex<Address>,
    /// Whoever waits for an answer hears that none will come.
    forgotten: Notify,
}

impl Ledger {
    /// Reads the address; connects later.
    pub fn new(address: Address, connections_max: u32) -> Result<Self, String> {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(CONNECT_TIMEOUT)
            // A test would cost each batch a round trip; a dead connection shows itself in its first statement.
            .test_before_acquire(false)
            // What is given up others may take, and it is not to be had again in the moment of a sale.
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|connection, _| Box::pin(async { connection.execute(SETTINGS).await.map(drop) }))
            .connect_lazy_with(options(&address.url)?);
        Ok(Self { pool, address: Mutex::new(address), forgotten: Notify::new() })
    }

    /// Whether the server answers, on a connection of its own: those of the pool may date from before. False where it has no room
    /// for that, and answers on these.
    pub async fn ping(&self) -> Result<bool, Error> {
        let renewed = self.address.lock().unwrap_or_else(PoisonError::into_inner).renew(options);
        renewed.into_iter().for_each(|options| self.pool.set_connect_options(options));
        let ping = async {
            let mut connection = self.pool.connect_options().connect().await?;
            connection.ping().await?;
            connection.close().await
        };
        match timeout(CONNECT_TIMEOUT, ping).await.unwrap_or_else(|late| Err(io::Error::from(late).into())) {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("53300") && self.pool.size() > 0 => {
                self.beat().await.map(|()| false)
            }
            answer => Ok(answer.map(|()| true)?),
        }
    }

    /// Whether the server still answers, and takes writes.
    pub async fn beat(&self) -> Result<(), Error> {
        const TAKES_WRITES: &str = "select current_setting('transaction_read_only') = 'off'";
        let mut connection = self.pool.acquire().await?;
        let asked = sqlx::query_scalar(TAKES_WRITES).fetch_one(&mut *connection);
        let answer = self.answer(BEAT_TIMEOUT, asked).await;
        let why = "this server takes no writes, perhaps a standby; --database-url has to lead to the primary";
        if settle(connection, answer)? { Ok(()) } else { Err(Error::Held(why.into())) }
    }

    /// Runs a statement for the rows that it gives. Like all that do not say otherwise it is a transaction of its own.
    async fn fetch<T>(&self, query: QueryAs<'_, T>) -> Result<Vec<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut connection = self.pool.acquire().await?;
        let answer = self.answer(ANSWER_TIMEOUT, query.fetch_all(&mut *connection)).await;
        settle(connection, answer)
    }

    /// Runs a statement; how many rows it changed.
    async fn execute(&self, query: Statement<'_>) -> Result<u64, Error> {
        let mut connection = self.pool.acquire().await?;
        let answer = self.answer(ANSWER_TIMEOUT, query.execute(&mut *connection)).await;
        settle(connection, answer).map(|done| done.rows_affected())
    }

    /// What a statement is answered, none if that comes late, or not any more.
    async fn answer<T>(&self, limit: Duration, asked: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            answer = timeout(limit, asked) => answer.ok(),
            () = self.forgotten.notified() => None,
        }
    }

    /// Drops all connections, which date from before the server went away: what they were found fit for may not be so any more. As
    /// many as there may be are made anew.
    pub async fn renew_connections(&self) {
        while let Some(connection) = self.pool.try_acquire() {
            drop(connection.detach());
        }
        self.forgotten.notify_waiters();
        join_all((0..self.pool.options().get_max_connections()).map(|_| self.pool.acquire())).await;
    }

    /// A connection of its own that hears of changed coupons.
    pub async fn listen(&self) -> Result<PgListener, Error> {
        self.listen_to(CHANNEL).await
    }

    async fn listen_to(&self, channel: &str) -> Result<PgListener, Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with((*self.pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        timeout(BEAT_TIMEOUT, listener.listen(channel))
            .await
            .map_err(|late| Error::Ledger(io::Error::from(late).into()))??;
        Ok(listener)
    }

    /// The next notification that such a connection hears. One that is silent is asked whether it is there: packets may be lost
    /// without a word.
    pub async fn hear(listener: &mut PgListener) -> Result<PgNotification, sqlx::Error> {
        loop {
            match timeout(LISTEN_BEAT, listener.try_recv()).await {
                // Notifications may be lost until it listens anew.
                Ok(heard) => return heard?.ok_or(sqlx::Error::WorkerCrashed),
                Err(_) => {
                    let answer = timeout(BEAT_TIMEOUT, sqlx::query("select 1").execute(&mut *listener)).await;
                    answer.map_err(io::Error::from)??;
                }
            }
        }
    }

    /// The version of TLS on a connection, none if it has none.
    pub async fn tls_version(&self) -> Result<Option<String>, Error> {
        const TLS: &str = "select version from pg_stat_ssl where pid = pg_backend_pid()";
        self.one(sqlx::query_as(TLS)).await
    }

    /// A setting of the server.
    pub async fn setting(&self, name: &str) -> Result<String, Error> {
        self.one(sqlx::query_as("select current_setting($1)").bind(name)).await
    }

    /// Runs a statement that gives one value, for that.
    async fn one<T>(&self, query: QueryAs<'_, (T,)>) -> Result<T, Error>
    where
        (T,): for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.fetch(query).await?.pop().map(|(value,)| value).ok_or(Error::Ledger(sqlx::Error::RowNotFound))
    }
}

/// How connections are made.
fn options(url: &str) -> Result<PgConnectOptions, String> {
    Ok(address::options(url)?
        .application_name("coupon-reconciler")
        .extra_float_digits(None)
        .disable_statement_logging())
}

/// Gives a connection back, unless its answer may still come: nobody may take that for the answer to something else; or it would refuse
/// the next one too.
fn settle<T>(connection: PoolConnection<Postgres>, answer: Option<Result<T, sqlx::Error>>) -> Result<T, Error> {
    if answer.as_ref().is_none_or(|answer| answer.as_ref().is_err_and(error::is_of_connection)) {
        drop(connection.detach());
    }
    Ok(answer.ok_or(Error::Unanswered)??)
}

/// An instant as PostgreSQL takes it.
fn instant(us: u64) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000)
        .map_err(|error| Error::Ledger(sqlx::Error::Encode(error.into())))
}

/// A bound of a window as PostgreSQL takes it: null for none.
fn bound(ms: u64) -> Result<Option<OffsetDateTime>, Error> {
    if ms == 0 { Ok(None) } else { instant(ms.saturating_mul(1000)).map(Some) }
}

/// A column that a CHECK keeps from being negative.
fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A count as PostgreSQL takes it. All counts of the contract keep far below.
fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_keep_their_microseconds_and_windows_their_milliseconds() {
        let us = (1 << 53) - 1;
        assert_eq!(instant(us).map(|at| at.unix_timestamp_nanos()).ok(), Some(i128::from(us) * 1000));
        let ms = |ms| bound(ms).ok().map(|at| at.map(|at| at.unix_timestamp_nanos() / 1_000_000));
        for at in [1, 1_700_000_000_123, coupon_core::limit::WINDOW_MS_MAX] {
            assert_eq!(ms(at), Some(Some(i128::from(at))));
        }
        assert_eq!(ms(0), Some(None));
    }
}
