//! Outer headers as the table expects them: what is certain about them, and what the balancer is free to choose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foobar::dataplane::OuterSource;
use foobar_common::address::Address;
use foobar_common::slot::Member;
use foobar_common::target::{TARGET_GUE, TARGET_IPIP, TARGET_RESOLVED, TARGET_USED, Target};
use foobar_tests::packets::endpoint::{candidates, protocol};
use foobar_tests::packets::frame::OWN;
use foobar_tests::packets::rig::backend_mac;
use foobar_tests::packets::tunnel::{GUE_PORT, Outer, SOURCE_V4, SOURCE_V6, gue};

use crate::family::Family;

/// What packets go to a backend in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// None: their own frame.
    None,
    /// IP in IP.
    Ipip,
    /// GUE.
    Gue,
}

/// How a backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// What packets go in.
    pub(crate) tunnel: Tunnel,
    /// The family of the backend's address.
    pub(crate) over: Family,
    /// The longest packet on the way.
    pub(crate) mtu: u16,
    /// `TARGET_*` bits besides.
    pub(crate) flags: u16,
}

/// All tunnels over both families.
pub(crate) const WAYS: [Way; 4] = [
    Way::new(Tunnel::Ipip, Family::V4),
    Way::new(Tunnel::Ipip, Family::V6),
    Way::new(Tunnel::Gue, Family::V4),
    Way::new(Tunnel::Gue, Family::V6),
];

/// The first of the dynamic ports (RFC 6335).
const DYNAMIC: u16 = 49_152;
/// Bits of the sources that are every flow's, where not all are.
const PREFIXES: (u8, u8) = (26, 64);

impl Way {
    /// One for packets of 1500 bytes.
    pub(crate) const fn new(tunnel: Tunnel, over: Family) -> Self {
        Self {
            tunnel,
            over,
            mtu: 1500,
            flags: 0,
        }
    }

    /// The same, of a target with these bits.
    pub(crate) const fn with(self, flags: u16) -> Self {
        Self { flags, ..self }
    }

    /// As names of cases have it.
    pub(crate) fn name(self) -> String {
        let tunnel = match self.tunnel {
            Tunnel::None => "no tunnel",
            Tunnel::Ipip => "ip in ip",
            Tunnel::Gue => "gue",
        };
        format!("{tunnel} over {}", self.over.name())
    }

    /// A member's target.
    pub(crate) fn target(self, member: Member) -> Target {
        let tunnel = match self.tunnel {
            Tunnel::None => 0,
            Tunnel::Ipip => TARGET_IPIP,
            Tunnel::Gue => TARGET_GUE,
        };
        Target {
            destination_mac: backend_mac(member),
            source_mac: OWN,
            flags: TARGET_USED | TARGET_RESOLVED | tunnel | self.flags,
            weight: 1,
            address: Address::from(backend(member, self.over)),
            mtu: self.mtu,
            ..Target::default()
        }
    }

    /// A packet that goes this way alone.
    pub(crate) fn plain(self) -> Outside {
        Outside {
            way: self,
            traffic_class: 0,
            private: Vec::new(),
            like: None,
        }
    }

    /// A packet that carries members as candidates, all of this way, and options.
    pub(crate) fn listing(self, listed: &[Member], options: u8) -> Outside {
        let addresses: Vec<_> = listed.iter().map(|&member| backend(member, self.over)).collect();
        Outside {
            private: candidates(0, &addresses, options),
            ..self.plain()
        }
    }
}

/// A backend's address.
pub(crate) const fn backend(member: Member, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 200 + member as u8)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0x77, 0x200 + member)),
    }
}

/// What outer headers come from, or which prefixes.
pub(crate) const fn source(varies: bool) -> OuterSource {
    let (v4, v6) = if varies { PREFIXES } else { (32, 128) };
    OuterSource {
        v4: (SOURCE_V4, v4),
        v6: (SOURCE_V6, v6),
        gue_port: GUE_PORT,
    }
}

/// What a packet is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    way: Way,
    traffic_class: u8,
    private: Vec<u8>,
    /// A frame of the same flow: what the balancer is free to choose is as with that one.
    like: Option<Vec<u8>>,
}

