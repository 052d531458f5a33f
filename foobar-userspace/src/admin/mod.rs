//! The admin API of the balancer's daemon: HTTP with JSON on a unix socket, for root and the daemon's group.
//!
//! It knows no steering: requests go to the daemon's loop, answers come back. The types here are the API.

mod server;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub(crate) use server::serve_router;
pub use server::{Server, serve};

/// Where the socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/foobar/lb.sock";

/// A request, and where its answer goes.
#[derive(Debug)]
pub enum Request {
    /// The whole status.
    Status(oneshot::Sender<Result<Status, String>>),
    /// Drain this balancer (hand its VIPs over), or end that.
    DrainBalancer {
        /// Whether it is to be drained.
        drained: bool,
        /// Done.
        reply: oneshot::Sender<()>,
    },
    /// Read the cluster's directory again.
    ReloadCluster(oneshot::Sender<Result<(), String>>),
    /// Drain a backend of a VIP, or end that.
    Drain {
        /// The VIP's name.
        vip: String,
        /// The backend's address.
        backend: IpAddr,
        /// Whether it is to be drained.
        drained: bool,
        /// Done, or why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The interface that the program is attached to.
    pub interface: String,
    /// `native`, `generic`, `multiple`, or `detached` where nothing is attached to the interface.
    pub mode: String,
    /// How long the daemon has run, in seconds.
    pub uptime_s: u64,
    /// The directory of the pins.
    pub pins: Option<String>,
    /// What was wrong with the configuration at the last reload, if it was refused.
    pub last_reload_error: Option<String>,
    /// What the NIC itself lost.
    pub nic: DropCounters,
    /// Notes, as of the last sweep.
    pub notes: NotesStatus,
    /// What the sweeps have cost.
    pub sweeps: SweepStatus,
    /// An operator drains this balancer.
    pub drained: bool,
    /// The virtual routers, one for each group and family that has VIPs.
    pub vrrp: Vec<VrrpStatus>,
    /// VRRP packets that are for none of them, by what was wrong; `other_router`: nothing.
    pub vrrp_unclaimed: BTreeMap<String, u64>,
    /// The cluster, where the balancer is in one.
    pub cluster: Option<ClusterStatus>,
    /// Who tells routers of VIPs, and what; `null` where nobody does.
    pub bgp: Option<BgpStatus>,
    /// The part of the configuration that comes from etcd; `null` where none does.
    pub etcd: Option<EtcdStatus>,
    /// The data plane's counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// The VIPs, in the configuration's order.
    pub vips: Vec<VipStatus>,
}

/// The part of the configuration that a fleet shares.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EtcdStatus {
    /// The key.
    pub key: String,
    /// The member that is followed; `null`: none can be.
    pub endpoint: Option<String>,
    /// Why none can be, as of the one that was tried last.
    pub trouble: Option<String>,
    /// The revision in which the key got the value that is in force; `null`: none is.
    pub revision: Option<i64>,
    /// That value was read from the copy, and etcd has not confirmed it yet.
    pub from_copy: bool,
    /// How long it has been in force, in seconds.
    pub since_s: Option<u64>,
    /// etcd has no such key (any more): what was in force goes on.
    pub missing: bool,
    /// The revision of a newer value that is not in force.
    pub refused_revision: Option<i64>,
    /// What is wrong with that.
    pub refused: Option<String>,
    /// The file in which the last good value is kept.
    pub copy: String,
    /// Why it could not be written, at the last try.
    pub copy_trouble: Option<String>,
}

