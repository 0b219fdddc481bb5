//! SIGTERM and SIGINT: the first ends in order, the second at once.

use crate::error::{Exit, Failure};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Begins to hear signals; the token is cancelled by the first.
pub fn listen() -> Result<CancellationToken, Failure> {
    let failed = |error| Failure::new(Exit::Failed, format!("signals cannot be heard: {error}"));
    let hear = |kind| signal(kind).map_err(failed);
    let (mut terminate, mut interrupt) = (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        loop {
            let (name, at_once) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", Exit::Terminated),
                _ = interrupt.recv() => ("SIGINT", Exit::Interrupted),
            };
            if stopping.is_cancelled() {
                std::process::exit(at_once as i32);
            }
            tracing::info!("{name}: ending the batches at hand; a second signal ends at once");
            stopping.cancel();
        }
    });
    Ok(stop)
}
