//! The audit: compares both sides of a coupon down to every grant, puts right what is proved, reports the rest.
//!
//! ```text
//! rows and dead letters --chain--> [`trace`]                  each follows the one before it
//!         |                                                   a gap is filled by what Redis proves: [`lost`]
//!         +--users--> sorted set: [`line`]                    each stands where the request came in
//!         +--position--> stream: [`tail`] --> hash: [`counters`]
//! ```
//!
//! [`look`] reads, page by page; the modules it leans on are pure. [`round`] does so all the time beside the relay,
//! [`audit`] once and for people. Memory is bounded whatever the coupon's size: pages and a limited number of findings.

mod counters;
mod finding;
mod kind;
mod line;
mod look;
mod lost;
mod pace;
mod round;
mod show;
mod tail;
mod tally;
mod trace;

pub use tally::Tally;

use crate::cli;
use crate::coupon::Tools;
use crate::error::Error;
use crate::exit::{Exit, Failure};
use crate::ledger::Ledger;
use crate::model::coupon::Row;
use crate::model::pause::{self, Point};
use crate::policy::{self, Remedy};
use crate::redis::Redis;
use coupon_core::key::KeyPattern;
use coupon_core::number::Seq;
use finding::Report;
use look::Intent;
use pace::Pace;
use show::Sum;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Grants, members or entries read at once: some hundred kilobytes, and a millisecond or two of either server.
const PAGE: u32 = 2000;

/// How long grants on their way may take before a finding is looked at again; less if none of them arrives.
const SETTLE_LOOKS_MAX: u32 = 20;
const SETTLE_LOOKS_STILL_MAX: u32 = 4;
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// How often a coupon that cannot be compared is tried again: usually it is just being opened.
const SKIPPED_TRIES: u32 = 10;
const SKIPPED_EVERY: Duration = Duration::from_millis(300);

/// What is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    Nothing,
    /// What the ledger lacks and Redis proves.
    Ledger,
    /// That, and what Redis lacks and the ledger proves. The coupon is shut meanwhile, which somebody has to ask for.
    Both,
}

/// An audit of both sides.
pub struct Audit<'a> {
    /// For restoring.
    pub tools: &'a Tools,
    /// Where grants are made.
    pub redis: &'a Redis,
    /// Where they are kept.
    pub ledger: &'a Ledger,
    /// How a coupon's key is made of its id.
    pub keys: &'a KeyPattern,
    /// How fast it goes.
    pub pace: Pace,
    /// Whether somebody watches it on a terminal.
    pub is_watched: bool,
}

impl Audit<'_> {
    /// Audits one coupon. A finding counts only if a second look, after what was on its way has arrived, sees it too.
    pub async fn coupon(&self, id: &str, scope: Scope) -> Result<Report, Error> {
        let first = self.look(id, Intent::Look).await?;
        if first.is_clean() || first.skipped.is_some() {
            return Ok(first);
        }
        pause::reach(Point::BetweenLooks).await;
        self.settle(id).await?;
        let intent = if scope == Scope::Nothing { Intent::Look } else { Intent::Mend };
        let mut second = self.look(id, intent).await?;
        second.confirm(&first);
        if scope == Scope::Both && second.is_mended_by_restoring() {
            return self.restore(second).await;
        }
        Ok(second)
    }

    /// Puts the ledger's grants in the place of what Redis has, and looks at what has become of the findings.
    async fn restore(&self, mut report: Report) -> Result<Report, Error> {
        let key = self.keys.key(&report.id);
        if self.redis.has_lost_its_line(&key).await? {
            tracing::warn!(
                coupon = report.id,
                "the :issued key is gone, and with it the line of those who waited; bring it back, or give them up with \
                 `coupon-reconciler restore COUPON --from-start --yes`"
            );
            return Ok(report);
        }
        match self.tools.coupon(&report.id).restore(true).await.map(drop) {
            Ok(()) => {}
            Err(error) if matches!(policy::remedy(&error), Remedy::Reconnect(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(coupon = report.id, "Redis could not be brought back to the ledger: {error}");
                return Ok(report);
            }
        }
        let after = self.look(&report.id, Intent::Look).await?;
        match after.skipped {
            Some(why) => report.skipped = Some(why),
            None => report.take_repairs(after),
        }
        Ok(report)
    }

    /// Waits until every grant is a row, but not for long: in a sale there is always one on its way, and without a
    /// relay none ever arrives.
    async fn settle(&self, id: &str) -> Result<(), Error> {
        let key = self.keys.key(id);
        let (mut before, mut still) = (None, 0);
        for _ in 0..SETTLE_LOOKS_MAX {
            tokio::time::sleep(SETTLE_EVERY).await;
            let Some(coupon) = self.redis.held(&key).await?.and_then(|held| held.coupon.ok()) else { break };
            still = if before.replace(coupon.persisted) == Some(coupon.persisted) { still + 1 } else { 0 };
            if coupon.persisted >= coupon.position.seq || still == SETTLE_LOOKS_STILL_MAX {
                break;
            }
        }
        self.pace.resume();
        Ok(())
    }

    fn progress(&self, at: Seq, row: &Row) {
        if self.is_watched {
            eprint!("\r\x1b[K{}: {at} of {} grants", row.id.escape_debug(), row.position.seq);
        }
    }

    fn clear_progress(&self) {
        if self.is_watched {
            eprint!("\r\x1b[K");
        }
    }

    /// Audits one coupon for people, who can wait until it can be compared.
    async fn coupon_patiently(&self, id: &str, scope: Scope) -> Result<Report, Error> {
        for _ in 1..SKIPPED_TRIES {
            match self.coupon(id, scope).await {
                Ok(Report { skipped: Some(_), .. }) | Err(Error::Moved) => tokio::time::sleep(SKIPPED_EVERY).await,
                report => return report,
            }
        }
        match self.coupon(id, scope).await {
            Err(error @ Error::Moved) => Ok(Report::skipped(id, error.to_string())),
            report => report,
        }
    }
}

