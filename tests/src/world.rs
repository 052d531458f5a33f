//! A world: one Ethernet segment of network namespaces, with a client, a balancer's host and backends.
//!
//! | host | address | after [`World::add_ipv6`] |
//! |---|---|---|
//! | client | 192.0.2.10 | 2001:db8:0:1::10 |
//! | lb | 192.0.2.11 | 2001:db8:0:1::11 |
//! | lb2, after [`World::add_balancer`] | 192.0.2.12 | 2001:db8:0:1::12 |
//! | bN | 192.0.2.(20+N) | 2001:db8:0:1::(20+N) |
//!
//! A backend can be put behind a gateway, 192.0.2.1 and 2001:db8:0:1::1; it keeps its addresses. So does the client
//! behind a router, 192.0.2.2 and 2001:db8:0:1::2; another router, 198.51.100.1, can be behind that one.
//! The bridge has a namespace of its own. Every backend has the [`VIP`] on its loopback and is silent about
//! it (arp_ignore, arp_announce). Checksums are filled in by the senders: XDP hands frames on as they are.

mod router;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
/// The second balancer's own address.
pub const LB2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// The gateway's address.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The address of the router that the client can be behind.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The address of a router behind that one.
pub const FAR_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The router's address towards it.
pub const NEAR_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The most backends that a world can have.
pub const MAX_BACKENDS: u8 = 12;

/// Worlds of one process take turns: two cores are not enough for two of them.
static TURN: Mutex<()> = Mutex::new(());
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A backend's number, from 1 on.
pub type Backend = u8;

/// A balancer of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lb {
    /// The one that every world has.
    First,
    /// The one of [`World::add_balancer`].
    Second,
}

impl Lb {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// The name of its host, and of its port of the bridge.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "lb",
            Self::Second => "lb2",
        }
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The service's address of this family.
    pub const fn vip(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(VIP),
            Self::V6 => IpAddr::V6(VIP6),
        }
    }

    /// A backend's address of this family.
    pub fn backend(self, backend: Backend) -> IpAddr {
        match self {
            Self::V4 => backend_address(backend).into(),
            Self::V6 => ipv6_of(backend_address(backend)).into(),
        }
    }
}

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

/// The backend that has an address, of whichever family.
pub fn backend_of(address: IpAddr) -> Option<Backend> {
    let has = |&backend: &Backend| Family::BOTH.map(|of| of.backend(backend)).contains(&address);
    (1..=MAX_BACKENDS).find(has)
}

/// Namespaces, their wires, and a run directory. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct World {
    client: Namespace,
    lb: Namespace,
    lb2: Option<Namespace>,
    backends: Vec<Namespace>,
    bridge: Namespace,
    gateway: Option<Gateway>,
    router: Option<Namespace>,
    far: Option<Namespace>,
    run: u32,
    directory: PathBuf,
    /// Attached as long as they are not dropped.
    passers: Vec<Ebpf>,
    _turn: MutexGuard<'static, ()>,
}

