//! A whole sale, until the last request is answered and the last unit is a row: ours, the pattern it grew out of, and
//! PostgreSQL alone.

use super::daemon::{Daemon, await_open_gate, granted};
use super::place::{GATEWAY, Place};
use crate::chart::{Plot, Scale, Series};
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit, thousands};
use crate::load::{Answered, drive};
use crate::peers::old_pattern::{self, Scheduler};
use crate::peers::postgres_alone::{self, Commit};
use crate::spread::Spread;
use crate::template::{Repeat, Template};
use anyhow::{Context, Result, bail, ensure};
use coupon_core::words::Mode;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const USERS: u32 = 1_000_000;
/// One unit for so many users.
const USERS_PER_UNIT: u32 = 10;
/// The sale beside PostgreSQL alone, which would take minutes for a million users: fewer users, fewer units, and so fewer
/// dead versions of the coupon's row, which is in PostgreSQL's favour.
const USERS_SMALL: u32 = 100_000;
const ROUNDS: usize = 3;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);
/// As the pattern is found in the field.
const SCHEDULER_SLOW: Duration = Duration::from_secs(10);
/// As it could be, at the same interval as our reconciler.
const SCHEDULER_FAST: Duration = Duration::from_secs(1);

/// All sales.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    let mut found = Findings::default();
    great(place, &mut found).await?;
    small(place, &mut found).await?;
    Ok(found)
}

/// A million users, in both modes, beside the old pattern at both intervals.
async fn great(place: &mut Place, found: &mut Findings) -> Result<()> {
    let (users, rounds) = (place.scaled(USERS), place.rounds(ROUNDS));
    let (mut instant, mut queue, mut slow, mut fast) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // A sale begins at any moment between two rounds of the scheduler: moments spread evenly over its interval.
        let phase = (round as f64 + 0.5) / rounds as f64;
        let sale = hold(place, users, Mode::Instant).await?;
        instant.push(sale.times);
        if round == 0 {
            found.plots.push(sale.plot(users));
        }
        slow.push(old(place, users, SCHEDULER_SLOW, phase).await?);
        queue.push(hold(place, users, Mode::Queue).await?.times);
        fast.push(old(place, users, SCHEDULER_FAST, phase).await?);
    }
    let (every_10_s, every_1_s) = ("the old pattern, scheduler every 10 s", "the old pattern, scheduler every 1 s");
    for (peer, theirs, at_least) in [(every_10_s, &slow, Some(3.0)), (every_1_s, &fast, None)] {
        for (mode, ours) in [(Mode::Instant, &instant), (Mode::Queue, &queue)] {
            let (ours_all, ours_rows) = (Times::of_all(ours), Times::of_rows(ours));
            found.lines.push(line(title(users, mode), peer, at_least, &ours_all, &Times::of_all(theirs)));
            let what = format!("its last unit is a row, {mode}");
            found.lines.push(line(what, peer, None, &ours_rows, &Times::of_rows(theirs)));
        }
    }
    found.keep("sale in seconds: INSTANT, QUEUE, old pattern every 10 s, every 1 s", &(instant, queue, slow, fast))
}

/// Fewer users, beside PostgreSQL alone: with commits that wait for the disk, and with commits that do not.
async fn small(place: &mut Place, found: &mut Findings) -> Result<()> {
    let users = place.scaled(USERS_SMALL);
    let (mut ours, mut durable, mut lazy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..place.rounds(ROUNDS) {
        ours.push(hold(place, users, Mode::Instant).await?.times.all);
        place.clear().await?;
        durable.push(postgres_alone::hold(place, users, users / USERS_PER_UNIT, Commit::Durable).await?);
        lazy.push(postgres_alone::hold(place, users, users / USERS_PER_UNIT, Commit::Lazy).await?);
    }
    let what = || title(users, Mode::Instant);
    found.lines.push(line(what(), "PostgreSQL alone, durable commits", Some(50.0), &ours, &durable));
    found.lines.push(line(what(), "PostgreSQL alone, synchronous_commit off", Some(50.0), &ours, &lazy));
    found.keep("small sale in seconds: ours, PostgreSQL alone durable, not", &(ours, durable, lazy))
}

fn title(users: u32, mode: Mode) -> String {
    let units = thousands(f64::from(users / USERS_PER_UNIT));
    format!("whole sale, {mode}, {} users, {units} units", thousands(f64::from(users)))
}

fn line(what: String, peer: &str, at_least: Option<f64>, ours: &[f64], theirs: &[f64]) -> Line {
    let seconds = |seconds: &[f64]| format!("{:.2} s", Spread::of(seconds.iter().copied()).median);
    Line {
        what,
        ours: seconds(ours),
        peer: peer.into(),
        theirs: seconds(theirs),
        judged: Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours)),
        unit: Unit::Times,
        reach: at_least.map(Reach::AtLeast),
        by_cpu: None,
        note: None,
    }
}

