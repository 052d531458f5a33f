//! Tunnels: IP in IP (RFC 2003, RFC 2473, RFC 4213) and GUE, of every pair of families.

use foobar_common::counters::Counter::{
    DropFragment, DropNoNextHop, DropNoNote, DropRedirect, FragmentFollowed, FragmentNoted, IcmpSteered,
    NoteFollowed, NotePending, SlotMoved, SlotMoving,
};
use foobar_common::slot::Phase;
use foobar_common::target::{TARGET_DOWN, TARGET_DRAINED};
use foobar_tests::packets::frame_v6::{Extension, chained, tagged};
use foobar_tests::packets::rig::{TCP, UDP, slot};

use crate::case::{Case, Expected, Fate, Step, dropped, encapsulated};
use crate::errors::{about, sent, unreachable};
use crate::ethernet::TAGS;
use crate::family::{Ends, Family, spoilt, with_header_checksum};
use crate::fragments::{fragment, later};
use crate::interfaces::KNOWN;
use crate::outer::{WAYS, Way};
use crate::services::{BY_SOURCE, RANGE, STRICT, TRACKED};

const UNKNOWN: u32 = 0x7fff_0000;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &family in Family::BOTH {
        for (nth, way) in (0..).zip(WAYS) {
            cases.extend(packets(family, way));
            cases.extend(shapes(family, way));
            cases.extend(fragments(family, way, 0x2000 + nth * 16));
            cases.extend(slots(family, way));
            cases.extend(targets(family, way));
            cases.extend(classes(family, way));
            cases.extend(flows(family, way));
        }
    }
    cases
}

fn title(family: Family, way: Way, rest: &str) -> String {
    format!("{} / tunnels / {} / {rest}", family.name(), way.name())
}

fn through(family: Family, way: Way, what: &str, frame: Vec<u8>, connections: u64) -> Case {
    Case::new(
        title(family, way, &format!("{what} / goes to the slot's member")),
        frame,
        encapsulated(1, connections, way.plain()),
    )
    .given([Step::Way(1, way)])
}

fn packets(family: Family, way: Way) -> Vec<Case> {
    let (flow, question) = (family.flow(), family.question());
    let error = about(family, unreachable(family), &sent(flow));
    let mut cases = vec![
        through(family, way, "a SYN", flow.syn(), 1),
        through(family, way, "an ACK", flow.ack(), 0),
        through(family, way, "data", flow.data(), 0),
        through(family, way, "a FIN", flow.fin(), 0),
        through(family, way, "a RST", flow.rst(), 0),
        through(
            family,
            way,
            "a SYN+ACK",
            flow.segment(&[], |tcp| (tcp.syn, tcp.ack) = (true, true)),
            0,
        ),
        through(family, way, "a datagram", question.datagram(), 0),
        through(
            family,
            way,
            "a datagram without data",
            question.packet(UDP, &question.udp(&[])),
            0,
        ),
        through(family, way, "a port of a range", RANGE.flow(family).data(), 0).given([RANGE.at(family, 1)]),
    ];
    cases.push(
        Case::new(
            title(family, way, "an ICMP error / goes to its flow's member"),
            error,
            encapsulated(1, 0, way.plain()).and(&[IcmpSteered]),
        )
        .given([Step::Way(1, way)]),
    );
    cases
}

