//! A world: one Ethernet segment of network namespaces, with a client, a balancer's host and backends.
//!
//! | host | address | after [`World::add_ipv6`] |
//! |---|---|---|
//! | client | 192.0.2.10 | 2001:db8:0:1::10 |
//! | lb | 192.0.2.11 | 2001:db8:0:1::11 |
//! | bN | 192.0.2.(20+N) | 2001:db8:0:1::(20+N) |
//!
//! The bridge has a namespace of its own. Every backend has the [`VIP`] on its loopback and is silent about
//! it (arp_ignore, arp_announce). Checksums are filled in by the senders: XDP hands frames on as they are.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};

use crate::artifacts;
use crate::netns::{self, Namespace};

/// The address of the service.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);
/// The address of the IPv6 service.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x101);
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The balancer's own address.
pub const LB: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// The most backends that a world can have.
pub const MAX_BACKENDS: u8 = 12;

/// Worlds of one process take turns: two cores are not enough for two of them.
static TURN: Mutex<()> = Mutex::new(());
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A backend's number, from 1 on.
pub type Backend = u8;

/// The address of a backend.
pub const fn backend_address(backend: Backend) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 20 + backend)
}

/// A host's IPv6 address, from its IPv4 address: the last group reads as the last octet does.
pub fn ipv6_of(address: Ipv4Addr) -> Ipv6Addr {
    let last = u16::from(address.octets()[3]);
    let group = last / 100 * 0x100 + last / 10 % 10 * 0x10 + last % 10;
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, group)
}

/// The backend that has an address.
pub fn backend_of(address: Ipv4Addr) -> Option<Backend> {
    (1..=MAX_BACKENDS).find(|&backend| backend_address(backend) == address)
}

