//! `status`: every coupon as both sides see it.

use crate::error::Error;
use crate::exit::{Exit, Failure};
use crate::ledger::{Ledger, Row};
use crate::redis::{Info, Redis, wording};
use coupon_core::key::KeyPattern;
use futures_util::future::join_all;
use serde::Serialize;
use std::io::{self, Write};

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    status: &'static str,
    mode: &'static str,
    quantity: u64,
    /// Rows in user_coupon.
    granted: u64,
    /// The newest grant in the ledger.
    seq: u64,
    epoch: u64,
    /// Absent where Redis has no such coupon, or cannot say.
    redis: Option<Seen>,
    /// Why Redis cannot say.
    error: Option<String>,
}

/// The same coupon in Redis.
#[derive(Debug, Serialize)]
struct Seen {
    status: &'static str,
    granted: u64,
    waiting: u64,
    persisted: u64,
    /// Grants that are not in the ledger.
    lag: u64,
    epoch: u64,
    fenced: bool,
}

/// Shows them.
pub async fn show(redis: &Redis, ledger: &Ledger, keys: &KeyPattern, json: bool) -> Result<Exit, Failure> {
    redis.now_ms().await.map_err(|error| crate::unreachable("Redis", &error))?;
    ledger.ping().await.map_err(|error| crate::unreachable("PostgreSQL", &error))?;
    let lines = lines(redis, ledger, keys).await.map_err(|error| Failure::new(Exit::Failed, error))?;
    let written = if json { write_json(&lines) } else { write_table(&lines) };
    match written {
        // Whoever reads has read enough, as with `| head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(error) => Err(Failure::new(Exit::Failed, format!("the table cannot be written: {error}"))),
        Ok(()) => Ok(Exit::Ok),
    }
}

async fn lines(redis: &Redis, ledger: &Ledger, keys: &KeyPattern) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut pages = ledger.pages();
    let unreadable =
        |error: Error| format!("the coupons cannot be read: {error}; `coupon-reconciler check` says what is missing");
    while let Some(rows) = pages.next().await.map_err(unreadable)? {
        let infos = join_all(rows.iter().map(|row| async { redis.info(&keys.key(&row.id)).await })).await;
        for (row, info) in rows.into_iter().zip(infos) {
            let (seen, error) = match info {
                Ok(info) => (info.map(|info| see(&row, &info)), None),
                Err(error) => (None, Some(wording(&error))),
            };
            lines.push(Line {
                status: row.status.word(),
                mode: row.definition.mode.word(),
                quantity: row.definition.quantity,
                granted: row.granted,
                seq: row.position.seq.0,
                epoch: row.epoch.0,
                id: row.id,
                redis: seen,
                error,
            });
        }
    }
    Ok(lines)
}

fn see(row: &Row, info: &Info) -> Seen {
    Seen {
        status: info.status.word(),
        granted: info.granted.0,
        waiting: info.waiting,
        persisted: info.persisted.0,
        lag: info.granted.0.saturating_sub(row.position.seq.0),
        epoch: info.epoch.0,
        fenced: info.fenced,
    }
}

fn write_json(lines: &[Line]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, lines)?;
    writeln!(out)
}

fn write_table(lines: &[Line]) -> io::Result<()> {
    const HEAD: [&str; 9] =
        ["ID", "STATUS", "QUANTITY", "GRANTED", "SEQ", "REDIS GRANTED", "WAITING", "PERSISTED", "LAG"];
    let mut rows: Vec<(Vec<String>, &str)> = vec![(HEAD.map(str::to_owned).to_vec(), "FENCE")];
    for line in lines {
        let mut cells: Vec<String> = vec![line.id.clone(), line.status.to_owned()];
        cells.extend([line.quantity, line.granted, line.seq].map(|n| n.to_string()));
        let fence = match (&line.redis, &line.error) {
            (Some(seen), _) => {
                cells.extend([seen.granted, seen.waiting, seen.persisted, seen.lag].map(|n| n.to_string()));
                if seen.fenced { "fenced" } else { "open" }
            }
            (None, error) => {
                cells.extend(["-", "-", "-", "-"].map(str::to_owned));
                error.as_deref().unwrap_or("not in Redis")
            }
        };
        rows.push((cells, fence));
    }
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| rows.iter().filter_map(|(cells, _)| cells.get(column)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = io::stdout().lock();
    for (cells, last) in &rows {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            if column < 2 { write!(out, "{cell:<width$}  ")? } else { write!(out, "{cell:>width$}  ")? }
        }
        writeln!(out, "{last}")?;
    }
    Ok(())
}
