//! The schema: the migrations that this binary carries, and whether the database has them.

use super::Ledger;
use crate::error::Error;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgPoolOptions;
use std::collections::HashMap;
use std::sync::LazyLock;

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

const EXISTS: &str = "select to_regclass('coupon_migration') is not null";

const APPLIED: &str = "select version, checksum from coupon_migration where success";

/// What of the schema the database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// All of it.
    Current,
    /// Some migrations are missing; their number.
    Missing(usize),
    /// A migration was applied with another text than this binary carries.
    Different(i64),
    /// The database has been migrated further than this binary knows.
    Newer(i64),
}

/// Why the schema stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum Unmigrated {
    /// It is another version's; the sentence says what to do.
    #[error("{0}")]
    Foreign(String),
    /// PostgreSQL, or the way to it, when it was looked at.
    #[error("the schema cannot be read: {0}")]
    Unread(#[from] Error),
    /// The same when it was changed.
    #[error("the schema cannot be migrated: {0}")]
    Failed(#[from] MigrateError),
}

impl Ledger {
    /// Compares the database with the migrations. Reads only, so a role without the right to create tables can run
    /// the daemon.
    pub async fn schema(&self) -> Result<Applied, Error> {
        let mut applied = HashMap::new();
        if self.fetch::<(bool,)>(sqlx::query_as(EXISTS)).await?.contains(&(true,)) {
            applied.extend(self.fetch::<(i64, Vec<u8>)>(sqlx::query_as(APPLIED)).await?);
        }
        let mut missing = 0;
        for migration in MIGRATIONS.iter() {
            match applied.remove(&migration.version) {
                None => missing += 1,
                Some(checksum) if checksum != *migration.checksum => return Ok(Applied::Different(migration.version)),
                Some(_) => {}
            }
        }
        Ok(match applied.into_keys().max() {
            Some(version) => Applied::Newer(version),
            None if missing > 0 => Applied::Missing(missing),
            None => Applied::Current,
        })
    }

    /// Applies what is missing; how many migrations. Several processes may do so at once, a lock lets one do the work.
    pub async fn migrate(&self) -> Result<usize, Unmigrated> {
        let missing = match self.schema().await? {
            Applied::Current => return Ok(0),
            Applied::Missing(missing) => missing,
            applied => return Err(Unmigrated::Foreign(applied.advice().unwrap_or_default())),
        };
        // On a connection of its own: a large table may take longer to change than any statement of the relay may.
        let options = self.options.clone().options([("statement_timeout", "0")]);
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.map_err(MigrateError::from)?;
        let done = MIGRATIONS.run(&pool).await;
        pool.close().await;
        done?;
        Ok(missing)
    }
}

impl Applied {
    /// What to do about it, none if all is well.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Current => None,
            Self::Missing(n) => Some(format!("the schema lacks {n} migration(s); run `coupon-reconciler migrate`")),
            Self::Different(version) => Some(format!(
                "migration {version} was applied with another text; is this the database of another version?"
            )),
            Self::Newer(version) => Some(format!(
                "migration {version} is newer than this binary; run the binary that applied it, or a later one"
            )),
        }
    }
}
