//! All there is to see at a glance: one look at both sides, which everything that is shown is taken from.
//!
//! Nothing is read while nobody asks. Who asks often, or together with others, is answered from what was seen last: looking
//! takes a bounded share of the time, however many look.

use crate::error::{self, Error, Remedy};
use crate::ledger::Ledger;
use crate::model::coupon::{Info, Row};
use crate::model::standing::{Health, Known, Process, Source, Standing};
use crate::redis::Redis;
use coupon_core::grant::EntryId;
use coupon_core::key::KeyPattern;
use coupon_core::number::{Epoch, Seq};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// Coupons of the ledger that are shown; a bound on what one who asks can cost. Those on offer come first.
const COUPONS_MAX: u32 = 2000;

/// Calls sent to Redis at once: the relay shares the connection.
const CALLS_AT_ONCE: usize = 250;

/// Between two looks at least.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);

/// And at most, if the last one took long.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(10);

/// It rests so many times as long as the last look took.
const REST_PER_LOOK: u32 = 9;

/// Epochs in which a grant that is no row yet is looked for.
const EPOCHS_MAX: u64 = 16;

/// A side that takes longer to answer is left out of this look: whoever watches an outage wants to see it.
const SIDE_TIMEOUT: Duration = Duration::from_secs(3);

/// Everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct View {
    /// The daemon's process, whose time is that of the look.
    #[serde(flatten)]
    pub process: Process,
    /// When the ledger was read; absent if it never was.
    pub ledger_read_at_ms: Option<u64>,
    /// Rounds of its audit.
    pub audit_rounds: u64,
    /// How many coupons there are; `coupons` holds no more than a page can show.
    pub coupons_total: u64,
    /// Those that are shown.
    pub coupons: Vec<Coupon>,
}

/// One coupon. Numbers that only Redis knows are absent where it cannot be asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Coupon {
    /// Its id.
    pub id: String,
    /// Where it is in its life.
    pub status: String,
    /// Units in all.
    pub quantity: u64,
    /// Users accepted.
    pub requested: Option<u64>,
    /// Users accepted and not granted.
    pub waiting: Option<u64>,
    /// Grants in Redis, or those of the ledger where Redis does not say.
    pub granted: u64,
    /// Grants in the ledger, dead letters included.
    pub persisted: u64,
    /// Units left.
    pub remaining: u64,
    /// Grants in Redis that are not in the ledger.
    pub lag: Option<u64>,
    /// The age of the oldest of them, 0 if there is none.
    pub lag_seconds: Option<f64>,
    /// Grants that PostgreSQL refused as rows.
    pub dead_letters: u64,
    /// Findings of the audit that are left.
    pub drift: u64,
    /// Whether Redis grants.
    pub fence: Fence,
    /// Its life under one history of Redis.
    pub epoch: u64,
    /// Whether this process works on it; drift and problems are known of such coupons only.
    pub here: bool,
    /// Whether it waits for an operator.
    pub stopped: bool,
    /// What went wrong last, if it has not been put right.
    pub problem: Option<String>,
}

/// Whether Redis grants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fence {
    /// It does.
    Open,
    /// Not before the coupon was compared with the ledger.
    Fenced,
    /// Redis has no such coupon.
    Absent,
    /// Redis cannot be asked.
    #[default]
    Unknown,
}

impl Coupon {
    /// What the ledger says of it.
    fn of_ledger(dead_letters: u64, row: Row) -> Self {
        let persisted = row.position.seq.0;
        Self {
            status: row.offer.status.to_string(),
            quantity: row.offer.definition.quantity,
            granted: persisted,
            persisted,
            remaining: row.offer.definition.quantity.saturating_sub(persisted),
            dead_letters,
            epoch: row.epoch.0,
            id: row.id,
            ..Self::default()
        }
    }

    /// What the daemon says of it.
    fn add_known(&mut self, known: &Known) {
        self.persisted = self.persisted.max(known.progress.map_or(0, |progress| progress.position.seq.0));
        self.drift = known.drift;
        self.stopped = known.problem.is_some();
        self.problem.clone_from(&known.problem);
    }

