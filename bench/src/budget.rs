//! How many instructions each command takes, against what is written down: a change that makes one slower shows here,
//! although clocks are noisy.

use crate::callgrind::{Count, Counted};
use crate::compare::place::GATEWAY;
use crate::line::thousands;
use crate::load::{Answered, Shape, drive};
use crate::server::Server;
use crate::template::{Repeat, Template};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of the count.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// The module, built for release
    #[arg(long, env = "COUPON_MODULE")]
    module: PathBuf,
    /// The shipped redis.conf
    #[arg(long, default_value = "redis.conf")]
    config: PathBuf,
    /// What was written down
    #[arg(long, default_value = "bench/budget.json")]
    budget: PathBuf,
    /// Write down what is counted now
    #[arg(long)]
    record: bool,
    /// Keep callgrind's files there, for callgrind_annotate
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Budget {
    /// The server these numbers were counted on; on another one they say nothing.
    redis: String,
    /// By how much a count may be above.
    margin_percent: u64,
    /// Instructions of one call, or of one grant or user in it.
    instructions: BTreeMap<String, u64>,
}

/// More than a different hash seed and skip list change, less than any change that matters.
const MARGIN_PERCENT: u64 = 10;

/// Users in the sets before anything is counted. Far from any size at which a hash table grows, which would be counted for
/// whichever call meets it.
const USERS: u32 = 30_000;
/// Users, grants or calls counted.
const COUNTED: u32 = 2_000;
const COUNT: u32 = 500;
const ONE: Shape = Shape { connections: 1, pipeline: 16 };

/// One command, counted over so many calls, each of which stands for so many users or grants.
struct Case {
    name: &'static str,
    words: Vec<String>,
    /// Whether it is the module's, and so has a budget.
    is_ours: bool,
    from: u32,
    calls: u32,
    units_per_call: u32,
}

impl Case {
    /// Calls by users who are not in yet.
    fn of_new(name: &'static str, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { name, words, is_ours: true, from: USERS, calls: COUNTED, units_per_call: 1 }
    }

    /// Calls by users who are in.
    fn of_known(name: &'static str, words: &[&str]) -> Self {
        Self { from: 0, ..Self::of_new(name, words) }
    }

    const fn bare(mut self) -> Self {
        self.is_ours = false;
        self
    }

    const fn grouped(mut self, units_per_call: u32) -> Self {
        self.units_per_call = units_per_call;
        self.from /= units_per_call;
        self.calls /= units_per_call;
        self
    }
}

