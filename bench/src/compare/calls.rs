//! Single calls in a pipeline: REQUEST in each of its outcomes, and STATUS.

use super::place::{GATEWAY, Place};
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit, per_second};
use crate::slices::{Course, Side, cpu_ratio, rate, rate_ratio};
use crate::spread::Spread;
use crate::template::{Repeat, Template};
use anyhow::{Result, ensure};

const COUPON: &str = "bench:{c}";
const COUPON_LINE: &str = "bench:{c}:issued";
const BARE: &str = "bench:{z}";
/// The coupon of the Lua scripts: hash, sorted set, stream.
const SCRIPT: [&str; 3] = ["bench:{l}", "bench:{l}:issued", "bench:{l}:grants"];
const QUANTITY: u32 = 1_000_000_000;
const USERS: u32 = 1_000_000;
const SLICES: usize = 20;
/// The share of a slice in which the server works, if nobody else is in its way.
const BUSY: f64 = 0.9;
/// Units of the coupon that is sold out.
const SOLD: u32 = 100_000;

/// Two names and what one is judged by.
struct Duel {
    what: &'static str,
    peer: &'static str,
    at_least: f64,
}

impl Duel {
    fn line(&self, ours: &Course, peer: &Course) -> Line {
        Line {
            what: self.what.into(),
            ours: per_second(rate(ours)),
            peer: self.peer.into(),
            theirs: per_second(rate(peer)),
            judged: rate_ratio(ours, peer),
            unit: Unit::Times,
            reach: Some(Reach::AtLeast(self.at_least)),
            by_cpu: Some(cpu_ratio(ours, peer)),
            note: idleness(ours, peer),
        }
    }
}

/// Says so where the server's core had time left, and the rate is not the server's own.
fn idleness(ours: &Course, peer: &Course) -> Option<String> {
    let busy = Spread::of(ours.iter().chain(peer).map(|slice| slice.busy)).median;
    (busy < BUSY)
        .then(|| format!("the server was at work {:.0} % of the time: the ratio by CPU time says more", busy * 100.0))
}

fn side(name: &'static str, words: &[&str]) -> Side {
    Side { name, caller: Repeat::new(Template::new(words)), shape: GATEWAY, units_per_call: 1 }
}

fn expecting(name: &'static str, words: &[&str], answer: &'static str) -> Side {
    Side { name, caller: Repeat::expecting(Template::new(words), answer), shape: GATEWAY, units_per_call: 1 }
}

fn request(answer: &'static str) -> Side {
    expecting("COUPON.REQUEST", &["COUPON.REQUEST", COUPON, "{user}"], answer)
}

fn add() -> Side {
    expecting("ZADD", &["ZADD", BARE, "NX", "{score}", "{user}"], "1")
}

/// REQUEST in QUEUE mode, ZADD and the Lua script, each into a set of its own that grows to a million users.
pub async fn accepted(place: &mut Place) -> Result<Findings> {
    let users = place.scaled(USERS);
    place.clear().await?;
    place.server.open(COUPON, QUANTITY, "QUEUE").await?;
    let script = script(place, include_str!("../../peers/request_queue.lua")).await?;
    let script = expecting("the Lua script", &["EVALSHA", &script, "2", SCRIPT[0], SCRIPT[1], "{user}"], "QUEUED");
    // In the order of their numbers, so that the scores of the bare set increase.
    let calls: Vec<u32> = (0..users).collect();
    let courses = place.alternate(&[request("QUEUED"), add(), script], &calls, SLICES).await?;
    let [ours, bare, lua] = courses.as_slice() else { anyhow::bail!("three sides were measured") };
    for set in [COUPON_LINE, BARE, SCRIPT[1]] {
        ensure!(place.server.count(&["ZCARD", set]).await? == u64::from(users), "{set} does not hold all users");
    }

    let mut found = Findings::default();
    let zadd = Duel { what: "REQUEST accepted", peer: "bare ZADD NX, increasing scores", at_least: 1.0 };
    let script = Duel { what: "REQUEST accepted", peer: "the same as a Lua script", at_least: 2.5 };
    found.lines.push(zadd.line(ours, bare));
    found.lines.push(script.line(ours, lua));
    found.lines.push(memory(place, users).await?);
    found.keep("accepted: REQUEST, ZADD, Lua", &courses)?;
    Ok(found)
}