    /// What Redis says of it.
    fn add_info(&mut self, info: &Info) {
        // The row counts, if there is one.
        if self.status.is_empty() {
            self.quantity = info.offer.definition.quantity;
            self.persisted = self.persisted.max(info.persisted.0);
            self.epoch = info.epoch.0;
        }
        self.status = info.offer.status.to_string();
        self.requested = Some(info.requested);
        self.waiting = Some(info.waiting);
        self.granted = info.granted.0;
        self.remaining = self.quantity.saturating_sub(self.granted);
        // The ledger may have been read a while ago.
        self.lag = Some(self.granted.saturating_sub(self.persisted.max(info.persisted.0)));
        self.fence = if info.fenced { Fence::Fenced } else { Fence::Open };
    }
}

/// What was seen last.
#[derive(Default)]
struct Last {
    view: Arc<View>,
    /// Until then nobody looks again.
    until: Option<Instant>,
    /// The ledger's part, which is shown on while PostgreSQL is away.
    of_ledger: Vec<Coupon>,
    total: u64,
    read_at_ms: Option<u64>,
}

/// Looks, for all who ask.
pub struct Viewer {
    /// The daemon.
    pub source: Arc<dyn Source>,
    redis: Arc<Redis>,
    ledger: Arc<Ledger>,
    keys: KeyPattern,
    last: Mutex<Last>,
}

impl Viewer {
    /// One that has not looked yet.
    pub fn new(redis: Arc<Redis>, ledger: Arc<Ledger>, keys: KeyPattern, source: Arc<dyn Source>) -> Self {
        Self { source, redis, ledger, keys, last: Mutex::default() }
    }

    /// What there is to see.
    pub async fn look(&self) -> Arc<View> {
        // Who comes meanwhile waits, and is given the same.
        let mut last = self.last.lock().await;
        let begun = Instant::now();
        if last.until.is_some_and(|until| begun < until) {
            return Arc::clone(&last.view);
        }
        let standing = self.source.standing();
        let mut process = standing.process.clone();
        if process.postgresql.up {
            match self.look_at_ledger().await {
                Ok((coupons, total)) => {
                    (last.of_ledger, last.total, last.read_at_ms) = (coupons, total, Some(process.now_ms));
                }
                Err(why) => process.postgresql = Health { up: false, why: Some(why) },
            }
        }
        let coupons = self.look_at_coupons(last.of_ledger.clone(), &standing).await;
        last.view = Arc::new(View {
            process,
            ledger_read_at_ms: last.read_at_ms,
            audit_rounds: standing.counters.audit_rounds.get(),
            coupons_total: last.total.max(coupons.len() as u64),
            coupons,
        });
        let rest = (begun.elapsed() * REST_PER_LOOK).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
        last.until = Some(Instant::now() + rest);
        Arc::clone(&last.view)
    }

    /// Coupons, and how many there are in all; or why they cannot be seen.
    async fn look_at_ledger(&self) -> Result<(Vec<Coupon>, u64), String> {
        let ledger = Arc::clone(&self.ledger);
        // A task of its own: a statement that is given up half-way would leave its answer to the next one.
        let look = tokio::spawn(async move {
            let (rows, total) = ledger.first(COUPONS_MAX).await?;
            let ids: Vec<&str> = rows.iter().map(|row| &*row.id).collect();
            let letters = ledger.count_letters(&ids).await?;
            let coupon = |row: Row| Coupon::of_ledger(letters.get(&row.id).copied().unwrap_or(0), row);
            Ok((rows.into_iter().map(coupon).collect(), total))
        });
        match timeout(SIDE_TIMEOUT, look).await {
            Ok(Ok(read)) => read.map_err(|error: Error| error.cause()),
            Ok(Err(_)) | Err(_) => Err(format!("the coupons were not read within {SIDE_TIMEOUT:?}")),
        }
    }

    /// The ledger's coupons, and others that the daemon has to do with, as all say together.
    async fn look_at_coupons(&self, mut coupons: Vec<Coupon>, standing: &Standing) -> Vec<Coupon> {
        let read: HashSet<&str> = coupons.iter().map(|coupon| &*coupon.id).collect();
        let others: Vec<&String> = standing.coupons.keys().filter(|id| !read.contains(&***id)).collect();
        coupons.extend(others.into_iter().map(|id| Coupon { id: id.clone(), ..Coupon::default() }));
        for coupon in &mut coupons {
            coupon.here = self.source.holds(&coupon.id);
            if let Some(known) = standing.coupons.get(&coupon.id) {
                coupon.add_known(known);
            }
        }
        if standing.process.redis.up {
            let look = stream::iter(&mut coupons)
                .for_each_concurrent(CALLS_AT_ONCE, |coupon| self.look_at_redis(coupon, standing));
            // What has not been seen by then is not known.
            let _ = timeout(SIDE_TIMEOUT, look).await;
        }
        coupons
    }