/// A router on the segment, and the backend behind it.
#[derive(Debug)]
struct Gateway {
    host: Namespace,
    backend: Backend,
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
            lb: Namespace::create(run, Lb::First.name())?,
            lb2: None,
            backends: (1..=backends)
                .map(|backend| Namespace::create(run, &format!("b{backend}")))
                .collect::<Result<_>>()?,
            gateway: None,
            router: None,
            far: None,
            run,
            directory,
            passers: Vec::new(),
            _turn: turn,
        };
        world.wire().context("build the world's network")?;
        world.deliver_xdp_of_balancer(Lb::First)?;
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

    /// The namespace of one of two balancers.
    pub fn balancer(&self, lb: Lb) -> Result<&Namespace> {
        match lb {
            Lb::First => Ok(&self.lb),
            Lb::Second => self.lb2.as_ref().context("there is no second balancer"),
        }
    }

    /// Puts another host onto the segment, which is whoever's who asks.
    pub fn host(&self, name: &str, address: Ipv4Addr) -> Result<Namespace> {
        let host = Namespace::create(self.run, name)?;
        self.plug(&host, name, address)?;
        Ok(host)
    }

    /// Puts a second balancer onto the segment.
    pub fn add_balancer(&mut self) -> Result<()> {
        let name = Lb::Second.name();
        let host = Namespace::create(self.run, name)?;
        self.plug(&host, name, LB2)?;
        self.lb2 = Some(host);
        self.deliver_xdp_of_balancer(Lb::Second)
    }

    /// Puts a backend behind a gateway, which the balancers and the other backends are told of. Once in a world's
    /// life, after [`add_balancer`](Self::add_balancer) and before [`add_ipv6`](Self::add_ipv6).
    pub fn put_behind_gateway(&mut self, backend: Backend) -> Result<()> {
        let gateway = Namespace::create(self.run, "gateway")?;
        self.plug(&gateway, "gateway", GATEWAY)?;
        gateway.sysctl("net/ipv4/ip_forward", "1")?;
        let (host, address) = (self.backend(backend)?, format!("{}/32", backend_address(backend)));
        host.ip(&["link", "del", "eth0"])?;
        join(host, &gateway, &format!("b{backend}"))?;
        host.ip(&["addr", "add", &address, "dev", "eth0"])?;
        host.ip(&["route", "add", &format!("{GATEWAY}/32"), "dev", "eth0"])?;
        host.ip(&["route", "add", "default", "via", &GATEWAY.to_string()])?;
        silence(host)?;
        gateway.ip(&["route", "add", &address, "dev", &format!("b{backend}")])?;
        for other in self.others(backend)? {
            other.ip(&["route", "add", &address, "via", &GATEWAY.to_string()])?;
        }
        self.gateway = Some(Gateway {
            host: gateway,
            backend,
        });
        Ok(())
    }

    /// The balancers, and the backends but one.
    fn others(&self, backend: Backend) -> Result<Vec<&Namespace>> {
        let backends = self.backends().filter(|&other| other != backend);
        let mut others: Vec<&Namespace> = backends.map(|other| self.backend(other)).collect::<Result<_>>()?;
        others.push(&self.lb);
        others.extend(&self.lb2);
        Ok(others)
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
        let switch = match &self.gateway {
            Some(gateway) if gateway.backend == backend => &gateway.host,
            _ => &self.bridge,
        };
        switch
            .run(|| pass_everything(&port))
            .with_context(|| format!("attach XDP to the port {port}"))
    }

    fn deliver_xdp_of_balancer(&mut self, lb: Lb) -> Result<()> {
        let passer = self.bridge.run(|| pass_everything(lb.name()));
        self.passers
            .push(passer.context("attach XDP to the bridge's port")?);
        Ok(())
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
        let far = self.gateway.as_ref().map(|gateway| gateway.backend);
        let mut hosts = vec![(&self.client, CLIENT), (&self.lb, LB)];
        hosts.extend(self.lb2.as_ref().map(|host| (host, LB2)));
        hosts.extend(self.gateway.as_ref().map(|gateway| (&gateway.host, GATEWAY)));
        hosts.extend(self.router.as_ref().map(|host| (host, ROUTER)));
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
            let is_far = far.is_some_and(|far| backend_address(far) == address)
                || self.router.is_some() && address == CLIENT;
            let length = if is_far { 128 } else { 64 };
            let address = format!("{}/{length}", ipv6_of(address));
            host.ip(&["addr", "add", &address, "dev", "eth0", "nodad"])?;
        }
        if let Some(gateway) = &self.gateway {
            self.route_ipv6_by(gateway)?;
        }
        if let Some(router) = &self.router {
            self.route_ipv6_by_router(router)?;
        }
        for backend in self.backends() {
            let vip = format!("{VIP6}/128");
            // On lo nothing is detected, but without the word the address is tentative for a moment.
            self.backend(backend)?
                .ip(&["addr", "add", &vip, "dev", "lo", "nodad"])?;
        }
        Ok(())
    }

    fn route_ipv6_by(&self, gateway: &Gateway) -> Result<()> {
        let host = self.backend(gateway.backend)?;
        let (port, via) = (format!("b{}", gateway.backend), ipv6_of(GATEWAY).to_string());
        let address = format!("{}/128", ipv6_of(backend_address(gateway.backend)));
        for (setting, value) in [
            (format!("{port}/accept_dad"), "0"),
            (format!("{port}/disable_ipv6"), "0"),
            ("all/forwarding".to_owned(), "1"),
        ] {
            gateway.host.sysctl(&format!("net/ipv6/conf/{setting}"), value)?;
        }
        // It has to have the address here as well, to answer for it.
        gateway
            .host
            .ip(&["addr", "add", &format!("{via}/128"), "dev", &port, "nodad"])?;
        gateway.host.ip(&["route", "add", &address, "dev", &port])?;
        host.ip(&["-6", "route", "add", &via, "dev", "eth0"])?;
        host.ip(&["-6", "route", "add", "default", "via", &via])?;
        for other in self.others(gateway.backend)? {
            other.ip(&["route", "add", &address, "via", &via])?;
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
            silence(host)?;
            host.ip(&["addr", "add", &format!("{VIP}/32"), "dev", "lo"])?;
        }
        Ok(())
    }

    /// Wires a host's `eth0` to the bridge's port of the host's name.
    fn plug(&self, host: &Namespace, port: &str, address: Ipv4Addr) -> Result<()> {
        join(host, &self.bridge, port)?;
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        self.bridge.ip(&["link", "set", port, "master", "br0"])?;
        Ok(())
    }
}

/// Wires a host's `eth0` to a new interface of another one.
fn join(host: &Namespace, other: &Namespace, port: &str) -> Result<()> {
    let peer = ["type", "veth", "peer", "name", port, "netns", other.name()];
    host.ip(&[&["link", "add", "eth0"], &peer[..]].concat())?;
    for (end, interface) in [(host, "eth0"), (other, port)] {
        end.command("ethtool", &["-K", interface, "tx", "off"])?;
        end.ip(&["link", "set", interface, "up"])?;
    }
    Ok(())
}

/// Keeps a host from saying by ARP that it has the VIP.
fn silence(host: &Namespace) -> Result<()> {
    for dev in ["all", "eth0"] {
        host.sysctl(&format!("net/ipv4/conf/{dev}/arp_ignore"), "1")?;
        host.sysctl(&format!("net/ipv4/conf/{dev}/arp_announce"), "2")?;
    }
    Ok(())
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
        self.passers.clear();
        netns::remove_directory(&self.directory);
    }
}
