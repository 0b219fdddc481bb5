//! What an audit found.

use super::Kind;
use coupon_core::number::Seq;
use serde::Serialize;

/// Findings kept of one coupon: a bound on memory whatever went wrong. The others are counted.
const FINDINGS_MAX: usize = 1000;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it differs.
    pub kind: Kind,
    /// The grant, if it is about one.
    pub seq: Option<u64>,
    /// The user, if it is about one who is known.
    pub user: Option<String>,
    /// The field or column, if it is about one.
    pub field: Option<&'static str>,
    /// What was seen. It may name users, so it is shown to whoever asks and never logged.
    pub reason: String,
    /// Whether it was put right.
    #[serde(rename = "repaired")]
    pub is_repaired: bool,
    /// What to do, where it was not.
    pub advice: Option<&'static str>,
}

impl Finding {
    /// About nothing in particular.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        let (reason, advice) = (reason.into(), Some(kind.advice()));
        Self { kind, seq: None, user: None, field: None, reason, is_repaired: false, advice }
    }

    /// About one grant.
    pub fn of_grant(kind: Kind, seq: Seq, user: Option<&str>, reason: impl Into<String>) -> Self {
        Self { seq: Some(seq.0), user: user.map(str::to_owned), ..Self::new(kind, reason) }
    }

    /// About a field of the status hash, or of the position.
    pub fn of_field(kind: Kind, field: &'static str, reason: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::new(kind, reason) }
    }

    /// The same, put right.
    pub fn repaired(self) -> Self {
        Self { is_repaired: true, advice: None, ..self }
    }

    /// Whether both are about the same thing. What exactly was seen of it may change while a sale goes on.
    fn is_same(&self, other: &Self) -> bool {
        (self.kind, self.seq, &self.user, self.field) == (other.kind, other.seq, &other.user, other.field)
    }
}

/// What was found of one coupon.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The coupon.
    pub id: String,
    /// The newest grant that was compared.
    pub seq: u64,
    /// Grants that are dead letters: known losses, no drift.
    pub dead_letters: u64,
    /// Granted users who stand earlier in the sorted set than they requested, as COUPON.RESTORE puts those whom two
    /// primaries let in at once: no drift.
    pub earlier: u64,
    /// Why both sides could not be compared, if so.
    pub skipped: Option<String>,
    /// What differs, in the order of what it is about.
    pub findings: Vec<Finding>,
    /// How many findings more there were than are kept.
    #[serde(rename = "more_findings")]
    pub more: u64,
    /// How many more were put right than are kept.
    pub more_repaired: u64,
}

impl Report {
    /// Nothing found yet.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// Both sides cannot be compared now.
    pub fn skipped(id: &str, why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::new(id) }
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        match (self.room(), finding.is_repaired) {
            (1.., _) => self.findings.push(finding),
            (0, true) => self.more_repaired += 1,
            (0, false) => self.more += 1,
        }
    }

    /// How many more findings are kept.
    pub const fn room(&self) -> usize {
        FINDINGS_MAX.saturating_sub(self.findings.len())
    }

    /// Keeps what an earlier look saw too. What only one of them saw was on its way; what was repaired was proved.
    pub fn confirm(&mut self, earlier: &Self) {
        self.findings
            .retain(|finding| finding.is_repaired || earlier.findings.iter().any(|other| finding.is_same(other)));
        self.more = self.more.min(earlier.more);
    }

    /// Whether all that is left would be right if Redis had the ledger's grants. If the ledger is doubtful too, or
    /// somebody stands in the line who should not, it would not.
    pub fn is_mended_by_restoring(&self) -> bool {
        let is_mended =
            |finding: &Finding| matches!(finding.kind, Kind::MemberMissing | Kind::ScoreWrong | Kind::CounterWrong);
        self.skipped.is_none() && self.left().next().is_some() && self.left().all(is_mended)
    }

    /// Takes over what was seen before a restore: what is no longer seen was put right.
    pub fn take_over(&mut self, before: Self) {
        for finding in before.findings {
            if self.skipped.is_some() {
                self.add(finding);
            } else if !self.findings.iter().any(|left| finding.is_same(left)) {
                self.add(finding.repaired());
            }
        }
    }

    /// Findings that are left as they are.
    pub fn left(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.is_repaired)
    }

    /// How many that are.
    pub fn left_count(&self) -> u64 {
        self.more.saturating_add(self.left().count() as u64)
    }

    /// How many were put right.
    pub fn repaired_count(&self) -> u64 {
        let repaired = self.findings.iter().filter(|finding| finding.is_repaired);
        self.more_repaired.saturating_add(repaired.count() as u64)
    }

    /// Whether nothing is left to do: all was compared, and what differed is put right.
    pub fn is_clean(&self) -> bool {
        self.skipped.is_none() && self.left_count() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(seq: u64) -> Finding {
        Finding::of_grant(Kind::RowMissing, Seq(seq), None, seq.to_string())
    }

    #[test]
    fn only_what_is_seen_twice_or_repaired_counts() {
        let (mut first, mut second) = (Report::new("a"), Report::new("a"));
        first.add(missing(1));
        first.add(missing(2));
        second.add(Finding { reason: "said otherwise".into(), ..missing(2) });
        second.add(missing(3));
        second.add(missing(4).repaired());
        second.confirm(&first);
        assert_eq!(second.findings.iter().map(|finding| finding.seq).collect::<Vec<_>>(), [Some(2), Some(4)]);
        assert!(!second.is_clean());
        assert_eq!(second.left().count(), 1);
    }

    #[test]
    fn what_is_gone_after_a_restore_was_put_right() {
        let of = |seq| Finding { kind: Kind::MemberMissing, ..missing(seq) };
        let (mut before, mut report) = (Report::new("a"), Report::new("a"));
        before.add(of(1));
        before.add(of(2));
        assert!(before.is_mended_by_restoring());
        report.add(of(2));
        report.add(missing(3));
        report.take_over(before);
        assert_eq!(report.left().map(|finding| finding.seq).collect::<Vec<_>>(), [Some(2), Some(3)]);
        assert_eq!(report.repaired_count(), 1);
        assert!(!report.is_mended_by_restoring(), "the ledger lacks a row");
    }

    #[test]
    fn what_cannot_be_seen_after_a_restore_is_left() {
        let (mut before, mut report) = (Report::new("a"), Report::skipped("a", "fenced"));
        before.add(missing(1));
        report.take_over(before);
        assert_eq!((report.left_count(), report.repaired_count()), (1, 0));
    }

    #[test]
    fn a_flood_of_findings_is_counted_and_not_kept() {
        let mut report = Report::new("a");
        for seq in 0..FINDINGS_MAX as u64 + 5 {
            report.add(missing(seq));
        }
        assert_eq!((report.findings.len(), report.more, report.room()), (FINDINGS_MAX, 5, 0));
    }

    #[test]
    fn what_could_not_be_compared_is_not_clean() {
        assert!(Report::new("a").is_clean());
        assert!(!Report::skipped("a", "fenced").is_clean());
    }
}