    async fn look_at_redis(&self, coupon: &mut Coupon, standing: &Standing) {
        let key = self.keys.key(&coupon.id);
        match self.redis.info(&key).await {
            Ok(Some(info)) => {
                coupon.add_info(&info);
                coupon.lag_seconds = self.lag_seconds(coupon, &key, info.epoch, standing.process.now_ms).await;
            }
            Ok(None) => {
                coupon.fence = Fence::Absent;
                (coupon.lag, coupon.lag_seconds) = (Some(0), Some(0.0));
            }
            // That the server is away is said once, not of every coupon.
            Err(error) if matches!(error::redis_remedy(&error), Remedy::Reconnect(_)) => {}
            Err(error) => coupon.problem = coupon.problem.take().or_else(|| Some(error::wording(&error))),
        }
    }

    /// The age of the first grant that is no row; none if it is not seen.
    async fn lag_seconds(&self, coupon: &Coupon, key: &str, epoch: Epoch, now_ms: u64) -> Option<f64> {
        let Some(lag) = coupon.lag.filter(|lag| *lag > 0) else { return Some(0.0) };
        let last_row = Seq(coupon.granted - lag);
        // Under which epoch it was granted is not known here: mostly this one, else one of the last.
        for epoch in (epoch.0.saturating_sub(EPOCHS_MAX)..=epoch.0).rev().map(Epoch) {
            let grants = self.redis.read(key, EntryId { epoch, seq: last_row }, 1).await.ok()?;
            if let Some(grant) = grants.first().filter(|grant| grant.id.seq == last_row.next()) {
                return Some(now_ms.saturating_sub(grant.granted_at_ms) as f64 / 1000.0);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(now_ms: u64, epoch: u64, fence: Fence, requested: u64) -> View {
        let coupon = Coupon { id: "a".into(), epoch, fence, requested: Some(requested), ..Coupon::default() };
        View { process: Process { now_ms, ..Process::default() }, coupons: vec![coupon], ..View::default() }
    }

    #[test]
    fn what_is_served_can_be_read_again() {
        let json = serde_json::to_vec(&view(10_000, 1, Fence::Absent, 5)).unwrap_or_default();
        let read: Option<View> = serde_json::from_slice(&json).ok();
        let read = read.and_then(|view| view.coupons.into_iter().next());
        assert_eq!(read.map(|coupon| (coupon.fence, coupon.requested)), Some((Fence::Absent, Some(5))));
        for other in [&b"404"[..], b"", b"+PONG\r\n", b"{}"] {
            assert!(serde_json::from_slice::<View>(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_coupon_without_a_row_is_what_redis_says() {
        use crate::model::coupon::Offer;
        use crate::model::grant::Progress;
        use coupon_core::coupon::Definition;
        use coupon_core::position::Position;
        use coupon_core::words::{Mode, Status};

        let definition = Definition { quantity: 9, mode: Mode::Instant, waitlist: 0, opens_at: 0, expires_at: 0 };
        let info = Info {
            offer: Offer { status: Status::Available, definition },
            requested: 6,
            waiting: 1,
            granted: Seq(5),
            persisted: Seq(2),
            epoch: Epoch(3),
            fenced: false,
            revision: 1,
            refused: 0,
        };
        let mut coupon = Coupon::default();
        coupon.add_info(&info);
        let said = (coupon.quantity, coupon.persisted, coupon.epoch, coupon.lag, coupon.remaining);
        assert_eq!(said, (9, 2, 3, Some(3), 4));
        // The relay is further than Redis has heard.
        let mut coupon =
            Coupon { status: "AVAILABLE".into(), quantity: 7, persisted: 1, epoch: 2, ..Coupon::default() };
        let position = Position { seq: Seq(4), ..Position::default() };
        let progress = Some(Progress { epoch: Epoch(2), position, entry: EntryId::default() });
        coupon.add_known(&Known { progress, ..Known::default() });
        coupon.add_info(&info);
        let said = (coupon.quantity, coupon.persisted, coupon.epoch, coupon.lag, coupon.remaining);
        assert_eq!(said, (7, 4, 2, Some(1), 2), "the row counts");
    }
}
