//! The target: a backend as member of one VIP, and its counters.

use crate::address::Address;
use crate::settings::mac_word;
use crate::slot::MAX_MEMBER;

/// The target exists.
pub const TARGET_USED: u16 = 1 << 0;
/// Its check fails: it takes no new flows, a SYN on a noted tuple leaves it.
pub const TARGET_DOWN: u16 = 1 << 1;
/// It is silent: its notes stop counting.
pub const TARGET_GONE: u16 = 1 << 2;
/// The next hop is known; without it packets for the target are dropped and counted.
pub const TARGET_RESOLVED: u16 = 1 << 3;
/// An operator drains it.
pub const TARGET_DRAINED: u16 = 1 << 4;
/// It is no longer in the configuration, and goes when nothing names it.
pub const TARGET_REMOVED: u16 = 1 << 5;
/// A health check has passed or failed often enough to know its state.
pub const TARGET_JUDGED: u16 = 1 << 6;

/// It is reached through IP in IP (RFC 2003, RFC 2473, RFC 4213).
pub const TARGET_IPIP: u16 = 1 << 7;
/// It is reached through Generic UDP Encapsulation ([`crate::gue`]).
pub const TARGET_GUE: u16 = 1 << 8;
/// The time that its drain had is over: no flow is its any more, whatever a connection id says.
pub const TARGET_CUT: u16 = 1 << 9;

/// A target that takes no new flows.
pub const TARGET_TAKES_NO_NEW: u16 = TARGET_DOWN | TARGET_GONE | TARGET_DRAINED | TARGET_REMOVED | TARGET_CUT;

/// A backend as member of one VIP: an element of the target array. Index 0 stays unused.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The MAC address that frames for the backend, or for the next hop on the way to it, get.
    pub destination_mac: [u8; 6],
    /// The MAC address of the interface they leave by.
    pub source_mac: [u8; 6],
    /// The interface they leave by; 0: the one they came in by.
    pub ifindex: u32,
    /// `TARGET_*` bits.
    pub flags: u16,
    /// Weight in the configuration, 0 to 256.
    pub weight: u16,
    /// The id of the VIP it is a member of.
    pub vip: u32,
    /// The backend's address.
    pub address: Address,
    /// Tells two lives of one address apart.
    pub incarnation: u64,
    /// When flows that are left are cut, CLOCK_MONOTONIC in nanoseconds; 0: never.
    pub deadline_ns: u64,
    /// The longest packet (from the IP header on) that the way to it takes, outer headers included; 0 where
    /// nothing is encapsulated.
    pub mtu: u16,
    /// How often an operator has said whether it is drained: of balancers that were told different things, the one
    /// that has heard more is right.
    pub drains: u16,
    /// Unused.
    pub reserved: [u16; 2],
}

/// Targets that there can be, index 0 included: a slot's hot entry leaves 15 bits.
pub const TARGET_ENTRIES: usize = MAX_MEMBER as usize + 1;

/// What nearly every packet has to know of the targets: a word each, by [`Target::hot`], in one element of their map
/// as the VIP table is ([`crate::vip::VipTable`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotTargets {
    /// By member.
    pub words: [u64; TARGET_ENTRIES],
}

impl Target {
    /// The word of [`HotTargets`]: the first 8 bytes of frames for the target, where they leave by the interface that
    /// they came in by, with that interface's own address as their source, and in no tunnel; else 0, and the target has
    /// to be looked at. `own_mac` is the interface's own address, as [`crate::settings::mac_word`] packs it.
    pub const fn hot(&self, own_mac: u64) -> u64 {
        let used = TARGET_USED | TARGET_RESOLVED;
        let plain = self.flags & (used | TARGET_IPIP | TARGET_GUE) == used && self.ifindex == 0;
        if plain && mac_word(self.source_mac) == own_mac {
            mac_word(self.destination_mac) | own_mac << 48
        } else {
            0
        }
    }
}

/// What a CPU has sent to a target: an element of the array of traffic, in which each CPU has a row of its own
/// ([`crate::settings::Settings::counter_row`]).
///
/// Short, because each packet writes to one, and with many targets that is a line that is not in the cache. New
/// connections, which few packets are, have an array of words of their own with the same rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetTraffic {
    /// Frames sent to it.
    pub packets: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
}

/// Elements of a row of counters are a multiple of this: no two CPUs write to one line of 64 bytes.
pub const COUNTER_ROW_STEP: u32 = 8;

/// What a target has been sent, by all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCounters {
    /// Frames sent to it.
    pub packets: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
    /// SYNs without ACK among them: new TCP connections, retransmissions included.
    pub connections: u64,
}
