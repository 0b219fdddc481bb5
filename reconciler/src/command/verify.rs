//! `verify`: the chain recomputed over the rows, as proof of who was granted in which order.

use super::{print, print_json};
use crate::error::{Error, Exit, Failure};
use crate::ledger::Ledger;
use crate::model::coupon::Row;
use coupon_core::number::Seq;
use coupon_core::position::Position;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Grants read at once: some megabytes, whatever the coupon's size.
const GRANTS_PAGE: u32 = 10_000;

/// What was found of one coupon.
#[derive(Debug, Serialize)]
struct Finding {
    id: String,
    /// Rows in user_coupon.
    rows: u64,
    /// Rows in coupon_dead_letter.
    dead_letters: u64,
    /// The first thing that breaks the proof; none if it holds.
    broken: Option<String>,
}

/// Verifies one coupon, or all.
pub async fn verify(ledger: &Ledger, id: Option<&str>, json: bool) -> Result<Exit, Failure> {
    ledger.ping().await?;
    let mut findings = Vec::new();
    if let Some(id) = id {
        let row = ledger.row(id).await?;
        let row = row.ok_or_else(|| Failure::new(Exit::Failed, format!("there is no coupon {id} in the ledger")))?;
        findings.push(walk(ledger, &row).await?);
    } else {
        let mut pages = ledger.pages();
        while let Some(page) = pages.next().await? {
            for row in &page {
                findings.push(walk(ledger, row).await?);
            }
        }
    }
    if json { print_json(&findings) } else { print(|out| write_lines(out, &findings)) }?;
    Ok(if findings.iter().all(|finding| finding.broken.is_none()) { Exit::Ok } else { Exit::Failed })
}

async fn walk(ledger: &Ledger, row: &Row) -> Result<Finding, Error> {
    let mut finding = Finding { id: row.id.clone(), rows: 0, dead_letters: 0, broken: None };
    let mut at = Position::default();
    let is_watched = io::stderr().is_terminal();
    loop {
        // Grants that the relay adds meanwhile lie beyond the position that was read before.
        let left = row.position.seq.0.saturating_sub(at.seq.0);
        let page = u32::try_from(left.min(u64::from(GRANTS_PAGE))).unwrap_or(GRANTS_PAGE);
        let links = if page == 0 { Vec::new() } else { ledger.history(&row.id, at.seq, page).await? };
        if links.is_empty() {
            break;
        }
        for link in &links {
            match link.follow(at) {
                Ok(next) => at = next,
                Err(broken) => return Ok(Finding { broken: Some(broken), ..finding }),
            }
            if link.is_dead {
                finding.dead_letters += 1;
            } else {
                finding.rows += 1;
            }
        }
        if is_watched {
            eprint!("\r{}: {} of {} grants", row.id, at.seq, row.position.seq);
        }
    }
    if is_watched {
        eprint!("\r\x1b[K");
    }
    finding.broken = at_the_end(row, at, finding.rows);
    Ok(finding)
}

fn at_the_end(row: &Row, at: Position, rows: u64) -> Option<String> {
    let Row { position, granted, .. } = row;
    let units = row.told.map_or(0, |told| told.offer.definition.quantity);
    if at != *position {
        let Seq(last) = at.seq;
        return Some(format!("the coupon stands at {position}, its grants end at seq {last} chain {}", at.chain));
    }
    // A dead letter that was retried meanwhile is counted later than it was read, never earlier.
    if rows < *granted {
        return Some(format!("the coupon counts {granted} rows, and there are {rows}"));
    }
    (*granted > units).then(|| format!("{granted} rows of {units} units"))
}

fn write_lines(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    for Finding { id, rows, dead_letters, broken } in findings {
        match broken {
            None => writeln!(out, "{id}  ok  {rows} rows, {dead_letters} dead letters")?,
            Some(broken) => writeln!(out, "{id}  BROKEN  {broken}")?,
        }
    }
    let broken = findings.iter().filter(|finding| finding.broken.is_some()).count();
    writeln!(out, "{} coupon(s), {broken} broken", findings.len())
}
