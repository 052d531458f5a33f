//! Ranges of ports: both ends belong to a range, and a port's own service comes before it.

use foobar_common::counters::Counter;
use foobar_common::slot::{Member, NONE, Phase};
use foobar_tests::packets::rig::slot;

use crate::case::{Case, Step, answered, dropped, goes_to, opens};
use crate::errors::{about, sent, steered, unreachable};
use crate::family::{Ends, Family};
use crate::fragments::fragment;
use crate::refused::{Numbers, reset};
use crate::services::{HIGHEST, INSIDE, NARROW, NEXT_RANGE, Ports, RANGE, RANGE_UDP, SIXTEENTH, Service};

/// Ports of TCP, and the member whose they are.
const TCP_PORTS: [(&str, u16, Member); 12] = [
    ("the first port of a range", 30_000, 2),
    ("the second port of a range", 30_001, 2),
    ("the port before one with a service of its own", 30_004, 2),
    ("the port behind one with a service of its own", 30_006, 2),
    ("the last port of a range", 30_009, 2),
    ("the first port of the range behind it", 30_010, 4),
    ("the last port of the range behind it", 30_019, 4),
    ("the port with a service of its own in a range", 30_005, 5),
    ("the only port of a range", 31_000, 6),
    ("the highest port", 65_535, 7),
    ("the first port of the highest range", 65_530, 7),
    ("a port of an address's sixteenth range", 4_995, 8),
];

/// Ports of UDP, and the member whose they are.
const UDP_PORTS: [(&str, u16, Member); 3] = [
    ("the first port of a range", 30_000, 3),
    ("the port that has a service of its own in TCP", 30_005, 3),
    ("the last port of a range", 30_009, 3),
];

const NO_TCP_PORTS: [(&str, u16); 9] = [
    ("the port before a range", 29_999),
    ("the port behind the last of two ranges", 30_020),
    (
        "a range's first port in the other byte order",
        30_000u16.swap_bytes(),
    ),
    ("the port before the only one of a range", 30_999),
    ("the port behind the only one of a range", 31_001),
    ("the port before the highest range", 65_529),
    ("the port before the sixteenth range", 4_989),
    ("the port behind the sixteenth range", 5_000),
    ("port 0", 0),
];

const NO_UDP_PORTS: [(&str, u16); 4] = [
    ("the port before a range", 29_999),
    ("the port behind a range", 30_010),
    ("a port of a range of TCP", 31_000),
    ("the highest port", 65_535),
];

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| [belongs(family), outside(family), others(family)].concat())
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / ports / {rest}", family.name())
}

fn belongs(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, port, member) in TCP_PORTS {
        let flow = family.flow_to(port);
        cases.extend([
            Case::new(
                title(
                    family,
                    &format!("tcp / a SYN to {what} / opens a connection at its member"),
                ),
                flow.syn(),
                opens(member),
            ),
            Case::new(
                title(family, &format!("tcp / data to {what} / goes to its member")),
                flow.data(),
                goes_to(member),
            ),
            Case::new(
                title(
                    family,
                    &format!("tcp / an ICMP error about {what} / goes to its member"),
                ),
                about(family, unreachable(family), &sent(flow)),
                steered(member),
            ),
        ]);
    }
    for (what, port, member) in UDP_PORTS {
        cases.push(Case::new(
            title(
                family,
                &format!("udp / a datagram to {what} / goes to its member"),
            ),
            family.flow_to(port).datagram(),
            goes_to(member),
        ));
    }
    cases
}

