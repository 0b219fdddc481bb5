//! MREQUEST: users of many requests in one call.

use super::place::Place;
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit, per_second};
use crate::load::Shape;
use crate::slices::{Side, cpu_ratio, cut, measure as measure_slice, rate, rate_ratio};
use crate::spread::Spread;
use crate::template::{Repeat, Template};
use anyhow::{Result, ensure};
use std::sync::Arc;

const COMMAND: &str = "COUPON.MREQUEST";
const SINGLE: &str = "bench:{c}";
const MULTI: &str = "bench:{m}";
const USERS_PER_CALL: u32 = 16;
const USERS: u32 = 1_000_000;
const SLICES: usize = 16;

/// Sixteen users in flight on each of eight connections, in sixteen calls or in one.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    let mut found = Findings::default();
    let mut line = Line {
        what: "MREQUEST of 16 users".into(),
        ours: String::new(),
        peer: "single calls, 16 in flight".into(),
        theirs: String::new(),
        judged: Spread::single(f64::NAN),
        unit: Unit::Times,
        reach: Some(Reach::AtLeast(2.0)),
        by_cpu: None,
        note: None,
    };
    if !place.server.knows(COMMAND).await? {
        line.note = Some(format!("left out: this module has no {COMMAND}"));
        found.lines.push(line);
        return Ok(found);
    }
    place.clear().await?;
    for key in [SINGLE, MULTI] {
        place.server.open(key, 1_000_000_000, "QUEUE").await?;
    }
    let mut words = vec![COMMAND.to_owned(), MULTI.to_owned()];
    words.extend((0..USERS_PER_CALL).map(|user| format!("{{user:{user}/{USERS_PER_CALL}}}")));
    let multi = Side {
        name: COMMAND,
        caller: Repeat::new(Template::new(&words)),
        shape: Shape { connections: 8, pipeline: 1 },
        units_per_call: USERS_PER_CALL,
    };
    let single = Side {
        name: "COUPON.REQUEST",
        caller: Repeat::expecting(Template::new(&["COUPON.REQUEST", SINGLE, "{user}"]), "QUEUED"),
        shape: Shape { connections: 8, pipeline: USERS_PER_CALL as usize },
        units_per_call: 1,
    };
    let calls: Vec<u32> = (0..place.scaled(USERS) / USERS_PER_CALL).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (target, usage) = (&place.server.target, &place.server.usage);
    for (number, part) in cut(&calls, SLICES).iter().enumerate() {
        let users: Arc<[u32]> =
            part.iter().flat_map(|call| call * USERS_PER_CALL..(call + 1) * USERS_PER_CALL).collect();
        if number % 2 == 0 {
            ours.push(measure_slice(target, usage, &multi, part).await?);
            theirs.push(measure_slice(target, usage, &single, &users).await?);
        } else {
            theirs.push(measure_slice(target, usage, &single, &users).await?);
            ours.push(measure_slice(target, usage, &multi, part).await?);
        }
    }
    let held = [
        place.server.count(&["ZCARD", "bench:{m}:issued"]).await?,
        place.server.count(&["ZCARD", "bench:{c}:issued"]).await?,
    ];
    ensure!(held[0] == held[1], "both sets should hold the same users, but hold {held:?}");
    line.ours = per_second(rate(&ours));
    line.theirs = per_second(rate(&theirs));
    line.judged = rate_ratio(&ours, &theirs);
    line.by_cpu = Some(cpu_ratio(&ours, &theirs));
    found.lines.push(line);
    found.keep("mrequest: MREQUEST, REQUEST", &(ours, theirs))?;
    Ok(found)
}
