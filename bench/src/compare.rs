//! Single commands beside the bare Redis commands that an application would use in their place, alternating on one
//! server, so that whatever slows one round down slows both sides. What counts is the ratio.

use crate::connection::{Reply, Target, push_command};
use crate::load::{Answered, Caller, Shape, drive};
use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use std::io::Write;
use std::sync::Arc;

/// As a gateway talks to Redis: few connections, many requests in flight.
const SHAPE: Shape = Shape { connections: 8, pipeline: 16 };

/// Settings of the comparison.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// A private Redis with the module; keys named bench:* are deleted there
    #[arg(long)]
    redis_url: String,
    /// Calls of each command in each round
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    calls: u32,
    /// Rounds; the order of the two sides alternates
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

/// A coupon command, the bare command, and what both run against.
struct Line {
    what: &'static str,
    peer: &'static str,
    setup: Setup,
    command: &'static [&'static str],
    bare: &'static [&'static str],
}

/// The state before each round.
#[derive(Clone, Copy)]
enum Setup {
    /// A coupon that nobody has requested.
    Fresh,
    /// A coupon whose only unit is gone, to a user who does not take part.
    SoldOut,
    /// A coupon, and a bare sorted set, with all users in.
    Full,
}

/// In the commands, USER stands for the user's number and SCORE for an arrival time that increases with it.
const LINES: &[Line] = &[
    Line {
        what: "REQUEST, accepted",
        peer: "ZADD NX, increasing scores",
        setup: Setup::Fresh,
        command: &["COUPON.REQUEST", "bench:{c}", "USER"],
        bare: &["ZADD", "bench:{z}", "NX", "SCORE", "USER"],
    },
    Line {
        what: "REQUEST, sold out",
        peer: "HMGET status remaining",
        setup: Setup::SoldOut,
        command: &["COUPON.REQUEST", "bench:{c}", "USER"],
        bare: &["HMGET", "bench:{c}", "status", "remaining"],
    },
    Line {
        what: "REQUEST, already in",
        peer: "ZSCORE",
        setup: Setup::Full,
        command: &["COUPON.REQUEST", "bench:{c}", "USER"],
        bare: &["ZSCORE", "bench:{z}", "USER"],
    },
    Line {
        what: "STATUS",
        peer: "ZSCORE",
        setup: Setup::Full,
        command: &["COUPON.STATUS", "bench:{c}", "USER"],
        bare: &["ZSCORE", "bench:{z}", "USER"],
    },
];

/// Sends one command for every call.
struct Repeat {
    words: &'static [&'static str],
    first_error: Option<String>,
}

impl Caller for Repeat {
    fn encode(&self, call: u32, out: &mut Vec<u8>) {
        let (mut user, mut score) = (Vec::with_capacity(10), Vec::with_capacity(16));
        // Writing to a vector cannot fail.
        let _ = write!(user, "{call}");
        let _ = write!(score, "{}", 1_700_000_000_000_000 + u64::from(call));
        let mut words: [&[u8]; 5] = [&[]; 5];
        for (slot, word) in words.iter_mut().zip(self.words) {
            *slot = match *word {
                "USER" => &user,
                "SCORE" => &score,
                word => word.as_bytes(),
            };
        }
        push_command(out, words.get(..self.words.len()).unwrap_or_default());
    }

    fn take(&mut self, _call: u32, reply: Reply<'_>) {
        if let Reply::Error(text) = reply {
            self.first_error.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
        }
    }
}

/// Runs all lines and prints them as a table.
pub async fn run(settings: &Settings) -> Result<()> {
    let target = Target::parse(&settings.redis_url)?;
    let client = redis::Client::open(settings.redis_url.as_str()).context("the Redis URL cannot be read")?;
    let mut redis = client.get_multiplexed_async_connection().await.context("no connection to Redis")?;
    let bench = Bench { target, calls: (1..=settings.calls).collect() };
    println!(
        "{} calls a round, {} rounds, {} connections with {} calls in flight each; calls per second are medians\n",
        settings.calls, settings.rounds, SHAPE.connections, SHAPE.pipeline
    );
    println!("{:<20}{:>10}   {:<27}{:>10}   {:>6}   spread", "", "calls/s", "compared with", "calls/s", "ratio");
    for line in LINES {
        let mut rounds = Vec::new();
        for round in 0..settings.rounds {
            bench.set_up(line.setup, &mut redis).await?;
            rounds.push(if round % 2 == 0 {
                let rate = bench.rate(line.command).await?;
                Round { rate, bare: bench.rate(line.bare).await? }
            } else {
                let bare = bench.rate(line.bare).await?;
                Round { rate: bench.rate(line.command).await?, bare }
            });
        }
        let ratio = Spread::of(rounds.iter().map(|round| round.rate / round.bare));
        println!(
            "{:<20}{:>10.0}   {:<27}{:>10.0}   {:>6.2}   {:.2} to {:.2}",
            line.what,
            Spread::of(rounds.iter().map(|round| round.rate)).median,
            line.peer,
            Spread::of(rounds.iter().map(|round| round.bare)).median,
            ratio.median,
            ratio.least,
            ratio.most
        );
    }
    Ok(())
}

/// Calls per second of both sides.
struct Round {
    rate: f64,
    bare: f64,
}

struct Bench {
    target: Target,
    calls: Arc<[u32]>,
}

impl Bench {
    async fn set_up(&self, setup: Setup, redis: &mut MultiplexedConnection) -> Result<()> {
        let quantity = match setup {
            Setup::SoldOut => 1,
            Setup::Fresh | Setup::Full => 1_000_000_000,
        };
        let () = redis::pipe()
            .cmd("DEL")
            .arg(&["bench:{c}", "bench:{c}:issued", "bench:{c}:grants", "bench:{z}"])
            .cmd("COUPON.OPEN")
            .arg(&["bench:{c}", "QUANTITY"])
            .arg(quantity)
            .query_async(redis)
            .await?;
        match setup {
            Setup::Fresh => {}
            Setup::SoldOut => {
                redis::cmd("COUPON.REQUEST").arg("bench:{c}").arg("first").exec_async(redis).await?;
            }
            Setup::Full => {
                self.rate(&["COUPON.REQUEST", "bench:{c}", "USER"]).await?;
                self.rate(&["ZADD", "bench:{z}", "NX", "SCORE", "USER"]).await?;
            }
        }
        Ok(())
    }

    async fn rate(&self, words: &'static [&'static str]) -> Result<f64> {
        let caller = || Repeat { words, first_error: None };
        let run = drive(&self.target, SHAPE, Arc::clone(&self.calls), Answered::default(), caller).await?;
        if let Some(error) = run.callers.into_iter().find_map(|caller| caller.first_error) {
            bail!("{}: {error}", words.join(" "));
        }
        Ok(self.calls.len() as f64 / run.elapsed.as_secs_f64())
    }
}

/// The middle of some figures, and their ends.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        Self { least: at(0), median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), most: at(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        let spread = |figures: &[f64]| {
            let Spread { least, median, most } = Spread::of(figures.iter().copied());
            (least, median, most)
        };
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), (1.0, 2.5, 4.0));
    }

    #[test]
    fn places_in_a_command_are_filled() {
        let mut out = Vec::new();
        Repeat { words: &["ZADD", "k", "NX", "SCORE", "USER"], first_error: None }.encode(7, &mut out);
        let filled: [&[u8]; 5] = [b"ZADD", b"k", b"NX", b"1700000000000007", b"7"];
        assert_eq!(out, crate::connection::command(&filled));
    }
}
