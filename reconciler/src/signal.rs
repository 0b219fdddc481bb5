//! SIGTERM and SIGINT: the first ends in order, the second at once.

use crate::exit::Exit;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Begins to hear signals.
pub fn listen(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let (name, at_once) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", Exit::Terminated),
                _ = interrupt.recv() => ("SIGINT", Exit::Interrupted),
            };
            if stop.is_cancelled() {
                std::process::exit(at_once as i32);
            }
            tracing::info!("{name}: ending the batches at hand; a second signal ends at once");
            stop.cancel();
        }
    });
    Ok(())
}
