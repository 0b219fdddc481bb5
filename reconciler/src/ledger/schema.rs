//! The schema: the migrations that this binary carries, and whether the database has them.

use super::Ledger;
use crate::error::Error;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, SqlSafeStr};
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::timeout;

/// Where it is noted which of them were applied: the version of the tables' format. A name of its own, as an application may
/// use sqlx's own table in the same schema.
const TABLE: &str = "coupon_migration";

/// Name and text of each migration, in their order; the first is number 1.
const TEXTS: [(&str, &str); 1] = [("ledger", include_str!("../../../migrations/0001_ledger.sql"))];

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let numbered = (1..).zip(TEXTS).map(|(version, (name, text))| {
        Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    let mut migrations = Migrator::with_migrations(numbered.collect());
    migrations.dangerous_set_table_name(TABLE);
    migrations
});

/// A migration that takes longer waits for an answer that was lost.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60 * 60);

const EXISTS: &str = "select to_regclass('coupon_migration') is not null";

const APPLIED: &str = "select version, checksum from coupon_migration where success";

impl Ledger {
    /// How many migrations are missing. Reads only, so a role without the right to create tables can run the daemon.
    ///
    /// # Errors
    /// [`Error::Held`] if the schema is another version's.
    async fn missing(&self) -> Result<usize, Error> {
        let mut applied = HashMap::new();
        if self.one(sqlx::query_as(EXISTS)).await? {
            applied.extend(self.fetch::<(i64, Vec<u8>)>(sqlx::query_as(APPLIED)).await?);
        }
        let mut missing = 0;
        for Migration { version, checksum, .. } in MIGRATIONS.iter() {
            match applied.remove(version) {
                None => missing += 1,
                Some(other) if other != **checksum => {
                    return Err(Error::Held(format!(
                        "migration {version} was applied with another text; is this the database of another version?"
                    )));
                }
                Some(_) => {}
            }
        }
        applied.into_keys().max().map_or(Ok(missing), |version| {
            Err(Error::Held(format!(
                "migration {version} is newer than this binary; run the binary that applied it, or a later one"
            )))
        })
    }

    /// Whether the database has the schema of this binary.
    ///
    /// # Errors
    /// [`Error::Held`] says what to do.
    pub async fn check_schema(&self) -> Result<(), Error> {
        match self.missing().await? {
            0 => Ok(()),
            n => Err(Error::Held(format!("the schema lacks {n} migration(s); run `coupon-reconciler migrate`"))),
        }
    }

    /// Applies what is missing; how many migrations. Several processes may do so at once, a lock lets one do the work.
    pub async fn migrate(&self) -> Result<usize, Error> {
        let missing = self.missing().await?;
        if missing > 0 {
            // On a connection of its own: a large table may take longer to change than any statement of the relay may.
            let options = PgPoolOptions::new().max_connections(1).after_connect(|connection, _| {
                Box::pin(async { connection.execute("set statement_timeout = 0").await.map(drop) })
            });
            let pool = options.connect_with((*self.pool.connect_options()).clone()).await?;
            let done = timeout(MIGRATION_TIMEOUT, MIGRATIONS.run(&pool)).await.map_err(|_| Error::Unanswered)?;
            done.map_err(|error| Error::Held(format!("the schema cannot be migrated: {error}")))?;
        }
        Ok(missing)
    }
}
