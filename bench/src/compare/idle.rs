//! Ten thousand coupons on which nothing happens, and then something does.

use super::daemon::{Daemon, await_open_gate};
use super::latency::{Waiting, milliseconds, quantile};
use super::place::Place;
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit};
use crate::spread::Spread;
use anyhow::Result;
use std::time::{Duration, Instant};

const COUPONS: u32 = 10_000;
const WINDOWS: usize = 3;
/// As long as the reconciler's slow pass over everything takes to come round (`--full-pass-interval`).
const WINDOW: Duration = Duration::from_secs(10);
/// What starting up has left to do is not idleness.
const SETTLE: Duration = Duration::from_secs(3);
const GRANTS: usize = 100;

/// CPU while idle; then grants on random ones, from grant to row.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    place.clear().await?;
    let coupons = place.scaled(COUPONS);
    sqlx::query(
        "insert into coupon (id, name, quantity, status, mode)
         select 'bench-idle-' || n, 'bench', 1000, 'AVAILABLE', 'INSTANT' from generate_series(1, $1) as n",
    )
    .bind(i64::from(coupons))
    .execute(&place.ledger)
    .await?;
    let daemon = Daemon::start(place)?;
    await_open_gate(place, &format!("coupon:{{bench-idle-{coupons}}}")).await?;
    tokio::time::sleep(SETTLE).await;
    let mut shares = Vec::new();
    for _ in 0..place.rounds(WINDOWS) {
        let (before, start) = (daemon.usage.cpu_seconds_in_all()?, Instant::now());
        tokio::time::sleep(WINDOW).await;
        shares.push((daemon.usage.cpu_seconds_in_all()? - before) / start.elapsed().as_secs_f64() * 100.0);
    }

    let mut waiting = Waiting::connect(&place.server.target).await?;
    let mut latencies = Vec::new();
    for grant in 0..GRANTS {
        let key = format!("coupon:{{bench-idle-{}}}", place.random.u32(1..=coupons));
        latencies.push(milliseconds(waiting.request(&key, &format!("user-{grant}"), Duration::from_secs(5)).await?));
    }
    daemon.stop().await?;

    let mut found = Findings::default();
    let line = |what: &str, ours, judged, unit, bound| Line {
        what: what.into(),
        ours,
        peer: String::new(),
        theirs: String::new(),
        judged,
        unit,
        reach: Some(Reach::AtMost(bound)),
        by_cpu: None,
        note: None,
    };
    let share = Spread::of(shares.iter().copied());
    let slowest = quantile(&latencies, 1.0);
    found.lines.push(line(
        "reconciler with 10,000 idle coupons",
        format!("{:.2} % of a core", share.median),
        share,
        Unit::PercentOfCore,
        3.0,
    ));
    let worst = format!("slowest of {GRANTS}: {slowest:.1} ms, p50 {:.1} ms", quantile(&latencies, 0.5));
    found.lines.push(line(
        "then a grant on any of them is a row",
        worst,
        Spread::single(slowest),
        Unit::Milliseconds,
        100.0,
    ));
    found.keep("idle: per cent of a core, milliseconds from grant to row", &(shares, latencies))?;
    Ok(found)
}