/// The bare commands first: they are what the others are read against.
fn cases(queue: &str, instant: &str, has_mrequest: bool) -> Vec<Case> {
    let entry = [
        "XADD",
        "x",
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
    let mut cases = vec![
        Case::of_new("SET", &["SET", "s:{user}", "1"]).bare(),
        Case::of_new("ZADD NX", &["ZADD", "z", "NX", "{score}", "{user}"]).bare(),
        Case::of_known("ZSCORE", &["ZSCORE", "z", "{user}"]).bare(),
        Case::of_new("HMGET of two fields", &["HMGET", "sold", "status", "remaining"]).bare(),
        Case::of_new("XADD", &entry).bare(),
        Case::of_new("Lua, queued", &["EVALSHA", queue, "2", "lua:q", "lua:q:issued", "{user}"]).bare(),
        Case::of_new("Lua, granted", &["EVALSHA", instant, "3", "lua:i", "lua:i:issued", "lua:i:grants", "{user}"])
            .bare(),
        Case::of_new("REQUEST, queued", &["COUPON.REQUEST", "queue", "{user}"]),
        Case::of_known("REQUEST, duplicate", &["COUPON.REQUEST", "queue", "{user}"]),
        Case::of_new("REQUEST, sold out", &["COUPON.REQUEST", "sold", "{user}"]),
        Case::of_new("REQUEST, granted", &["COUPON.REQUEST", "instant", "{user}"]),
        Case::of_known("STATUS", &["COUPON.STATUS", "queue", "{user}"]),
        Case::of_known("ISSUE, each grant", &["COUPON.ISSUE", "queue", "COUNT", "500"]).grouped(COUNT),
    ];
    if has_mrequest {
        let mut case = Case::of_new("MREQUEST of 16, each user", &["COUPON.MREQUEST", "multi"]).grouped(16);
        case.words.extend((0..16).map(|user| format!("{{user:{user}/16}}")));
        cases.push(case);
    }
    cases
}

/// Counts and compares; true if nothing is above its budget.
pub async fn run(settings: &Settings) -> Result<bool> {
    let mut counted = Counted::start(&settings.module, &settings.config).await?;
    let mut server = Server::connect(&counted.url).await?;
    let queue = server.load_script(include_str!("../peers/request_queue.lua")).await?;
    let instant = server.load_script(include_str!("../peers/request_instant.lua")).await?;
    let has_mrequest = server.knows("COUPON.MREQUEST").await?;
    prepare(&mut server).await?;

    let mut counts = Vec::new();
    for case in cases(&queue, &instant, has_mrequest) {
        counted.begin().await?;
        send(&server, &case.words, case.from..case.from + case.calls, ONE).await.context(case.name)?;
        let (count, file) = counted.end().await?;
        if let Some(directory) = &settings.keep {
            std::fs::create_dir_all(directory)?;
            std::fs::copy(file, directory.join(case.name.replace([' ', ','], "-")))?;
        }
        counts.push((case, count));
    }

    let recorded = read(settings);
    let is_comparable = recorded.as_ref().is_ok_and(|budget| budget.redis == server.version);
    let is_kept = print(&counts, recorded.as_ref().ok().filter(|_| is_comparable));
    if settings.record {
        write(settings, &counts, server.version)?;
        return Ok(true);
    }
    let budget = recorded?;
    if !is_comparable {
        println!("\nNot compared: the budget was counted on Redis {}, this is {}", budget.redis, server.version);
        return Ok(true);
    }
    if !is_kept {
        println!(
            "\nAbove the budget by more than {} %. If the price is right: make budget RECORD=1",
            budget.margin_percent
        );
    }
    Ok(is_kept)
}

/// The sets, the coupons and their Lua twins, with the same users in all of them.
async fn prepare(server: &mut Server) -> Result<()> {
    for (key, quantity, mode) in [
        ("queue", 1_000_000, "QUEUE"),
        ("sold", USERS, "QUEUE"),
        ("instant", 1_000_000, "INSTANT"),
        ("multi", 1_000_000, "QUEUE"),
    ] {
        server.open(key, quantity, mode).await?;
        send(server, &["COUPON.REQUEST".to_owned(), key.to_owned(), "{user}".to_owned()], 0..USERS, GATEWAY).await?;
    }
    // A sale turns users away for longer than it takes to learn who is in.
    let strangers = USERS.saturating_mul(2)..USERS.saturating_mul(2).saturating_add(USERS / 16);
    send(server, &["COUPON.REQUEST", "sold", "{user}"].map(str::to_owned), strangers, GATEWAY).await?;
    for set in ["z", "lua:q:issued", "lua:i:issued"] {
        let words = ["ZADD", set, "NX", "{score}", "{user}"].map(str::to_owned);
        send(server, &words, 0..USERS, GATEWAY).await?;
    }
    let granted = USERS.to_string();
    for (hash, seq) in [("lua:q", "0"), ("lua:i", granted.as_str())] {
        server
            .run(&[
                "HSET",
                hash,
                "status",
                "AVAILABLE",
                "places",
                "1000000",
                "remaining",
                "500000",
                "opens_at",
                "0",
                "expires_at",
                "0",
                "seq",
                seq,
                "epoch",
                "1",
            ])
            .await?;
    }
    Ok(())
}

async fn send(server: &Server, words: &[String], calls: std::ops::Range<u32>, shape: Shape) -> Result<()> {
    let caller = Repeat::new(Template::new(words));
    let run =
        drive(&server.target, shape, calls.collect::<Arc<[u32]>>(), Answered::default(), || caller.clone()).await?;
    match run.callers.into_iter().find_map(|caller| caller.surprise) {
        Some(surprise) => bail!("{} was answered: {surprise}", words.join(" ")),
        None => Ok(()),
    }
}

fn each(case: &Case, count: u64) -> u64 {
    count / u64::from(case.calls * case.units_per_call)
}

/// Where instructions lie, by what stands in the file's name.
const OBJECTS: [(&str, &str); 4] =
    [("redis", "redis-"), ("jemalloc", "jemalloc"), ("libc", "libc.so"), ("module", "coupon")];

/// The table; true if nothing is above.
fn print(counts: &[(Case, Count)], budget: Option<&Budget>) -> bool {
    let mut head = format!("{:<28}{:>10}", "instructions", "a call");
    for (name, _) in OBJECTS {
        head.push_str(&format!("{name:>10}"));
    }
    println!("{head}{:>10}", "budget");
    let mut is_kept = true;
    for (case, count) in counts {
        let total = each(case, count.total);
        let recorded = budget.and_then(|budget| Some((*budget.instructions.get(case.name)?, budget.margin_percent)));
        let verdict = match recorded {
            Some((recorded, margin)) => judge(total, recorded, margin),
            None if case.is_ours && budget.is_some() => Verdict::NotRecorded,
            None => Verdict::NotJudged,
        };
        is_kept &= !matches!(verdict, Verdict::Above | Verdict::NotRecorded);
        let mut row = format!("{:<28}{:>10}", case.name, thousands(total as f64));
        for (_, part) in OBJECTS {
            let within: u64 =
                count.by_object.iter().filter(|(name, _)| name.contains(part)).map(|(_, count)| *count).sum();
            row.push_str(&format!("{:>10}", thousands(each(case, within) as f64)));
        }
        let recorded = recorded.map(|(recorded, _)| thousands(recorded as f64)).unwrap_or_default();
        println!("{row}{recorded:>10}  {}", verdict.text());
    }
    is_kept
}

/// What a count comes to beside what is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kept,
    Above,
    Below,
    NotRecorded,
    NotJudged,
}

