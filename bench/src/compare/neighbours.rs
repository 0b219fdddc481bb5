//! What a large catalogue costs while nothing happens, and what a coupon with a long line costs the others.

use super::daemon::{Daemon, await_offers, await_open_gate};
use super::latency::{Waiting, milliseconds, quantile};
use super::place::{GATEWAY, Place};
use crate::connection::Target;
use crate::coupon::Coupon;
use crate::findings::Findings;
use crate::line::{Line, Unit};
use crate::server::Usage;
use crate::slices::Side;
use crate::spread::Spread;
use crate::template::{Repeat, Template};
use anyhow::{Context, Result};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const COUPONS: u32 = 100_000;
/// Three slow passes over everything (`--full-pass-interval`).
const WINDOW: Duration = Duration::from_secs(30);
/// What starting up has left to do is not idleness.
const SETTLE: Duration = Duration::from_secs(15);
/// Between two looks at how many calls a pass has made, and the calls of a look by which it is known.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const CALLS_OF_A_PASS: u64 = 20;

const LINE: u32 = 2_000_000;
const LINE_KEY: &str = "coupon:{bench-line}";
const SMALL: u32 = 100;
/// So many clients ask for small coupons at once, each waits for its row.
const CLIENTS: usize = 8;
const ALONE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(60);
/// As a shop sets it whose users shall not wait.
const ISSUE_INTERVAL: [&str; 2] = ["--issue-interval", "100ms"];

/// Both.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    let mut found = Findings::default();
    catalogue(place, &mut found).await?;
    long_line(place, &mut found).await?;
    Ok(found)
}

async fn catalogue(place: &mut Place, found: &mut Findings) -> Result<()> {
    place.clear().await?;
    let coupons = place.scaled(COUPONS);
    offer(place, "bench-idle-", coupons, 1000).await?;
    let (daemon, start) = (Daemon::start(place)?, Instant::now());
    await_offers(place).await?;
    let published = start.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let before =
        [daemon.usage.cpu_seconds_in_all()?, place.server.usage.cpu_seconds_in_all()?, postgres_cpu(place).await?];
    let start = Instant::now();
    let (mut calls, mut busy, mut passes, mut seen_at) = (calls_of_info(place).await?, 0.0, 0, None);
    while start.elapsed() < WINDOW {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = calls_of_info(place).await?;
        if now > calls + CALLS_OF_A_PASS {
            busy += LOOK_INTERVAL.as_secs_f64();
            // Two passes never follow each other closely.
            if seen_at.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(3)) {
                passes += 1;
            }
            seen_at = Some(Instant::now());
        }
        calls = now;
    }
    let share = |before: f64, after: f64| (after - before) / start.elapsed().as_secs_f64() * 100.0;
    let shares = [
        ("reconciler", share(before[0], daemon.usage.cpu_seconds_in_all()?)),
        ("Redis", share(before[1], place.server.usage.cpu_seconds_in_all()?)),
        ("PostgreSQL", share(before[2], postgres_cpu(place).await?)),
    ];
    for (who, share) in shares {
        let what = format!("{who}, {coupons} idle coupons");
        found.lines.push(line(what, format!("{share:.1} % of a core"), Spread::single(share), Unit::PercentOfCore));
    }
    let (peak, pass) = (daemon.usage.peak_mib()?, busy / f64::from(passes.max(1)) * 1000.0);
    let what = |what: &str| format!("{what}, {coupons} idle coupons");
    found.lines.push(line(
        what("reconciler's memory"),
        format!("{peak:.0} MiB"),
        Spread::single(peak),
        Unit::Mebibytes,
    ));
    found.lines.push(line(what("a full pass"), format!("{pass:.0} ms"), Spread::single(pass), Unit::Milliseconds));
    let all = format!("{published:.1} s");
    found.lines.push(line(what("all published"), all, Spread::single(published * 1000.0), Unit::Milliseconds));
    daemon.stop().await
}

