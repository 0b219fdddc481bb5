//! ISSUE of a million waiting users: how fast, what a grant weighs, and what other clients feel of it.

use super::place::{GATEWAY, Place};
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit, per_second};
use crate::load::Shape;
use crate::ping::Pinging;
use crate::slices::{Side, Slice, cpu_ratio, measure as measure_slice, rate, rate_ratio};
use crate::spread::Spread;
use crate::template::{Repeat, Template};
use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::Duration;

const COUPON: &str = "bench:{c}";
const GRANTS: &str = "bench:{c}:grants";
const BARE: &str = "bench:{x}";
const USERS: u32 = 1_000_000;
const SLICES: usize = 20;
/// As the reconciler calls it.
const COUNT: u32 = 500;
const PING_ROUNDS: usize = 3;
const IDLE_PINGING: Duration = Duration::from_secs(2);

/// One connection that waits for each reply, as the reconciler does.
fn issue() -> Side {
    let count = COUNT.to_string();
    let template = Template::new(&["COUPON.ISSUE", COUPON, "COUNT", &count]);
    let shape = Shape { connections: 1, pipeline: 1 };
    Side { name: "COUPON.ISSUE", caller: Repeat::expecting(template, "500"), shape, units_per_call: COUNT }
}

/// One connection, as the ids have to increase, and a deep pipeline.
fn append() -> Side {
    let words = [
        "XADD",
        BARE,
        "1-{entry}",
        "user",
        "{user}",
        "requested_at",
        "{score}",
        "granted_at",
        "1700000000000",
        "chain",
        "{chain}",
    ];
    let shape = Shape { connections: 1, pipeline: 250 };
    Side { name: "XADD", caller: Repeat::new(Template::new(&words)), shape, units_per_call: 1 }
}

/// Lets a million users wait.
async fn fill(place: &mut Place, users: u32) -> Result<()> {
    place.clear().await?;
    place.server.open(COUPON, 1_000_000_000, "QUEUE").await?;
    let template = Template::new(&["COUPON.REQUEST", COUPON, "{user}"]);
    let side = Side {
        name: "COUPON.REQUEST",
        caller: Repeat::expecting(template, "QUEUED"),
        shape: GATEWAY,
        units_per_call: 1,
    };
    let calls: Vec<u32> = (0..users).collect();
    place.send(&side, &calls).await
}

/// All of it.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    let mut found = Findings::default();
    let users = place.scaled(USERS);
    fill(place, users).await?;
    let (ours, bare) = alternate(place, users).await?;
    found.lines.push(Line {
        what: "ISSUE of 1,000,000 users".into(),
        ours: per_second(rate(&ours)),
        peer: "pipelined XADD of the same entries".into(),
        theirs: per_second(rate(&bare)),
        judged: rate_ratio(&ours, &bare),
        unit: Unit::Times,
        reach: Some(Reach::AtLeast(2.0)),
        by_cpu: Some(cpu_ratio(&ours, &bare)),
        note: None,
    });
    found.lines.push(memory(place, users).await?);
    found.keep("issue: ISSUE, XADD", &(ours, bare))?;
    found.lines.push(pings(place, users).await?);
    Ok(found)
}

async fn alternate(place: &Place, users: u32) -> Result<(Vec<Slice>, Vec<Slice>)> {
    let (issue, append) = (issue(), append());
    let (target, usage) = (&place.server.target, &place.server.usage);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let slice = users / u32::try_from(SLICES)?;
    let issues: Arc<[u32]> = (0..slice / COUNT).collect();
    for number in 0..u32::try_from(SLICES)? {
        let entries: Arc<[u32]> = (number * slice..(number + 1) * slice).collect();
        if number % 2 == 0 {
            ours.push(measure_slice(target, usage, &issue, &issues).await?);
            bare.push(measure_slice(target, usage, &append, &entries).await?);
        } else {
            bare.push(measure_slice(target, usage, &append, &entries).await?);
            ours.push(measure_slice(target, usage, &issue, &issues).await?);
        }
    }
    Ok((ours, bare))
}

async fn memory(place: &mut Place, users: u32) -> Result<Line> {
    let server = &mut place.server;
    for stream in [GRANTS, BARE] {
        ensure!(server.count(&["XLEN", stream]).await? == u64::from(users), "{stream} does not hold all grants");
    }
    let (ours, bare) = (server.bytes(GRANTS).await?, server.bytes(BARE).await?);
    let each = |bytes: u64| format!("{:.1} B", bytes as f64 / f64::from(users));
    Ok(Line {
        what: "memory per grant".into(),
        ours: each(ours),
        peer: "bare stream of the same entries".into(),
        theirs: each(bare),
        judged: Spread::single(ours as f64 / bare as f64),
        unit: Unit::Times,
        reach: Some(Reach::AtMost(1.02)),
        by_cpu: None,
        note: None,
    })
}

/// What the slowest of a thousand PINGs waits, on the idle server and while it issues.
async fn pings(place: &mut Place, users: u32) -> Result<Line> {
    let calls: Arc<[u32]> = (0..users / COUNT).collect();
    let (mut idle, mut busy, mut call_ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..place.rounds(PING_ROUNDS) {
        fill(place, users).await?;
        let pinging = Pinging::start(&place.server.target)?;
        tokio::time::sleep(IDLE_PINGING).await;
        idle.push(pinging.stop().await?);
        let pinging = Pinging::start(&place.server.target)?;
        let slice = measure_slice(&place.server.target, &place.server.usage, &issue(), &calls).await?;
        call_ms.push(slice.cpu_us * f64::from(COUNT) / 1000.0);
        busy.push(pinging.stop().await?);
    }
    let p999 = |rounds: &[hdrhistogram::Histogram<u64>]| {
        Spread::of(rounds.iter().map(|round| round.value_at_quantile(0.999) as f64 / 1000.0)).median
    };
    let above = idle
        .iter()
        .zip(&busy)
        .map(|(idle, busy)| (busy.value_at_quantile(0.999) as f64 - idle.value_at_quantile(0.999) as f64) / 1000.0);
    Ok(Line {
        what: "another client's PING while ISSUE works, p99.9".into(),
        ours: format!("{:.2} ms", p999(&busy)),
        peer: "PING on the idle server, p99.9".into(),
        theirs: format!("{:.2} ms", p999(&idle)),
        judged: Spread::of(above),
        unit: Unit::Milliseconds,
        reach: Some(Reach::AtMost(2.0)),
        by_cpu: None,
        note: Some(format!(
            "judged is the difference; an ISSUE of {COUNT} with the PINGs beside it takes {:.2} ms of the server's CPU",
            Spread::of(call_ms).median
        )),
    })
}
