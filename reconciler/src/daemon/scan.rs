//! The full pass: compares all coupons of both sides, slowly, and finds what no message told of.

use super::catalog::{Catalog, Next, Reason, Ticket};
use super::presence::Servers;
use crate::coupon::{Plan, Publication, Tools, plan};
use crate::error::{Error, Remedy};
use crate::model::coupon::{Info, Row};
use crate::model::pause;
use crate::redis::ScanCursor;
use coupon_core::key::KeyPattern;
use futures_util::future::join_all;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Rows and coupons compared at once.
const PAGE: u32 = 500;

/// SCAN calls in a pass at its usual pace, of 1000 keys each: a Redis that holds much else is not kept busy.
const SCANS_MAX: u32 = 100;

/// The coupon of a key, if the key can be one.
pub fn id_of<'k>(keys: &KeyPattern, key: &'k [u8]) -> Option<&'k str> {
    // PostgreSQL cannot hold a NUL.
    keys.id(str::from_utf8(key).ok()?).filter(|id| !id.contains('\0'))
}

/// Passes at every beat, and over everything whenever it is asked for.
pub async fn run(servers: &Servers, catalog: &Catalog, every: Duration) {
    let mut scan = Scan { tools: &servers.tools, catalog, cursor: ScanCursor::default() };
    let mut whole = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = catalog.scan_asked_for() => whole = true,
        }
        servers.both().await;
        match scan.pass(whole).await {
            Ok(()) => whole = false,
            Err(error) => servers.doubt(&error).await,
        }
    }
}

struct Scan<'a> {
    tools: &'a Tools,
    catalog: &'a Catalog,
    /// Where the next pass goes on among Redis's keys.
    cursor: ScanCursor,
}

impl Scan<'_> {
    /// One bounded pass.
    async fn pass(&mut self, whole: bool) -> Result<(), Error> {
        let Tools { redis, ledger, keys, .. } = self.tools;
        // Whoever is met on neither side is deleted on both, and is to be forgotten.
        let mut unmet = if whole { self.catalog.open() } else { HashSet::new() };
        // What is on offer comes first: after a restart of Redis these coupons are shut.
        let mut seen = HashSet::new();
        let mut pages = ledger.on_offer();
        while let Some((mut rows, unreadable)) = pages.next().await? {
            // Its visit says why.
            unreadable.iter().for_each(|row| self.catalog.mark(&row.id, Reason::Doubt));
            rows.retain(|row| self.catalog.holds(&row.id));
            let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
            self.compare(&ids, rows).await?;
            seen.extend(ids);
        }
        unmet.retain(|id| !seen.contains(&**id));
        if whole {
            self.cursor = ScanCursor::default();
        }
        for scans in 0.. {
            let (next, found) = redis.scan(self.cursor.clone(), &keys.glob()).await?;
            let ids = found.iter().filter_map(|key| id_of(keys, key));
            let ids = ids.filter(|id| self.catalog.holds(id) && !seen.contains(*id));
            let ids: Vec<String> = ids.map(str::to_owned).collect();
            for id in &ids {
                unmet.remove(&**id);
            }
            for ids in ids.chunks(PAGE as usize) {
                self.compare(ids, ledger.rows(ids).await?).await?;
            }
            let is_over = next.is_none();
            self.cursor = next.unwrap_or_default();
            if is_over || (!whole && scans >= SCANS_MAX) {
                break;
            }
        }
        for id in unmet {
            self.catalog.mark(&id, Reason::Doubt);
        }
        Ok(())
    }

    /// Compares a page of coupons with their rows, as far as there are any.
    async fn compare(&self, ids: &[String], rows: Vec<Row>) -> Result<(), Error> {
        let info = async |id: &String| self.tools.redis.info(&self.tools.keys.key(id)).await;
        let infos = join_all(ids.iter().map(info)).await;
        let mut rows: HashMap<String, Row> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        let mut fenced = Vec::new();
        for (id, info) in ids.iter().zip(infos) {
            match (rows.remove(id), info.map_err(Error::Redis)) {
                (Some(row), Ok(Some(info))) if plan(Some(&row), Some(&info)) == Plan::Resume(Publication::Nothing) => {
                    fenced.push((row, info));
                }
                (row, Ok(info)) => self.compare_one(id, row.as_ref(), info.as_ref()),
                (_, Err(error)) if matches!(error.remedy(), Remedy::Reconnect(_)) => return Err(error),
                // Something is wrong with this coupon alone: its visit says what.
                (_, Err(_)) => self.catalog.mark(id, Reason::Doubt),
            }
        }
        self.reopen(fenced).await
    }

    fn compare_one(&self, id: &str, row: Option<&Row>, info: Option<&Info>) {
        if plan(row, info) != Plan::Rest {
            self.catalog.mark(id, Reason::Doubt);
        } else if let (Some(row), Some(info)) = (row, info) {
            self.catalog.observe(id, row, info);
            // Acknowledged and not in the ledger: either it has moved since the row was read, or it is an older one. Or a dead letter
            // has become a row.
            if info.persisted != row.position.seq || info.refused != row.letters() {
                self.catalog.mark(id, Reason::Doubt);
            } else if info.granted > row.position.seq {
                self.catalog.mark(id, Reason::Grants);
            }
        }
    }

    /// Opens many at once: after a restart of Redis all coupons are fenced, and most are level with the ledger. Their epochs
    /// are taken in one statement, and their RESUMEs travel together. Whatever is not as simple as that is visited.
    async fn reopen(&self, fenced: Vec<(Row, Info)>) -> Result<(), Error> {
        // One that is being visited is in good hands.
        let begin = |(row, info): (Row, Info)| Some((self.catalog.begin(&row.id)?, row, info));
        let fenced: Vec<_> = fenced.into_iter().filter_map(begin).collect();
        if fenced.is_empty() {
            return Ok(());
        }
        let seen: Vec<_> = fenced.iter().map(|(_, row, info)| (row, info.epoch)).collect();
        let taken = self.tools.ledger.take_epochs(&seen).await;
        pause::at("after-take-epoch").await;
        // None where it takes a visit to find out what is the matter, and to say so.
        let reopen = async |(_, row, info): &(Ticket, Row, Info)| {
            let progress = taken.as_ref().ok()?.get(&row.id)?;
            self.tools.coupon(&row.id).reopen(*progress, row, info).await.ok()
        };
        let checkpoints = join_all(fenced.iter().map(reopen)).await;
        let open = checkpoints.iter().flatten().count();
        if open > 0 {
            tracing::info!(coupons = open, "resumed: their gates are open");
        }
        for ((mut ticket, row, info), checkpoint) in fenced.into_iter().zip(checkpoints) {
            ticket.memory.checkpoint = checkpoint;
            let ledger = checkpoint.map(|checkpoint| checkpoint.progress.position.seq);
            if ledger.is_some() {
                self.catalog.observe(&row.id, &row, &info);
            }
            let is_told = checkpoint.is_some_and(|checkpoint| !checkpoint.has_untold);
            let is_level = is_told && ledger == Some(info.granted) && info.granted == info.persisted;
            self.catalog.finish(ticket, if is_level { Next::Rest } else { Next::Again });
        }
        taken.map(drop)
    }
}
