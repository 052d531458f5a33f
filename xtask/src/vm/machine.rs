//! The machine: QEMU with two processors and no network, for a bounded time. What it tells comes by its second
//! serial port; its console goes into a file.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::events::{self, Event};

/// The program that is the machine.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// Enough for the archive, what it unpacks to, and the tests.
const MEMORY_MIB: &str = "3072";

/// Kernel parameters: a panic is the machine's end.
const PARAMETERS: &str = "console=ttyS0 panic=-1 rdinit=/init loglevel=5 random.trust_cpu=on";

/// What is booted.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) console: &'a Path,
}

impl Machine<'_> {
    /// Boots it, and hands over each event until it is switched off. A machine that is not over at the end of
    /// its time is killed, which is an error.
    pub(super) fn run(&self, limit: Duration, mut hear: impl FnMut(Event)) -> Result<()> {
        let begin = Instant::now();
        let mut running = Running(self.start()?);
        let output = running.0.stdout.take().context("the machine has no output")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(|line| line.ok()) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        loop {
            match receiver.recv_timeout(limit.saturating_sub(begin.elapsed())) {
                Ok(line) => {
                    if let Some(event) = events::read(&line) {
                        hear(event);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the machine was not done after {} s: its console is in {}",
                    limit.as_secs(),
                    self.console.display()
                ),
            }
        }
        let status = running.0.wait()?;
        if !status.success() {
            bail!("{PROGRAM} ended with {status}");
        }
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        // Every instruction is translated: a KVM that can be opened need not be one that works, least of all where
        // the host is a virtual machine itself.
        Command::new(PROGRAM)
            .args([
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                MEMORY_MIB,
            ])
            .args(["-nodefaults", "-display", "none", "-nic", "none", "-no-reboot"])
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", PARAMETERS])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))
    }
}

/// Killed when dropped, whatever happened.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
