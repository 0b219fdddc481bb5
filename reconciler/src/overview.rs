//! All there is to see at a glance, for `/status` and the page.
//!
//! Nothing is read while nobody asks. Who asks often, or together with others, is answered from what was seen last: looking
//! takes a bounded share of the time, however many look.

use crate::catalog::Memory;
use crate::daemon::Daemon;
use crate::error::{self, Error, Remedy};
use crate::ledger::Row;
use crate::rates::{Recent, STEP_SECONDS};
use crate::redis::Info;
use crate::shards;
use crate::side::Presence;
use axum::body::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Coupons shown; a bound on what one who asks can cost. Those on offer come first.
const COUPONS_MAX: u32 = 2000;

/// Calls sent to Redis at once: the relay shares the connection.
const CALLS_AT_ONCE: usize = 250;

/// Between two looks at least.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);

/// And at most, if the last one took long.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(10);

/// It rests so many times as long as the last look took.
const REST_PER_LOOK: u32 = 9;

/// A side that takes longer to answer is left out of this look: whoever watches an outage wants to see it.
const SIDE_TIMEOUT: Duration = Duration::from_secs(3);

/// What was seen last.
#[derive(Debug)]
pub struct Sight {
    at: Instant,
    cost: Duration,
    /// The ledger's part, which is shown on while PostgreSQL is away.
    ledger: Arc<LedgerSight>,
    json: Bytes,
}

/// What was seen of the ledger.
#[derive(Debug, Default)]
struct LedgerSight {
    rows: Vec<Row>,
    coupons: u64,
    dead_letters: HashMap<String, u64>,
    /// When that was, by Redis's clock.
    at_ms: Option<u64>,
}

/// Everything.
#[derive(Debug, Serialize)]
struct Overview<'a> {
    version: &'static str,
    instance: &'a str,
    uptime_seconds: u64,
    /// By Redis's clock.
    now_ms: u64,
    shards: Shards,
    redis: Side,
    postgresql: Side,
    /// When the ledger was read; absent if it never was.
    ledger_read_at_ms: Option<u64>,
    audit_rounds: u64,
    /// Of what `recent` holds.
    step_seconds: u64,
    /// All coupons of this process together.
    recent: Recent,
    /// How many there are; `coupons` holds no more than a page can show.
    coupons_total: u64,
    coupons: Vec<Coupon<'a>>,
}

/// What this process works on.
#[derive(Debug, Serialize)]
struct Shards {
    held: u32,
    of: usize,
}

/// Whether a server is there.
#[derive(Debug, Serialize)]
struct Side {
    up: bool,
    why: Option<String>,
}

/// One coupon. Numbers that only Redis knows are absent where it cannot be asked.
#[derive(Debug, Serialize)]
struct Coupon<'a> {
    id: &'a str,
    status: &'static str,
    mode: &'static str,
    quantity: u64,
    requested: Option<u64>,
    waiting: Option<u64>,
    granted: u64,
    /// Grants in the ledger, dead letters included.
    persisted: u64,
    remaining: u64,
    lag: u64,
    lag_seconds: f64,
    dead_letters: u64,
    /// Findings of the audit that are left.
    drift: u64,
    fence: Fence,
    epoch: u64,
    /// Whether this process works on it; rates, drift and problems are known of such coupons only.
    here: bool,
    /// Whether it waits for an operator.
    stopped: bool,
    /// What went wrong last, if it has not been put right.
    problem: Option<String>,
    /// Absent where there was nothing in the last minutes.
    recent: Option<Recent>,
}

/// Whether Redis grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fence {
    /// It does.
    Open,
    /// Not before the coupon was compared with the ledger.
    Fenced,
    /// Redis has no such coupon.
    Absent,
    /// Redis cannot be asked.
    Unknown,
}

impl Daemon {
    /// The overview as JSON.
    pub async fn overview(self: &Arc<Self>) -> Bytes {
        // Who comes meanwhile waits, and is given the same.
        let mut sight = self.sight.lock().await;
        if let Some(seen) = &*sight
            && seen.at.elapsed() < (seen.cost * REST_PER_LOOK).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
        {
            return seen.json.clone();
        }
        let begun = Instant::now();
        let ledger = match self.look_at_ledger().await {
            Some(ledger) => Arc::new(ledger),
            None => sight.as_ref().map(|seen| Arc::clone(&seen.ledger)).unwrap_or_default(),
        };
        let json = Bytes::from(self.describe(&ledger).await);
        *sight = Some(Sight { at: Instant::now(), cost: begun.elapsed(), ledger, json: json.clone() });
        json
    }

