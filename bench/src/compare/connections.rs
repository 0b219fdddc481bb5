//! Clients that wait for each answer, one request in flight on each connection.

use super::place::Place;
use crate::chart::{Plot, Scale, Series};
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit, per_second};
use crate::load::Shape;
use crate::slices::{Side, cpu_ratio, rate, rate_ratio};
use crate::spread::Spread;
use crate::template::{Repeat, Template};
use anyhow::{Result, bail};

const COUPON: &str = "bench:{c}";
/// Connections that a line is printed for, with its slices; the others are points of the plot.
const JUDGED: [usize; 4] = [1, 8, 64, 512];
const ALL: [usize; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const SLICES: usize = 8;
const SLICES_UNJUDGED: usize = 2;
const CALLS_PER_SLICE: u32 = 20_000;

/// REQUEST beside SET, and what a client waits.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    place.clear().await?;
    place.server.open(COUPON, 1_000_000_000, "QUEUE").await?;
    let mut found = Findings::default();
    let names = ["REQUEST, p50", "REQUEST, p99", "SET, p50", "SET, p99"];
    let mut series: Vec<Series> =
        names.iter().map(|name| Series { name: (*name).into(), points: Vec::new() }).collect();
    let mut next = 0;
    for connections in ALL {
        let is_judged = JUDGED.contains(&connections);
        let slices = if is_judged { SLICES } else { SLICES_UNJUDGED };
        // One connection is slow; it needs no more time than the others.
        let calls_per_slice = if connections == 1 { CALLS_PER_SLICE / 2 } else { CALLS_PER_SLICE };
        let number = place.scaled(calls_per_slice) * u32::try_from(slices)?;
        let calls = place.shuffled(next, number);
        next += number;
        let shape = Shape { connections, pipeline: 1 };
        let side = |name, words: &[&str], answer| Side {
            name,
            caller: Repeat::expecting(Template::new(words), answer),
            shape,
            units_per_call: 1,
        };
        let ours = side("COUPON.REQUEST", &["COUPON.REQUEST", COUPON, "{user}"], "QUEUED");
        let set = side("SET", &["SET", "bench:{s}:{user}", "1"], "OK");
        let courses = place.alternate(&[ours, set], &calls, slices).await?;
        let [ours, set] = courses.as_slice() else { bail!("two sides were measured") };
        let middle = |course: &[crate::slices::Slice], of: fn(&crate::slices::Slice) -> u64| {
            Spread::of(course.iter().map(|slice| of(slice) as f64 / 1000.0)).median
        };
        let latencies = [
            middle(ours, |slice| slice.p50_us),
            middle(ours, |slice| slice.p99_us),
            middle(set, |slice| slice.p50_us),
            middle(set, |slice| slice.p99_us),
        ];
        for (series, latency) in series.iter_mut().zip(latencies) {
            series.points.push((connections as f64, latency));
        }
        if is_judged {
            found.lines.push(Line {
                what: format!("REQUEST, {connections} connection{}", if connections == 1 { "" } else { "s" }),
                ours: per_second(rate(ours)),
                peer: "SET".into(),
                theirs: per_second(rate(set)),
                judged: rate_ratio(ours, set),
                unit: Unit::Times,
                reach: Some(Reach::AtLeast(0.9)),
                by_cpu: Some(cpu_ratio(ours, set)),
                note: None,
            });
        }
        found.keep(&format!("connections {connections}: REQUEST, SET"), &courses)?;
    }
    found.plots.push(Plot {
        title: "Latency over load".into(),
        caption: "Clients that each wait for their answer before they ask again. Server and load on one core each."
            .into(),
        x: ("connections".into(), Scale::Log),
        y: ("ms".into(), Scale::Log),
        series,
    });
    Ok(found)
}
