//! SIGINT and SIGTERM, looked for between two steps instead of ending the program.
//!
//! Unlike [`crate::stop`] it does not block them: what is started afterwards has to obey a SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// The signals, from when this is made.
#[derive(Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to look for them, in a thread that lasts as long as the program.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let come = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&come);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    seen.store(true, Ordering::Relaxed);
                });
            })
            .context("look for signals")?;
        Ok(Self(come))
    }

    /// Whether one has come.
    ///
    /// # Errors
    /// Where one has.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("stopped by a signal");
        }
        Ok(())
    }
}
