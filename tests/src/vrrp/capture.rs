//! What a host sees on the segment, as tshark reads it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::{PATIENCE, until};
use crate::netns::{Namespace, run_command};
use crate::process::Process;
use crate::world::World;

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// A capture that has ended.
#[derive(Debug)]
pub struct Captured(PathBuf);

impl Capture {
    /// Captures advertisements, ARP and neighbour discovery on a host's `eth0`.
    pub fn start(world: &World, host: &Namespace) -> Result<Self> {
        let (file, log) = (
            world.directory().join("capture.pcap"),
            world.directory().join("capture.log"),
        );
        let mut command = Command::new("tshark");
        command.args([
            "-q",
            "-i",
            "eth0",
            "-f",
            "proto 112 or arp or icmp6",
            "-F",
            "pcap",
            "-w",
        ]);
        let process = Process::start(host, command.arg(&file), &log)?;
        // The file's header is written before the first packet.
        until("the capture runs", || {
            Ok(std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 24))
        })?;
        Ok(Self { process, file })
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<Captured> {
        self.process.signal(Signal::SIGINT)?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "{status}\n{}", self.process.tail());
        Ok(Captured(self.file.clone()))
    }
}

impl Captured {
    /// The packets that a display filter lets pass, a line each.
    pub fn packets(&self, filter: &str) -> Result<Vec<String>> {
        let mut command = Command::new("tshark");
        command.args(["-n", "-o", "ip.check_checksum:TRUE", "-Y", filter, "-r"]);
        let said = run_command(command.arg(&self.0))?;
        Ok(said.lines().map(str::to_owned).collect())
    }
}
