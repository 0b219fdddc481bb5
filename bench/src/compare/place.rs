//! Where it is measured: the servers, the users, the programs.

use super::{Settings, core};
use crate::findings::Circumstances;
use crate::load::Shape;
use crate::server::Server;
use crate::slices::{Course, Side, alternate, cut, measure};
use anyhow::{Context, Result};
use sqlx::postgres::{PgPool, PgPoolOptions};
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::process::Command;

/// As a gateway talks to Redis: few connections, many requests in flight.
pub const GATEWAY: Shape = Shape { connections: 8, pipeline: 16 };

/// Where nothing is measured: as quick as can be.
const FILL: Shape = Shape { connections: 8, pipeline: 256 };

/// The servers and what belongs to them.
pub struct Place {
    /// Redis.
    pub server: Server,
    /// The ledger.
    pub ledger: PgPool,
    /// How programs reach Redis.
    pub redis_url: String,
    /// How programs reach the ledger.
    pub database_url: String,
    /// The reconciler's program.
    pub reconciler: PathBuf,
    /// Where psql and pgbench are.
    pub postgres_bin: PathBuf,
    /// Where files go that a program has to read.
    pub out: PathBuf,
    /// For the order of users.
    pub random: fastrand::Rng,
    is_quick: bool,
    is_kept_on_core: bool,
}

impl Place {
    /// Connects to everything and leaves it empty.
    pub async fn enter(settings: &Settings) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(2).connect(&settings.database_url).await;
        let mut place = Self {
            server: Server::connect(&settings.redis_url).await?,
            ledger: pool.context("no connection to PostgreSQL")?,
            redis_url: settings.redis_url.clone(),
            database_url: settings.database_url.clone(),
            reconciler: settings.reconciler.clone(),
            postgres_bin: settings.postgres_bin.clone(),
            out: settings.out.clone(),
            random: fastrand::Rng::with_seed(settings.seed),
            is_quick: settings.quick,
            is_kept_on_core: settings.core.is_some(),
        };
        place.clear().await?;
        Ok(place)
    }

    /// Deletes all there is, on both sides; no reconciler may be running.
    pub async fn clear(&mut self) -> Result<()> {
        self.server.run(&["FLUSHALL", "SYNC"]).await?;
        sqlx::raw_sql("truncate coupon, coupon_position, user_coupon, coupon_dead_letter, coupon_orphan")
            .execute(&self.ledger)
            .await?;
        Ok(())
    }

    /// So many, or a tenth of them in a quick run.
    #[must_use]
    pub const fn scaled(&self, number: u32) -> u32 {
        if self.is_quick { number / 10 } else { number }
    }

    /// So many rounds, or one in a quick run.
    #[must_use]
    pub const fn rounds(&self, number: usize) -> usize {
        if self.is_quick { 1 } else { number }
    }

    /// The calls from here on, so many, in random order: users do not come in the order of their ids.
    pub fn shuffled(&mut self, from: u32, number: u32) -> Vec<u32> {
        let mut calls: Vec<u32> = (from..from + number).collect();
        self.random.shuffle(&mut calls);
        calls
    }

    /// Measures these sides in turns over so many slices of the calls.
    pub async fn alternate(&self, sides: &[Side], calls: &[u32], slices: usize) -> Result<Vec<Course>> {
        alternate(&self.server.target, &self.server.usage, sides, &cut(calls, slices)).await
    }

    /// A program that may use all cores.
    #[must_use]
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        core::free_program(program, self.is_kept_on_core)
    }

    /// Makes all calls without measuring.
    pub async fn send(&self, side: &Side, calls: &[u32]) -> Result<()> {
        let side = Side { caller: side.caller.clone(), shape: FILL, ..*side };
        measure(&self.server.target, &self.server.usage, &side, &Arc::from(calls)).await?;
        Ok(())
    }

    /// What a reader has to know beside the figures.
    pub async fn circumstances(&self) -> Result<Circumstances> {
        let (version, at): (String, String) = sqlx::query_as(
            "select current_setting('server_version'), to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')",
        )
        .fetch_one(&self.ledger)
        .await?;
        let pinning = if self.is_kept_on_core { "Redis on one, the load on another" } else { "not pinned" };
        Ok(Circumstances {
            machine: format!("{}, {} cores, {pinning}", processor(), core::online()),
            servers: format!("Redis {}, appendfsync everysec; PostgreSQL {version}", self.server.version),
            method: format!(
                "Sides take turns on the same servers, slice by slice; ratios are medians with quartiles. \
                 {} connections with {} calls in flight on each, where nothing else is said",
                GATEWAY.connections, GATEWAY.pipeline
            ),
            at,
        })
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}