/// A virtual router: a VRRP group's addresses of one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VrrpStatus {
    /// The group's name.
    pub name: String,
    /// VRID.
    pub router_id: u8,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `initialize`, `backup` or `active`.
    pub state: String,
    /// The priority that it contends with; 0: it does not.
    pub priority: u8,
    /// The priority that is configured.
    pub configured_priority: u8,
    /// Why they differ, or why it does not take over from a living one: `link_down`, `no_address`, `no_socket`, `detached`, `no_backend`,
    /// `canary`, `differing`, `unchecked`, `joining`, `drained`.
    pub reasons: Vec<String>,
    /// The address of the Active router, as far as it is known.
    pub active: Option<IpAddr>,
    /// How long the state has lasted, in milliseconds.
    pub since_ms: u64,
    /// How often it became Active or ceased to be.
    pub transitions: u64,
    /// Advertisements sent.
    pub sent: u64,
    /// Advertisements that could not be sent.
    pub not_sent: u64,
    /// Sound advertisements received.
    pub received: u64,
    /// Others, by what was wrong.
    pub invalid: BTreeMap<String, u64>,
    /// Sound ones whose `interval` or `addresses` are not those configured here.
    pub mismatched: BTreeMap<String, u64>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Why advertisements can't be sent, at the last try.
    pub trouble: Option<String>,
}

/// A cluster, as one of its balancers sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// This balancer's name in it.
    pub name: String,
    /// Where it listens for its peers.
    pub address: SocketAddr,
    /// It may take VIPs over.
    pub ready: bool,
    /// What it waits for until it may.
    pub waits_for: Option<String>,
    /// The beginning of its certificate's SHA-256, as hex digits.
    pub certificate: String,
    /// How many days its certificate is still good for; below 0: its time is over.
    pub certificate_days: i64,
    /// A renewal of the certificate has begun and is not finished.
    pub renewing: bool,
    /// The others.
    pub peers: Vec<PeerStatus>,
    /// Callers of the link that were refused.
    pub refused_callers: u64,
    /// Who was refused last, and why.
    pub last_refusal: Option<String>,
    /// Peers' notes that were not taken in: of members or services that are none here, or for want of room.
    pub refused_notes: u64,
}

/// Another balancer of the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// There is a session with it.
    pub connected: bool,
    /// Its release.
    pub release: Option<String>,
    /// The protocol that is spoken with it.
    pub protocol: Option<u16>,
    /// Its tables and notes are here.
    pub complete: bool,
    /// It may take VIPs over.
    pub ready: bool,
    /// Whether its configuration is the same, as far as it has to be.
    pub same_configuration: Option<bool>,
    /// The services for which it steers by something else.
    pub differing: Vec<DifferenceStatus>,
    /// Messages sent to it in this session.
    pub sent: u64,
    /// Its messages that were taken in, in order.
    pub received: u64,
    /// Why there is no session with it, at the last try.
    pub trouble: Option<String>,
    /// The beginning of its certificate's SHA-256, as hex digits.
    pub certificate: String,
    /// How many days its certificate is still good for.
    pub certificate_days: i64,
}

/// A service for which two balancers steer by something else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DifferenceStatus {
    /// The service, `192.0.2.101:443/tcp`.
    pub service: String,
    /// Slots whose owner was another one when the peer's table came last.
    pub slots: usize,
    /// The first of them.
    pub first_slots: Vec<u32>,
}

/// Announcements by BGP, and BIRD, which makes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BgpStatus {
    /// BIRD's process id, while it runs.
    pub process: Option<u32>,
    /// BIRD's version.
    pub version: Option<String>,
    /// How often BIRD had to be started again.
    pub restarts: u64,
    /// What keeps announcements from being as they should be.
    pub trouble: Option<String>,
    /// The VIPs' addresses.
    pub routes: Vec<RouteStatus>,
    /// The sessions, in the configuration's order.
    pub sessions: Vec<BgpSessionStatus>,
}

/// An address that routers may be told of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The address.
    pub address: IpAddr,
    /// Whether it is announced.
    pub announced: bool,
    /// Why it is not, or would not be by default: `link_down`, `detached`, `no_backend`, `canary`,
    /// `differing`, `unchecked`, `joining`, `drained`.
    pub reasons: Vec<String>,
}

