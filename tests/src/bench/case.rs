//! What is measured: the cases, and the rows in which each dimension varies alone.
//!
//! A case says which packet meets which slots, and what the program's own counters have to show of it.
//! Another way through the program is another entry of [`CASES`].

use foobar_common::counters::Counter;
use foobar_common::slot::Phase;

use super::traffic::{BENCHMARK, Plan};

/// The IP version of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A TCP segment with data.
    Data,
    /// A TCP SYN.
    Syn,
    /// A UDP datagram.
    Datagram,
    /// A QUIC packet of an established connection, whose connection id names a server.
    Quic,
    /// An ICMP error of a router, about a packet that the VIP has sent.
    Error,
}

impl Case {
    /// The family of outer headers.
    pub const fn outer(&self) -> Family {
        match (self.way, self.family) {
            (Way::CrossIpip, Family::V4) => Family::V6,
            (Way::CrossIpip, Family::V6) => Family::V4,
            (Way::L2 | Way::Ipip | Way::Gue | Way::Candidates, family) => family,
        }
    }

    /// Whether every packet has to be on the common way, of plain packets in settled slots.
    pub const fn is_common(&self) -> bool {
        let plain = !matches!(self.packet, Packet::Error);
        plain
            && matches!(self.way, Way::L2)
            && matches!(self.met, Met::Nothing | Met::Denied | Met::Slots(Phase::Settled))
    }
}

impl Packet {
    /// The protocol of the service that it is for.
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Data | Self::Syn | Self::Error => 6,
            Self::Datagram | Self::Quic => 17,
        }
    }
}

/// How the packet gets to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With new MAC addresses.
    L2,
    /// In another packet of the same family.
    Ipip,
    /// In another packet of the other family.
    CrossIpip,
    /// In a UDP packet of the same family.
    Gue,
    /// As [`Self::Gue`], with all three members of the slot as candidates.
    Candidates,
}

/// Whose the backends of VIPs are, where there are several VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pools {
    /// All VIPs have the same backends, so that their slots can be read in one place.
    One,
    /// Each VIP has its own.
    Own,
}

/// What the packet's flow meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// No VIP.
    Nothing,
    /// A VIP whose source list denies the client.
    Denied,
    /// A VIP without members, that answers RST.
    NoMember,
    /// Slots in this phase, and no note of any flow.
    Slots(Phase),
    /// Slots in this phase, and a note of every flow, made while they moved.
    Noted(Phase),
}

/// What the counters have to show of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The verdict's number.
    pub action: u32,
    /// Counters that count each packet.
    pub counts: &'static [Counter],
    /// Counters that may count it.
    pub may_count: &'static [Counter],
    /// Whether a target counts it.
    pub sent: Sent,
}

/// What targets have to have counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing.
    Nothing,
    /// Each packet.
    Packets,
    /// Each packet, and that it opens a connection.
    Connections,
}

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// Sent to a target, which alone counts it.
pub const SENT: Claim = Claim {
    action: XDP_TX,
    counts: &[],
    may_count: &[],
    sent: Sent::Packets,
};
const OPENED: Claim = Claim {
    sent: Sent::Connections,
    ..SENT
};
const PASSED: Claim = Claim {
    action: XDP_PASS,
    counts: &[Counter::PassNotVip],
    sent: Sent::Nothing,
    ..SENT
};
const NAMED: Claim = Claim {
    counts: &[Counter::QuicServerId],
    ..SENT
};
const KEPT: Claim = Claim {
    counts: &[Counter::SlotKept],
    ..SENT
};
const DENIED: Claim = Claim {
    action: XDP_DROP,
    counts: &[Counter::DropDenied],
    sent: Sent::Nothing,
    ..SENT
};
const RESET: Claim = Claim {
    counts: &[Counter::AnswerReset],
    sent: Sent::Nothing,
    ..SENT
};
const MOVING_NOTED: Claim = Claim {
    counts: &[Counter::SlotMoving, Counter::NoteFollowed],
    ..SENT
};
const MOVED_NOTED: Claim = Claim {
    counts: &[Counter::SlotMoved, Counter::NoteFollowed],
    ..SENT
};
const MOVED: Claim = Claim {
    counts: &[Counter::SlotMoved],
    ..SENT
};
const MOVING_FLOOD: Claim = Claim {
    counts: &[Counter::SlotMoving, Counter::NotePending],
    may_count: &[Counter::NotePendingEvicted],
    ..OPENED
};
const ERROR: Claim = Claim {
    counts: &[Counter::IcmpSteered],
    ..SENT
};

