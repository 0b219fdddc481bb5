//! The schema: the migrations that this binary carries, and whether the database has them.

use super::Ledger;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Name and text of each migration, in their order; the first is number 1.
const TEXTS: [(&str, &str); 3] = [
    ("ledger", include_str!("../../../migrations/0001_ledger.sql")),
    ("dead letter discard", include_str!("../../../migrations/0002_dead_letter_discard.sql")),
    ("restore and leases", include_str!("../../../migrations/0003_restore_and_leases.sql")),
];

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let numbered = (1..).zip(TEXTS).map(|(version, (name, text))| {
        Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    Migrator::with_migrations(numbered.collect())
});

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

#[cfg(test)]
mod tests {
    use super::TEXTS;
    use std::collections::BTreeMap;
    use std::{fs, io};

    #[test]
    fn the_binary_carries_every_migration_of_the_folder() -> io::Result<()> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations"))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().replace('_', " ");
            files.insert(name, fs::read_to_string(path)?);
        }
        let carried = (1..).zip(TEXTS).map(|(version, (name, text))| (format!("{version:04} {name}"), text.to_owned()));
        assert_eq!(files, carried.collect());
        Ok(())
    }
}