/// Bytes for an accepted user: all the keys of the coupon against a bare sorted set.
async fn memory(place: &mut Place, users: u32) -> Result<Line> {
    let server = &mut place.server;
    let ours = server.bytes(COUPON).await? + server.bytes(COUPON_LINE).await?;
    let bare = server.bytes(BARE).await?;
    let each = |bytes: u64| format!("{:.1} B", bytes as f64 / f64::from(users));
    Ok(Line {
        what: "memory per accepted user".into(),
        ours: each(ours),
        peer: "bare sorted set".into(),
        theirs: each(bare),
        judged: Spread::single(ours as f64 / bare as f64),
        unit: Unit::Times,
        reach: Some(Reach::AtMost(1.02)),
        by_cpu: None,
        note: None,
    })
}

/// REQUEST in INSTANT mode and the Lua script, each with its decrement and its stream entry.
pub async fn instant(place: &mut Place) -> Result<Findings> {
    place.clear().await?;
    place.server.open(COUPON, QUANTITY, "INSTANT").await?;
    let script = script(place, include_str!("../../peers/request_instant.lua")).await?;
    let words = ["EVALSHA", &script, "3", SCRIPT[0], SCRIPT[1], SCRIPT[2], "{user}"];
    let users = place.scaled(USERS / 2);
    let calls = place.shuffled(0, users);
    let courses =
        place.alternate(&[request("GRANTED"), expecting("the Lua script", &words, "GRANTED")], &calls, SLICES).await?;
    let [ours, lua] = courses.as_slice() else { anyhow::bail!("two sides were measured") };

    let mut found = Findings::default();
    let duel = Duel { what: "REQUEST granted (INSTANT)", peer: "the same as a Lua script", at_least: 3.0 };
    found.lines.push(duel.line(ours, lua));
    found.keep("instant: REQUEST, Lua", &courses)?;
    Ok(found)
}

/// REQUEST by users who are not in, where all units are gone.
pub async fn sold_out(place: &mut Place) -> Result<Findings> {
    place.clear().await?;
    let sold = place.scaled(SOLD);
    place.server.open(COUPON, sold, "INSTANT").await?;
    let buyers = place.shuffled(0, sold);
    place.send(&request("GRANTED"), &buyers).await?;
    let late = place.shuffled(sold, place.scaled(USERS * 2));
    let hash = side("HMGET", &["HMGET", COUPON, "status", "remaining"]);
    let courses = place.alternate(&[request("SOLDOUT"), hash], &late, SLICES).await?;
    let [ours, bare] = courses.as_slice() else { anyhow::bail!("two sides were measured") };

    let mut found = Findings::default();
    let duel = Duel { what: "REQUEST on a sold-out coupon", peer: "HMGET status remaining", at_least: 0.95 };
    found.lines.push(duel.line(ours, bare));
    found.keep("sold-out: REQUEST, HMGET", &courses)?;
    Ok(found)
}

/// Users who are in: REQUEST once more, and STATUS.
pub async fn lookup(place: &mut Place) -> Result<Findings> {
    place.clear().await?;
    place.server.open(COUPON, QUANTITY, "QUEUE").await?;
    let users = place.scaled(USERS);
    let ordered: Vec<u32> = (0..users).collect();
    place.send(&request("QUEUED"), &ordered).await?;
    place.send(&add(), &ordered).await?;

    let calls = place.shuffled(0, users);
    let score = || side("ZSCORE", &["ZSCORE", BARE, "{user}"]);
    let status = expecting("COUPON.STATUS", &["COUPON.STATUS", COUPON, "{user}"], "WAITING");
    let courses = place.alternate(&[request("DUPLICATE"), status, score()], &calls, SLICES).await?;
    let [duplicate, status, bare] = courses.as_slice() else { anyhow::bail!("three sides were measured") };

    let mut found = Findings::default();
    let again = Duel { what: "REQUEST by a user already in", peer: "ZSCORE", at_least: 0.8 };
    let state = Duel { what: "STATUS", peer: "ZSCORE", at_least: 0.8 };
    found.lines.push(again.line(duplicate, bare));
    found.lines.push(state.line(status, bare));
    found.keep("lookup: REQUEST again, STATUS, ZSCORE", &courses)?;
    Ok(found)
}

/// Puts the script's coupon on offer and loads the script.
async fn script(place: &mut Place, source: &str) -> Result<String> {
    let quantity = QUANTITY.to_string();
    let fields = [
        "status",
        "AVAILABLE",
        "places",
        &quantity,
        "remaining",
        &quantity,
        "opens_at",
        "0",
        "expires_at",
        "0",
        "seq",
        "0",
    ];
    let mut words = vec!["HSET", SCRIPT[0], "epoch", "1"];
    words.extend(fields);
    place.server.run(&words).await?;
    place.server.load_script(source).await
}
