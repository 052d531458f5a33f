//! FRR's vrrpd as a router of the group, on a balancer's host: its VIPs are addresses of macvlan devices with VRRP's
//! MACs, which it has zebra switch on and off.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{PATIENCE, ROUTER_ID, until};
use crate::netns::{Namespace, run_command};
use crate::process::Process;
use crate::world::{Lb, VIP, VIP6, World};

const PROGRAMS: &str = "/usr/lib/frr";

/// A running vrrpd with its zebra.
#[derive(Debug)]
pub struct Frr<'a> {
    host: &'a Namespace,
    directory: PathBuf,
    vrrpd: Process,
    _zebra: Process,
}

impl<'a> Frr<'a> {
    /// Starts both with a priority and 100 ms advertisements.
    pub fn start(world: &'a World, lb: Lb, priority: u8) -> Result<Self> {
        let host = world.balancer(lb)?;
        let directory = world.directory().join("frr");
        // An earlier life's log is not to be taken for this one's.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory)?;
        devices(host)?;
        let config = format!(
            "log stdout\ndebug vrrp\ninterface eth0\n vrrp {ROUTER_ID} version 3\n vrrp {ROUTER_ID} priority {priority}\n \
             vrrp {ROUTER_ID} advertisement-interval 100\n vrrp {ROUTER_ID} ip {VIP}\n vrrp {ROUTER_ID} ipv6 {VIP6}\n"
        );
        std::fs::write(directory.join("vrrpd.conf"), config)?;
        std::fs::write(directory.join("zebra.conf"), "log stdout\n")?;
        // They run as a user of their own.
        run_command(Command::new("chown").args(["-R", "frr:frr"]).arg(&directory))?;
        let start = |program: &str| {
            let file = |what: &str| directory.join(format!("{program}.{what}"));
            let mut command = Command::new(format!("{PROGRAMS}/{program}"));
            command.arg("-f").arg(file("conf")).arg("-i").arg(file("pid"));
            command.arg("-z").arg(directory.join("zebra.sock"));
            command.arg("--vty_socket").arg(&directory);
            Process::start(host, &mut command, &file("log"))
        };
        let zebra = start("zebra")?;
        until("zebra listens", || Ok(directory.join("zebra.sock").exists()))?;
        Ok(Self {
            host,
            vrrpd: start("vrrpd")?,
            _zebra: zebra,
            directory,
        })
    }

    /// Waits until both of its virtual routers are in a state, `Master` or `Backup`.
    pub fn wait(&self, state: &str) -> Result<()> {
        let waited = until("vrrpd's state", || {
            let log = self.log()?;
            let now = |family: &str| {
                let of = format!("[{family}]");
                let mut changes = log
                    .lines()
                    .filter(|line| line.contains(&of) && line.contains(" -> "));
                changes.next_back().is_some_and(|line| line.ends_with(state))
            };
            Ok(now("IPv4") && now("IPv6"))
        });
        match waited {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}, {state}\n{}", self.log()?),
        }
    }

    /// Everything that vrrpd has logged.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.directory.join("vrrpd.log"))?)
    }

    /// Ends vrrpd in an orderly way.
    pub fn stop(self) -> Result<()> {
        self.vrrpd.signal(nix::sys::signal::Signal::SIGTERM)?;
        let mut vrrpd = self.vrrpd;
        vrrpd.wait(PATIENCE)?;
        quiet(self.host)
    }

    /// Kills it, and takes away the devices that it leaves: as if its host had died.
    pub fn kill(mut self) -> Result<()> {
        self.vrrpd.kill()?;
        quiet(self.host)
    }
}

/// The devices, by their names and the last part of their MACs.
const DEVICES: [(&str, &str); 2] = [("vrrp4", "01"), ("vrrp6", "02")];

fn devices(host: &Namespace) -> Result<()> {
    for (device, family) in DEVICES {
        let mac = format!("00:00:5e:00:{family}:{ROUTER_ID:02x}");
        host.ip(&[
            "link", "add", device, "link", "eth0", "type", "macvlan", "mode", "bridge",
        ])?;
        host.ip(&["link", "set", device, "address", &mac])?;
    }
    for (setting, value) in [("accept_dad", "0"), ("disable_ipv6", "0")] {
        host.sysctl(&format!("net/ipv6/conf/vrrp6/{setting}"), value)?;
    }
    host.ip(&["addr", "add", &format!("{VIP}/32"), "dev", "vrrp4"])?;
    host.ip(&["addr", "add", &format!("{VIP6}/128"), "dev", "vrrp6", "nodad"])?;
    for (device, _) in DEVICES {
        host.ip(&["link", "set", device, "up"])?;
    }
    // Only the device that has an address answers ARP for it.
    host.sysctl("net/ipv4/conf/all/arp_ignore", "1")
}

/// Nothing answers for the VIPs any more, and what was under way has come.
fn quiet(host: &Namespace) -> Result<()> {
    for (device, _) in DEVICES {
        host.ip(&["link", "del", device])?;
    }
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}
