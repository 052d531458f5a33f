//! The signals that a role reacts to.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Completes when the process is asked to stop: SIGTERM or SIGINT.
///
/// The handlers are installed at the call, so that no signal is missed before the first poll.
///
/// # Errors
/// Where the operating system refuses a signal handler.
pub fn stop() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}