async fn long_line(place: &mut Place, found: &mut Findings) -> Result<()> {
    place.clear().await?;
    let users = place.scaled(LINE);
    offer(place, "bench-small-", SMALL, 1_000_000).await?;
    sqlx::query("insert into coupon (id, name, quantity, status) values ('bench-line', 'bench', $1, 'AVAILABLE')")
        .bind(i64::from(users))
        .execute(&place.ledger)
        .await?;
    let daemon = Daemon::start_with(place, &ISSUE_INTERVAL)?;
    await_open_gate(place, LINE_KEY).await?;
    let alone = beside(place, "alone", async |_| tokio::time::sleep(ALONE).await).await?;
    daemon.stop().await?;

    // The gate stays open while nobody issues.
    let template = Template::new(&["COUPON.REQUEST", LINE_KEY, "{user}"]);
    let side = Side {
        name: "COUPON.REQUEST",
        caller: Repeat::expecting(template, "QUEUED"),
        shape: GATEWAY,
        units_per_call: 1,
    };
    let calls = place.shuffled(0, users);
    place.send(&side, &calls).await?;
    let daemon = Daemon::start_with(place, &ISSUE_INTERVAL)?;
    let mut coupon = Coupon::connect(&place.redis_url, LINE_KEY.to_owned()).await?;
    while coupon.info().await?.count("granted") == 0 {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let beside = beside(place, "beside", async |place| {
        let Ok(mut coupon) = Coupon::connect(&place.redis_url, LINE_KEY.to_owned()).await else { return };
        while coupon.info().await.is_ok_and(|info| info.count("waiting") > 0) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    })
    .await?;
    daemon.stop().await?;

    for (who, figures) in [("by themselves".to_owned(), alone), (format!("beside a line of {users}"), beside)] {
        let [median, late, last] = [0.5, 0.99, 1.0].map(|share| quantile(&figures, share));
        let shown = format!("{median:.0} ms, p99 {late:.0} ms, at most {last:.0} ms, of {}", figures.len());
        let what = format!("request to row, {SMALL} small coupons {who}");
        found.lines.push(line(what, shown, Spread::of(figures), Unit::Milliseconds));
    }
    Ok(())
}

async fn offer(place: &Place, prefix: &str, coupons: u32, quantity: i64) -> Result<()> {
    sqlx::query(
        "insert into coupon (id, name, quantity, status)
         select $1 || n, 'bench', $3, 'AVAILABLE' from generate_series(1, $2) as n",
    )
    .bind(prefix)
    .bind(i64::from(coupons))
    .bind(quantity)
    .execute(&place.ledger)
    .await?;
    Ok(())
}

/// Milliseconds from request to row of small coupons, while something lasts.
async fn beside(place: &Place, round: &'static str, lasts: impl AsyncFnOnce(&Place)) -> Result<Vec<f64>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(ask(place.server.target.clone(), format!("{round}-{client}"), Arc::clone(&is_over)));
    }
    lasts(place).await;
    is_over.store(true, Ordering::Release);
    let mut figures = Vec::new();
    while let Some(asked) = clients.join_next().await {
        figures.extend(asked??);
    }
    Ok(figures)
}

async fn ask(target: Target, user: String, is_over: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let (mut waiting, mut figures) = (Waiting::connect(&target).await?, Vec::new());
    while !is_over.load(Ordering::Acquire) {
        let key = format!("coupon:{{bench-small-{}}}", fastrand::u32(1..=SMALL));
        let user = format!("{user}-{}", figures.len());
        figures.push(milliseconds(waiting.queue(&key, &user, PATIENCE).await?));
    }
    Ok(figures)
}

/// Calls of COUPON.INFO so far: a pass makes one for each coupon on offer.
async fn calls_of_info(place: &mut Place) -> Result<u64> {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut place.server.redis).await?;
    let line = stats.lines().find_map(|line| {
        let (name, calls) = line.split_once(":calls=")?;
        name.eq_ignore_ascii_case("cmdstat_coupon.info").then_some(calls)
    });
    Ok(line.and_then(|calls| calls.split(',').next()?.parse().ok()).unwrap_or(0))
}

/// CPU time of all processes of PostgreSQL that live, in seconds.
async fn postgres_cpu(place: &Place) -> Result<f64> {
    let own: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&place.ledger).await?;
    let postmaster = parent(&own.to_string()).context("PostgreSQL is not on this machine")?;
    let mut seconds = 0.0;
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(process) = process.file_name().to_str().map(str::to_owned) else { continue };
        if parent(&process).as_ref() == Some(&postmaster) {
            // It may end meanwhile.
            seconds += Usage { process: process.parse()? }.cpu_seconds_in_all().unwrap_or(0.0);
        }
    }
    Ok(seconds)
}

/// The parent of a process.
fn parent(process: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1).map(str::to_owned)
}

fn line(what: String, ours: String, judged: Spread, unit: Unit) -> Line {
    Line { what, ours, peer: String::new(), theirs: String::new(), judged, unit, reach: None, by_cpu: None, note: None }
}