/// How long a sale took, in seconds from its first request.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    /// Until the last unit was a committed row: whoever is to have one, has it.
    rows: f64,
    /// Until the last request was answered too.
    all: f64,
}

impl Times {
    fn of_rows(sales: &[Self]) -> Vec<f64> {
        sales.iter().map(|sale| sale.rows).collect()
    }

    fn of_all(sales: &[Self]) -> Vec<f64> {
        sales.iter().map(|sale| sale.all).collect()
    }
}

/// How a sale went.
struct Sale {
    times: Times,
    course: Vec<Moment>,
}

/// What has happened until then.
#[derive(Clone, Copy)]
struct Moment {
    seconds: f64,
    answered: f64,
    grants: f64,
    rows: f64,
}

/// Ours: a row puts the coupon on offer, users request it, the reconciler makes rows.
async fn hold(place: &mut Place, users: u32, mode: Mode) -> Result<Sale> {
    place.clear().await?;
    let id = "bench-sale";
    let units = u64::from(users / USERS_PER_UNIT);
    sqlx::query(
        "insert into coupon (id, name, quantity, status, mode) values ($1, 'bench', $2, 'AVAILABLE', $3::coupon_mode)",
    )
    .bind(id)
    .bind(i64::try_from(units)?)
    .bind(mode.word())
    .execute(&place.ledger)
    .await?;
    let daemon = Daemon::start(place)?;
    let key = format!("coupon:{{{id}}}");
    await_open_gate(place, &key).await?;

    let calls: Arc<[u32]> = place.shuffled(0, users).into();
    let caller = Repeat::new(Template::new(&["COUPON.REQUEST", &key, "{user}"]));
    let answered = Answered::default();
    let start = Instant::now();
    let target = place.server.target.clone();
    let load = {
        let answered = Arc::clone(&answered);
        tokio::spawn(async move { drive(&target, GATEWAY, calls, answered, || caller.clone()).await })
    };
    let (mut course, mut last_row) = (Vec::new(), None);
    let times = loop {
        let grants = place.server.count(&["HGET", &key, "seq"]).await?;
        let rows = granted(place, id).await?;
        let done = answered.load(Ordering::Relaxed);
        let seconds = start.elapsed().as_secs_f64();
        course.push(Moment { seconds, answered: done as f64, grants: grants as f64, rows: rows as f64 });
        if last_row.is_none() && rows >= units {
            last_row = Some(seconds);
        }
        match last_row {
            Some(rows) if done >= users as usize => break Times { rows, all: seconds },
            _ => {}
        }
        if start.elapsed() > PATIENCE {
            bail!("only {rows} rows and {done} answers came; see reconciler.log");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    };
    let run = load.await??;
    if let Some(surprise) = run.callers.into_iter().find_map(|caller| caller.surprise) {
        bail!("a request was answered: {surprise}");
    }
    daemon.stop().await?;
    Ok(Sale { times, course })
}

impl Sale {
    fn plot(&self, users: u32) -> Plot {
        let series = |name: &str, of: fn(&Moment) -> f64| Series {
            name: name.into(),
            points: self.course.iter().map(|moment| (moment.seconds, of(moment))).collect(),
        };
        Plot {
            title: "A sale over time".into(),
            caption: format!(
                "{} users, {} units, INSTANT: requests answered, units granted in Redis, rows committed in PostgreSQL.",
                thousands(f64::from(users)),
                thousands(f64::from(users / USERS_PER_UNIT))
            ),
            x: ("seconds".into(), Scale::Linear),
            y: ("".into(), Scale::Log),
            series: vec![
                series("arrivals answered", |moment| moment.answered),
                series("grants", |moment| moment.grants),
                series("rows", |moment| moment.rows),
            ],
        }
    }
}

/// The pattern it grew out of.
async fn old(place: &mut Place, users: u32, interval: Duration, phase: f64) -> Result<Times> {
    place.clear().await?;
    let units = users / USERS_PER_UNIT;
    old_pattern::prepare(&place.ledger, units).await?;
    let calls: Arc<[u32]> = (0..users).collect();
    let caller = Repeat::expecting(old_pattern::request(), "1");
    let start = Instant::now();
    let scheduler = Scheduler { redis: place.server.redis.clone(), ledger: place.ledger.clone(), units };
    let scheduling = tokio::spawn(scheduler.run(start + interval.mul_f64(phase), interval));
    let run = drive(&place.server.target, GATEWAY, calls, Answered::default(), || caller.clone()).await?;
    if let Some(surprise) = run.callers.into_iter().find_map(|caller| caller.surprise) {
        bail!("a user was answered: {surprise}");
    }
    let scheduled =
        tokio::time::timeout(PATIENCE, scheduling).await.context("the scheduler does not come to an end")?;
    let (rows, last_row) = scheduled??;
    ensure!(rows == u64::from(units), "the old pattern made {rows} rows of {units} units");
    Ok(Times { rows: (last_row - start).as_secs_f64(), all: start.elapsed().as_secs_f64() })
}
