//! MAC addresses: a packet for a VIP is judged by them before anything else.

use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{BROADCAST, Mac, OWN, PEER, ROUTER, STRANGER};
use foobar_tests::packets::frame_v6::tagged;

use crate::case::{Case, dropped, goes_to, passes};
use crate::errors;
use crate::family::{Family, spoilt};
use crate::fragments;

fn between(frame: &[u8], destination: Mac, source: Mac) -> Vec<u8> {
    [&destination[..], &source, &frame[12..]].concat()
}

/// Packets for a VIP of all kinds, among them some that would be dropped for another reason.
fn kinds(family: Family) -> Vec<(&'static str, Vec<u8>)> {
    let flow = family.flow();
    let quoted = flow.reversed().syn();
    vec![
        ("a SYN", flow.syn()),
        ("data", flow.data()),
        ("data behind a tag", tagged(&flow.data(), &[(0x8100, 5)])),
        ("a datagram", family.question().datagram()),
        ("a ping", family.ping(family.vip(), b"data").0),
        (
            "an ICMP error",
            errors::about(family, errors::unreachable(family), &quoted[14..]),
        ),
        ("a segment for no service", family.flow_to(9).syn()),
        ("a protocol that nobody takes", flow.packet(47, &[0; 8])),
        (
            "a packet of a wrong version",
            spoilt(flow.data(), |frame| frame[14] ^= 0xf0),
        ),
        ("a packet that is cut", {
            let frame = flow.data();
            frame[..frame.len() - 1].to_vec()
        }),
        ("a martian", flow.from(flow.vip).data()),
        ("a later fragment", fragments::later(family, 0x00ac_0001)),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let foreign = [
        ("another host's", STRANGER),
        ("another balancer's", PEER),
        ("everybody's", BROADCAST),
        ("an IPv4 group's", [0x01, 0, 0x5e, 0, 0, 1]),
        ("an IPv6 group's", [0x33, 0x33, 0, 0, 0, 1]),
    ];
    for &family in Family::BOTH {
        let name = family.name();
        for (what, frame) in kinds(family) {
            for (whose, mac) in foreign {
                cases.push(Case::new(
                    format!("macs / {name} / {what} to {whose} MAC / dropped as foreign"),
                    between(&frame, mac, ROUTER),
                    dropped(Counter::DropForeignMac),
                ));
            }
            for (whose, mac) in [("the balancer's own", OWN), ("another balancer's", PEER)] {
                cases.push(Case::new(
                    format!("macs / {name} / {what} from {whose} MAC / dropped as a loop"),
                    between(&frame, OWN, mac),
                    dropped(Counter::DropLoop),
                ));
            }
            cases.push(Case::new(
                format!("macs / {name} / {what} from a balancer's MAC to a foreign one / dropped as foreign"),
                between(&frame, STRANGER, PEER),
                dropped(Counter::DropForeignMac),
            ));
        }
        let elsewhere = family.flow().to(family.host()).data();
        for (what, destination, source) in [
            ("to another host's MAC", STRANGER, ROUTER),
            ("to everybody's MAC", BROADCAST, ROUTER),
            ("from the balancer's own MAC", OWN, OWN),
            ("from another balancer's MAC", OWN, PEER),
        ] {
            cases.push(Case::new(
                format!("macs / {name} / data for no VIP {what} / the kernel's"),
                between(&elsewhere, destination, source),
                passes(),
            ));
        }
        cases.push(Case::new(
            format!("macs / {name} / data from any other MAC / goes to the slot's member"),
            between(&family.flow().data(), OWN, STRANGER),
            goes_to(1),
        ));
        for bit in [0, 7, 8, 23, 40, 47] {
            let mut mac = OWN;
            mac[bit / 8] ^= 1 << (bit % 8);
            cases.push(Case::new(
                format!(
                    "macs / {name} / to a MAC that differs from the own in bit {bit} / dropped as foreign"
                ),
                between(&family.flow().data(), mac, ROUTER),
                dropped(Counter::DropForeignMac),
            ));
        }
    }
    cases
}
