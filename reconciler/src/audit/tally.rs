//! What the audit in the background leaves for the metrics, and what of it was logged already.

use super::{Kind, Report};
use crate::model::counters::Counters;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Findings by kind.
type Counts = [u64; Kind::ALL.len()];

/// The drift of all coupons.
#[derive(Debug, Default)]
pub struct Tally {
    /// What is left of each, as it was seen last.
    coupons: Mutex<HashMap<String, Counts>>,
}

impl Tally {
    // Nothing in here panics while it holds the lock, and if it did, numbers are still numbers.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Counts>> {
        self.coupons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was found of a coupon, and counts what was put right; whether that is news.
    pub fn note(&self, report: &Report, counters: &Counters) -> bool {
        let mut left = Counts::default();
        for finding in &report.findings {
            if finding.is_repaired {
                counters.repaired(finding.kind.name()).inc();
            } else {
                left[finding.kind as usize] += 1;
            }
        }
        // What is too much to keep is of some kind too; the last one is the most likely.
        if let Some(last) = report.findings.last() {
            left[last.kind as usize] += report.more;
            counters.repaired(last.kind.name()).inc_by(report.more_repaired);
        }
        let is_clean = left == Counts::default();
        let mut coupons = self.lock();
        let before = if is_clean { coupons.remove(&report.id) } else { coupons.insert(report.id.clone(), left) };
        report.findings.iter().any(|finding| finding.is_repaired) || !is_clean && before != Some(left)
    }

    /// Whether something is left of a coupon.
    pub fn holds(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// Forgets the other coupons.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.lock().retain(|id, _| keep(id));
    }

    /// Findings that are left, by kind.
    pub fn left(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.map(|kind| (kind, self.lock().values().map(|left| left[kind as usize]).sum())).into_iter()
    }

    /// Findings that are left, by coupon, where there are any.
    pub fn left_by_coupon(&self) -> HashMap<String, u64> {
        self.lock().iter().map(|(id, left)| (id.clone(), left.iter().sum())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::finding::Finding;
    use coupon_core::number::Seq;

    fn report(seqs: &[u64], is_repaired: bool) -> Report {
        let mut report = Report::new("a");
        for seq in seqs {
            let finding = Finding::of_grant(Kind::RowMissing, Seq(*seq), None, "");
            report.add(if is_repaired { finding.repaired() } else { finding });
        }
        report
    }

    fn of(counts: impl Iterator<Item = (Kind, u64)>) -> u64 {
        counts.filter(|(kind, _)| *kind == Kind::RowMissing).map(|(_, count)| count).sum()
    }

    #[test]
    fn drift_is_news_once_and_gone_when_it_is_mended() {
        let (tally, counters) = (Tally::default(), Counters::default());
        let repaired = || counters.repaired(Kind::RowMissing.name()).get();
        assert!(!tally.note(&report(&[], false), &counters));
        assert!(tally.note(&report(&[1, 2], false), &counters));
        assert!(!tally.note(&report(&[1, 2], false), &counters));
        assert!(tally.note(&report(&[1], false), &counters));
        assert_eq!((of(tally.left()), repaired()), (1, 0));
        assert_eq!(tally.left_by_coupon(), HashMap::from([("a".to_owned(), 1)]));
        assert!(tally.holds("a"));
        assert!(tally.note(&report(&[1], true), &counters));
        assert_eq!((of(tally.left()), repaired()), (0, 1));
        assert!(!tally.holds("a"));
    }
}
