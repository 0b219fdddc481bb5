//! Opening many coupons at once: after a restart of Redis all of them are fenced, and most are level with the ledger.
//!
//! Their epochs are taken in one statement, and their RESUMEs travel together. Whatever is not as simple as that gets a
//! visit, like any coupon.

use crate::catalog::{Next, Ticket};
use crate::compare::Comparison;
use crate::daemon::Daemon;
use crate::error::Error;
use crate::ledger::{Bid, Progress, Row, Standing};
use crate::pause::{self, Point};
use crate::redis::Info;
use crate::relay::{Line, Relay};
use coupon_core::number::Epoch;
use futures_util::future::join_all;

/// A coupon that is fenced, and defined in Redis as in its row.
struct Fenced {
    ticket: Ticket,
    row: Row,
    info: Info,
}

impl Daemon {
    /// Opens what can be opened; the rest is visited.
    pub async fn reopen(&self, coupons: Vec<(Row, Info)>) -> Result<(), Error> {
        // One that is being visited is in good hands.
        let begin = |(row, info): (Row, Info)| Some(Fenced { ticket: self.catalog.begin(&row.id)?, row, info });
        let fenced: Vec<Fenced> = coupons.into_iter().filter_map(begin).collect();
        if fenced.is_empty() {
            return Ok(());
        }
        let taken = self.ledger.take_epochs(&fenced.iter().map(Fenced::bid).collect::<Vec<_>>()).await;
        let (standing, failure) = match taken {
            Ok(standing) => (standing, None),
            Err(error) => (Standing::new(), Some(error)),
        };
        pause::reach(Point::AfterTakeEpoch).await;
        let lines = join_all(fenced.iter().map(|coupon| self.reopen_one(coupon, standing.get(&coupon.row.id)))).await;
        let mut open = 0_usize;
        for (Fenced { mut ticket, row, info }, line) in fenced.into_iter().zip(lines) {
            ticket.memory.line = line;
            let is_level = line.is_some_and(|line| {
                let ledger = line.progress.position.seq;
                info.granted == ledger && info.persisted == ledger
            });
            if line.is_some() {
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
    async fn reopen_one(&self, coupon: &Fenced, progress: Option<&Progress>) -> Option<Line> {
        let (id, key) = (&*coupon.row.id, self.keys.key(&coupon.row.id));
        let (redis, ledger, stop) = (&self.redis, &self.ledger, &self.stop);
        let relay = Relay { redis, ledger, counters: &self.counters, batch_max: self.batch_max };
        let comparison = Comparison { redis, ledger, relay: &relay, stop, id, key: &key };
        comparison.reopen(*progress?, &coupon.info).await.ok()
    }
}

impl Fenced {
    fn bid(&self) -> Bid {
        let seen = self.row.epoch;
        Bid { id: self.row.id.clone(), seen, next: Epoch(seen.max(self.info.epoch).0.saturating_add(1)) }
    }
}
