//! What the service manager that started the process is told, in systemd's protocol (sd_notify(3)): that it is ready, what
//! it is at, that it lives, that it ends. Most are started without one, and nothing happens then.
//!
//! Ready means that the settings are valid, the port is open and the work has begun. It does not mean that both servers are
//! there: waiting for them is part of the work, and a manager that gave up over it, or kept the machine from booting, would
//! bring neither back. Whom it waits for is its status.

use crate::model::standing::{Health, Process, Source, Standing};
use sd_notify::NotifyState::{self, Ready, Status, Stopping, Watchdog};
use std::env;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Between two looks at what it is at.
const BEAT: Duration = Duration::from_secs(1);

/// The least that can be kept to.
const BEAT_MIN: Duration = Duration::from_millis(1);

/// Signs of life within the time after which the manager ends the process.
const BEATS_PER_WATCHDOG: u32 = 3;

/// Tells the manager that has started this process how things stand, until the daemon stops.
pub async fn attend(daemon: &impl Source, stop: &CancellationToken) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return stop.cancelled().await;
    }
    if let Err(error) = sd_notify::notify(&[Ready]) {
        // The work does not depend on it.
        tracing::warn!(%error, "the service manager cannot be told anything: NOTIFY_SOCKET is of no use");
    }
    let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
    let mut beat = interval(watchdog.map_or(BEAT, |time| BEAT.min(time / BEATS_PER_WATCHDOG).max(BEAT_MIN)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(beat.tick()).await.is_some() {
        // A sign of life says that tasks still get their turn, and that nobody keeps the catalogue that all work
        // goes through to himself. A server that is away or slow is no reason to end the process.
        tell(&[Status(&describe(&daemon.standing()))]);
        if watchdog.is_some() {
            tell(&[Watchdog]);
        }
    }
    tell(&[Stopping, Status("ending the batches at hand")]);
}

fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// What it is at, in one line.
fn describe(standing: &Standing) -> String {
    let Process { redis, postgresql, shards, stalled, .. } = &standing.process;
    let waits = |(side, health): (&str, &Health)| Some(format!("waiting for {side}: {}", health.why.as_ref()?));
    let mut waits: Vec<String> = [("Redis", redis), ("PostgreSQL", postgresql)].into_iter().filter_map(waits).collect();
    if waits.is_empty() {
        let at_work = || format!("relaying, with {} of {} shards", shards.held, shards.of);
        waits.push(shards.why.as_ref().or(stalled.as_ref()).cloned().unwrap_or_else(at_work));
    }
    if standing.stopped > 0 {
        waits.push(format!("coupons that wait for an operator: {}", standing.stopped));
    }
    waits.join("; ").replace(char::is_control, " ")
}
