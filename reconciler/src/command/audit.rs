//! `audit`: one coupon, or all; one line per finding, or JSON.

use super::{print, print_json};
use crate::audit::{Audit, Finding, Pace, Report, Scope};
use crate::cli;
use crate::coupon::Tools;
use crate::error::{Error, Exit, Failure};
use std::io::{self, Write};
use std::time::Duration;

/// How often a coupon that cannot be compared is tried again: usually it is just being opened.
const SKIPPED_TRIES: u32 = 10;
const SKIPPED_EVERY: Duration = Duration::from_millis(300);

/// What was found in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    coupons: u64,
    left: u64,
    repaired: u64,
    skipped: u64,
}

/// Audits one coupon, or all.
pub async fn audit(tools: &Tools, args: &cli::Audit) -> Result<Exit, Failure> {
    let ledger = &tools.ledger;
    tools.redis.now_ms().await?;
    ledger.ping().await?;
    let failed =
        |error: Error| Failure::new(Exit::Failed, format!("{error}; `coupon-reconciler check` says what is missing"));
    let audit = Audit::new(tools);
    let scope = if args.repair { Scope::Both } else { Scope::Nothing };
    let (mut sum, mut reports, mut pages) = (Sum::default(), Vec::new(), ledger.pages());
    let mut page = match &args.coupon {
        None => pages.next().await.map_err(failed)?,
        Some(id) => Some(ledger.row(id).await.map_err(failed)?.into_iter().collect()),
    };
    while let Some(rows) = page {
        for row in rows {
            let report = patiently(&audit, &row.id, scope).await.map_err(failed)?;
            sum.add(&report);
            if args.json {
                reports.push(report);
            } else {
                print(|out| write_lines(out, &report))?;
            }
        }
        page = if args.coupon.is_none() { pages.next().await.map_err(failed)? } else { None };
    }
    if let Some(id) = args.coupon.as_ref().filter(|_| sum.coupons == 0) {
        return Err(Failure::new(Exit::Failed, format!("there is no coupon {id} in the ledger")));
    }
    if args.json {
        print_json(&reports)?;
    } else {
        let Sum { coupons, left, repaired, skipped } = sum;
        print(|out| {
            writeln!(out, "{coupons} coupon(s): {left} finding(s) left, {repaired} repaired, {skipped} not compared")
        })?;
    }
    Ok(if sum.left == 0 && sum.skipped == 0 { Exit::Ok } else { Exit::Failed })
}

/// Audits one coupon for people, who can wait until it can be compared.
async fn patiently(audit: &Audit<'_>, id: &str, scope: Scope) -> Result<Report, Error> {
    let mut report = Report::default();
    for _ in 0..SKIPPED_TRIES {
        report = match audit.coupon(id, scope, &mut Pace::full()).await {
            Err(error @ Error::Moved) => Report::skipped(id, error.to_string()),
            report => report?,
        };
        if report.skipped.is_none() {
            break;
        }
        tokio::time::sleep(SKIPPED_EVERY).await;
    }
    Ok(report)
}

/// What there is to say of one coupon; nothing if all is well.
fn write_lines(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let id = report.id.escape_debug();
    if let Some(why) = &report.skipped {
        writeln!(out, "{id}  NOT COMPARED  {why}")?;
    }
    for Finding { kind, seq, user, field, reason, advice, .. } in &report.findings {
        write!(out, "{id}  {}", kind.name())?;
        if let Some(seq) = seq {
            write!(out, "  seq {seq}")?;
        }
        if let Some(user) = user {
            // A user id may hold line feeds and worse.
            write!(out, "  user {}", user.escape_debug())?;
        }
        if let Some(field) = field {
            write!(out, "  {field}")?;
        }
        write!(out, "  {}", reason.escape_debug())?;
        match advice {
            None => writeln!(out, "  REPAIRED")?,
            Some(advice) => writeln!(out, "  ->  {advice}")?,
        }
    }
    let Report { more, more_repaired, dead_letters, earlier, .. } = report;
    for (count, what) in [
        (more, "findings more"),
        (more_repaired, "findings more REPAIRED"),
        (dead_letters, "dead letter(s), no drift; `coupon-reconciler dead-letters list` shows them"),
        (earlier, "user(s) who stand earlier than they requested, as a restore put them, no drift"),
    ] {
        if *count > 0 {
            writeln!(out, "{id}  and {count} {what}")?;
        }
    }
    Ok(())
}

impl Sum {
    fn add(&mut self, report: &Report) {
        let left = report.left().count() as u64;
        let repaired = (report.findings.len() as u64).saturating_sub(left);
        self.coupons = self.coupons.saturating_add(1);
        self.left = self.left.saturating_add(left).saturating_add(report.more);
        self.repaired = self.repaired.saturating_add(repaired).saturating_add(report.more_repaired);
        self.skipped = self.skipped.saturating_add(u64::from(report.skipped.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Kind;
    use coupon_core::number::Seq;

    #[test]
    fn a_line_names_coupon_kind_seq_user_reason_and_what_to_do() -> io::Result<()> {
        let mut report = Report::new("a");
        report.add(Finding::of_grant(Kind::RowExtra, Seq(5), Some("u\n5"), "it is there"));
        report.add(Finding::of_field(Kind::PositionWrong, "seq", "7").repaired());
        let mut text = Vec::new();
        write_lines(&mut text, &report)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with(r"a  row_extra  seq 5  user u\n5  it is there  ->  delete the row"), "{text}");
        assert_eq!(lines[1], "a  position_wrong  seq  7  REPAIRED");
        let mut sum = Sum::default();
        sum.add(&report);
        assert_eq!(sum, Sum { coupons: 1, left: 1, repaired: 1, skipped: 0 });
        Ok(())
    }
}
