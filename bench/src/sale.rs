//! A sale from the coupon's row to the proof that it was fair.

use crate::connection::Target;
use crate::coupon::Coupon;
use crate::ledger::{Ledger, Offer};
use crate::load::{Answered, Shape, drive};
use crate::outcome::{Answers, Requests};
use crate::progress::Progress;
use crate::report;
use crate::verify::{Expected, verify};
use anyhow::{Result, bail};
use coupon_core::key::KeyPattern;
use coupon_core::words::Mode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A row inserted is on offer within a second; longer than this, nobody is publishing.
const OFFER_PATIENCE: Duration = Duration::from_secs(30);
/// Rows that do not come for so long do not come.
const ROW_PATIENCE: Duration = Duration::from_secs(30);
/// An acknowledgement that takes longer does not come.
const ACK_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the ledger; also how exact "time until the last row" is.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Settings of a sale.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Redis with the module
    #[arg(long, env = "REDIS_URL", default_value = "redis://127.0.0.1:6379", hide_env_values = true)]
    redis_url: String,
    /// The ledger
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// How a coupon's key is made of its id, as the reconciler was told
    #[arg(long, env = "COUPON_KEY", default_value = KeyPattern::DEFAULT, value_parser = KeyPattern::parse)]
    key: KeyPattern,
    /// Users; every tenth requests twice
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    users: u32,
    /// Units
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    quantity: u32,
    /// QUEUE (granted by the next issue) or INSTANT (granted by the request)
    #[arg(long, default_value = "QUEUE", value_parser = parse_mode)]
    mode: Mode,
    /// Users who may wait beyond the units
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000_000))]
    waitlist: u32,
    /// Connections at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Requests that a connection sends before it waits for their replies
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pipeline: u16,
    /// The order in which users come follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    Mode::parse(text.as_bytes()).ok_or_else(|| "give QUEUE or INSTANT".to_owned())
}

/// Holds the sale; true if every check passed.
pub async fn hold(settings: &Settings) -> Result<bool> {
    // New for each sale: milliseconds do not repeat.
    let id = format!("drop-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
    let target = Target::parse(&settings.redis_url)?;
    let ledger = Arc::new(Ledger::connect(&settings.database_url, id.clone()).await?);
    let mut coupon = Coupon::connect(&settings.redis_url, settings.key.key(&id)).await?;

    let Settings { users, quantity, mode, waitlist, .. } = *settings;
    let arrivals = arrivals(users, settings.seed);
    let expected = Expected {
        calls: arrivals.len() as u64,
        accepted: u64::from(users).min(u64::from(quantity) + u64::from(waitlist)),
        granted: u64::from(users.min(quantity)),
    };
    ledger.offer(Offer { quantity, mode, waitlist }).await?;
    wait_for_offer(&mut coupon).await?;
    report::offer(&coupon.key, settings.users, &expected, settings.quantity, mode);

    let shape = Shape { connections: settings.connections.into(), pipeline: settings.pipeline.into() };
    let answered = Answered::default();
    let start = Instant::now();
    let watcher = tokio::spawn(watch(Arc::clone(&ledger), expected, Arc::clone(&answered), start));
    let run = drive(&target, shape, arrivals, answered, || Requests::new(coupon.key.clone())).await;
    if run.is_err() {
        watcher.abort();
    }
    let run = run?;
    let last_row = watcher.await??;
    wait_for_ack(&mut coupon, expected.granted).await;

    let answers = Answers::collect(users, run.callers);
    report::figures(&answers, run.elapsed, &run.latency, shape, expected.granted, last_row);
    let checks = verify(expected, &answers, &ledger, &mut coupon).await?;
    Ok(report::checks(&checks))
}

/// Every user once and every tenth once more, in an order that follows from the seed.
fn arrivals(users: u32, seed: u64) -> Arc<[u32]> {
    let mut arrivals: Vec<u32> = (1..=users).chain((1..=users).step_by(10)).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut arrivals);
    arrivals.into()
}

/// Waits until the reconciler has put the row on offer.
async fn wait_for_offer(coupon: &mut Coupon) -> Result<()> {
    let deadline = Instant::now() + OFFER_PATIENCE;
    loop {
        let info = coupon.info().await;
        match &info {
            Ok(info) if info.is_on_offer() => return Ok(()),
            // The coupon is not there yet, or its gate is still shut.
            Ok(_) => {}
            Err(error) if matches!(error.code(), Some("NOCOUPON" | "TRYAGAIN")) => {}
            Err(error) => bail!("COUPON.INFO: {error}; is the module loaded?"),
        }
        if Instant::now() > deadline {
            bail!(
                "the coupon's row was not put on offer within {OFFER_PATIENCE:?} ({info:?}); is a reconciler running?"
            );
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Follows the sale until all requests are answered and all rows are there; when the last row was seen, if ever.
async fn watch(
    ledger: Arc<Ledger>,
    expected: Expected,
    answered: Answered,
    start: Instant,
) -> Result<Option<Duration>> {
    let mut progress = Progress::start(expected.calls, expected.granted);
    let (mut seen, mut moved_at, mut last_row) = ((0, 0), start, None);
    loop {
        let now = (answered.load(Ordering::Relaxed) as u64, ledger.granted().await?);
        progress.show(now.0, now.1);
        if last_row.is_none() && now.1 >= expected.granted {
            last_row = Some(start.elapsed());
        }
        if now != seen {
            (seen, moved_at) = (now, Instant::now());
        }
        let is_over = now.0 >= expected.calls && last_row.is_some();
        if is_over || moved_at.elapsed() > ROW_PATIENCE {
            progress.end();
            return Ok(last_row);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Redis hears of the last row just after the commit. Whether it has is for the verification to say.
async fn wait_for_ack(coupon: &mut Coupon, granted: u64) {
    let deadline = Instant::now() + ACK_PATIENCE;
    while Instant::now() < deadline && coupon.info().await.is_ok_and(|info| info.count("persisted") < granted) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_comes_once_and_every_tenth_twice_in_an_order_of_the_seed() {
        let mut all = arrivals(1000, 7).to_vec();
        assert_eq!(arrivals(1000, 7).to_vec(), all);
        assert_ne!(arrivals(1000, 8).to_vec(), all);
        all.sort_unstable();
        assert_eq!(all.len(), 1100);
        all.dedup();
        assert_eq!(all, (1..=1000).collect::<Vec<_>>());
    }
}