/// What stands around the packet stays where it was.
fn shapes(family: Family, way: Way) -> Vec<Case> {
    let flow = family.flow();
    let mut cases = Vec::new();
    for &(what, tags) in TAGS {
        cases.push(through(
            family,
            way,
            &format!("data behind {what}"),
            tagged(&flow.data(), tags),
            0,
        ));
        cases.push(through(
            family,
            way,
            &format!("a SYN behind {what}"),
            tagged(&flow.syn(), tags),
            1,
        ));
    }
    for padding in [1, 6, 46] {
        let frame = [&flow.ack()[..], &vec![0xee; padding]].concat();
        cases.push(through(
            family,
            way,
            &format!("an ACK with {padding} bytes of padding"),
            frame,
            0,
        ));
    }
    for hops in [0u8, 1, 255] {
        let at = match family {
            Family::V4 => 22,
            Family::V6 => 21,
        };
        let frame = spoilt(flow.data(), |frame| frame[at] = hops);
        let frame = match family {
            Family::V4 => with_header_checksum(frame),
            Family::V6 => frame,
        };
        let what = format!("data that may make {hops} more hops, which it keeps,");
        cases.push(through(family, way, &what, frame, 0));
    }
    let extended = match family {
        Family::V4 => with_header_checksum(spoilt(flow.data(), |frame| {
            frame[14] = 0x47;
            frame.splice(34..34, [1; 8]);
            let total = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
        })),
        Family::V6 => {
            let chain = [Extension::HopByHop(1), Extension::Destination(2)];
            let (first, bytes) = chained(&chain, TCP, &flow.tcp(b"data", |tcp| tcp.ack = true));
            flow.packet(first, &bytes)
        }
    };
    cases.push(through(family, way, "data behind IP options", extended, 0));
    cases
}

fn fragments(family: Family, way: Way, id: u32) -> Vec<Case> {
    let first = |id: u32| {
        let payload = family.flow().tcp(&[7; 400], |tcp| tcp.ack = true);
        fragment((family.client(), family.vip()), TCP, id, 0, true, &payload)
    };
    vec![
        Case::new(
            title(
                family,
                way,
                "a first fragment / goes to the slot's member and is noted",
            ),
            first(id),
            encapsulated(1, 0, way.plain()).and(&[FragmentNoted]),
        )
        .given([Step::Way(1, way)]),
        Case::new(
            title(
                family,
                way,
                "a later fragment / follows the first one, whosever the slot is now",
            ),
            later(family, id + 1),
            encapsulated(1, 0, way.plain()).and(&[FragmentFollowed]),
        )
        .given([Step::Way(1, way), Step::Frame(first(id + 1)), family.web_at(2)]),
        Case::new(
            title(
                family,
                way,
                "a later fragment without a first one / dropped as a fragment",
            ),
            later(family, id + 2),
            dropped(DropFragment),
        )
        .given([Step::Way(1, way)]),
    ]
}

/// Whom a packet goes to is decided as without a tunnel.
fn slots(family: Family, way: Way) -> Vec<Case> {
    let flow = family.flow();
    let moving = Step::Slot(family.web_slot(), slot(Phase::Moving, 1, 2, 0));
    let moved = Step::Slot(family.web_slot(), slot(Phase::Moved, 1, 2, 0));
    let tracked = TRACKED.flow(family);
    let strict = STRICT.flow(family);
    let case = |what: &str, frame: Vec<u8>, expected: Expected, steps: Vec<Step>| {
        let ways = [1, 2].map(|member| Step::Way(member, way));
        Case::new(title(family, way, what), frame, expected)
            .given(ways)
            .given(steps)
    };
    let to = |member, connections| encapsulated(member, connections, way.plain());
    vec![
        case(
            "a SYN to a slot that moves / to the new owner, noted",
            flow.syn(),
            to(1, 1).and(&[SlotMoving, NotePending]),
            vec![moving.clone()],
        ),
        case(
            "data to a slot that moves / to the old owner, noted",
            flow.data(),
            to(2, 0).and(&[SlotMoving, NotePending]),
            vec![moving.clone()],
        ),
        case(
            "data of a noted flow, when the slot has moved / to the old owner",
            flow.data(),
            to(2, 0).and(&[SlotMoved, NoteFollowed]),
            vec![
                moving,
                Step::Frame(flow.data()),
                Step::Frame(flow.data()),
                moved.clone(),
            ],
        ),
        case(
            "data of another flow, when the slot has moved / to the new owner",
            flow.data(),
            to(1, 0).and(&[SlotMoved]),
            vec![moved],
        ),
        case(
            "a SYN where all flows are noted / to the owner, noted",
            tracked.syn(),
            to(1, 1).and(&[NotePending]),
            vec![],
        ),
        case(
            "data of no noted flow where only they count / dropped for want of a note",
            strict.data(),
            dropped(DropNoNote),
            vec![],
        ),
    ]
}