/// A BGP session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BgpSessionStatus {
    /// The neighbor.
    pub neighbor: IpAddr,
    /// Its autonomous system.
    #[serde(rename = "as")]
    pub remote_as: u32,
    /// `idle`, `connect`, `active`, `opensent`, `openconfirm`, `established`, `close`, `down`, or `unknown` while BIRD says
    /// nothing.
    pub state: String,
    /// How long the state has lasted, in seconds.
    pub since_s: Option<u64>,
    /// The state of the BFD session, where BFD watches over it: `up`, `down`, `init`, `admindown` or `unknown`.
    pub bfd: Option<String>,
    /// Routes that it is told, by family: `ipv4`, `ipv6`.
    pub exported: BTreeMap<String, u64>,
    /// What ended the last session, or keeps this one from beginning.
    pub last_error: Option<String>,
}

/// What the NIC itself lost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DropCounters {
    /// Received frames dropped for want of buffers, or by the kernel.
    pub rx_dropped: u64,
    /// Frames that the hardware had no descriptor for.
    pub rx_missed: u64,
    /// Broken frames received.
    pub rx_errors: u64,
    /// Frames dropped on their way out.
    pub tx_dropped: u64,
}

/// How full the map of notes is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NotesStatus {
    /// Notes in the map.
    pub used: u64,
    /// Notes that it has room for.
    pub capacity: u64,
}

/// What the sweeps of the notes have cost since the daemon began.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct SweepStatus {
    /// How many there were.
    pub count: u64,
    /// CPU time of all of them together, in microseconds.
    pub cpu_us: u64,
}

/// A VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipStatus {
    /// Its name.
    pub name: String,
    /// Address, port and protocol, `192.0.2.101:443/tcp`.
    pub service: String,
    /// Whether this balancer answers for the address now.
    pub owned: bool,
    /// The VRRP group that says so, if one does.
    pub group: Option<String>,
    /// Whether routers are told that it is here while it may be.
    pub by_bgp: bool,
    /// `healthy`, `none_up` (all are down, all go on being used) or `nobody`.
    pub serving: String,
    /// What connections through this balancer's own data plane show; `null` where none are made.
    pub canary: Option<CanaryStatus>,
    /// A change waits for room for notes.
    pub waiting: bool,
    /// Slots that a change waits for, because they have three owners.
    pub waiting_slots: usize,
    /// Number of slots.
    pub slots: u32,
    /// Slots by phase.
    pub phases: PhaseCounts,
    /// Whether packets read its settled slots in a table that it shares with other VIPs.
    pub shares_slots: bool,
    /// Frames sent to its backends.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// New TCP connections (SYNs) among them.
    pub connections: u64,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
}

/// Connections to a service through the own data plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// `unknown`, `up` or `down`.
    pub state: String,
    /// The last result in words; empty before the first.
    pub last: String,
    /// How long the last one took, in microseconds.
    pub latency_us: Option<u64>,
}

/// Slots by phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseCounts {
    /// One owner, no look-up.
    pub settled: usize,
    /// Notes of a peer are followed.
    pub open: usize,
    /// The owner changed less than T ago.
    pub moving: usize,
    /// T has passed; noted flows remain.
    pub moved: usize,
    /// Earlier owners are candidates.
    pub kept: usize,
}

/// A backend of a VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its index in the target array.
    pub target: u16,
    /// Its weight.
    pub weight: u16,
    /// What QUIC connection ids call it, as hex digits, where its VIP looks at them.
    pub server_id: Option<String>,
    /// `up`, `soft_down`, `hard_down` or `unknown`.
    pub state: String,
    /// What the balancers of the cluster together hold to be true of it, where it is in one.
    pub common: Option<String>,
    /// An operator drains it.
    pub drained: bool,
    /// It is no longer in the configuration.
    pub removed: bool,
    /// Why it can't be reached, where the network says so.
    pub trouble: Option<String>,
    /// The MAC address that its frames get.
    pub mac: Option<String>,
    /// Slots whose new flows it gets.
    pub slots: usize,
    /// Slots whose earlier owner it is.
    pub earlier_slots: usize,
    /// Frames sent to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// New TCP connections (SYNs) among them.
    pub connections: u64,
    /// The last check's result in words.
    pub last_check: Option<String>,
    /// How long the last check took, in microseconds.
    pub check_latency_us: Option<u64>,
}
