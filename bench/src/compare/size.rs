//! What a REQUEST costs where many users are in already.

use super::place::{GATEWAY, Place};
use crate::chart::{Plot, Scale, Series};
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit, thousands};
use crate::slices::{Course, Side, cpu_us};
use crate::spread::Spread;
use crate::template::{Repeat, SHARDS, Template};
use anyhow::{Result, bail};

/// Users in the set while it is measured, on average. The smallest one is [`SHARDS`] sets, as a single one would have
/// outgrown its size before anything is measured.
const SMALL: u32 = 1_000;
const LARGE: [u32; 3] = [100_000, 1_000_000, 5_000_000];
const SLICES: usize = 8;
const CALLS: u32 = 200_000;

fn sides(suffix: &str) -> [Side; 2] {
    let side = |name, words: &[&str], answer| Side {
        name,
        caller: Repeat::expecting(Template::new(words), answer),
        shape: GATEWAY,
        units_per_call: 1,
    };
    let (coupon, bare) = (format!("bench:{{c}}{suffix}"), format!("bench:{{z}}{suffix}"));
    [
        side("COUPON.REQUEST", &["COUPON.REQUEST", &coupon, "{user}"], "QUEUED"),
        side("ZADD", &["ZADD", &bare, "NX", "{score}", "{user}"], "1"),
    ]
}

/// REQUEST and ZADD into sets of growing size. Judged is the server's CPU time for a call, which is its cost; each size is
/// compared with the smallest, and how much ours grew with how much ZADD grew.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    let mut found = Findings::default();
    let small = small(place).await?;
    let [ours_small, bare_small] = small.as_slice() else { bail!("two sides were measured") };
    let base = (cpu_us(ours_small), cpu_us(bare_small));
    let mut series = [
        Series { name: "REQUEST".into(), points: vec![(f64::from(SMALL), base.0)] },
        Series { name: "ZADD".into(), points: vec![(f64::from(SMALL), base.1)] },
    ];
    found.keep("size 1000: REQUEST, ZADD", &small)?;

    place.clear().await?;
    place.server.open("bench:{c}", 1_000_000_000, "QUEUE").await?;
    let sides = sides("");
    let mut filled = 0;
    for size in LARGE {
        let (size, calls) = (place.scaled(size), place.scaled(CALLS));
        let start = size - calls / 2;
        let missing: Vec<u32> = (filled..start).collect();
        for side in &sides {
            place.send(side, &missing).await?;
        }
        filled = start + calls;
        let calls: Vec<u32> = (start..filled).collect();
        let courses = place.alternate(&sides, &calls, SLICES).await?;
        let [ours, bare] = courses.as_slice() else { bail!("two sides were measured") };
        found.lines.push(line(size, ours, bare, base));
        for (series, course) in series.iter_mut().zip(&courses) {
            series.points.push((f64::from(size), cpu_us(course)));
        }
        found.keep(&format!("size {size}: REQUEST, ZADD"), &courses)?;
    }
    found.plots.push(Plot {
        title: "Cost over set size".into(),
        caption: "CPU time of the server for one call, by the number of users who are in already.".into(),
        x: ("users in the set".into(), Scale::Log),
        y: ("µs".into(), Scale::Linear),
        series: series.into(),
    });
    Ok(found)
}

/// Calls spread over many small sets, which hold half their users before and one and a half times as many behind.
async fn small(place: &mut Place) -> Result<Vec<Course>> {
    let mut courses = vec![Vec::new(), Vec::new()];
    let sides = sides(":{shard}");
    for _ in 0..place.rounds(SLICES) {
        place.clear().await?;
        for shard in 0..SHARDS {
            place.server.open(&format!("bench:{{c}}:{}", 10 + shard), 1_000_000_000, "QUEUE").await?;
        }
        let (before, behind) = (SMALL / 2 * SHARDS, SMALL * 3 / 2 * SHARDS);
        let fill: Vec<u32> = (0..before).collect();
        for side in &sides {
            place.send(side, &fill).await?;
        }
        let calls: Vec<u32> = (before..behind).collect();
        for (all, course) in courses.iter_mut().zip(place.alternate(&sides, &calls, 1).await?) {
            all.extend(course);
        }
    }
    Ok(courses)
}

fn line(size: u32, ours: &Course, bare: &Course, base: (f64, f64)) -> Line {
    let growth = |slices: (&crate::slices::Slice, &crate::slices::Slice)| {
        (slices.0.cpu_us / base.0) / (slices.1.cpu_us / base.1)
    };
    let cost = |course: &Course, base: f64| format!("{:.2} µs (× {:.2})", cpu_us(course), cpu_us(course) / base);
    Line {
        what: format!("growth of REQUEST, 1,000 to {} users", thousands(f64::from(size))),
        ours: cost(ours, base.0),
        peer: "growth of ZADD".into(),
        theirs: cost(bare, base.1),
        judged: Spread::of(ours.iter().zip(bare).map(growth)),
        unit: Unit::Times,
        reach: Some(Reach::AtMost(1.0)),
        by_cpu: None,
        note: None,
    }
}
