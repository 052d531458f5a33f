//! keepalived as a router of the group, on a balancer's host: its VIPs are addresses of that host's kernel.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, ROUTER_ID, until};
use crate::netns::Namespace;
use crate::process::Process;
use crate::world::{Lb, VIP, VIP6, World};

/// A running keepalived.
#[derive(Debug)]
pub struct Keepalived<'a> {
    host: &'a Namespace,
    process: Process,
    log: PathBuf,
}

impl<'a> Keepalived<'a> {
    /// Starts it with a priority, 100 ms advertisements, and everything else as it has it.
    pub fn start(world: &'a World, lb: Lb, priority: u8) -> Result<Self> {
        let host = world.balancer(lb)?;
        let file = |what: &str| world.directory().join(format!("keepalived-{}.{what}", lb.name()));
        let (log, config) = (file("log"), file("conf"));
        let mut text = "global_defs {\n  vrrp_version 3\n}\n".to_owned();
        for (name, address) in [("four", format!("{VIP}/32")), ("six", format!("{VIP6}/128"))] {
            text += &format!(
                "vrrp_instance {name} {{\n  state BACKUP\n  interface eth0\n  virtual_router_id {ROUTER_ID}\n  \
                 priority {priority}\n  advert_int 0.1\n  virtual_ipaddress {{\n    {address} dev eth0\n  }}\n}}\n"
            );
        }
        std::fs::write(&config, text)?;
        let mut command = Command::new("keepalived");
        command.args([
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--vrrp",
            "--use-file",
        ]);
        command.arg(&config);
        command
            .arg("--pid")
            .arg(file("pid"))
            .arg("--vrrp_pid")
            .arg(file("vrrp-pid"));
        Ok(Self {
            host,
            process: Process::start(host, &mut command, &log)?,
            log,
        })
    }

    /// Whether the host has both VIPs: `None` where it has one of them.
    fn has_vips(host: &Namespace) -> Result<Option<bool>> {
        let shown = host.ip(&["-oneline", "addr", "show", "dev", "eth0"])?;
        let has = [format!(" {VIP}/"), format!(" {VIP6}/")].map(|vip| shown.contains(&vip));
        Ok((has[0] == has[1]).then_some(has[0]))
    }

    /// Waits until it is master of both instances, or of none.
    pub fn wait_master(&self, is_master: bool) -> Result<()> {
        let waited = until("keepalived's state", || {
            Ok(Self::has_vips(self.host)? == Some(is_master))
        });
        match waited {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}, master {is_master}\n{}", self.log()?),
        }
    }

    /// Everything that it has logged.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Ends it in an orderly way.
    pub fn stop(self) -> Result<()> {
        self.process.end(PATIENCE)
    }

    /// Kills it with the process that does its work, and takes away the addresses that it leaves: as if its host had
    /// died.
    pub fn kill(mut self) -> Result<()> {
        let children = format!("/proc/{id}/task/{id}/children", id = self.process.id());
        let children = std::fs::read_to_string(children)?;
        self.process.kill()?;
        for child in children.split_whitespace() {
            kill(Pid::from_raw(child.parse()?), Signal::SIGKILL)?;
        }
        for vip in [format!("{VIP}/32"), format!("{VIP6}/128")] {
            // A backup has none.
            let _ = self.host.ip(&["addr", "del", &vip, "dev", "eth0"]);
        }
        Ok(())
    }
}
