//! `run`: starts the daemon, serves health and metrics, and ends in order.

use super::{signal, supervisor};
use crate::cli;
use crate::coupon::Tools;
use crate::daemon::Daemon;
use crate::error::{Exit, Failure};
use crate::show::http;
use crate::show::view::Viewer;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// After this time the process ends, whatever it is waiting for. Nothing is lost by it: the position in the ledger
/// says where to go on.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);

/// Runs until SIGTERM or SIGINT.
pub async fn run(tools: Tools, args: cli::Run) -> Result<Exit, Failure> {
    // Before anything is said or begun: whoever has read "started" may send SIGTERM, and is owed an end in order.
    let stop = signal::listen()?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        let why = format!("{} cannot be listened on: {error}; choose another with --listen or LISTEN", args.listen);
        Failure::new(Exit::Failed, why)
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        redis = cli::redact(&args.servers.redis.address().url),
        postgresql = cli::redact(&args.servers.database.address()?.url),
        key = %tools.keys,
        listen = %args.listen,
        "started"
    );
    let tools = Tools { batch_max: args.batch_max, stop: stop.clone(), ..tools };
    let daemon = Daemon::new(tools.clone(), args);
    let viewer = Viewer::new(tools.redis, tools.ledger, tools.keys, Arc::<Daemon>::clone(&daemon));
    let serving = tokio::spawn(http::serve(listener, viewer, stop.clone()));
    let mut running = tokio::spawn(Arc::clone(&daemon).run());
    tokio::select! {
        biased;
        () = supervisor::attend(&*daemon, &stop) => {}
        _ = serving => {}
        _ = &mut running => {}
    }
    if !stop.is_cancelled() {
        return Err(Failure::new(Exit::Broken, "a part of the daemon has ended that never should; start it again"));
    }
    match tokio::time::timeout(STOP_TIMEOUT, running).await {
        Ok(_) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped while a server had not answered; the next start goes on from the ledger"),
    }
    Ok(Exit::Ok)
}
