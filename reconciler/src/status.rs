//! `status`: every coupon as both sides see it, once or again and again.

mod peer;
mod table;
mod watch;

use crate::cli;
use crate::error::{Error, Exit, Failure, wording};
use crate::ledger::{Ledger, Row};
use crate::redis::{Info, Redis};
use futures_util::future::join_all;
use peer::Peer;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};

/// One coupon.
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
    dead_letters: u64,
    /// Absent where Redis has no such coupon, or cannot say.
    redis: Option<Seen>,
    /// Why Redis cannot say.
    error: Option<String>,
    /// What a running daemon knows of it; absent where none answers.
    daemon: Option<Peer>,
    /// Since the look before.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<watch::Rates>,
}

/// The same coupon in Redis.
#[derive(Debug, Serialize)]
struct Seen {
    status: &'static str,
    requested: u64,
    granted: u64,
    waiting: u64,
    persisted: u64,
    remaining: u64,
    /// Grants that are not in the ledger.
    lag: u64,
    epoch: u64,
    fenced: bool,
}

/// Where it looks.
struct View<'a> {
    args: &'a cli::Status,
    redis: &'a Redis,
    ledger: &'a Ledger,
}

/// Shows them.
pub async fn obey(args: &cli::Status, redis: &Redis, ledger: &Ledger) -> Result<Exit, Failure> {
    let view = View { args, redis, ledger };
    if let Some(every) = args.watch {
        return watch::watch(&view, every).await;
    }
    let lines = view.look().await?;
    let mut out = io::stdout().lock();
    let shown = if args.json {
        serde_json::to_writer_pretty(&mut out, &lines).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        out.write_all(table::draw(&lines).join("\n").as_bytes()).and_then(|()| writeln!(out))
    };
    ended(shown).map(|_| Exit::Ok)
}

/// Whether there is anybody left to write to. Whoever reads may have read enough, as with `| head`.
fn ended(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Failure::new(Exit::Failed, format!("the table cannot be written: {error}"))),
    }
}

impl View<'_> {
    async fn look(&self) -> Result<Vec<Line>, Failure> {
        self.redis.now_ms().await?;
        self.ledger.ping().await?;
        let (lines, mut peers) = tokio::join!(self.lines(), peer::ask(self.args.listen));
        let mut lines = lines?;
        for line in &mut lines {
            line.daemon = peers.remove(&line.id);
        }
        Ok(lines)
    }

    async fn lines(&self) -> Result<Vec<Line>, Error> {
        let mut lines = Vec::new();
        let mut pages = self.ledger.pages();
        let keys = &self.args.redis.key;
        while let Some(rows) = pages.next().await? {
            let ids: Vec<&str> = rows.iter().map(|row| &*row.id).collect();
            let letters: HashMap<String, u64> = self.ledger.count_letters(&ids).await?;
            let infos = join_all(rows.iter().map(|row| async { self.redis.info(&keys.key(&row.id)).await })).await;
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
                    dead_letters: letters.get(&row.id).copied().unwrap_or_default(),
                    id: row.id,
                    redis: seen,
                    error,
                    daemon: None,
                    rates: None,
                });
            }
        }
        Ok(lines)
    }
}

fn see(row: &Row, info: &Info) -> Seen {
    Seen {
        status: info.status.word(),
        requested: info.requested,
        granted: info.granted.0,
        waiting: info.waiting,
        persisted: info.persisted.0,
        remaining: info.definition.quantity.saturating_sub(info.granted.0),
        lag: info.granted.0.saturating_sub(row.position.seq.0),
        epoch: info.epoch.0,
        fenced: info.fenced,
    }
}
