//! The balancer's host and its backends, on one wire: enough for a daemon to find every backend's MAC address. No
//! user's packet travels here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::bench::case::Family;
use crate::bench::plane::mac;
use crate::bench::traffic::BENCHMARK;
use crate::netns::{self, Namespace};
use crate::packets::frame::{Mac, OWN};

/// The balancer's interface.
pub const INTERFACE: &str = "eth0";
/// The most backends that there can be.
pub const MAX_BACKENDS: u16 = 64;

/// The end of the wire that all backends share.
const WIRE: &str = "wire";

/// Networks of one process take turns: what is on them is measured.
static TURN: Mutex<()> = Mutex::new(());
static RUNS: AtomicU32 = AtomicU32::new(0);

/// The namespaces and a run directory. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Network {
    balancer: Namespace,
    hosts: Namespace,
    directory: PathBuf,
    backends: u16,
    _turn: MutexGuard<'static, ()>,
}

/// The address of a backend.
pub fn address(backend: u16) -> IpAddr {
    BENCHMARK.backend(Family::V4, backend)
}

impl Network {
    /// A network of backends 1 to `backends`, each with a MAC address that bears its number.
    ///
    /// # Errors
    /// Where there are too many of them, or the kernel refuses something.
    pub fn new(backends: u16) -> Result<Self> {
        ensure!(
            (2..=MAX_BACKENDS).contains(&backends),
            "there can be 2 to {MAX_BACKENDS} backends, not {backends}"
        );
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        netns::sweep();
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-restart-{run}", netns::PREFIX, std::process::id());
        let network = Self {
            balancer: Namespace::create(run, "restart-lb")?,
            hosts: Namespace::create(run, "restart-hosts")?,
            directory: std::env::temp_dir().join(name),
            backends,
            _turn: turn,
        };
        network.wire().context("wire the backends")?;
        let bpffs = network.bpffs();
        std::fs::create_dir_all(&bpffs).with_context(|| format!("make {}", bpffs.display()))?;
        netns::run_command(Command::new("mount").args(["-t", "bpf", "bpffs"]).arg(&bpffs))?;
        Ok(network)
    }

    fn wire(&self) -> Result<()> {
        let other = ["peer", "name", WIRE, "netns", self.hosts.name()];
        let own = text(OWN);
        let add = ["link", "add", INTERFACE, "address", &own, "type", "veth"];
        self.balancer.ip(&[&add[..], &other].concat())?;
        self.balancer.ip(&["link", "set", INTERFACE, "up"])?;
        self.balancer.ip(&["addr", "add", &net(0), "dev", INTERFACE])?;
        // One host with many interfaces: each answers for its own address alone, whatever the way back is.
        for (setting, value) in [("arp_ignore", "1"), ("rp_filter", "0")] {
            for dev in ["all", "default"] {
                self.hosts
                    .sysctl(&format!("net/ipv4/conf/{dev}/{setting}"), value)?;
            }
        }
        self.hosts.ip(&["link", "set", WIRE, "up"])?;
        for backend in self.backends() {
            let (name, own) = (format!("b{backend}"), text(mac(backend)));
            let add = ["link", "add", "link", WIRE, "name", &name, "address", &own];
            let kind = ["type", "macvlan", "mode", "private"];
            self.hosts.ip(&[&add[..], &kind].concat())?;
            self.hosts.ip(&["addr", "add", &net(backend), "dev", &name])?;
            self.hosts.ip(&["link", "set", &name, "up"])?;
        }
        Ok(())
    }

    /// The balancer's namespace.
    pub const fn balancer(&self) -> &Namespace {
        &self.balancer
    }

    /// The backends' numbers.
    pub fn backends(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.backends
    }

    /// The run's directory, for configuration, socket and log.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A bpffs of the run's own.
    pub fn bpffs(&self) -> PathBuf {
        self.directory.join("bpf")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        netns::remove_directory(&self.directory);
    }
}

/// A host's address with its prefix length; 0 is the balancer's.
fn net(host: u16) -> String {
    format!("{}/15", address(host))
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