/// `audit`: one coupon, or all.
pub async fn audit(tools: &Tools, args: &cli::Audit) -> Result<Exit, Failure> {
    let (redis, ledger) = (&*tools.redis, &*tools.ledger);
    redis.now_ms().await.map_err(crate::unreachable)?;
    ledger.ping().await.map_err(crate::unreachable)?;
    let audit = Audit {
        tools,
        redis,
        ledger,
        keys: &args.redis.key,
        pace: Pace::full(),
        is_watched: io::stderr().is_terminal(),
    };
    let scope = if args.repair { Scope::Both } else { Scope::Nothing };
    let mut showing = Showing { json: args.json, reports: Vec::new(), coupons: 0, sum: Sum::default() };
    if let Some(id) = &args.coupon {
        if ledger.row(id).await.map_err(|error| failed(&error))?.is_none() {
            return Err(Failure::new(Exit::Failed, format!("there is no coupon {id} in the ledger")));
        }
        showing.take(audit.coupon_patiently(id, scope).await.map_err(|error| failed(&error))?, &audit)?;
    } else {
        let mut pages = ledger.pages();
        while let Some(page) = pages.next().await.map_err(|error| failed(&error))? {
            for row in &page {
                showing.take(audit.coupon_patiently(&row.id, scope).await.map_err(|error| failed(&error))?, &audit)?;
            }
        }
    }
    showing.end()
}

fn failed(error: &Error) -> Failure {
    Failure::new(Exit::Failed, format!("{error}; `coupon-reconciler check` says what is missing"))
}

/// What is shown of the coupons, as they come.
struct Showing {
    json: bool,
    reports: Vec<Report>,
    coupons: u64,
    sum: Sum,
}

impl Showing {
    fn take(&mut self, report: Report, audit: &Audit<'_>) -> Result<(), Failure> {
        audit.clear_progress();
        self.coupons += 1;
        self.sum.add(&report);
        if self.json {
            self.reports.push(report);
            return Ok(());
        }
        written(show::write_lines(&mut io::stdout().lock(), &report))
    }

    fn end(self) -> Result<Exit, Failure> {
        let mut out = io::stdout().lock();
        written(if self.json {
            show::write_json(&mut out, &self.reports)
        } else {
            show::write_sum(&mut out, self.coupons, self.sum)
        })?;
        written(out.flush())?;
        Ok(if self.sum.left == 0 && self.sum.skipped == 0 { Exit::Ok } else { Exit::Failed })
    }
}

fn written(done: io::Result<()>) -> Result<(), Failure> {
    match done {
        // Whoever reads has read enough, as with `| head`; the exit code still says what was found.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("the findings cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}
