//! The audit beside the relay: two rounds over the coupons, again and again, hardly to be noticed.

use super::catalog::Catalog;
use super::presence::Servers;
use crate::audit::{Audit, Finding, Pace, Report, Scope, Tally};
use crate::error::Error;
use std::time::Duration;

/// A round over every grant rests so many intervals before it begins again.
const REST_INTERVALS: u32 = 10;

/// Findings of one coupon that are logged; the command shows all.
const LOGGED_MAX: usize = 20;

/// What a round compares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Counts and ends of what is on offer. A coupon of which anything is odd, or was found wrong before, is compared grant by
    /// grant at once.
    Ends,
    /// Every grant of every coupon.
    Grants,
}

/// What the rounds work with.
struct Rounds<'a> {
    audit: Audit<'a>,
    servers: &'a Servers,
    catalog: &'a Catalog,
    tally: &'a Tally,
}

/// Both rounds, until the daemon stops.
pub async fn run(servers: &Servers, catalog: &Catalog, tally: &Tally, every: Duration) {
    let rounds = Rounds { audit: Audit::new(&servers.tools), servers, catalog, tally };
    let rest = every.saturating_mul(REST_INTERVALS);
    tokio::join!(rounds.repeat(Depth::Ends, every, every), rounds.repeat(Depth::Grants, every, rest));
}

impl Rounds<'_> {
    /// An error ends a round, and the next begins anew, as soon as the first one did.
    async fn repeat(&self, depth: Depth, first: Duration, rest: Duration) {
        let stop = &self.servers.tools.stop;
        let (mut pace, mut wait) = (Pace::background(stop.clone()), first);
        while stop.run_until_cancelled(self.servers.both()).await.is_some() && pace.wait(wait).await.is_ok() {
            wait = rest;
            if let Err(error) = self.round(depth, &mut pace).await {
                wait = first;
                self.servers.doubt(&error).await;
            }
        }
    }

    async fn round(&self, depth: Depth, pace: &mut Pace) -> Result<(), Error> {
        let tools = &self.servers.tools;
        let is_deep = depth == Depth::Grants;
        let mut pages = if is_deep { tools.ledger.pages() } else { tools.ledger.on_offer() };
        while let Some((page, _)) = pages.next().await? {
            for row in page.iter().filter(|row| self.catalog.holds(&row.id)) {
                if is_deep || self.tally.holds(&row.id) || self.audit.is_odd(&row.id).await? {
                    match self.audit.coupon(&row.id, Scope::Ledger, pace).await {
                        Ok(report) if report.skipped.is_none() && self.tally.note(&report, &tools.counters) => {
                            say(&report)
                        }
                        // Somebody else moved the coupon: it is compared in the next round.
                        Ok(_) | Err(Error::Moved) => {}
                        Err(error) => return Err(error),
                    }
                }
                pace.rest().await?;
            }
        }
        if is_deep {
            tools.counters.audit_rounds.inc();
            // What another reconciler works on now, it shows.
            self.tally.retain(|id| self.catalog.holds(id));
        }
        Ok(())
    }
}

fn say(report: &Report) {
    let findings = report.left_count() + report.repaired_count();
    for Finding { kind, seq, field, is_repaired, .. } in report.findings.iter().take(LOGGED_MAX) {
        let what_next = match is_repaired {
            true => "; put right",
            false => "; `coupon-reconciler audit COUPON` names the user and says what to do",
        };
        tracing::warn!(coupon = report.id, findings, kind = kind.name(), seq, field, "{}{what_next}", kind.meaning());
    }
}
