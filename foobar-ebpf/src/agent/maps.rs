//! The agent's maps: they are in its own object only.

use aya_ebpf::{
    btf_maps::{Array, DevMapHash, HashMap, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use foobar_common::{
    address::Address,
    agent::{AgentCounters, AgentSettings, MAX_AGENT_VIPS, NextHop},
};
use foobar_ebpf::packet::datagram::Packet;

/// What is known about the packet on its way.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// The packet in the tunnel.
    pub(crate) packet: Packet,
    /// The offset of the outer IP header.
    pub(crate) outer: u16,
    /// The offset of what the outer IP header is followed by.
    pub(crate) tunnel: u16,
    /// The offset of the packet in the tunnel.
    pub(crate) inner: u16,
    /// How many bytes are between the Ethernet header and it.
    pub(crate) removed: u16,
    /// The offset behind the last byte of it that the tunnel can bear.
    pub(crate) end: u32,
    /// The outer header is an IPv4 one; else it is an IPv6 one.
    pub(crate) outer_v4: bool,
    /// The tunnel is GUE; else IP in IP.
    pub(crate) gue: bool,
    /// The packet in the tunnel is an IPv4 one; else an IPv6 one.
    pub(crate) inner_v4: bool,
    /// The outer TOS or traffic class.
    pub(crate) traffic_class: u8,
    /// How many candidates are listed, 0 to 2.
    pub(crate) listed: u8,
    /// How many of them have had their turn.
    pub(crate) next: u8,
    /// `OPTION_*` bits.
    pub(crate) options: u8,
}

/// Two elements, of which one is in force.
#[btf_map]
pub(crate) static AGENT_SETTINGS: Array<AgentSettings, 2> = Array::new();

/// One element: which settings are in force.
#[btf_map]
pub(crate) static AGENT_ACTIVE: Array<u32, 1> = Array::new();

/// The VIPs that packets are decapsulated for. The values are unused.
#[btf_map]
pub(crate) static AGENT_VIPS: HashMap<Address, u32, { MAX_AGENT_VIPS as usize }> = HashMap::new();

/// The ways to other backends.
#[btf_map]
pub(crate) static NEIGHBOURS: HashMap<Address, NextHop, 4096> = HashMap::new();

/// Candidates whose next hop was not known, for the daemon to find out. The values are unused.
#[btf_map]
pub(crate) static WANTED: LruHashMap<Address, u32, 256> = LruHashMap::new();

/// One element a CPU.
#[btf_map]
pub(crate) static AGENT_COUNTERS: PerCpuArray<AgentCounters, 1> = PerCpuArray::new();

/// The packet that is being worked on, one a CPU.
#[btf_map]
pub(crate) static AGENT_JOBS: PerCpuArray<Job, 1> = PerCpuArray::new();

/// The interfaces, by their index, that other backends are reached by besides the one that packets come in by.
#[btf_map]
pub(crate) static AGENT_TX_PORTS: DevMapHash<64> = DevMapHash::new();
