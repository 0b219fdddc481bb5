//! The reconciler, started for a line and stopped behind it.

use super::place::Place;
use crate::coupon::Coupon;
use crate::server::Usage;
use anyhow::{Context, Result, bail};
use std::fs::{File, create_dir_all};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A hundred thousand coupons are published within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A reconciler at work, with the settings it is shipped with. Dropped, it is killed.
pub struct Daemon {
    child: Child,
    /// What it uses.
    pub usage: Usage,
}

impl Daemon {
    /// Starts it.
    pub fn start(place: &Place) -> Result<Self> {
        Self::start_with(place, &[])
    }

    /// Starts it with other settings.
    pub fn start_with(place: &Place, args: &[&str]) -> Result<Self> {
        create_dir_all(&place.out)?;
        let log = File::create(place.out.join("reconciler.log"))?;
        let child = place
            .program(&place.reconciler)
            .args(["run", "--log-format", "text", "--listen", "127.0.0.1:0"])
            .args(args)
            .env("REDIS_URL", &place.redis_url)
            .env("DATABASE_URL", &place.database_url)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", place.reconciler.display()))?;
        let process = child.id().context("the reconciler has ended at once")?;
        Ok(Self { child, usage: Usage { process } })
    }

    /// Ends it in order.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.usage.process.to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.context("the program kill is missing")?;
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("the reconciler ended with {status}; its log is reconciler.log");
        }
        Ok(())
    }
}

/// Waits until a coupon has so many rows; true at once if it has.
pub async fn await_rows(place: &Place, id: &str, rows: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while granted(place, id).await? < rows {
        if Instant::now() > deadline {
            bail!("coupon {id} has not come to {rows} rows within {PATIENCE:?}; see reconciler.log");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Rows of a coupon; 0 where there is no such coupon yet.
pub async fn granted(place: &Place, id: &str) -> Result<u64> {
    let granted: Option<i64> = sqlx::query_scalar("select granted from coupon_position where coupon_id = $1")
        .bind(id)
        .fetch_optional(&place.ledger)
        .await?;
    Ok(granted.unwrap_or_default().unsigned_abs())
}

/// Waits until a coupon takes requests.
pub async fn await_open_gate(place: &Place, key: &str) -> Result<()> {
    await_offers(place).await?;
    let mut coupon = Coupon::connect(&place.redis_url, key.to_owned()).await?;
    let deadline = Instant::now() + PATIENCE;
    while !coupon.info().await?.is_on_offer() {
        if Instant::now() > deadline {
            bail!("{key} does not take requests after {PATIENCE:?}; see reconciler.log");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Waits until every coupon that is on offer is published.
pub async fn await_offers(place: &Place) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let missing: i64 = sqlx::query_scalar(
            "select count(*) from coupon left join coupon_position on coupon_id = id where status = 'AVAILABLE' and coalesce(epoch, 0) = 0",
        )
        .fetch_one(&place.ledger)
        .await?;
        if missing == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{missing} coupons are not on offer after {PATIENCE:?}; see reconciler.log");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