impl Verdict {
    const fn text(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Above => "ABOVE",
            Self::Below => "below: record it anew",
            Self::NotRecorded => "NOT RECORDED",
            Self::NotJudged => "",
        }
    }
}

const fn judge(count: u64, recorded: u64, margin_percent: u64) -> Verdict {
    if count * 100 > recorded * (100 + margin_percent) {
        Verdict::Above
    } else if count * (100 + margin_percent) < recorded * 100 {
        Verdict::Below
    } else {
        Verdict::Kept
    }
}

fn read(settings: &Settings) -> Result<Budget> {
    let file = settings.budget.display();
    let text = std::fs::read_to_string(&settings.budget).with_context(|| format!("cannot read {file}"))?;
    serde_json::from_str(&text).with_context(|| format!("{file} is no budget"))
}

fn write(settings: &Settings, counts: &[(Case, Count)], redis: String) -> Result<()> {
    let ours = counts.iter().filter(|(case, _)| case.is_ours);
    let instructions = ours.map(|(case, count)| (case.name.to_owned(), each(case, count.total))).collect();
    let budget = Budget { redis, margin_percent: MARGIN_PERCENT, instructions };
    std::fs::write(&settings.budget, serde_json::to_string_pretty(&budget)? + "\n")?;
    println!("\nwritten to {}", settings.budget.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_kept_within_the_margin_on_both_sides() {
        let verdicts = [90, 91, 100, 110, 111].map(|count| judge(count, 100, 10));
        assert_eq!(verdicts, [Verdict::Below, Verdict::Kept, Verdict::Kept, Verdict::Kept, Verdict::Above]);
    }

    #[test]
    fn the_written_budget_names_every_command_of_the_module() -> Result<()> {
        let budget: Budget = serde_json::from_str(include_str!("../budget.json"))?;
        let ours: Vec<_> = cases("", "", true).into_iter().filter(|case| case.is_ours).collect();
        for case in ours {
            assert!(budget.instructions.contains_key(case.name), "{}: make budget RECORD=1", case.name);
        }
        Ok(())
    }
}
