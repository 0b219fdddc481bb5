//! How the command shows what was found: one line per finding, or JSON.

use super::finding::{Finding, Report};
use serde::Serialize;
use std::io::{self, Write};

/// A coupon in JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: &'a str,
    /// The newest grant that was compared.
    seq: u64,
    dead_letters: u64,
    earlier: u64,
    skipped: Option<&'a str>,
    findings: Vec<ShownFinding<'a>>,
    more_findings: u64,
    more_repaired: u64,
}

#[derive(Debug, Serialize)]
struct ShownFinding<'a> {
    kind: &'static str,
    seq: Option<u64>,
    user: Option<&'a str>,
    field: Option<&'static str>,
    reason: &'a str,
    repaired: bool,
    /// What to do, where it was not repaired.
    advice: Option<&'static str>,
}

/// All coupons as one JSON array.
pub fn write_json(out: &mut dyn Write, reports: &[Report]) -> io::Result<()> {
    let shown: Vec<Shown<'_>> = reports.iter().map(shown).collect();
    serde_json::to_writer_pretty(&mut *out, &shown)?;
    writeln!(out)
}

fn shown(report: &Report) -> Shown<'_> {
    Shown {
        id: &report.id,
        seq: report.seq.0,
        dead_letters: report.dead_letters,
        earlier: report.earlier,
        skipped: report.skipped.as_deref(),
        findings: report.findings.iter().map(shown_finding).collect(),
        more_findings: report.more,
        more_repaired: report.more_repaired,
    }
}

fn shown_finding(finding: &Finding) -> ShownFinding<'_> {
    ShownFinding {
        kind: finding.kind.name(),
        seq: finding.seq.map(|seq| seq.0),
        user: finding.user.as_deref(),
        field: finding.field,
        reason: &finding.reason,
        repaired: finding.is_repaired,
        advice: (!finding.is_repaired).then(|| finding.kind.advice()),
    }
}

/// What there is to say of one coupon; nothing if all is well.
pub fn write_lines(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let id = report.id.escape_debug();
    if let Some(why) = &report.skipped {
        writeln!(out, "{id}  NOT COMPARED  {why}")?;
    }
    for finding in &report.findings {
        write!(out, "{id}  {}", finding.kind.name())?;
        if let Some(seq) = finding.seq {
            write!(out, "  seq {seq}")?;
        }
        if let Some(user) = &finding.user {
            // A user id may hold line feeds and worse.
            write!(out, "  user {}", user.escape_debug())?;
        }
        if let Some(field) = finding.field {
            write!(out, "  {field}")?;
        }
        write!(out, "  {}", finding.reason.escape_debug())?;
        if finding.is_repaired {
            writeln!(out, "  REPAIRED")?
        } else {
            writeln!(out, "  ->  {}", finding.kind.advice())?
        }
    }
    if report.more > 0 {
        writeln!(out, "{id}  and {} findings more", report.more)?;
    }
    if report.more_repaired > 0 {
        writeln!(out, "{id}  and {} more REPAIRED", report.more_repaired)?;
    }
    if report.dead_letters > 0 {
        writeln!(
            out,
            "{id}  note: {} dead letter(s); `coupon-reconciler dead-letters list` shows them",
            report.dead_letters
        )?;
    }
    if report.earlier > 0 {
        writeln!(
            out,
            "{id}  note: {} user(s) stand earlier than they requested, as a restore put them",
            report.earlier
        )?;
    }
    Ok(())
}

/// The last line.
pub fn write_sum(out: &mut dyn Write, coupons: u64, sum: Sum) -> io::Result<()> {
    let Sum { left, repaired, skipped } = sum;
    writeln!(out, "{coupons} coupon(s): {left} finding(s) left, {repaired} repaired, {skipped} not compared")
}

/// What was found in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Findings that are left.
    pub left: u64,
    /// Findings that were put right.
    pub repaired: u64,
    /// Coupons that could not be compared.
    pub skipped: u64,
}

impl Sum {
    /// Adds a coupon.
    pub fn add(&mut self, report: &Report) {
        let left = report.left().count() as u64;
        self.left = self.left.saturating_add(left).saturating_add(report.more);
        let repaired = (report.findings.len() as u64).saturating_sub(left).saturating_add(report.more_repaired);
        self.repaired = self.repaired.saturating_add(repaired);
        self.skipped = self.skipped.saturating_add(u64::from(report.skipped.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::kind::Kind;
    use coupon_core::number::Seq;

    #[test]
    fn a_line_names_coupon_kind_seq_user_reason_and_what_to_do() -> io::Result<()> {
        let mut report = Report::new("a");
        report.add(Finding::of_grant(Kind::RowExtra, Seq(5), Some("u\n5".into()), "it is there"));
        report.add(Finding { is_repaired: true, ..Finding::of_field(Kind::CountWrong, "granted", "7") });
        let mut text = Vec::new();
        write_lines(&mut text, &report)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with(r"a  row_extra  seq 5  user u\n5  it is there  ->  delete the row"), "{text}");
        assert_eq!(lines[1], "a  count_wrong  granted  7  REPAIRED");
        let mut sum = Sum::default();
        sum.add(&report);
        assert_eq!(sum, Sum { left: 1, repaired: 1, skipped: 0 });
        Ok(())
    }
}
