//! The balancer's configuration, `lb.toml`: its types, reading, validation and the difference between two.
//!
//! A [`Config`] that exists is valid: names and services are unique, addresses are of a family that the
//! data plane serves, sizes fit the limits, lists of sources are read. Nothing here opens a socket, knows a map or reads a clock;
//! whether the interface or a backend exists is for others to find out.

pub mod agent;
mod attributes;
mod bgp;
mod canary;
mod check;
mod difference;
mod duration;
pub mod etcd;
mod flows;
mod parse;
mod ports;
mod quic;
mod report;
mod service;
mod sources;
mod syn_limit;
#[cfg(test)]
mod tests;
mod tunnel;
mod validate;
mod vrrp;
mod walk;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use attributes::{AttributeGroup, Attributes, Community};
pub use bgp::{Announcement, Bfd, Bgp, Neighbor, Withdrawing};
pub use canary::Canary;
pub use difference::{Difference, Field, FixedChange, Reweighted, VipChange, difference, keep_fixed};
pub use duration::{DurationError, format_duration, parse_duration};
pub use etcd::Etcd;
pub use flows::{FlowHash, Tracking};
pub use parse::parse;
pub use ports::Ports;
pub use quic::{Quic, ServerId};
pub use report::{Place, Problem, Report};
pub use sources::{Prefix, Sources, Verdict};
pub use syn_limit::{Rate, SynLimit};
pub use vrrp::{Lowering, Track, Vrrp};

/// A whole `lb.toml`, validated, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The NIC that the balancer's XDP program is attached to, by name (at most 15 bytes).
    pub interface: String,
    /// Where programs, maps and links are pinned; a directory on a bpffs.
    pub pin_dir: PathBuf,
    /// The unix socket of the admin API.
    pub admin_socket: PathBuf,
    /// The file with the cluster's flow-hash seed (32 hex digits); without one the seed is random at the
    /// first start and kept in a pinned map.
    pub seed_file: Option<PathBuf>,
    /// The directory of the cluster that this balancer is in, as `foobar cluster` makes it; it has the seed then.
    pub cluster: Option<PathBuf>,
    /// MACs of the other load balancers, at most 8: a VIP frame from one of them is a loop.
    pub peer_macs: Vec<[u8; 6]>,
    /// Sizes of the maps.
    pub limits: Limits,
    /// What outer headers are made with.
    pub tunnel: Tunnel,
    /// How connections through the own data plane try it, if they do.
    pub canary: Option<Canary>,
    /// Groups of VIPs that one balancer of several owns, in the file's order; names and identifiers are unique.
    pub vrrp: Vec<Vrrp>,
    /// How routers are told of VIPs, if they are.
    pub bgp: Option<Bgp>,
    /// Where the part of the configuration that a fleet shares comes from, if it does.
    pub etcd: Option<Etcd>,
    /// The services, in the file's order.
    pub vips: Vec<Vip>,
}

/// What outer headers are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Where IPv4 ones come from.
    pub source_v4: Option<Source<Ipv4Addr>>,
    /// Where IPv6 ones come from.
    pub source_v6: Option<Source<Ipv6Addr>>,
    /// The destination port of GUE.
    pub gue_port: u16,
    /// The longest packet that the way to the backends takes, outer headers included, in bytes.
    pub mtu: u16,
}

/// An outer source address; the bits behind the prefix vary by flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<A> {
    /// The address.
    pub address: A,
    /// How many of its bits stay the same for every flow.
    pub prefix_length: u8,
}

/// Sizes of the maps in entries, fixed when the programs are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Slots of all VIPs together.
    pub slots: u32,
    /// Targets (backends as members of a VIP), at most 32767.
    pub targets: u32,
    /// Notes of established flows.
    pub notes: u32,
    /// Notes that wait for their flow's second packet.
    pub pending_notes: u32,
    /// Buckets that the sources of limited SYNs share; a power of two.
    pub syn_buckets: u32,
}

/// A service: one address, its ports and protocol, and the backends that serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The operator's name for it, unique; `[a-z0-9-]+`.
    pub name: String,
    /// The address that clients connect to.
    pub address: IpAddr,
    /// Its ports.
    pub ports: Ports,
    /// The transport protocol.
    pub protocol: Protocol,
    /// When this balancer answers ARP and ping for the address; the same for all services of an address.
    pub ownership: Ownership,
    /// Slots of its steering table: a power of two, 256 to 65536.
    pub slots: u32,
    /// How the steering table is filled.
    pub table: TableKind,
    /// What of a packet decides about its slot.
    pub hash: FlowHash,
    /// Which flows are noted.
    pub tracking: Tracking,
    /// T: a flow that is idle for longer may be steered elsewhere.
    pub idle_timeout: Duration,
    /// After this, flows of a drained or removed backend are cut; without, they end when they end.
    pub drain_timeout: Option<Duration>,
    /// What happens to packets that no backend can take.
    pub unserved: Unserved,
    /// How packets get to the backends.
    pub forward: Forward,
    /// Whether packets carry the slot's earlier owners, so that agents on the backends pass on what is theirs;
    /// nothing is noted then.
    pub second_chance: bool,
    /// Which sources it serves; `None`: all.
    pub sources: Option<Arc<Sources>>,
    /// How it limits new TCP connections; `None`: not at all.
    pub syn_limit: Option<SynLimit>,
    /// How QUIC connection ids name its backends; `None`: they are not looked at.
    pub quic: Option<Quic>,
    /// How its backends are judged; `None`: they are taken to be up.
    pub check: Option<Check>,
    /// Its backends, in the file's order; addresses are unique.
    pub backends: Vec<Backend>,
}

