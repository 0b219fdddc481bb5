//! The audit beside the relay: two rounds over the coupons, each of which the daemon begins again and again.

use super::finding::{Finding, Report};
use super::pace::Pace;
use super::{Audit, Scope, Tally};
use crate::error::Error;

/// Coupons in one page of the cheap round.
const COUPONS_PAGE: u32 = 500;

/// Findings of one coupon that are logged; the command shows all.
const LOGGED_MAX: usize = 20;

/// What the rounds work with.
pub struct Rounds<'a> {
    /// How a coupon is compared.
    pub audit: Audit<'a>,
    /// Where the findings are counted.
    pub tally: &'a Tally,
    /// Whether a coupon is this process's to work on.
    pub holds: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

impl Rounds<'_> {
    /// The cheap one: of what is on offer the counts and ends are compared. A coupon of which anything is odd, or was wrong
    /// before, is compared grant by grant at once.
    pub async fn counts(&self, pace: &mut Pace) -> Result<(), Error> {
        let mut after = String::new();
        loop {
            let page = self.audit.ledger.page_to_reconcile(&after, COUPONS_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.id);
            let (known, others): (Vec<_>, Vec<_>) =
                page.iter().filter(|row| (self.holds)(&row.id)).partition(|row| self.tally.holds(&row.id));
            let odd = self.audit.odd(others.into_iter()).await?;
            pace.rest().await?;
            for id in known.into_iter().map(|row| &*row.id).chain(odd) {
                self.compare(id, pace).await?;
            }
        }
    }

    /// The slow one: every grant of every coupon.
    pub async fn grants(&self, pace: &mut Pace) -> Result<(), Error> {
        let mut pages = self.audit.ledger.pages();
        while let Some(page) = pages.next().await? {
            for row in page.iter().filter(|row| (self.holds)(&row.id)) {
                self.compare(&row.id, pace).await?;
            }
        }
        self.tally.rounds.add(1);
        // What another reconciler works on now, it shows.
        self.tally.retain(self.holds);
        Ok(())
    }

    async fn compare(&self, id: &str, pace: &mut Pace) -> Result<(), Error> {
        match self.audit.coupon(id, Scope::Ledger, pace).await {
            Ok(report) => self.note(&report),
            // Somebody else moved the coupon: it is compared in the next round.
            Err(Error::Moved) => {}
            Err(error) => return Err(error),
        }
        pace.rest().await
    }

    fn note(&self, report: &Report) {
        if report.skipped.is_some() || !self.tally.note(report) {
            return;
        }
        for Finding { kind, seq, field, is_repaired, .. } in report.findings.iter().take(LOGGED_MAX) {
            let what_next = if *is_repaired {
                "put right"
            } else {
                "`coupon-reconciler audit COUPON` names the user and says what to do"
            };
            tracing::warn!(coupon = report.id, kind = kind.name(), seq, field, "{}; {what_next}", kind.meaning());
        }
        let unlogged = (report.findings.len().saturating_sub(LOGGED_MAX) as u64).saturating_add(report.more);
        if unlogged > 0 {
            let coupon = &report.id;
            tracing::warn!(coupon, unlogged, "more drift of this coupon; `coupon-reconciler audit` shows it");
        }
    }
}
