//! `verify`: the chain recomputed over the rows, as proof of who was granted in which order.

use super::{each_coupon, print_found};
use crate::audit::Pace;
use crate::cli;
use crate::error::{Error, Exit, Failure};
use crate::ledger::Ledger;
use crate::model::coupon::Row;
use coupon_core::position::Position;
use serde::Serialize;
use std::io::{self, Write};

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
pub async fn verify(ledger: &Ledger, args: &cli::Verify) -> Result<Exit, Failure> {
    ledger.ping().await?;
    let mut findings = Vec::new();
    each_coupon(ledger, args.coupon.as_deref(), async |row| {
        findings.push(match row {
            Ok(row) => walk(ledger, &row).await?,
            Err(row) => Finding { broken: Some(row.to_string()), id: row.id, rows: 0, dead_letters: 0 },
        });
        Ok(())
    })
    .await?;
    print_found(args.json, &findings[..], write_lines)?;
    Ok(if findings.iter().all(|finding| finding.broken.is_none()) { Exit::Ok } else { Exit::Failed })
}

async fn walk(ledger: &Ledger, row: &Row) -> Result<Finding, Error> {
    let mut finding = Finding { id: row.id.clone(), rows: 0, dead_letters: 0, broken: None };
    let mut at = Position::default();
    let pace = Pace::full();
    // Grants that the relay adds meanwhile lie beyond the position that was read before.
    while at.seq < row.position.seq {
        let left = u32::try_from(row.position.seq.0 - at.seq.0).unwrap_or(u32::MAX);
        let links = ledger.history(&row.id, at.seq, left.min(GRANTS_PAGE)).await?;
        for link in &links {
            match link.follow(at) {
                Ok(next) => at = next,
                Err(broken) => return Ok(Finding { broken: Some(broken), ..finding }),
            }
            finding.rows += u64::from(!link.is_dead);
            finding.dead_letters += u64::from(link.is_dead);
        }
        if links.is_empty() {
            break;
        }
        pace.show(&row.id, at.seq, row.position.seq);
    }
    finding.broken = at_the_end(row, at, finding.rows);
    Ok(finding)
}

fn at_the_end(row: &Row, at: Position, rows: u64) -> Option<String> {
    let Row { position, granted, .. } = row;
    let units = row.told.map_or(0, |told| told.offer.definition.quantity);
    if at != *position {
        return Some(format!("the coupon stands at {position}, its grants end at {at}"));
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
