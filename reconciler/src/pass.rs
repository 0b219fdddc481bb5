//! The full pass: compares all coupons of both sides, slowly, and finds what no message told of.

use crate::catalog::Reason;
use crate::daemon::Daemon;
use crate::error::Error;
use crate::ledger::Row;
use crate::plan::{Plan, Publication, plan};
use crate::policy::{self, Remedy};
use crate::redis::Info;
use crate::redis::ScanCursor;
use futures_util::future::join_all;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Rows and coupons compared at once.
const PAGE: u32 = 500;

/// SCAN calls in a pass at its usual pace, of 1000 keys each: a Redis that holds much else is not kept busy.
const SCANS_MAX: u32 = 100;

/// Who wants a full pass before its time.
#[derive(Default)]
pub struct PassRequest {
    wanted: Notify,
    whole: AtomicBool,
}

impl PassRequest {
    /// A side came back, or messages may be lost: look at everything, now.
    pub fn make(&self) {
        self.whole.store(true, Ordering::Release);
        self.wanted.notify_one();
    }
}

impl Daemon {
    /// Passes at every beat, and whenever it is asked for.
    pub async fn pass_at(&self, every: Duration) {
        let mut cursor = ScanCursor::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.pass.wanted.notified() => {}
            }
            self.sides.both().await;
            let whole = self.pass.whole.swap(false, Ordering::AcqRel);
            if let Err(error) = self.full_pass(&mut cursor, whole).await {
                if whole {
                    self.pass.whole.store(true, Ordering::Release);
                }
                self.doubt(&error).await;
            }
        }
    }

    /// One bounded pass. `cursor` is where the next one goes on among Redis's keys.
    async fn full_pass(&self, cursor: &mut ScanCursor, whole: bool) -> Result<(), Error> {
        // What is on offer comes first: after a restart of Redis these coupons are shut.
        let mut seen = HashSet::new();
        let mut after = String::new();
        loop {
            let rows = self.ledger.page_to_reconcile(&after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.id);
            let rows: Vec<Row> = rows.into_iter().filter(|row| self.shards.hold(&row.id)).collect();
            let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
            self.compare_page(&ids, rows).await?;
            seen.extend(ids);
        }
        if whole {
            *cursor = ScanCursor::default();
        }
        let glob = self.keys.glob();
        for scans in 0.. {
            let (next, keys) = self.redis.scan(cursor.clone(), &glob).await?;
            let ids = keys.iter().filter_map(|key| self.id_of(key));
            let ids = ids.filter(|id| self.shards.hold(id) && !seen.contains(*id));
            let ids: Vec<String> = ids.map(str::to_owned).collect();
            for ids in ids.chunks(PAGE as usize) {
                let rows = self.ledger.rows(ids).await?;
                self.compare_page(ids, rows).await?;
            }
            let is_over = next.is_none();
            *cursor = next.unwrap_or_default();
            if is_over || (!whole && scans >= SCANS_MAX) {
                break;
            }
        }
        Ok(())
    }

    async fn compare_page(&self, ids: &[String], rows: Vec<Row>) -> Result<(), Error> {
        let infos = join_all(ids.iter().map(|id| async { self.redis.info(&self.keys.key(id)).await })).await;
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
                Err(error) if matches!(policy::remedy(&error), Remedy::Reconnect(_)) => return Err(error),
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
}
