//! SIGINT and SIGTERM for programs that have something to clean up: looked for, instead of ending the program.

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals, from when this is made. What the calling thread starts afterwards ignores them as well.
#[derive(Debug)]
pub struct Stop(SignalFd);

impl Stop {
    /// Begins to look for them.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn new() -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&signals, flags)?))
    }

    /// Whether one has come.
    ///
    /// # Errors
    /// Where one has.
    pub fn check(&self) -> Result<()> {
        match self.0.read_signal()? {
            Some(_) => bail!("stopped by a signal"),
            None => Ok(()),
        }
    }
}
