//! A sale in PostgreSQL alone: a conditional decrement, and a row under a unique constraint.
//!
//! Why it is fair: one prepared statement, so one round trip decides a request; connections are kept, as by a pool, and
//! so many as were quickest here; pgbench sends, the leanest client there is; a request without a unit left takes no lock, as
//! the condition is looked at first. It is held twice. With durable commits each unit waits for the disk under the coupon's
//! row lock; that is PostgreSQL as it comes, and as safe as our sale, which is over only when its rows are durably
//! committed. With `synchronous_commit` off no unit does, for up to 0.6 s lost in a crash, like `everysec` in Redis.

use crate::compare::place::Place;
use anyhow::{Context, Result, bail};

/// Kept connections. More of them only wait for the coupon's row lock.
const CONNECTIONS: u32 = 8;
const STATEMENT: &str = include_str!("postgres_alone.sql");
const TABLES: &str = include_str!("postgres_alone_tables.sql");

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The disk.
    Durable,
    /// Nothing.
    Lazy,
}

/// Holds the sale; seconds from the first request to the last answer, all rows being in.
pub async fn hold(place: &Place, users: u32, units: u32, commit: Commit) -> Result<f64> {
    sqlx::raw_sql(TABLES).execute(&place.ledger).await?;
    sqlx::query("insert into alone_coupon (id, remaining) values (1, $1)")
        .bind(i64::from(units))
        .execute(&place.ledger)
        .await?;
    std::fs::create_dir_all(&place.out)?;
    let script = place.out.join("postgres_alone.sql");
    std::fs::write(&script, STATEMENT)?;
    let output = place
        .program(place.postgres_bin.join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--define=n=0"])
        .args([format!("--client={CONNECTIONS}"), format!("--transactions={}", users / CONNECTIONS)])
        .arg("--file")
        .arg(&script)
        .arg(&place.database_url)
        .env("PGOPTIONS", format!("-c synchronous_commit={}", if commit == Commit::Lazy { "off" } else { "on" }))
        .output()
        .await
        .context("pgbench does not start; it comes with PostgreSQL's own packages")?;
    std::fs::remove_file(&script)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("pgbench: {}{text}", String::from_utf8_lossy(&output.stderr));
    }
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    let rate = rate.with_context(|| format!("pgbench told no rate: {text}"))?;
    let rows: i64 = sqlx::query_scalar("select count(*) from alone_user_coupon").fetch_one(&place.ledger).await?;
    if rows != i64::from(units) {
        bail!("PostgreSQL alone made {rows} rows of {units} units");
    }
    Ok(f64::from(users) / rate)
}
