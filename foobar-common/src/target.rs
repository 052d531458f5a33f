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

/// It is reached through IP in IP.
pub const HOT_IPIP: u16 = 1 << 0;
/// It is reached through Generic UDP Encapsulation.
pub const HOT_GUE: u16 = 1 << 1;
/// Its address, and with it the outer header, is of IPv4.
pub const HOT_V4: u16 = 1 << 2;
/// The next hop is known, behind the interface that frames came in by.
pub const HOT_SENDS: u16 = 1 << 3;
/// It may own flows and is reached by GUE: it can be a packet's candidate.
pub const HOT_CANDIDATE: u16 = 1 << 4;

/// What packets in tunnels have to know of a target, an element of [`HotTunnels`].
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HotTunnel {
    /// The first 8 bytes of frames for it.
    pub head: u64,
    /// From the lowest bit: the next 4 bytes of frames for it, [`Target::mtu`] in 16 bits, `HOT_*` in 16 bits.
    pub state: u64,
    /// The backend's address.
    pub address: Address,
}

/// The targets that are reached through tunnels, in one element of their map as [`HotTargets`] are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotTunnels {
    /// By member.
    pub tunnels: [HotTunnel; TARGET_ENTRIES],
}

impl Target {
    /// The element of [`HotTunnels`].
    pub fn hot_tunnel(&self) -> HotTunnel {
        let any = |bits: u16, hot: u16| if self.flags & bits == 0 { 0 } else { hot };
        let mut flags = any(TARGET_IPIP, HOT_IPIP) | any(TARGET_GUE, HOT_GUE);
        if self.address.is_mapped() {
            flags |= HOT_V4;
        }
        if self.flags & TARGET_RESOLVED != 0 && self.ifindex == 0 {
            flags |= HOT_SENDS;
        }
        let may_own = TARGET_USED | TARGET_GUE;
        if self.flags & (may_own | TARGET_GONE) == may_own {
            flags |= HOT_CANDIDATE;
        }
        let [a, b, c, d, e, f] = self.source_mac;
        let tail = u32::from_ne_bytes([c, d, e, f]);
        HotTunnel {
            head: mac_word(self.destination_mac) | u64::from(u16::from_ne_bytes([a, b])) << 48,
            state: u64::from(tail) | u64::from(self.mtu) << 32 | u64::from(flags) << 48,
            address: self.address,
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn tunnel(flags: u16, target: Target) -> (u16, HotTunnel) {
        let hot = Target { flags, ..target }.hot_tunnel();
        ((hot.state >> 48) as u16, hot)
    }

    #[test]
    fn a_tunnel_has_what_stands_before_the_outer_header() {
        let target = Target {
            destination_mac: [1, 2, 3, 4, 5, 6],
            source_mac: [7, 8, 9, 10, 11, 12],
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            mtu: 1500,
            ..Target::default()
        };
        let (flags, hot) = tunnel(TARGET_USED | TARGET_RESOLVED | TARGET_IPIP, target);
        assert_eq!(flags, HOT_IPIP | HOT_V4 | HOT_SENDS);
        assert_eq!(hot.head.to_ne_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((hot.state as u32).to_ne_bytes(), [9, 10, 11, 12]);
        assert_eq!((hot.state >> 32) as u16, 1500);
        assert_eq!(hot.address, target.address);
    }

    #[test]
    fn candidates_are_reached_by_gue_and_not_gone() {
        let target = Target {
            address: IpAddr::from(Ipv6Addr::LOCALHOST).into(),
            ..Target::default()
        };
        let candidate = |flags| tunnel(flags, target).0 & HOT_CANDIDATE != 0;
        assert!(candidate(TARGET_USED | TARGET_GUE));
        assert!(candidate(TARGET_USED | TARGET_GUE | TARGET_DOWN));
        assert!(!candidate(TARGET_USED | TARGET_GUE | TARGET_GONE));
        assert!(!candidate(TARGET_USED | TARGET_IPIP));
        assert!(!candidate(TARGET_GUE));
        assert_eq!(Target::default().hot_tunnel().state, 0);
    }

    #[test]
    fn a_way_through_another_interface_is_not_the_common_one() {
        let target = Target {
            ifindex: 3,
            ..Target::default()
        };
        let flags = TARGET_USED | TARGET_RESOLVED | TARGET_GUE;
        assert_eq!(tunnel(flags, target).0 & HOT_SENDS, 0);
        assert_ne!(tunnel(flags, Target::default()).0 & HOT_SENDS, 0);
    }
}
