//! Which of a service's slots a flow falls into: where the source alone counts, all of a client's flows go to
//! one member.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foobar_tests::packets::frame_v6::tagged;

use crate::case::{Case, goes_where, goes_where_as_error};
use crate::errors::{about, sent, unreachable};
use crate::family::{Ends, Family};
use crate::services::{BY_SOURCE, BY_SOURCE_UDP, SPREAD};

/// The `n`th of many clients.
pub(crate) const fn client(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, n)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, n as u16, 0, 0, 0, 0x4d)),
    }
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| [by_source(family), by_flow(family)].concat())
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / hash / {rest}", family.name())
}

fn by_source(family: Family) -> Vec<Case> {
    let flow = BY_SOURCE.flow(family);
    let question = BY_SOURCE_UDP.flow(family);
    let mut cases = Vec::new();
    for port in (0..24u16).map(|n| 1 + n * 2731) {
        let from = |ends: Ends| Ends {
            client_port: port,
            ..ends
        };
        cases.extend([
            Case::new(
                title(
                    family,
                    &format!("by source / a SYN from port {port} / goes where the client's other flows go"),
                ),
                from(flow).syn(),
                goes_where(flow.data(), 1),
            ),
            Case::new(
                title(
                    family,
                    &format!(
                        "by source / a datagram from port {port} / goes where the client's other flows go"
                    ),
                ),
                from(question).datagram(),
                goes_where(question.datagram(), 0),
            ),
        ]);
    }
    for n in 1..=8 {
        let of = |ends: Ends| ends.from(client(family, n));
        cases.push(Case::new(
            title(
                family,
                &format!(
                    "by source / an ICMP error about client {n}'s flow / goes where the client's flows go"
                ),
            ),
            about(family, unreachable(family), &sent(of(flow))),
            goes_where_as_error(of(flow).data()),
        ));
        cases.push(Case::new(
            title(
                family,
                &format!("by source / client {n} behind a tag / goes where the client goes without"),
            ),
            tagged(&of(flow).data(), &[(0x8100, 9)]),
            goes_where(of(flow).data(), 0),
        ));
    }
    cases
}

/// Where ports count as well, errors find the flow's slot, and all its packets fall into one.
fn by_flow(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for port in (0..16u16).map(|n| 1 + n * 4093) {
        let flow = Ends {
            client_port: port,
            ..SPREAD.flow(family)
        };
        cases.push(Case::new(
            title(
                family,
                &format!("by flow / data from port {port} / goes where its SYN went"),
            ),
            flow.data(),
            goes_where(flow.syn(), 0),
        ));
        cases.push(Case::new(
            title(
                family,
                &format!(
                    "by flow / an ICMP error about the flow from port {port} / goes where its packets go"
                ),
            ),
            about(family, unreachable(family), &sent(flow)),
            goes_where_as_error(flow.data()),
        ));
    }
    cases
}