fn outside(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, port) in NO_TCP_PORTS {
        let flow = family.flow_to(port);
        cases.push(Case::new(
            title(
                family,
                &format!("tcp / a SYN to {what} / dropped for want of a service"),
            ),
            flow.syn(),
            dropped(Counter::DropNoService),
        ));
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("tcp / a SYN to {what}, where TCP is reset / reset"),
                ),
                flow.syn(),
                answered(
                    Counter::AnswerReset,
                    reset(family, flow, Numbers::Acknowledging(0xffff_fff1)),
                ),
            )
            .resetting(),
        );
    }
    for (what, port) in NO_UDP_PORTS {
        cases.push(Case::new(
            title(
                family,
                &format!("udp / a datagram to {what} / dropped for want of a service"),
            ),
            family.flow_to(port).datagram(),
            dropped(Counter::DropNoService),
        ));
    }
    for port in [30_000, 30_009, 4_995] {
        cases.push(Case::new(
            title(
                family,
                &format!(
                    "tcp / a SYN to port {port} of a VIP without ranges / dropped for want of a service"
                ),
            ),
            family.flow_to(port).to(family.other_vip()).syn(),
            dropped(Counter::DropNoService),
        ));
    }
    let turned = Ends {
        client_port: 30_000,
        ..family.flow_to(9)
    };
    cases.push(Case::new(
        title(
            family,
            "tcp / a SYN from a port of a range to no service / dropped for want of a service",
        ),
        turned.syn(),
        dropped(Counter::DropNoService),
    ));
    cases
}

/// A range is a service as any other: members, notes, refusals.
fn others(family: Family) -> Vec<Case> {
    let flow = RANGE.flow(family);
    let last = match RANGE.ports {
        Ports::Range(_, last) => family.flow_to(last),
        Ports::One(_) => unreachable!("it is a range"),
    };
    let moving = Step::Slot(RANGE.slot(family), slot(Phase::Moving, 1, 2, 3));
    let of = |what: &str, frame: Vec<u8>, expected, steps: Vec<Step>| {
        Case::new(title(family, what), frame, expected).given(steps)
    };
    let first = fragment(
        (family.client(), family.vip()),
        6,
        0x0b00,
        0,
        true,
        &flow.tcp(&[1; 200], |tcp| tcp.ack = true),
    );
    let noted = vec![
        Step::Slot(RANGE.slot(family), slot(Phase::Moving, 5, 2, 3)),
        Step::Frame(flow.syn()),
        Step::Frame(flow.ack()),
        moving.clone(),
    ];
    let without = |service: Service| vec![service.at(family, NONE)];
    vec![
        of(
            "tcp / a SYN in a range's slot that moves / opens a connection and is noted",
            flow.syn(),
            opens(1).and(&[Counter::SlotMoving, Counter::NotePending]),
            vec![moving],
        ),
        of(
            "tcp / data of a noted flow to a range / follows its note",
            flow.data(),
            goes_to(5).and(&[Counter::SlotMoving, Counter::NoteFollowed]),
            noted.clone(),
        ),
        of(
            "tcp / data of the same client to another port of the range / has no note",
            last.fin(),
            goes_to(3).and(&[Counter::SlotMoving]),
            noted,
        ),
        of(
            "tcp / a first fragment to a range / goes to its member and is noted",
            first,
            goes_to(2).and(&[Counter::FragmentNoted]),
            vec![],
        ),
        of(
            "tcp / a SYN to a range without members / dropped for want of them",
            flow.syn(),
            dropped(Counter::DropNoMember),
            without(RANGE),
        ),
        of(
            "tcp / a SYN to a range without members, where TCP is reset / reset",
            flow.syn(),
            answered(
                Counter::AnswerReset,
                reset(family, flow, Numbers::Acknowledging(0xffff_fff1)),
            ),
            without(RANGE),
        )
        .resetting(),
        of(
            "tcp / a SYN to a port's own service without members in a range / dropped for want of them",
            INSIDE.flow(family).syn(),
            dropped(Counter::DropNoMember),
            without(INSIDE),
        ),
        of(
            "udp / a datagram to a range without members / dropped for want of them",
            RANGE_UDP.flow(family).datagram(),
            dropped(Counter::DropNoMember),
            without(RANGE_UDP),
        ),
        of(
            "tcp / a SYN to a range, while its neighbours have no members / opens a connection",
            flow.syn(),
            opens(2),
            [
                without(NEXT_RANGE),
                without(INSIDE),
                without(NARROW),
                without(HIGHEST),
                without(SIXTEENTH),
            ]
            .concat(),
        ),
    ]
}