fn targets(family: Family, way: Way) -> Vec<Case> {
    let flow = family.flow();
    let case = |what: &str, expected: Expected, steps: Vec<Step>| {
        Case::new(title(family, way, what), flow.data(), expected)
            .given([Step::Way(1, way)])
            .given(steps)
    };
    let mut cases = vec![
        case(
            "data for a target without a next hop / dropped as it came",
            dropped(DropNoNextHop),
            vec![Step::Unresolved(1)],
        ),
        case(
            "data for a target behind an interface that is not known / dropped as it came",
            dropped(DropRedirect),
            vec![Step::Behind(1, UNKNOWN)],
        ),
        case(
            "data for a target behind another interface / is redirected to it",
            Expected {
                fate: Fate::EncapsulatedElsewhere(1, 0, way.plain()),
                counters: Vec::new(),
            },
            vec![Step::Behind(1, KNOWN)],
        ),
    ];
    for (what, flag) in [("down", TARGET_DOWN), ("drained", TARGET_DRAINED)] {
        let way = way.with(flag);
        cases.push(case(
            &format!("data for a target that is {what}, of a slot that is still its / goes there"),
            encapsulated(1, 0, way.plain()),
            vec![Step::Way(1, way)],
        ));
    }
    cases
}

/// RFC 6040 section 4.1: what the packet says of congestion and of its class, the outer header says as well.
fn classes(family: Family, way: Way) -> Vec<Case> {
    [0x00, 0x01, 0x02, 0x03, 0x28, 0xb8, 0xb9, 0xff]
        .into_iter()
        .map(|class: u8| {
            let frame = spoilt(family.flow().data(), |frame| match family {
                Family::V4 => frame[15] = class,
                Family::V6 => {
                    frame[14] = 0x60 | class >> 4;
                    frame[15] = class << 4;
                }
            });
            let frame = match family {
                Family::V4 => with_header_checksum(frame),
                Family::V6 => frame,
            };
            Case::new(
                title(
                    family,
                    way,
                    &format!("data of class {class:#04x} / the outer header has it too"),
                ),
                frame,
                encapsulated(1, 0, way.plain().class(class)),
            )
            .given([Step::Way(1, way)])
        })
        .collect()
}

/// A receiver that spreads packets by outer headers gets all of a flow in one queue.
fn flows(family: Family, way: Way) -> Vec<Case> {
    let flow = family.flow();
    let client = BY_SOURCE.flow(family);
    let error = about(family, unreachable(family), &sent(flow));
    let alike = |what: &str, frame: Vec<u8>, other: Vec<u8>, counters: &[_]| {
        Case::new(
            title(
                family,
                way,
                &format!("{what} / in a header like the flow's other ones"),
            ),
            frame,
            encapsulated(1, 0, way.plain().like(other)).and(counters),
        )
        .given([Step::Way(1, way), Step::Sources])
    };
    let mut cases = vec![
        alike("data", flow.data(), flow.syn(), &[]),
        alike(
            "data behind a tag",
            tagged(&flow.data(), &[(0x8100, 7)]),
            flow.ack(),
            &[],
        ),
        alike("an ICMP error", error, flow.data(), &[IcmpSteered]),
        alike("data in a slot that moved", flow.data(), flow.ack(), &[SlotMoved])
            .given([Step::Slot(family.web_slot(), slot(Phase::Moved, 1, 2, 3))]),
    ];
    let from = |client_port| Ends {
        client_port,
        ..client
    };
    let all = (0..16).map(|nth| Step::Slot(BY_SOURCE.slot(family) + nth, slot(Phase::Settled, 1, 0, 0)));
    cases.push(
        Case::new(
            title(
                family,
                way,
                "data of a client's other flow, by source / in a header like the client's other ones",
            ),
            from(9).data(),
            encapsulated(1, 0, way.plain().like(from(10).data())),
        )
        .given([Step::Way(1, way), Step::Sources])
        .given(all),
    );
    cases
}