/// Namespaces, their wires, and a run directory. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct World {
    client: Namespace,
    lb: Namespace,
    backends: Vec<Namespace>,
    bridge: Namespace,
    directory: PathBuf,
    /// Attached as long as it is not dropped.
    passer: Option<Ebpf>,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Builds a world with backends 1 to `backends`.
    pub fn new(backends: u8) -> Result<Self> {
        ensure!(backends <= MAX_BACKENDS, "at most {MAX_BACKENDS} backends");
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        netns::sweep();
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("{}{}-{run}", netns::PREFIX, std::process::id()));
        let mut world = Self {
            bridge: Namespace::create(run, "bridge")?,
            client: Namespace::create(run, "client")?,
            lb: Namespace::create(run, "lb")?,
            backends: (1..=backends)
                .map(|backend| Namespace::create(run, &format!("b{backend}")))
                .collect::<Result<_>>()?,
            directory,
            passer: None,
            _turn: turn,
        };
        world.wire().context("build the world's network")?;
        world.passer = Some(
            world
                .bridge
                .run(|| pass_everything("lb"))
                .context("attach XDP to the bridge's port")?,
        );
        let bpffs = world.bpffs();
        std::fs::create_dir_all(&bpffs).with_context(|| format!("make {}", bpffs.display()))?;
        netns::run_command(Command::new("mount").args(["-t", "bpf", "bpffs"]).arg(&bpffs))?;
        Ok(world)
    }

    /// The client's namespace.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The balancer's namespace; its interface is `eth0`.
    pub fn lb(&self) -> &Namespace {
        &self.lb
    }

    /// A backend's namespace.
    pub fn backend(&self, backend: Backend) -> Result<&Namespace> {
        self.backends
            .get(usize::from(backend).wrapping_sub(1))
            .with_context(|| format!("there is no backend {backend}"))
    }

    /// The backends' numbers.
    pub fn backends(&self) -> impl Iterator<Item = Backend> + use<> {
        1..=self.backends.len() as Backend
    }

    /// Lets what XDP transmits at a backend be delivered, as long as the value is not dropped.
    pub fn deliver_xdp_of(&self, backend: Backend) -> Result<Ebpf> {
        let port = format!("b{backend}");
        self.bridge
            .run(|| pass_everything(&port))
            .with_context(|| format!("attach XDP to the bridge's port {port}"))
    }

    /// The run's directory, for configurations, sockets and logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A bpffs of the run's own.
    pub fn bpffs(&self) -> PathBuf {
        self.directory.join("bpf")
    }

    /// Routes the client's packets for the VIP by way of a host, without a balancer.
    pub fn route_vip_via(&self, gateway: Ipv4Addr) -> Result<()> {
        let (vip, gateway) = (format!("{VIP}/32"), gateway.to_string());
        self.client.ip(&["route", "replace", &vip, "via", &gateway])?;
        Ok(())
    }

    /// Gives every host an IPv6 address besides, and the backends [`VIP6`] on their loopbacks. Without duplicate
    /// address detection and router solicitations; link-local addresses are there, for a backend needs one to ask
    /// for the client's MAC when it answers from the VIP.
    pub fn add_ipv6(&self) -> Result<()> {
        let mut hosts = vec![(&self.client, CLIENT), (&self.lb, LB)];
        for backend in self.backends() {
            hosts.push((self.backend(backend)?, backend_address(backend)));
        }
        for (host, address) in hosts {
            for (setting, value) in [
                ("eth0/accept_dad", "0"),
                ("eth0/router_solicitations", "0"),
                ("eth0/accept_ra", "0"),
                ("eth0/disable_ipv6", "0"),
                ("lo/disable_ipv6", "0"),
            ] {
                host.sysctl(&format!("net/ipv6/conf/{setting}"), value)?;
            }
            let address = format!("{}/64", ipv6_of(address));
            host.ip(&["addr", "add", &address, "dev", "eth0", "nodad"])?;
        }
        for backend in self.backends() {
            let vip = format!("{VIP6}/128");
            // On lo nothing is detected, but without the word the address is tentative for a moment.
            self.backend(backend)?
                .ip(&["addr", "add", &vip, "dev", "lo", "nodad"])?;
        }
        Ok(())
    }

    /// The namespace of the bridge `br0`; its ports have the hosts' names.
    pub fn bridge(&self) -> &Namespace {
        &self.bridge
    }

    fn wire(&self) -> Result<()> {
        self.bridge.ip(&[
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ])?;
        self.bridge.ip(&["link", "set", "br0", "up"])?;
        self.plug(&self.client, "client", CLIENT)?;
        self.plug(&self.lb, "lb", LB)?;
        for backend in self.backends() {
            let host = self.backend(backend)?;
            self.plug(host, &format!("b{backend}"), backend_address(backend))?;
            for dev in ["all", "eth0"] {
                host.sysctl(&format!("net/ipv4/conf/{dev}/arp_ignore"), "1")?;
                host.sysctl(&format!("net/ipv4/conf/{dev}/arp_announce"), "2")?;
            }
            host.ip(&["addr", "add", &format!("{VIP}/32"), "dev", "lo"])?;
        }
        Ok(())
    }

    /// Wires a host's `eth0` to the bridge's port of the host's name.
    fn plug(&self, host: &Namespace, port: &str, address: Ipv4Addr) -> Result<()> {
        host.ip(&[
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            port,
            "netns",
            self.bridge.name(),
        ])?;
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        host.command("ethtool", &["-K", "eth0", "tx", "off"])?;
        self.bridge.command("ethtool", &["-K", port, "tx", "off"])?;
        host.ip(&["link", "set", "eth0", "up"])?;
        self.bridge.ip(&["link", "set", port, "master", "br0", "up"])?;
        Ok(())
    }
}

/// Attaches a program that passes everything to a host's port of the bridge: what XDP transmits on a veth is
/// delivered only where the peer has a program of its own.
fn pass_everything(port: &str) -> Result<Ebpf> {
    let mut object = Ebpf::load_file(artifacts::object("agent")?)?;
    let program: &mut Xdp = object
        .program_mut("agent")
        .context("the object has no program `agent`")?
        .try_into()?;
    program.load()?;
    program.attach(port, XdpMode::Driver)?;
    Ok(object)
}

impl Drop for World {
    fn drop(&mut self) {
        self.passer.take();
        netns::remove_directory(&self.directory);
    }
}