impl Vip {
    /// What makes it the service it is.
    #[must_use]
    pub fn service(&self) -> Service {
        Service {
            address: self.address,
            ports: self.ports,
            protocol: self.protocol,
        }
    }
}

/// When a balancer answers for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// Always.
    Always,
    /// Never.
    Never,
    /// While it is the Active router of the group with this name.
    Vrrp(String),
    /// While routers are told that it is here, with the attributes of the group with this name, if it is in one.
    Bgp(Option<String>),
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("owned = true"),
            Self::Never => f.write_str("owned = false"),
            Self::Vrrp(group) => write!(f, "vrrp = {group:?}"),
            Self::Bgp(None) => f.write_str("bgp = true"),
            Self::Bgp(Some(group)) => write!(f, "bgp = {group:?}"),
        }
    }
}

/// The identity of a service on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// The VIP's address.
    pub address: IpAddr,
    /// The VIP's ports.
    pub ports: Ports,
    /// The VIP's protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            ports,
            protocol,
        } = self;
        match address {
            IpAddr::V4(address) => write!(f, "{address}:{ports}/{protocol}"),
            IpAddr::V6(address) => write!(f, "[{address}]:{ports}/{protocol}"),
        }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// How a VIP's slots are given to its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Weighted Maglev: the best balance, a few collateral moves.
    Maglev,
    /// Weighted rendezvous hashing: no collateral moves, a slightly worse balance.
    Rendezvous,
}

/// What a packet gets that no backend can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unserved {
    /// Nothing.
    Drop,
    /// A TCP RST.
    Reset,
}

/// How packets get to a VIP's backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// By their MAC addresses, on the balancer's own segment.
    L2,
    /// Inside of another IP header.
    Ipip,
    /// Inside of Generic UDP Encapsulation.
    Gue,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        })
    }
}

/// How a VIP's backends are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The port that is checked, at the VIP's address.
    pub port: u16,
    /// What is asked.
    pub probe: Probe,
    /// How often, and how many answers make a judgement.
    pub timing: Timing,
}

/// What a check asks of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp,
    /// An HTTP request is answered with the expected status.
    Http(Request),
    /// The same through TLS. The certificate is not verified: the check judges reachability and status,
    /// not identity.
    Https(Request),
}

/// The request of an HTTP check, and the answer that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The Host header and, unless it is an address, the TLS server name.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// The status code that passes.
    pub status: u16,
}

/// The rhythm of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two checks of a backend whose state is not in doubt.
    pub interval: Duration,
    /// For one whole check, from connect to the last byte that it needs.
    pub timeout: Duration,
    /// Consecutive failures that make an up backend down.
    pub fall: u32,
    /// Consecutive passes that make a down backend up.
    pub rise: u32,
    /// Between two checks while the last result contradicts the state.
    pub doubt_interval: Duration,
    /// Between two checks of a backend that is down.
    pub down_interval: Duration,
    /// Pure silence for this long makes it hard down.
    pub hard_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
            doubt_interval: Duration::from_millis(500),
            down_interval: Duration::from_secs(5),
            hard_after: Duration::from_secs(10),
        }
    }
}

/// A server behind a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Its own address; without a tunnel of the VIP's family.
    pub address: IpAddr,
    /// Its share of the VIP's slots relative to the others', 0 to 256; 0: drained by configuration.
    pub weight: u16,
    /// What connection ids call it, of a VIP with [`Vip::quic`].
    pub server_id: Option<ServerId>,
}

/// Reads and validates a configuration file.
///
/// # Errors
/// Everything that is wrong with the file, each with its place; also where it cannot be read.
pub fn load(path: &Path) -> Result<Config, Report> {
    load_as(path, parse::read)
}

fn load_as<C>(
    path: &Path,
    read: impl FnOnce(&toml::de::DeTable<'_>, &Path, &mut report::Problems<'_>) -> Option<C>,
) -> Result<C, Report> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => parse::parse_bytes(&name, &bytes, read),
        Err(error) => Err(Report::unreadable(&name, &error)),
    }
}
