//! The full pass: compares all coupons of both sides, slowly, and finds what no message told of.

use super::catalog::{Catalog, Next, Reason, Ticket};
use super::presence::Servers;
use crate::coupon::{Plan, Publication, plan};
use crate::error::{Error, Remedy};
use crate::ledger::Bid;
use crate::model::coupon::{Info, Row};
use crate::model::grant::{Checkpoint, Progress};
use crate::model::pause::{self, Point};
use crate::redis::ScanCursor;
use coupon_core::key::KeyPattern;
use futures_util::future::join_all;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Rows and coupons compared at once.
const PAGE: u32 = 500;

/// SCAN calls in a pass at its usual pace, of 1000 keys each: a Redis that holds much else is not kept busy.
const SCANS_MAX: u32 = 100;

/// A coupon that is fenced, and defined in Redis as in its row.
struct Fenced {
    ticket: Ticket,
    row: Row,
    info: Info,
}

/// Who wants a full pass before its time.
#[derive(Default)]
pub struct ScanRequest {
    wanted: Notify,
    whole: AtomicBool,
}

impl ScanRequest {
    /// A side came back, or messages may be lost: look at everything, now.
    pub fn make(&self) {
        self.whole.store(true, Ordering::Release);
        self.wanted.notify_one();
    }
}

/// The coupon of a key, if the key can be one.
pub fn id_of<'k>(keys: &KeyPattern, key: &'k [u8]) -> Option<&'k str> {
    // PostgreSQL cannot hold a NUL.
    keys.id(str::from_utf8(key).ok()?).filter(|id| !id.contains('\0'))
}

/// Passes at every beat, and whenever it is asked for.
pub async fn run(servers: &Servers, catalog: &Arc<Catalog>, request: &ScanRequest, every: Duration) {
    let mut scan = Scan { servers, catalog, cursor: ScanCursor::default() };
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = request.wanted.notified() => {}
        }
        servers.both().await;
        let whole = request.whole.swap(false, Ordering::AcqRel);
        if let Err(error) = scan.pass(whole).await {
            if whole {
                request.whole.store(true, Ordering::Release);
            }
            servers.doubt(&error).await;
        }
    }
}

struct Scan<'a> {
    servers: &'a Servers,
    catalog: &'a Arc<Catalog>,
    /// Where the next pass goes on among Redis's keys.
    cursor: ScanCursor,
}

impl Scan<'_> {
    /// One bounded pass.
    async fn pass(&mut self, whole: bool) -> Result<(), Error> {
        // What is on offer comes first: after a restart of Redis these coupons are shut.
        let mut seen = HashSet::new();
        let mut pages = self.servers.tools.ledger.on_offer();
        while let Some(rows) = pages.next().await? {
            let rows: Vec<Row> = rows.into_iter().filter(|row| self.catalog.holds(&row.id)).collect();
            let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
            self.compare_page(&ids, rows).await?;
            seen.extend(ids);
        }
        if whole {
            self.cursor = ScanCursor::default();
        }
        let glob = self.servers.tools.keys.glob();
        for scans in 0.. {
            let (next, keys) = self.servers.tools.redis.scan(self.cursor.clone(), &glob).await?;
            let ids = keys.iter().filter_map(|key| id_of(&self.servers.tools.keys, key));
            let ids = ids.filter(|id| self.catalog.holds(id) && !seen.contains(*id));
            let ids: Vec<String> = ids.map(str::to_owned).collect();
            for ids in ids.chunks(PAGE as usize) {
                let rows = self.servers.tools.ledger.rows(ids).await?;
                self.compare_page(ids, rows).await?;
            }
            let is_over = next.is_none();
            self.cursor = next.unwrap_or_default();
            if is_over || (!whole && scans >= SCANS_MAX) {
                break;
            }
        }
        Ok(())
    }

    async fn compare_page(&self, ids: &[String], rows: Vec<Row>) -> Result<(), Error> {
        let infos = join_all(
            ids.iter().map(|id| async { self.servers.tools.redis.info(&self.servers.tools.keys.key(id)).await }),
        )
        .await;
        let rows: HashMap<String, Row> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        let mut fenced = Vec::new();
        for (id, info) in ids.iter().zip(infos) {
            match info.map_err(Error::Redis) {
                Ok(info) => match (rows.get(id), info) {
                    (Some(row), Some(info)) if plan(Some(row), Some(&info)) == Plan::Resume(Publication::Nothing) => {
                        fenced.push((row.clone(), info));
                    }
                    (row, info) => self.compare_one(id, row, info.as_ref()),
                },
                Err(error) if matches!(error.remedy(), Remedy::Reconnect(_)) => return Err(error),
                // Something is wrong with this coupon alone: its visit says what.
                Err(_) => self.catalog.mark(id, Reason::Doubt),
            }
        }
        self.reopen(fenced).await
    }

    fn compare_one(&self, id: &str, row: Option<&Row>, info: Option<&Info>) {
        if plan(row, info) != Plan::Rest {
            self.catalog.mark(id, Reason::Doubt);
        } else if let (Some(row), Some(info)) = (row, info) {
            self.catalog.observe(id, row, info);
            // Acknowledged and not in the ledger: either it has moved since the row was read, or it is an older one.
            if info.persisted != row.position.seq {
                self.catalog.mark(id, Reason::Doubt);
            } else if info.granted > row.position.seq {
                self.catalog.mark(id, Reason::Grants);
            }
        }
    }

    /// Opens many at once: after a restart of Redis all coupons are fenced, and most are level with the ledger. Their epochs
    /// are taken in one statement, and their RESUMEs travel together. Whatever is not as simple as that is visited.
    async fn reopen(&self, coupons: Vec<(Row, Info)>) -> Result<(), Error> {
        // One that is being visited is in good hands.
        let begin = |(row, info): (Row, Info)| Some(Fenced { ticket: self.catalog.begin(&row.id)?, row, info });
        let fenced: Vec<Fenced> = coupons.into_iter().filter_map(begin).collect();
        if fenced.is_empty() {
            return Ok(());
        }
        let bids: Vec<Bid> = fenced.iter().map(|coupon| Bid::after(&coupon.row, coupon.info.epoch)).collect();
        let (taken, failure) = match self.servers.tools.ledger.take_epochs(&bids).await {
            Ok(taken) => (taken, None),
            Err(error) => (HashMap::new(), Some(error)),
        };
        pause::reach(Point::AfterTakeEpoch).await;
        let opened = join_all(fenced.iter().map(|coupon| self.reopen_one(coupon, taken.get(&coupon.row.id)))).await;
        let mut open = 0_usize;
        for (Fenced { mut ticket, row, info }, checkpoint) in fenced.into_iter().zip(opened) {
            ticket.memory.checkpoint = checkpoint;
            let is_level = checkpoint.is_some_and(|checkpoint| {
                let ledger = checkpoint.progress.position.seq;
                info.granted == ledger && info.persisted == ledger
            });
            if checkpoint.is_some() {
                open += 1;
                self.catalog.observe(&row.id, &row, &info);
            }
            self.catalog.finish(ticket, if is_level { Next::Rest } else { Next::Again });
        }
        if open > 0 {
            tracing::info!(coupons = open, "resumed: their gates are open");
        }
        failure.map_or(Ok(()), Err)
    }

    /// None where it takes a visit to find out what is the matter, and to say so.
    async fn reopen_one(&self, coupon: &Fenced, taken: Option<&Progress>) -> Option<Checkpoint> {
        self.servers.tools.coupon(&coupon.row.id).reopen(*taken?, &coupon.row, &coupon.info).await.ok()
    }
}