/// A way through the program.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Family, packet, slots, forwarding.
    pub name: &'static str,
    /// The IP version.
    pub family: Family,
    /// The packet.
    pub packet: Packet,
    /// What it meets.
    pub met: Met,
    /// How its target is reached.
    pub way: Way,
    /// What is claimed about it.
    pub claim: Claim,
    /// At how many flows it is measured.
    pub flows: &'static [u64],
    /// Whose the backends are.
    pub pools: Pools,
}

impl Case {
    /// Whether it is of flows that come once each.
    pub fn is_flood(&self) -> bool {
        self.flows == FLOOD
    }
}

const ONE: u64 = 1;
const MANY: u64 = 1 << 16;
const MILLION: u64 = 1_000_000;
const TEN_MILLION: u64 = 10_000_000;

const FEW_AND_MANY: &[u64] = &[ONE, MILLION];
const FLOOD: &[u64] = &[TEN_MILLION];
const NOTED: &[u64] = &[ONE, MANY, MILLION];

/// A case at 1 and 1 M flows.
const fn case(name: &'static str, family: Family, packet: Packet, met: Met, claim: Claim) -> Case {
    Case {
        name,
        family,
        packet,
        met,
        way: Way::L2,
        claim,
        flows: FEW_AND_MANY,
        pools: Pools::One,
    }
}

/// A case at these numbers of flows.
const fn at(flows: &'static [u64], case: Case) -> Case {
    Case { flows, ..case }
}

/// A case whose packets reach their target another way than by L2.
const fn by(way: Way, case: Case) -> Case {
    Case { way, ..case }
}

/// The case that all dimensions vary from.
pub const BASE: &str = "v4-tcp-settled-l2";

/// The same with backends of their own for every VIP: only VIPs vary.
const OWN_POOLS: &str = "v4-tcp-settled-l2-pools";

use Family::{V4, V6};
use Met::{Denied, NoMember, Noted, Nothing, Slots};
use Packet::{Data, Datagram, Error, Quic, Syn};
use Phase::{Kept, Moved, Moving, Settled};

