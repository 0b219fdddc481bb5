//! The daemon: who does what. Sources say which coupons need a visit, a few workers visit them.
//!
//! ```text
//! PostgreSQL LISTEN ─┐ subscribe
//! Redis SUBSCRIBE ───┤                     ┌ compare: publish, adopt, mirror, open
//! scan ──────────────┼─> catalog ─> worker ┤
//! schedule ──────────┤                     └ relay: stream to ledger
//! health ────────────┘
//! ```
//!
//! Where several run, leases say which coupons each works on ([`lease`]). Beside it the audit compares both sides ([`audit`]), and
//! owes nobody anything.

mod audit;
mod backoff;
mod catalog;
mod clock;
mod health;
mod lease;
mod presence;
mod scan;
mod schedule;
mod shards;
mod subscribe;
mod worker;

use crate::audit::Tally;
use crate::coupon::Tools;
use crate::model::standing::{Source, Standing};
use catalog::Catalog;
use clock::Clock;
use presence::Servers;
use scan::ScanRequest;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Workers: as many coupons are moved at the same time. Mostly they wait for a commit, which PostgreSQL shares among
/// those who wait together.
const WORKERS: u32 = 8;

/// Connections to PostgreSQL: one per worker, and some for the scan, health, the leases, a page that is read ahead, the audit and
/// a look from outside.
pub const CONNECTIONS_MAX: u32 = WORKERS + 6;

/// Coupons with work at hand that it tells of: those that wait for an operator first.
const COUPONS_TOLD_MAX: usize = 2000;

/// What the daemon is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between two issues.
    pub issue_interval: Duration,
    /// Between two full passes.
    pub full_pass_interval: Duration,
    /// Between two rounds of the audit; zero for none.
    pub audit_interval: Duration,
    /// Whether the schema is migrated at the start.
    pub migrates: bool,
    /// The name of this process among several, if it has one.
    pub instance: Option<String>,
}

/// The daemon.
pub struct Daemon {
    settings: Settings,
    instance: String,
    since: Instant,
    servers: Servers,
    catalog: Arc<Catalog>,
    clock: Clock,
    scans: ScanRequest,
    drift: Tally,
}

impl Daemon {
    /// A daemon that does not run yet.
    pub fn new(tools: Tools, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            instance: settings.instance.clone().unwrap_or_else(lease::instance_name),
            settings,
            since: Instant::now(),
            servers: Servers::unknown(tools),
            catalog: Arc::default(),
            clock: Clock::default(),
            scans: ScanRequest::default(),
            drift: Tally::default(),
        })
    }

    /// Runs until it is told to stop; then every worker ends the batch it is at.
    pub async fn run(self: Arc<Self>) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let daemon = Arc::clone(&self);
            workers.spawn(async move { worker::run(&daemon.servers, &daemon.catalog).await });
        }
        if !self.settings.audit_interval.is_zero() {
            // Like a worker it ends what it is at: a repair is a transaction.
            let daemon = Arc::clone(&self);
            workers.spawn(async move {
                let Self { settings, servers, catalog, drift, .. } = &*daemon;
                audit::run(servers, catalog, drift, settings.audit_interval).await;
            });
        }
        let Self { settings, instance, servers, catalog, clock, scans, .. } = &*self;
        let sources = async {
            tokio::join!(
                health::redis(servers, catalog, scans, clock),
                health::postgresql(servers, catalog, scans, settings.migrates),
                lease::share(servers, catalog, scans, instance),
                subscribe::redis(servers, catalog, scans),
                subscribe::postgresql(servers, catalog, scans),
                scan::run(servers, catalog, scans, settings.full_pass_interval),
                schedule::run(servers, catalog, clock, settings.issue_interval),
            )
        };
        tokio::select! {
            _ = sources => {}
            () = servers.tools.stop.cancelled() => {}
        }
        while workers.join_next().await.is_some() {}
        lease::leave(servers, instance).await;
    }
}

impl Source for Daemon {
    fn standing(&self) -> Standing {
        let totals = self.catalog.totals();
        let mut coupons = self.catalog.at_work(COUPONS_TOLD_MAX);
        for (id, drift) in self.drift.left_by_coupon() {
            coupons.entry(id).or_default().drift = drift;
        }
        Standing {
            instance: self.instance.clone(),
            uptime: self.since.elapsed(),
            now_ms: self.clock.now_ms(),
            redis_away: self.servers.redis.why(),
            postgresql_away: self.servers.postgresql.why(),
            shards_held: totals.shards,
            shards: shards::COUNT,
            known: totals.known,
            stopped: totals.stopped,
            coupons,
            drift: self.drift.left().map(|(kind, left)| (kind.name(), left)).collect(),
        }
    }

    fn holds(&self, id: &str) -> bool {
        self.catalog.holds(id)
    }
}
