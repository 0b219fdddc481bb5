//! `run`: starts the daemon, serves health and metrics, and ends in order.

use crate::command::supervisor;
use crate::daemon::{Daemon, Settings};
use crate::exit::{Exit, Failure};
use crate::ledger::Ledger;
use crate::show::http;
use crate::show::view::Viewer;
use crate::{cli, lease, secret, signal};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// After this time the process ends, whatever it is waiting for. Nothing is lost by it: the position in the ledger
/// says where to go on.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: cli::Run, ledger: Ledger) -> Result<Exit, Failure> {
    #[cfg(feature = "pause-points")]
    crate::pause::check().map_err(|message| Failure::new(Exit::Usage, message))?;
    // Before anything is said or begun: whoever has read "started" may send SIGTERM, and is owed an end in order.
    let stop = CancellationToken::new();
    signal::listen(stop.clone())
        .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be heard: {error}")))?;
    let redis = crate::open_redis(&args.redis)?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("{} cannot be listened on: {error}; choose another with --listen or LISTEN", args.listen),
        )
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        redis = secret::redact(&args.redis.redis_url),
        postgresql = secret::redact(args.database.database_url.as_deref().unwrap_or_default()),
        key = %args.redis.key,
        listen = %args.listen,
        "started"
    );
    let settings = Settings {
        keys: args.redis.key,
        issue_interval: args.issue_interval,
        full_pass_interval: args.full_pass_interval,
        audit_interval: args.audit_interval,
        batch_max: args.batch_max,
        migrates: !args.no_migrate,
        instance: args.instance.unwrap_or_else(lease::instance_name),
    };
    let daemon = Daemon::new(redis, ledger, &settings, stop.clone());
    let (redis, ledger) = (Arc::clone(&daemon.redis), Arc::clone(&daemon.ledger));
    let counters = Arc::clone(&daemon.counters);
    let viewer = Viewer::new(redis, ledger, daemon.keys.clone(), counters, Arc::<Daemon>::clone(&daemon));
    tokio::spawn(http::serve(listener, viewer, stop.clone()));
    let running = tokio::spawn(Arc::clone(&daemon).run(settings));
    supervisor::attend(&*daemon, &stop).await;
    match tokio::time::timeout(STOP_TIMEOUT, running).await {
        Ok(_) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped while a server had not answered; the next start goes on from the ledger"),
    }
    Ok(Exit::Ok)
}
