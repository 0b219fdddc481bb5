//! `audit`: one coupon, or all; one line per finding, or JSON.

use super::{print, print_json};
use crate::audit::{Audit, Finding, Pace, Report, Scope};
use crate::cli;
use crate::coupon::Tools;
use crate::error::{Error, Exit, Failure};
use std::time::Duration;

/// How often a coupon that cannot be compared is tried again: usually it is just being opened.
const SKIPPED_TRIES: u32 = 10;
const SKIPPED_EVERY: Duration = Duration::from_millis(300);

/// Audits one coupon, or all.
pub async fn audit(tools: &Tools, args: &cli::Audit) -> Result<Exit, Failure> {
    let ledger = &tools.ledger;
    tools.redis.now_ms().await?;
    ledger.ping().await?;
    let failed =
        |error: Error| Failure::new(Exit::Failed, format!("{error}; `coupon-reconciler check` says what is missing"));
    let audit = Audit::new(tools);
    let scope = if args.repair { Scope::Both } else { Scope::Nothing };
    let (mut coupons, mut left, mut repaired, mut skipped) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut reports, mut pages) = (Vec::new(), ledger.pages());
    let mut page = match &args.coupon {
        None => pages.next().await.map_err(failed)?,
        Some(id) => Some(ledger.row(id).await.map_err(failed)?.into_iter().collect()),
    };
    while let Some(rows) = page {
        for row in rows {
            let report = patiently(&audit, &row.id, scope).await.map_err(failed)?;
            coupons += 1;
            left += report.left_count();
            repaired += report.repaired_count();
            skipped += u64::from(report.skipped.is_some());
            if args.json {
                reports.push(report);
            } else {
                print(|out| out.write_all(lines(&report).as_bytes()))?;
            }
        }
        page = if args.coupon.is_none() { pages.next().await.map_err(failed)? } else { None };
    }
    if let Some(id) = args.coupon.as_ref().filter(|_| coupons == 0) {
        return Err(Failure::new(Exit::Failed, format!("there is no coupon {id} in the ledger")));
    }
    if args.json {
        print_json(&reports)?;
    } else {
        print(|out| {
            writeln!(out, "{coupons} coupon(s): {left} finding(s) left, {repaired} repaired, {skipped} not compared")
        })?;
    }
    Ok(if left == 0 && skipped == 0 { Exit::Ok } else { Exit::Failed })
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
fn lines(report: &Report) -> String {
    let id = report.id.escape_debug();
    let mut lines = String::new();
    if let Some(why) = &report.skipped {
        lines += &format!("{id}  NOT COMPARED  {why}\n");
    }
    for Finding { kind, seq, user, field, reason, advice, .. } in &report.findings {
        let seq = seq.map_or(String::new(), |seq| format!("  seq {seq}"));
        // A user id may hold line feeds and worse.
        let user = user.as_ref().map_or(String::new(), |user| format!("  user {}", user.escape_debug()));
        let field = field.map_or(String::new(), |field| format!("  {field}"));
        let what_next = advice.map_or("REPAIRED".to_owned(), |advice| format!("->  {advice}"));
        lines += &format!("{id}  {}{seq}{user}{field}  {}  {what_next}\n", kind.name(), reason.escape_debug());
    }
    let Report { more, more_repaired, dead_letters, earlier, .. } = report;
    for (count, what) in [
        (more, "findings more"),
        (more_repaired, "findings more REPAIRED"),
        (dead_letters, "dead letter(s), no drift; `coupon-reconciler dead-letters list` shows them"),
        (earlier, "user(s) who stand earlier than they requested, as a restore put them, no drift"),
    ] {
        if *count > 0 {
            lines += &format!("{id}  and {count} {what}\n");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Kind;
    use coupon_core::number::Seq;

    #[test]
    fn a_line_names_coupon_kind_seq_user_reason_and_what_to_do() {
        let mut report = Report::new("a");
        report.add(Finding::of_grant(Kind::RowExtra, Seq(5), Some("u\n5"), "it is there"));
        report.add(Finding::of_field(Kind::PositionWrong, "seq", "7").repaired());
        let text = lines(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with(r"a  row_extra  seq 5  user u\n5  it is there  ->  delete the row"), "{text}");
        assert_eq!(lines[1], "a  position_wrong  seq  7  REPAIRED");
        assert_eq!((report.left_count(), report.repaired_count()), (1, 1));
    }
}