    /// None if it cannot be seen now.
    async fn look_at_ledger(self: &Arc<Self>) -> Option<LedgerSight> {
        if !self.sides.postgresql.is_up() {
            return None;
        }
        let daemon = Arc::clone(self);
        // A task of its own: a statement that is given up half-way would leave its answer to the next one.
        let look = tokio::spawn(async move { daemon.read_ledger().await });
        match timeout(SIDE_TIMEOUT, look).await {
            Ok(Ok(Ok(ledger))) => Some(ledger),
            Ok(Ok(Err(error))) => {
                self.doubt(&error).await;
                None
            }
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn read_ledger(&self) -> Result<LedgerSight, Error> {
        let (rows, coupons) = self.ledger.first(COUPONS_MAX).await?;
        let ids: Vec<&str> = rows.iter().map(|row| &*row.id).collect();
        let dead_letters = self.ledger.count_letters(&ids).await?;
        Ok(LedgerSight { rows, coupons, dead_letters, at_ms: Some(self.clock.now_ms()) })
    }

    async fn describe(&self, ledger: &LedgerSight) -> Vec<u8> {
        let now_ms = self.clock.now_ms();
        let memories = self.catalog.remembered(ledger.rows.iter().map(|row| &*row.id));
        let drift = self.metrics.drift.left_by_coupon();
        let mut coupons = Vec::with_capacity(ledger.rows.len());
        let mut pairs = ledger.rows.iter().zip(memories);
        let deadline = Instant::now() + SIDE_TIMEOUT;
        loop {
            let some: Vec<(&Row, Memory)> = pairs.by_ref().take(CALLS_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = if self.sides.redis.is_up() {
                let look = join_all(some.iter().map(|(row, memory)| self.look_at_redis(row, memory)));
                timeout(left, look).await.unwrap_or_default()
            } else {
                Vec::new()
            };
            let seen = seen.into_iter().chain(std::iter::repeat_with(RedisSight::default));
            coupons.extend(some.into_iter().zip(seen).map(|((row, memory), seen)| Coupon {
                id: &row.id,
                status: seen.info.as_ref().map_or(row.status, |info| info.status).word(),
                mode: row.definition.mode.word(),
                quantity: row.definition.quantity,
                requested: seen.info.as_ref().map(|info| info.requested),
                waiting: seen.info.as_ref().map(|info| info.waiting),
                granted: seen.granted(row),
                persisted: row.position.seq.0,
                remaining: row.definition.quantity.saturating_sub(seen.granted(row)),
                lag: seen.lag,
                lag_seconds: seen.lag_seconds,
                dead_letters: ledger.dead_letters.get(&row.id).copied().unwrap_or_default(),
                drift: drift.get(&row.id).copied().unwrap_or_default(),
                fence: seen.fence,
                epoch: row.epoch.0,
                here: self.shards.hold(&row.id),
                stopped: memory.stopped,
                problem: memory.problem.or(seen.problem),
                recent: None,
            }));
        }
        // What was seen just now counts already.
        let (recent, mut recents) = self.metrics.rates.show();
        for coupon in &mut coupons {
            coupon.recent = recents.remove(coupon.id);
        }
        let overview = Overview {
            version: env!("CARGO_PKG_VERSION"),
            instance: &self.instance,
            uptime_seconds: self.since.elapsed().as_secs(),
            now_ms,
            shards: Shards { held: self.shards.len(), of: shards::COUNT },
            redis: side(&self.sides.redis),
            postgresql: side(&self.sides.postgresql),
            ledger_read_at_ms: ledger.at_ms,
            audit_rounds: self.metrics.drift.rounds.get(),
            step_seconds: STEP_SECONDS,
            recent,
            coupons_total: ledger.coupons,
            coupons,
        };
        // Numbers and text: this cannot fail.
        serde_json::to_vec(&overview).unwrap_or_default()
    }

    async fn look_at_redis(&self, row: &Row, memory: &Memory) -> RedisSight {
        let key = self.keys.key(&row.id);
        match self.redis.info(&key).await {
            Ok(Some(info)) => {
                if self.shards.hold(&row.id) {
                    self.metrics.count_requests(&row.id, &info);
                }
                let lag = self.lag_behind(&key, &info, memory.line, row.position.seq).await;
                RedisSight {
                    fence: if info.fenced { Fence::Fenced } else { Fence::Open },
                    lag: lag.entries,
                    lag_seconds: lag.age(self.clock.now_ms()).as_secs_f64(),
                    info: Some(info),
                    problem: None,
                }
            }
            Ok(None) => RedisSight { fence: Fence::Absent, ..RedisSight::default() },
            // That the server is away is said once, not of every coupon.
            Err(error) if matches!(error::redis_remedy(&error), Remedy::Reconnect(_)) => RedisSight::default(),
            Err(error) => RedisSight { problem: Some(error::wording(&error)), ..RedisSight::default() },
        }
    }
}

/// What was seen of a coupon in Redis.
#[derive(Debug)]
struct RedisSight {
    info: Option<Info>,
    fence: Fence,
    lag: u64,
    lag_seconds: f64,
    problem: Option<String>,
}

impl Default for RedisSight {
    fn default() -> Self {
        Self { info: None, fence: Fence::Unknown, lag: 0, lag_seconds: 0.0, problem: None }
    }
}

impl RedisSight {
    /// The ledger was read before Redis, but a Redis that lost grants holds less.
    fn granted(&self, row: &Row) -> u64 {
        self.info.as_ref().map_or(row.position.seq.0, |info| info.granted.0)
    }
}

fn side(presence: &Presence) -> Side {
    let why = presence.why();
    Side { up: why.is_none(), why }
}
