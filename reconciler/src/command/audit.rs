//! `audit`: one coupon, or all; one line per finding, or JSON.

use super::{each_coupon, print, print_found};
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
    tools.redis.now_ms().await?;
    tools.ledger.ping().await?;
    let audit = Audit::new(tools);
    let scope = if args.repair { Scope::Both } else { Scope::Nothing };
    let (mut sum, mut reports) = (Sum::default(), Vec::new());
    each_coupon(&tools.ledger, args.coupon.as_deref(), async |row| {
        let report = match row {
            Ok(row) => patiently(&audit, &row.id, scope).await?,
            Err(row) => Report::skipped(&row.id, row.to_string()),
        };
        sum.add(&report);
        if args.json {
            reports.push(report);
            return Ok(());
        }
        print(|out| write_lines(out, &report))
    })
    .await?;
    let Sum { coupons, left, repaired, skipped } = sum;
    print_found(args.json, &reports, |out, _| {
        writeln!(out, "{coupons} coupon(s): {left} finding(s) left, {repaired} repaired, {skipped} not compared")
    })?;
    Ok(if left == 0 && skipped == 0 { Exit::Ok } else { Exit::Failed })
}

/// Audits one coupon for people, who can wait until it can be compared.
async fn patiently(audit: &Audit<'_>, id: &str, scope: Scope) -> Result<Report, Error> {
    let mut tries = 0;
    loop {
        let report = match audit.coupon(id, scope, &mut Pace::full()).await {
            Err(error @ Error::Moved) => Report::skipped(id, error.to_string()),
            report => report?,
        };
        tries += 1;
        if report.skipped.is_none() || tries == SKIPPED_TRIES {
            return Ok(report);
        }
        tokio::time::sleep(SKIPPED_EVERY).await;
    }
}

/// What there is to say of one coupon; nothing if all is well.
fn write_lines(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let id = report.id.escape_debug();
    if let Some(why) = &report.skipped {
        writeln!(out, "{id}  NOT COMPARED  {why}")?;
    }
    for Finding { kind, seq, user, field, reason, advice, .. } in &report.findings {
        let words = [
            Some(format!("{id}  {}", kind.name())),
            seq.map(|seq| format!("seq {seq}")),
            // A user id may hold line feeds and worse.
            user.as_ref().map(|user| format!("user {}", user.escape_debug())),
            field.map(str::to_owned),
            Some(reason.escape_debug().to_string()),
            Some(advice.map_or("REPAIRED".to_owned(), |advice| format!("->  {advice}"))),
        ];
        writeln!(out, "{}", words.into_iter().flatten().collect::<Vec<_>>().join("  "))?;
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
        self.coupons += 1;
        self.left += report.left_count();
        self.repaired += report.repaired_count();
        self.skipped += u64::from(report.skipped.is_some());
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
