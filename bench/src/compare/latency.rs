//! From the grant to its committed row, under light load, beside one bare commit.

use super::daemon::{Daemon, await_open_gate};
use super::place::Place;
use crate::connection::{Connection, Reply, Target, command};
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit};
use crate::spread::Spread;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

const ID: &str = "bench-latency";
const PEER_ID: &str = "bench-commit";
const SAMPLES: u32 = 1_200;
/// Parts into which the samples are cut, for the spread.
const PARTS: usize = 4;
/// Between two samples.
const REST: Duration = Duration::from_millis(2);

/// Clients of one coupon that wait for their row.
pub struct Waiting {
    connection: Connection,
}

impl Waiting {
    /// Connects.
    pub async fn connect(target: &Target) -> Result<Self> {
        Ok(Self { connection: Connection::open(target).await? })
    }

    /// Requests, and waits from the grant until the row is committed, as any client can: COUPON.WAIT answers PERSISTED.
    /// It answers behind the commit by one message, so what is measured is never too short.
    pub async fn request(&mut self, key: &str, user: &str, patience: Duration) -> Result<Duration> {
        let (key, user) = (key.as_bytes(), user.as_bytes());
        self.expect(&command(&[b"COUPON.REQUEST", key, user]), "GRANTED").await?;
        let granted = Instant::now();
        let timeout = patience.as_millis().to_string();
        self.expect(&command(&[b"COUPON.WAIT", key, user, timeout.as_bytes()]), "PERSISTED").await?;
        Ok(granted.elapsed())
    }

    /// The same of one that queues: waits from the request until the row is committed.
    pub async fn queue(&mut self, key: &str, user: &str, patience: Duration) -> Result<Duration> {
        let (key, user, requested) = (key.as_bytes(), user.as_bytes(), Instant::now());
        self.expect(&command(&[b"COUPON.REQUEST", key, user]), "QUEUED").await?;
        let timeout = patience.as_millis().to_string();
        self.expect(&command(&[b"COUPON.WAIT", key, user, timeout.as_bytes()]), "PERSISTED").await?;
        Ok(requested.elapsed())
    }

    async fn expect(&mut self, call: &[u8], expected: &str) -> Result<()> {
        let mut told = String::new();
        self.connection
            .exchange(call, 1, |_, reply| {
                if let Reply::Text(text) | Reply::Error(text) = reply {
                    told = String::from_utf8_lossy(text).into_owned();
                }
            })
            .await?;
        if told != expected {
            bail!("instead of {expected} Redis said: {told}");
        }
        Ok(())
    }
}

/// Grant to row, and a commit of one row into the same table, in turns.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    place.clear().await?;
    sqlx::query(
        "insert into coupon (id, name, quantity, status, mode)
         values ($1, 'bench', 1000000, 'AVAILABLE', 'INSTANT'), ($2, 'bench', 1000000, 'STANDARD', 'INSTANT')",
    )
    .bind(ID)
    .bind(PEER_ID)
    .execute(&place.ledger)
    .await?;
    let daemon = Daemon::start(place)?;
    await_open_gate(place, &format!("coupon:{{{ID}}}")).await?;
    let mut waiting = Waiting::connect(&place.server.target).await?;
    let mut connection = place.ledger.acquire().await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for sample in 0..i64::from(place.scaled(SAMPLES)) {
        let user = format!("user-{sample}");
        ours.push(milliseconds(waiting.request(&format!("coupon:{{{ID}}}"), &user, Duration::from_secs(5)).await?));
        tokio::time::sleep(REST).await;
        let start = Instant::now();
        sqlx::query(include_str!("../../peers/bare_commit.sql"))
            .bind(PEER_ID)
            .bind(&user)
            .bind(sample + 1)
            .execute(&mut *connection)
            .await?;
        bare.push(milliseconds(start.elapsed()));
        tokio::time::sleep(REST).await;
    }
    drop(connection);
    daemon.stop().await?;

    let mut found = Findings::default();
    found.lines.push(line("grant to committed row, p50", 0.5, 3.0, &ours, &bare));
    found.lines.push(line("grant to committed row, p99", 0.99, 10.0, &ours, &bare));
    found.keep("latency in ms: grant to row, bare commit", &(ours, bare))?;
    Ok(found)
}

fn line(what: &str, share: f64, bound: f64, ours: &[f64], bare: &[f64]) -> Line {
    let part = ours.len().div_ceil(PARTS).max(1);
    let parts = ours.chunks(part).zip(bare.chunks(part));
    let spread = Spread::of(parts.map(|(ours, bare)| quantile(ours, share) / quantile(bare, share)));
    let (ours, bare) = (quantile(ours, share), quantile(bare, share));
    Line {
        what: what.into(),
        ours: format!("{ours:.2} ms"),
        peer: "one bare commit of one row".into(),
        theirs: format!("{bare:.2} ms"),
        judged: spread,
        unit: Unit::Times,
        reach: Some(Reach::AtMost(bound)),
        by_cpu: None,
        note: None,
    }
}

/// Milliseconds of a duration.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The figure that this share of the figures does not exceed.
#[must_use]
pub fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_figures() {
        let figures: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&figures, 0.5), quantile(&figures, 0.99), quantile(&figures, 1.0)), (50.0, 99.0, 100.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
