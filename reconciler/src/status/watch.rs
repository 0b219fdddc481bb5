//! `status --watch`: looks again and again, until Ctrl-C.

use super::{Line, View, ended, table};
use crate::error::{Exit, Failure};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use terminal_size::{Height, Width, terminal_size};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// What is left of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// What is left of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// How much there was in a second, between two looks.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rates {
    /// Requests that Redis accepted.
    pub requests_per_second: f64,
    /// Grants in Redis.
    pub grants_per_second: f64,
    /// Rows in PostgreSQL, dead letters included.
    pub rows_per_second: f64,
}

/// What the rates are taken from.
#[derive(Default)]
struct Before {
    at: Option<Instant>,
    counts: HashMap<String, Counts>,
}

/// How many there were in all.
#[derive(Clone, Copy)]
struct Counts {
    /// In Redis, if it could say.
    requests: Option<u64>,
    /// In Redis, if it could say.
    grants: Option<u64>,
    /// In the ledger.
    rows: u64,
}

impl Counts {
    fn of(line: &Line) -> Self {
        let seen = line.redis.as_ref();
        Self { requests: seen.map(|seen| seen.requested), grants: seen.map(|seen| seen.granted), rows: line.seq }
    }

    fn rates_since(self, then: Self, seconds: f64) -> Rates {
        let rate = |then: Option<u64>, now: Option<u64>| {
            then.zip(now).map_or(0.0, |(then, now)| now.saturating_sub(then) as f64 / seconds)
        };
        Rates {
            requests_per_second: rate(then.requests, self.requests),
            grants_per_second: rate(then.grants, self.grants),
            rows_per_second: rate(Some(then.rows), Some(self.rows)),
        }
    }
}

/// Shows them until somebody has seen enough.
pub async fn watch(view: &View<'_>, every: Duration) -> Result<Exit, Failure> {
    let is_terminal = io::stdout().is_terminal();
    let mut before = Before::default();
    let enough = tokio::signal::ctrl_c();
    tokio::pin!(enough);
    loop {
        let look = tokio::select! {
            look = view.look() => look,
            _ = &mut enough => return Ok(Exit::Ok),
        };
        let shown = match look {
            Ok(mut lines) => {
                before.rate(&mut lines, Instant::now());
                show(&lines, view.args.json, is_terminal)
            }
            // Whoever watches wants to see it come back.
            Err(failure) if failure.exit == Exit::Unreachable => {
                view.redis.disconnect().await;
                view.ledger.forget_connections();
                say(&failure.message, is_terminal)
            }
            Err(failure) => return Err(failure),
        };
        if ended(shown)? {
            return Ok(Exit::Ok);
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = &mut enough => return Ok(Exit::Ok),
        }
    }
}

impl Before {
    /// Fills in the rates since the look before, and remembers this one.
    fn rate(&mut self, lines: &mut [Line], now: Instant) {
        let seconds = self.at.map(|at| now.duration_since(at).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        for line in lines.iter_mut() {
            let now = Counts::of(line);
            let then = self.counts.insert(line.id.clone(), now);
            line.rates = seconds.zip(then).map(|(seconds, then)| now.rates_since(then, seconds));
        }
        self.at = Some(now);
    }
}

fn show(lines: &[Line], json: bool, is_terminal: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, lines)?;
        writeln!(out)?;
    } else if is_terminal {
        let mut text = vec![now()];
        text.extend(table::draw(lines));
        redraw(&mut out, &text)?;
    } else {
        writeln!(out, "{}\n{}\n", now(), table::draw(lines).join("\n"))?;
    }
    out.flush()
}

fn say(message: &str, is_terminal: bool) -> io::Result<()> {
    if is_terminal {
        redraw(&mut io::stdout().lock(), &[now(), message.to_owned()])
    } else {
        // Not among what another program reads.
        eprintln!("{} {message}", now());
        Ok(())
    }
}

/// Over what stands there, line by line, so that nothing flickers; what does not fit is counted.
fn redraw(out: &mut impl Write, lines: &[String]) -> io::Result<()> {
    let (width, height) = terminal_size().map_or((usize::MAX, usize::MAX), |(Width(width), Height(height))| {
        (usize::from(width), usize::from(height).saturating_sub(1).max(2))
    });
    let fits = if lines.len() > height { height - 1 } else { lines.len() };
    write!(out, "{HOME}")?;
    for line in lines.iter().take(fits) {
        let cut: String = line.chars().take(width).collect();
        writeln!(out, "{cut}{CLEAR_LINE}")?;
    }
    if fits < lines.len() {
        writeln!(out, "… and {} more{CLEAR_LINE}", lines.len() - fits)?;
    }
    write!(out, "{CLEAR_BELOW}")?;
    out.flush()
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}
