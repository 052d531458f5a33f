//! UDP (RFC 768): lengths, ports.

use foobar_common::counters::Counter;
use foobar_tests::packets::rig::{DNS, UDP, WEB};

use crate::case::{Case, Step, dropped, goes_to};
use crate::family::{Ends, Family, spoilt};

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| of_family(family))
        .collect()
}

fn with_length(family: Family, data: usize, length: u16) -> Vec<u8> {
    let question = family.question();
    spoilt(question.packet(UDP, &question.udp(&vec![7; data])), |frame| {
        let place = family.transport() + 4;
        frame[place..place + 2].copy_from_slice(&length.to_be_bytes());
    })
}

fn of_family(family: Family) -> Vec<Case> {
    let name = family.name();
    let question = family.question();
    let title = |rest: &str| format!("{name} / udp / {rest}");
    let mut cases = Vec::new();
    for data in [0usize, 1, 512, 1232, 1400] {
        cases.push(
            Case::new(
                title(&format!("{data} bytes of data / goes to the slot's member")),
                question.packet(UDP, &question.udp(&vec![0x5a; data])),
                goes_to(4),
            )
            .given([family.dns_at(4)]),
        );
    }
    for length in [0u16, 1, 7, 19, 1000, 65_535] {
        cases.push(Case::new(
            title(&format!(
                "a length of {length} in a payload of 18 bytes / dropped as malformed"
            )),
            with_length(family, 10, length),
            dropped(Counter::DropMalformed),
        ));
    }
    for length in [8u16, 9, 17, 18] {
        cases.push(Case::new(
            title(&format!(
                "a length of {length} in a payload of 18 bytes / goes to the slot's member"
            )),
            with_length(family, 10, length),
            goes_to(1),
        ));
    }
    cases.push(Case::new(
        title("a length into the frame's padding / dropped as malformed"),
        [with_length(family, 0, 9), vec![0; 40]].concat(),
        dropped(Counter::DropMalformed),
    ));
    let datagram = question.udp(b"");
    for length in 0..8usize {
        cases.push(Case::new(
            title(&format!("{length} bytes of a header / dropped as truncated")),
            question.packet(UDP, &datagram[..length]),
            dropped(Counter::DropTruncated),
        ));
        cases.push(Case::new(
            title(&format!(
                "{length} bytes of a header and the rest as padding / dropped as truncated"
            )),
            [
                question.packet(UDP, &datagram[..length]),
                datagram[length..].to_vec(),
            ]
            .concat(),
            dropped(Counter::DropTruncated),
        ));
    }
    let ports = |client_port: u16, port: u16| {
        Ends {
            client_port,
            port,
            ..question
        }
        .datagram()
    };
    cases.extend([
        Case::new(
            title("without a checksum / goes to the slot's member"),
            spoilt(question.datagram(), |frame| {
                frame[family.transport() + 6..family.transport() + 8].fill(0);
            }),
            goes_to(1),
        ),
        Case::new(
            title("a wrong checksum / goes to the slot's member, which has to look itself"),
            spoilt(question.datagram(), |frame| frame[family.transport() + 6] ^= 0xff),
            goes_to(1),
        ),
        Case::new(
            title("from port 0 / goes to the slot's member"),
            ports(0, DNS),
            goes_to(1),
        ),
        Case::new(
            title("to port 0 / dropped for want of a service"),
            ports(40_001, 0),
            dropped(Counter::DropNoService),
        ),
        Case::new(
            title("to the TCP service's port / dropped for want of a service"),
            ports(40_001, WEB),
            dropped(Counter::DropNoService),
        ),
        Case::new(
            title("to the service's port of another VIP / dropped for want of a service"),
            question.to(family.other_vip()).datagram(),
            dropped(Counter::DropNoService),
        ),
        Case::new(
            title("a VIP that another balancer owns / goes to the slot's member all the same"),
            question.datagram(),
            goes_to(1),
        )
        .given([Step::Lease(family.lease(), 0)]),
        Case::new(
            title("a member whose next hop is not known / dropped for want of it"),
            question.datagram(),
            dropped(Counter::DropNoNextHop),
        )
        .given([Step::Unresolved(1)]),
    ]);
    cases
}