/// What the balancer is free to choose, but has to choose alike for all packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chosen {
    source: IpAddr,
    port: u16,
    label: u32,
}

impl Outside {
    /// The outer header has this TOS or traffic class.
    pub(crate) fn class(self, traffic_class: u8) -> Self {
        Self {
            traffic_class,
            ..self
        }
    }

    /// The outer header is as that of another frame of the flow.
    pub(crate) fn like(self, frame: Vec<u8>) -> Self {
        Self {
            like: Some(frame),
            ..self
        }
    }

    /// The frame whose outer header this one's is like, if it has to be like one.
    pub(crate) const fn other(&self) -> Option<&Vec<u8>> {
        self.like.as_ref()
    }

    /// The frame that `frame` has to become on its way to a member; what is free is as in `seen`.
    pub(crate) fn frame(&self, member: Member, frame: &[u8], seen: &[u8]) -> Vec<u8> {
        let network = network(frame);
        let chosen = self.chosen(seen);
        let inner = &frame[network..];
        let length = length(inner);
        let (payload, outer_protocol) = match self.way.tunnel {
            Tunnel::None => return [&backend_mac(member)[..], &OWN, &frame[12..]].concat(),
            Tunnel::Ipip => (inner[..length].to_vec(), protocol(inner)),
            Tunnel::Gue => {
                let port = chosen.port.max(DYNAMIC);
                (gue(port, protocol(inner), &self.private, &inner[..length]), 17)
            }
        };
        let outer = Outer {
            source: chosen.source,
            destination: backend(member, self.way.over),
            traffic_class: self.traffic_class,
            flow_label: chosen.label,
            payload,
            protocol: outer_protocol,
        };
        let mut whole = outer.frame(backend_mac(member), &frame[12..network - 2]);
        whole.extend(&inner[length..]);
        whole
    }

    /// What was chosen, by the outer header of a frame; what can't have been is as it may not be.
    fn chosen(&self, seen: &[u8]) -> Chosen {
        let at = network(seen);
        let header = match self.way.over {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        let Some(outer) = seen.get(at..at + header + 2) else {
            return Chosen {
                source: self.own(),
                port: 0,
                label: 0,
            };
        };
        let (source, label): (IpAddr, u32) = match self.way.over {
            Family::V4 => {
                let source = [outer[12], outer[13], outer[14], outer[15]];
                (Ipv4Addr::from(source).into(), 0)
            }
            Family::V6 => {
                let source: [u8; 16] = std::array::from_fn(|place| outer[8 + place]);
                let label = u32::from_be_bytes([0, outer[1] & 0x0f, outer[2], outer[3]]);
                (Ipv6Addr::from(source).into(), label)
            }
        };
        Chosen {
            source: if self.like.is_some() && self.is_own(source) {
                source
            } else {
                self.own()
            },
            port: u16::from_be_bytes([outer[header], outer[header + 1]]),
            label,
        }
    }

    const fn own(&self) -> IpAddr {
        match self.way.over {
            Family::V4 => IpAddr::V4(SOURCE_V4),
            Family::V6 => IpAddr::V6(SOURCE_V6),
        }
    }

    /// Whether an address has the bits that all sources have.
    const fn is_own(&self, source: IpAddr) -> bool {
        match source {
            IpAddr::V4(source) => (source.to_bits() ^ SOURCE_V4.to_bits()) >> (32 - PREFIXES.0) == 0,
            IpAddr::V6(source) => (source.to_bits() ^ SOURCE_V6.to_bits()) >> (128 - PREFIXES.1) == 0,
        }
    }
}

/// Where the IP header of a frame begins, behind its tags.
pub(crate) fn network(frame: &[u8]) -> usize {
    let mut at = 14;
    while matches!(frame.get(at - 2..at), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    at
}

/// A packet's length by its own header.
fn length(packet: &[u8]) -> usize {
    let field = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    if packet[0] >> 4 == 4 {
        field(2)
    } else {
        40 + field(4)
    }
}
