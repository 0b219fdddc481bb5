//! The schema: the migrations that this binary carries, and whether the database has them.

use super::Ledger;
use sqlx::migrate::{MigrateError, Migrator};
use std::collections::HashMap;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

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
    /// PostgreSQL, or the way to it.
    #[error("the schema cannot be migrated: {0}")]
    Failed(#[from] MigrateError),
}

impl Ledger {
    /// Compares the database with the migrations. Reads only, so a role without the right to create tables can run
    /// the daemon.
    pub async fn schema(&self) -> Result<Applied, sqlx::Error> {
        let exists: bool =
            sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&self.pool).await?;
        let mut applied: HashMap<i64, Vec<u8>> = HashMap::new();
        if exists {
            let rows: Vec<(i64, Vec<u8>)> =
                sqlx::query_as("select version, checksum from _sqlx_migrations where success")
                    .fetch_all(&self.pool)
                    .await?;
            applied.extend(rows);
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
        let missing = match self.schema().await.map_err(MigrateError::from)? {
            Applied::Current => return Ok(0),
            Applied::Missing(missing) => missing,
            applied => return Err(Unmigrated::Foreign(applied.advice().unwrap_or_default())),
        };
        MIGRATIONS.run(&self.pool).await?;
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