/// Every case.
pub const CASES: &[Case] = &[
    at(
        &[ONE, MANY, MILLION, TEN_MILLION],
        case(BASE, V4, Data, Slots(Settled), SENT),
    ),
    Case {
        pools: Pools::Own,
        ..at(&[], case(OWN_POOLS, V4, Data, Slots(Settled), SENT))
    },
    case("v6-tcp-settled-l2", V6, Data, Slots(Settled), SENT),
    case("v4-udp-settled-l2", V4, Datagram, Slots(Settled), SENT),
    case("v6-udp-settled-l2", V6, Datagram, Slots(Settled), SENT),
    by(
        Way::Ipip,
        case("v4-tcp-settled-ipip", V4, Data, Slots(Settled), SENT),
    ),
    by(
        Way::Ipip,
        case("v6-tcp-settled-ipip", V6, Data, Slots(Settled), SENT),
    ),
    by(
        Way::Gue,
        case("v4-tcp-settled-gue", V4, Data, Slots(Settled), SENT),
    ),
    by(
        Way::Gue,
        case("v6-tcp-settled-gue", V6, Data, Slots(Settled), SENT),
    ),
    by(
        Way::CrossIpip,
        case("v4-tcp-settled-ipip6", V4, Data, Slots(Settled), SENT),
    ),
    by(
        Way::CrossIpip,
        case("v6-tcp-settled-ipip4", V6, Data, Slots(Settled), SENT),
    ),
    by(
        Way::Candidates,
        case("v4-tcp-kept-gue", V4, Data, Slots(Kept), KEPT),
    ),
    by(
        Way::Candidates,
        case("v6-tcp-kept-gue", V6, Data, Slots(Kept), KEPT),
    ),
    case("v4-quic-settled-l2", V4, Quic, Slots(Settled), NAMED),
    case("v6-quic-settled-l2", V6, Quic, Slots(Settled), NAMED),
    case("v4-syn-settled-l2", V4, Syn, Slots(Settled), OPENED),
    at(FLOOD, case("v4-syn-flood-l2", V4, Syn, Slots(Settled), OPENED)),
    at(FLOOD, case("v6-syn-flood-l2", V6, Syn, Slots(Settled), OPENED)),
    at(
        FLOOD,
        case("v4-syn-flood-moving-l2", V4, Syn, Slots(Moving), MOVING_FLOOD),
    ),
    at(
        NOTED,
        case("v4-tcp-moving-l2", V4, Data, Noted(Moving), MOVING_NOTED),
    ),
    at(
        NOTED,
        case("v4-tcp-moved-l2", V4, Data, Noted(Moved), MOVED_NOTED),
    ),
    case("v4-tcp-moved-unnoted-l2", V4, Data, Slots(Moved), MOVED),
    at(
        NOTED,
        case("v6-tcp-moved-l2", V6, Data, Noted(Moved), MOVED_NOTED),
    ),
    at(
        NOTED,
        case("v4-udp-moved-l2", V4, Datagram, Noted(Moved), MOVED_NOTED),
    ),
    case("v4-icmp-error-l2", V4, Error, Slots(Settled), ERROR),
    case("v6-icmp-error-l2", V6, Error, Slots(Settled), ERROR),
    case("v4-denied", V4, Data, Denied, DENIED),
    case("v6-denied", V6, Data, Denied, DENIED),
    case("v4-not-vip", V4, Data, Nothing, PASSED),
    case("v6-not-vip", V6, Data, Nothing, PASSED),
    case("v4-tcp-reset", V4, Data, NoMember, RESET),
];

/// The case of this name.
pub fn named(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

/// A case, and how much of everything there is.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// Flows that take turns.
    pub flows: u64,
    /// VIPs, over which the flows are spread.
    pub vips: u32,
    /// Slots of each VIP, a power of two.
    pub slots: u32,
    /// Members of each VIP.
    pub backends: u32,
    /// Where its addresses are from.
    pub plan: Plan,
}

impl Row {
    /// One VIP of 65,536 slots and 256 backends.
    pub const fn new(case: Case, flows: u64) -> Self {
        Self {
            case,
            flows,
            vips: 1,
            slots: 65_536,
            backends: 256,
            plan: BENCHMARK,
        }
    }
}

/// All rows of these cases.
pub fn rows(cases: &[Case]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &case in cases {
        rows.extend(case.flows.iter().map(|&flows| Row::new(case, flows)));
        let (vips, backends): (&[(u32, u32)], &[u32]) = match case.name {
            BASE => (
                &[(1, 4_096), (16, 65_536), (100, 4_096), (1_000, 4_096)],
                &[3, 16, 1_000],
            ),
            OWN_POOLS => (&[(16, 65_536), (100, 4_096), (1_000, 4_096)], &[]),
            _ => (&[], &[]),
        };
        let base = Row::new(case, MILLION);
        rows.extend(vips.iter().map(|&(vips, slots)| Row { vips, slots, ..base }));
        rows.extend(backends.iter().map(|&backends| Row { backends, ..base }));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_case_has_a_name_of_its_own_and_rows() {
        let names: HashSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        assert!(CASES.iter().all(|case| !rows(&[*case]).is_empty()));
        assert!(named(BASE).is_some() && named("v5-tcp").is_none());
    }

    #[test]
    fn each_dimension_of_the_base_varies_alone() {
        let base = *named(BASE).expect("it is there");
        for row in rows(&[base]) {
            let usual = Row::new(base, row.flows);
            let varied = [row.vips != usual.vips, row.backends != usual.backends];
            assert!(varied.iter().filter(|&&varied| varied).count() <= 1, "{row:?}");
        }
    }
}
