//! The cases: all of the bench's, and what only counts here.

use foobar_common::counters::Counter;

use crate::bench::case::{CASES, Case, Claim, Family, Met, Packet, Pools, Sent, Way};

const XDP_DROP: u32 = 1;

/// Cases beside the bench's, which has none of packets that are dropped.
const MORE: &[Case] = &[Case {
    name: "v4-udp-no-member",
    family: Family::V4,
    packet: Packet::Datagram,
    met: Met::NoMember,
    way: Way::L2,
    claim: Claim {
        action: XDP_DROP,
        counts: &[Counter::DropNoMember],
        may_count: &[],
        sent: Sent::Nothing,
    },
    flows: &[1],
    pools: Pools::One,
}];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(MORE)
}

/// The case of this name.
pub fn named(name: &str) -> Option<&'static Case> {
    all().find(|case| case.name == name)
}
