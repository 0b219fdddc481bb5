//! The audit in the background: one coupon after the other, all the time, hardly to be noticed.

use super::finding::{Finding, Report};
use super::pace::{Pace, pause};
use super::{Audit, Scope};
use crate::daemon::Daemon;
use crate::error::Error;
use std::time::Duration;

/// Findings of one coupon that are logged; the command shows all.
const LOGGED_MAX: usize = 20;

impl Daemon {
    /// Audits all coupons that are this process's, rests, and begins again, until the daemon stops.
    pub async fn audit_at(&self, every: Duration) {
        while pause(&self.stop, every).await {
            match self.audit_all().await {
                Ok(true) => {
                    self.counters.audit_rounds.inc();
                    // What another reconciler works on now, it shows.
                    self.drift.retain(|id| self.shards.hold(id));
                }
                Ok(false) => return,
                // The next round begins anew.
                Err(error) => self.doubt(&error).await,
            }
        }
    }

    /// One round; false if the daemon stops.
    async fn audit_all(&self) -> Result<bool, Error> {
        let audit = Audit {
            tools: &self.tools,
            redis: &self.redis,
            ledger: &self.ledger,
            keys: &self.keys,
            pace: Pace::background(self.stop.clone()),
            is_watched: false,
        };
        let mut pages = self.ledger.pages();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(false),
                () = self.sides.both() => {}
            }
            audit.pace.resume();
            let Some(page) = pages.next().await? else { return Ok(true) };
            for row in page.iter().filter(|row| self.shards.hold(&row.id)) {
                match audit.coupon(&row.id, Scope::Ledger).await {
                    Ok(report) => self.note(&report),
                    // Somebody else moved the coupon: it is compared in the next round.
                    Err(Error::Moved) => {}
                    Err(error) => return Err(error),
                }
                if !audit.pace.rest().await {
                    return Ok(false);
                }
            }
        }
    }

    fn note(&self, report: &Report) {
        if report.skipped.is_some() || !self.drift.note(report, &self.counters) {
            return;
        }
        for Finding { kind, seq, field, is_repaired, .. } in report.findings.iter().take(LOGGED_MAX) {
            let (seq, field) = (seq.map(|seq| seq.0), *field);
            if *is_repaired {
                tracing::warn!(coupon = report.id, kind = kind.name(), seq, field, "{}; put right", kind.meaning());
            } else {
                tracing::warn!(
                    coupon = report.id,
                    kind = kind.name(),
                    seq,
                    field,
                    "{}; `coupon-reconciler audit COUPON` names the user and says what to do",
                    kind.meaning()
                );
            }
        }
        let unlogged = (report.findings.len().saturating_sub(LOGGED_MAX) as u64).saturating_add(report.more);
        if unlogged > 0 {
            tracing::warn!(
                coupon = report.id,
                unlogged,
                "more drift of this coupon; `coupon-reconciler audit` shows it"
            );
        }
    }
}
