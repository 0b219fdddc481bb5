//! The daemon: who does what. Sources say which coupons need a visit, a few workers visit them.
//!
//! ```text
//! PostgreSQL LISTEN ─┐
//! Redis SUBSCRIBE ───┤                     ┌ compare: publish, adopt, mirror, resume
//! full pass ─────────┼─> catalog ─> visit ─┤
//! issue ─────────────┤                     └ relay: stream to ledger
//! keepers ───────────┘
//! ```
//!
//! Where several run, leases say which coupons each works on ([`crate::lease`]).
//!
//! Beside it the audit compares both sides grant by grant, and owes nobody anything.

mod audit;

use crate::audit::Audit;
use crate::catalog::{Catalog, Reason};
use crate::clock::Clock;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::overview::Sight;
use crate::pass::PassRequest;
use crate::policy::{self, Remedy, Side};
use crate::redis::Redis;
use crate::shards::Shards;
use crate::side::{Away, Sides};
use coupon_core::key::KeyPattern;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Workers: as many coupons are moved at the same time. Mostly they wait for a commit, which PostgreSQL shares among
/// those who wait together.
pub const WORKERS: u32 = 8;

/// Connections to PostgreSQL: one per worker, and some for the full pass, the keeper, the leases, a page that is read
/// ahead, the audit and a look from outside.
pub const CONNECTIONS_MAX: u32 = WORKERS + 6;

/// What the daemon is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How a coupon's key is made of its id.
    pub keys: KeyPattern,
    /// Between two issues.
    pub issue_interval: Duration,
    /// Between two full passes.
    pub full_pass_interval: Duration,
    /// Between two rounds of the audit; zero for none.
    pub audit_interval: Duration,
    /// Rows in one batch.
    pub batch_max: u32,
    /// Whether the schema is migrated at the start.
    pub migrates: bool,
    /// The name of this process among several.
    pub instance: String,
}

/// What all its tasks share.
pub struct Daemon {
    /// Where grants are made.
    pub redis: Redis,
    /// Where they are kept.
    pub ledger: Ledger,
    /// Whether both are there.
    pub sides: Sides,
    /// The coupons that need work.
    pub catalog: Arc<Catalog>,
    /// What is counted.
    pub metrics: Metrics,
    /// How a coupon's key is made of its id.
    pub keys: KeyPattern,
    /// Who wants a full pass.
    pub pass: PassRequest,
    /// The coupons that are this process's to work on.
    pub shards: Shards,
    /// The name of this process among several.
    pub instance: String,
    /// Cancelled when it has to end.
    pub stop: CancellationToken,
    /// Redis's clock.
    pub clock: Arc<Clock>,
    /// Since when it is there.
    pub since: Instant,
    /// What was seen last of both sides, for who asks.
    pub sight: Mutex<Option<Sight>>,
    /// Whether the schema is migrated when PostgreSQL is met.
    pub migrates: bool,
    /// Rows in one batch.
    pub batch_max: u32,
}

impl Daemon {
    /// A daemon that does not run yet.
    pub fn new(redis: Redis, ledger: Ledger, settings: &Settings, stop: CancellationToken) -> Arc<Self> {
        let clock = Arc::<Clock>::default();
        Arc::new(Self {
            redis,
            ledger,
            sides: Sides::unknown(),
            catalog: Arc::default(),
            metrics: Metrics::new(Arc::clone(&clock)),
            keys: settings.keys.clone(),
            pass: PassRequest::default(),
            shards: Shards::default(),
            instance: settings.instance.clone(),
            stop,
            clock,
            since: Instant::now(),
            sight: Mutex::default(),
            migrates: settings.migrates,
            batch_max: settings.batch_max,
        })
    }

    /// Runs until it is told to stop; then every worker ends the batch it is at.
    pub async fn run(self: Arc<Self>, settings: Settings) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let daemon = Arc::clone(&self);
            workers.spawn(async move { daemon.work().await });
        }
        if !settings.audit_interval.is_zero() {
            // Like a worker it ends what it is at: a repair is a transaction.
            let daemon = Arc::clone(&self);
            workers.spawn(async move {
                let Self { redis, ledger, keys, metrics, shards, sides, stop, .. } = &*daemon;
                let holds = |id: &str| shards.hold(id);
                let audit = Audit::new(redis, ledger, keys);
                let rounds = audit::Rounds { audit, ledger, tally: &metrics.drift, holds: &holds, sides, stop };
                rounds.run(settings.audit_interval, async |error| daemon.doubt(&error).await).await;
            });
        }
        let sources = async {
            tokio::join!(
                self.keep_redis(),
                self.keep_postgresql(),
                self.share_coupons(),
                self.hear_redis(),
                self.hear_postgresql(),
                self.pass_at(settings.full_pass_interval),
                self.issue_at(settings.issue_interval),
            )
        };
        tokio::select! {
            _ = sources => {}
            () = self.stop.cancelled() => {}
        }
        while workers.join_next().await.is_some() {}
        self.leave().await;
    }

    /// Notes that a coupon needs a visit, if it is one of this process's.
    pub fn mark(&self, id: &str, reason: Reason) {
        if self.shards.hold(id) {
            self.catalog.mark(id, reason);
        }
    }

    /// The coupon of a key, if the key can be one.
    pub fn id_of<'k>(&self, key: &'k [u8]) -> Option<&'k str> {
        // PostgreSQL cannot hold a NUL.
        self.keys.id(str::from_utf8(key).ok()?).filter(|id| !id.contains('\0'))
    }

    /// As [`Daemon::react`], and tells of what a person has to mend.
    pub async fn doubt(&self, error: &Error) {
        if let Some(problem) = self.react(error).await {
            tracing::error!("{problem}");
        }
    }

    /// Notes it where an error says that a side is away. Returns what a person has to mend, with advice.
    pub async fn react(&self, error: &Error) -> Option<String> {
        let remedy = policy::remedy(error);
        match remedy {
            Remedy::Reconnect(side) => {
                self.metrics.retries.add(1);
                if side == Side::Redis {
                    self.redis.disconnect().await;
                }
                self.sides.of(side).left(Away::because(error.cause()));
                None
            }
            Remedy::Compare | Remedy::Retry => {
                self.metrics.retries.add(1);
                None
            }
            Remedy::Stop(_) | Remedy::Isolate | Remedy::RaiseQuantity => Some(remedy.worded(error)),
        }
    }
}
