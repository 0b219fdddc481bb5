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
use crate::cli;
use crate::coupon::Tools;
use crate::model::standing::{Process, Shards, Source, Standing};
use catalog::Catalog;
use presence::Servers;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Workers: as many coupons are moved at the same time. Mostly they wait for a commit, which PostgreSQL shares among
/// those who wait together.
const WORKERS: u32 = 8;

/// Connections to PostgreSQL, made when it is met and kept: one per worker, and two for those who ask for little, in turn.
pub const CONNECTIONS_MAX: u32 = WORKERS + 2;

/// Coupons with work at hand that it tells of: those that wait for an operator first.
const COUPONS_TOLD_MAX: usize = 2000;

/// Grants that have waited for so long are not on their way any more.
const STALLED_AFTER: Duration = Duration::from_secs(4);

/// The daemon.
pub struct Daemon {
    args: cli::Run,
    instance: String,
    since: Instant,
    servers: Servers,
    catalog: Catalog,
    drift: Tally,
}

impl Daemon {
    /// A daemon that does not run yet.
    pub fn new(tools: Tools, args: cli::Run) -> Arc<Self> {
        Arc::new(Self {
            instance: args.instance.clone().unwrap_or_else(lease::instance_name),
            args,
            since: Instant::now(),
            servers: Servers::unknown(tools),
            catalog: Catalog::default(),
            drift: Tally::default(),
        })
    }

    /// Runs until it is told to stop; then every worker ends the batch it is at. If one ends before, so does the whole.
    pub async fn run(self: Arc<Self>) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let daemon = Arc::clone(&self);
            workers.spawn(async move { worker::run(&daemon.servers, &daemon.catalog).await });
        }
        let Self { args, instance, servers, catalog, .. } = &*self;
        let every = args.audit_interval;
        if !every.is_zero() {
            // Like a worker it ends what it is at: a repair is a transaction.
            let daemon = Arc::clone(&self);
            workers.spawn(async move { audit::run(&daemon.servers, &daemon.catalog, &daemon.drift, every).await });
        }
        let sources = async {
            tokio::join!(
                health::redis(servers, catalog),
                health::postgresql(servers, catalog, !args.no_migrate),
                lease::share(servers, catalog, instance),
                subscribe::redis(servers, catalog),
                subscribe::postgresql(servers, catalog),
                scan::run(servers, catalog, args.full_pass_interval),
                schedule::run(servers, catalog, args.issue_interval),
            )
        };
        let stop = &servers.tools.stop;
        let parts = async { tokio::select!(_ = sources => {}, _ = workers.join_next() => {}) };
        if stop.run_until_cancelled(parts).await.is_some() && !stop.is_cancelled() {
            return;
        }
        while workers.join_next().await.is_some() {}
        lease::leave(servers, instance).await;
    }
}

impl Source for Daemon {
    fn standing(&self) -> Standing {
        let process = Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance.clone(),
            uptime_seconds: self.since.elapsed().as_secs(),
            now_ms: self.servers.clock.now_ms(),
            shards: Shards { held: self.catalog.shards(), of: shards::COUNT, why: self.servers.share.health().why },
            redis: self.servers.redis.health(),
            postgresql: self.servers.postgresql.health(),
            stalled: self.catalog.stalled(STALLED_AFTER),
        };
        let counters = Arc::clone(&self.servers.tools.counters);
        let drift = self.drift.left().map(|(kind, left)| (kind.name(), left)).collect();
        let mut standing = Standing { process, counters, drift, ..self.catalog.standing(COUPONS_TOLD_MAX) };
        for (id, drift) in self.drift.left_by_coupon() {
            standing.coupons.entry(id).or_default().drift = drift;
        }
        standing
    }

    fn holds(&self, id: &str) -> bool {
        self.catalog.holds(id)
    }
}
