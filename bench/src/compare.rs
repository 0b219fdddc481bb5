//! Ours beside what one would use without it, in one run on the same servers, as ratios.

mod calls;
mod connections;
mod core;
mod daemon;
mod idle;
mod issue;
mod latency;
mod mrequest;
mod neighbours;
pub mod place;
mod relay;
mod sale;
mod size;

use crate::findings::{Circumstances, Findings};
use crate::{page, table};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use place::Place;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Settings of the comparison.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// A private Redis with the module; what lies in it is deleted
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
    /// A private, migrated ledger; what lies in it is deleted
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The reconciler's program; it is started and stopped as each line needs it
    #[arg(long, env = "COUPON_RECONCILER")]
    reconciler: PathBuf,
    /// Where PostgreSQL's psql and pgbench are
    #[arg(long, env = "POSTGRES_BIN")]
    postgres_bin: PathBuf,
    /// Only these lines, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Topic>,
    /// A tenth of everything, to see that it runs; its figures mean little
    #[arg(long)]
    quick: bool,
    /// The order of the users follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The core that the load stays on, where there is taskset; programs that are started may use all
    #[arg(long)]
    core: Option<usize>,
    /// Where results.json, table.md and the page go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

/// Lines that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// REQUEST accepted, beside ZADD and a Lua script; memory for a user
    Accepted,
    /// REQUEST granted at once, beside a Lua script
    Instant,
    /// REQUEST on a sold-out coupon, beside HMGET
    SoldOut,
    /// REQUEST by a user already in, and STATUS, beside ZSCORE
    Lookup,
    /// MREQUEST of 16 users, beside single calls
    Mrequest,
    /// ISSUE of a million users, beside XADD; memory for a grant; PING meanwhile
    Issue,
    /// 1, 8, 64, 512 connections without pipelining, beside SET
    Connections,
    /// What a REQUEST costs in sets of 1 k to 5 M users, beside ZADD
    Size,
    /// From grant to committed row, beside a bare commit
    Latency,
    /// Rows per second, beside psql; the reconciler's memory with a million grants to go
    Relay,
    /// 10,000 idle coupons
    Idle,
    /// 100,000 idle coupons, and 100 small ones beside a line of 2,000,000; only if it is named, as it takes long
    Neighbours,
    /// A whole sale, beside the pattern it grew out of, and beside PostgreSQL alone
    Sale,
}

/// Everything that results.json holds.
#[derive(Serialize)]
struct Results<'a> {
    circumstances: &'a Circumstances,
    #[serde(flatten)]
    findings: &'a Findings,
}

/// Measures, prints, writes; an interrupt ends whatever was started.
pub async fn run(settings: &Settings) -> Result<()> {
    tokio::select! {
        done = measure(settings) => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("interrupted; what was measured so far is above")
        }
    }
}

async fn measure(settings: &Settings) -> Result<()> {
    if let Some(core) = settings.core {
        core::stay_on(core).await?;
    }
    let mut place = Place::enter(settings).await?;
    let circumstances = place.circumstances().await?;
    println!("{}\n{}\n{}", circumstances.machine, circumstances.servers, circumstances.method);
    let topics: Vec<Topic> = Topic::value_variants()
        .iter()
        .filter(|topic| match &*settings.only {
            [] => **topic != Topic::Neighbours,
            only => only.contains(topic),
        })
        .copied()
        .collect();
    let start = Instant::now();
    let (mut all, mut failed) = (Findings::default(), Vec::new());
    let progress = progress_bar(topics.len())?;
    for (number, topic) in topics.iter().enumerate() {
        let name = topic.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        progress.suspend(|| println!("\n[{}/{}] {name}", number + 1, topics.len()));
        progress.set_message(name.clone());
        match topic.measure(&mut place).await {
            Ok(findings) => {
                progress.suspend(|| findings.lines.iter().for_each(table::print_line));
                all.join(findings);
            }
            // The others are worth measuring all the same.
            Err(error) => {
                progress.suspend(|| println!("  failed: {error:#}"));
                failed.push(name);
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    println!("\nAll lines, after {:.0} s", start.elapsed().as_secs_f64());
    table::print_all(&all.lines);

    write(settings, &circumstances, &all)?;
    ensure!(failed.is_empty(), "could not be measured: {}", failed.join(", "));
    Ok(())
}

/// Writes the files, and says where they are.
fn write(settings: &Settings, circumstances: &Circumstances, findings: &Findings) -> Result<()> {
    std::fs::create_dir_all(&settings.out).with_context(|| format!("cannot make {}", settings.out.display()))?;
    let json = settings.out.join("results.json");
    let results = Results { circumstances, findings };
    std::fs::write(&json, serde_json::to_string_pretty(&results)?)?;
    let html = settings.out.join("index.html");
    std::fs::write(&html, page::render(circumstances, findings))?;
    let markdown = settings.out.join("table.md");
    std::fs::write(&markdown, table::markdown(&findings.lines))?;
    println!("\n{}\n{}\n{}", json.display(), markdown.display(), html.display());
    Ok(())
}

/// A bar with a clock on a terminal, nothing elsewhere: what is measured is printed as it comes, either way.
fn progress_bar(topics: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} {msg}")?;
    let bar = ProgressBar::new(u64::try_from(topics)?).with_style(style);
    bar.enable_steady_tick(Duration::from_secs(1));
    Ok(bar)
}

impl Topic {
    async fn measure(self, place: &mut Place) -> Result<Findings> {
        match self {
            Self::Accepted => calls::accepted(place).await,
            Self::Instant => calls::instant(place).await,
            Self::SoldOut => calls::sold_out(place).await,
            Self::Lookup => calls::lookup(place).await,
            Self::Mrequest => mrequest::measure(place).await,
            Self::Issue => issue::measure(place).await,
            Self::Connections => connections::measure(place).await,
            Self::Size => size::measure(place).await,
            Self::Latency => latency::measure(place).await,
            Self::Relay => relay::measure(place).await,
            Self::Idle => idle::measure(place).await,
            Self::Neighbours => neighbours::measure(place).await,
            Self::Sale => sale::measure(place).await,
        }
    }
}
