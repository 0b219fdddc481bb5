//! The audit beside the relay: two rounds over the coupons, again and again, hardly to be noticed.

use super::catalog::Catalog;
use super::presence::Servers;
use crate::audit::{Audit, Finding, Pace, Report, Scope, Tally};
use crate::error::Error;
use crate::model::coupon::Row;
use std::time::Duration;
use tokio::time::sleep;

/// A round over every grant rests so many intervals before it begins again.
const REST_INTERVALS: u32 = 10;

/// Coupons in one page of what is on offer.
const COUPONS_PAGE: u32 = 500;

/// Findings of one coupon that are logged; the command shows all.
const LOGGED_MAX: usize = 20;

/// What the rounds work with.
struct Rounds<'a> {
    audit: Audit<'a>,
    servers: &'a Servers,
    catalog: &'a Catalog,
    tally: &'a Tally,
    every: Duration,
}

/// Both rounds, until the daemon stops.
pub async fn run(servers: &Servers, catalog: &Catalog, tally: &Tally, every: Duration) {
    let rounds = Rounds { audit: Audit::new(&servers.tools), servers, catalog, tally, every };
    tokio::join!(rounds.again(1, || rounds.compare_counts()), rounds.again(REST_INTERVALS, || rounds.compare_grants()),);
}

impl Rounds<'_> {
    /// One round after the other, with rests of so many intervals. An error ends a round, and the next begins anew.
    async fn again<Round: Future<Output = Result<(), Error>>>(&self, intervals: u32, round: impl Fn() -> Round) {
        let mut rest = self.every;
        let wait = async |rest| {
            self.servers.both().await;
            sleep(rest).await;
        };
        while self.servers.tools.stop.run_until_cancelled(wait(rest)).await.is_some() {
            rest = self.every.saturating_mul(intervals);
            if let Err(error) = round().await {
                rest = self.every;
                self.servers.doubt(&error).await;
            }
        }
    }

    /// Compares counts and ends of what is on offer. A coupon of which anything is odd, or was found wrong before, is compared
    /// grant by grant at once.
    async fn compare_counts(&self) -> Result<(), Error> {
        let mut pace = Pace::background(self.servers.tools.stop.clone());
        let mut after = String::new();
        loop {
            let page = self.servers.tools.ledger.on_offer(&after, COUPONS_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.id);
            for row in page.iter().filter(|row| self.catalog.holds(&row.id)) {
                if self.tally.holds(&row.id) || self.audit.is_odd(row).await? {
                    self.compare(row, &mut pace).await?;
                }
                pace.rest().await?;
            }
        }
    }

    /// Compares every grant of every coupon.
    async fn compare_grants(&self) -> Result<(), Error> {
        let mut pace = Pace::background(self.servers.tools.stop.clone());
        let mut pages = self.servers.tools.ledger.pages();
        while let Some(page) = pages.next().await? {
            for row in page.iter().filter(|row| self.catalog.holds(&row.id)) {
                self.compare(row, &mut pace).await?;
                pace.rest().await?;
            }
        }
        self.servers.tools.counters.audit_rounds.inc();
        // What another reconciler works on now, it shows.
        self.tally.retain(|id| self.catalog.holds(id));
        Ok(())
    }

    async fn compare(&self, row: &Row, pace: &mut Pace) -> Result<(), Error> {
        let report = match self.audit.coupon(&row.id, Scope::Ledger, pace).await {
            // Somebody else moved the coupon: it is compared in the next round.
            Err(Error::Moved) => return Ok(()),
            report => report?,
        };
        if report.skipped.is_none() && self.tally.note(&report, &self.servers.tools.counters) {
            say(&report);
        }
        Ok(())
    }
}

fn say(report: &Report) {
    for Finding { kind, seq, field, is_repaired, .. } in report.findings.iter().take(LOGGED_MAX) {
        let what_next = match is_repaired {
            true => "; put right",
            false => "; `coupon-reconciler audit COUPON` names the user and says what to do",
        };
        tracing::warn!(coupon = report.id, kind = kind.name(), seq, field, "{}{what_next}", kind.meaning());
    }
    let unlogged = (report.findings.len().saturating_sub(LOGGED_MAX) as u64).saturating_add(report.more);
    if unlogged > 0 {
        tracing::warn!(coupon = report.id, unlogged, "more drift of this coupon; `coupon-reconciler audit` shows it");
    }
}
