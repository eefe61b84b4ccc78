//! SIGTERM and SIGINT: the first drains, the second ends the process. Upstream: apiserver/pkg/server/signal.go.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Error;

/// Cancels `shutdown` on the first signal and exits with code 1 on the second.
pub(super) fn watch(shutdown: CancellationToken) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for round in 0.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if round > 0 {
                tracing::error!(signal = name, "Second signal received, exiting without draining");
                std::process::exit(1);
            }
            tracing::info!(signal = name, "Signal received, shutting down");
            shutdown.cancel();
        }
    });
    Ok(())
}
