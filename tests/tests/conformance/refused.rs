//! Packets that nobody can own: dropped, or answered with RST as RFC 9293 section 3.10.7.1 says of a
//! connection that does not exist.

use std::net::IpAddr;

use etherparse::TcpHeader;
use foobar_common::counters::Counter;
use foobar_common::slot::{NONE, Phase};
use foobar_tests::packets::frame_v6::{Extension, chained, ipv6, tagged};
use foobar_tests::packets::rig::{DNS, TCP, slot};

use crate::case::{Case, Expected, Step, answered, dropped, goes_to};
use crate::ethernet::TAGS;
use crate::family::{Ends, Family, spoilt, with_header_checksum};

/// The numbers of a RST.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers {
    /// To a segment with ACK: `<SEQ=SEG.ACK><CTL=RST>`.
    Bare(u32),
    /// To one without: `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`.
    Acknowledging(u32),
}
use Numbers::{Acknowledging, Bare};

/// The RST that answers a segment of a flow: headers without options, TTL 64, and of IPv4 an identification of
/// 0 that must not be fragmented.
pub(crate) fn reset(family: Family, flow: Ends, numbers: Numbers) -> Vec<u8> {
    let tcp = flow.reversed().tcp(&[], |tcp| {
        (tcp.rst, tcp.window_size, tcp.sequence_number) = (true, 0, 0);
        match numbers {
            Bare(sequence) => tcp.sequence_number = sequence,
            Acknowledging(number) => (tcp.ack, tcp.acknowledgment_number) = (true, number),
        }
    });
    let mut frame = flow.reversed().packet(TCP, &tcp);
    if family == Family::V4 {
        frame[18..22].copy_from_slice(&[0, 0, 0x40, 0]);
    }
    // It goes to whom the segment came from, by the same MAC address.
    family.sent_back(frame)
}

/// Segments of a flow, each with the numbers of the RST that answers it.
fn segments(flow: Ends) -> Vec<(&'static str, Vec<u8>, Numbers)> {
    let of = |sequence: u32, payload: &[u8], edit: fn(&mut TcpHeader)| {
        flow.segment(payload, |tcp| {
            tcp.sequence_number = sequence;
            edit(tcp);
        })
    };
    vec![
        ("a SYN with options", flow.syn(), Acknowledging(0xffff_fff1)),
        (
            "a SYN at the wrap",
            of(u32::MAX, &[], |t| t.syn = true),
            Acknowledging(0),
        ),
        (
            "a SYN with data",
            of(100, b"early", |t| t.syn = true),
            Acknowledging(106),
        ),
        ("an ACK", flow.ack(), Bare(0x8765_4321)),
        (
            "a SYN+ACK",
            of(7, &[], |t| (t.syn, t.ack) = (true, true)),
            Bare(0x8765_4321),
        ),
        ("data", flow.data(), Bare(0x8765_4321)),
        (
            "a FIN+ACK with data",
            of(7, b"bye", |t| (t.fin, t.ack) = (true, true)),
            Bare(0x8765_4321),
        ),
        ("a FIN", of(7, &[], |t| t.fin = true), Acknowledging(8)),
        (
            "a FIN with data",
            of(7, b"bye", |t| t.fin = true),
            Acknowledging(11),
        ),
        (
            "a SYN+FIN with data",
            of(7, b"bye", |t| (t.syn, t.fin) = (true, true)),
            Acknowledging(12),
        ),
        (
            "data without ACK",
            of(7, b"bye", |t| t.psh = true),
            Acknowledging(10),
        ),
        ("a segment without flags", of(7, &[], |_| ()), Acknowledging(7)),
        (
            "odd data at the wrap",
            of(0xffff_ff00, &[0xee; 1301], |_| ()),
            Acknowledging(1045),
        ),
        (
            "options and data",
            flow.segment(b"12345", |t| {
                t.sequence_number = 1;
                t.set_options_raw(&[1; 12]).expect("options fit");
            }),
            Acknowledging(6),
        ),
        (
            "the most options and data",
            flow.segment(b"12345", |t| {
                t.sequence_number = 1;
                t.set_options_raw(&[1; 40]).expect("options fit");
            }),
            Acknowledging(6),
        ),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| {
            [
                dropping(family),
                resets(family),
                lengths(family),
                unanswered(family),
                unusual(family),
                late(family),
            ]
            .concat()
        })
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / refused / {rest}", family.name())
}

fn answer(family: Family, flow: Ends, numbers: Numbers) -> Expected {
    answered(Counter::AnswerReset, reset(family, flow, numbers))
}

/// Why nobody can own a flow.
struct Why {
    what: &'static str,
    flow: Ends,
    steps: Vec<Step>,
    reason: Counter,
}

fn whys(family: Family) -> [Why; 4] {
    let why = |what, flow, steps, reason| Why {
        what,
        flow,
        steps,
        reason,
    };
    [
        why("to no service", family.flow_to(9), vec![], Counter::DropNoService),
        why(
            "to a UDP service's port",
            family.flow_to(DNS),
            vec![],
            Counter::DropNoService,
        ),
        why(
            "to a VIP without services",
            family.flow().to(family.other_vip()),
            vec![],
            Counter::DropNoService,
        ),
        why(
            "to a service without members",
            family.flow(),
            vec![family.web_at(NONE)],
            Counter::DropNoMember,
        ),
    ]
}

fn dropping(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for why in whys(family) {
        for (segment, frame, _) in segments(why.flow) {
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("{segment} {} / dropped as {}", why.what, why.reason.name()),
                    ),
                    frame,
                    dropped(why.reason),
                )
                .given(why.steps.clone()),
            );
        }
    }
    cases
}

fn resets(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for why in whys(family) {
        for (segment, frame, numbers) in segments(why.flow) {
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("{segment} {}, where TCP is reset / reset", why.what),
                    ),
                    frame,
                    answer(family, why.flow, numbers),
                )
                .given(why.steps.clone())
                .resetting(),
            );
        }
        for &(behind, tags) in TAGS {
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!(
                            "a SYN {} behind {behind}, where TCP is reset / reset behind the same",
                            why.what
                        ),
                    ),
                    tagged(&why.flow.syn(), tags),
                    answered(
                        Counter::AnswerReset,
                        tagged(&reset(family, why.flow, Acknowledging(0xffff_fff1)), tags),
                    ),
                )
                .given(why.steps.clone())
                .resetting(),
            );
        }
        let rst = why.flow.rst();
        let rst_ack = why.flow.segment(&[], |tcp| (tcp.rst, tcp.ack) = (true, true));
        let rst_syn = why.flow.segment(&[], |tcp| (tcp.rst, tcp.syn) = (true, true));
        for (what, frame) in [("a RST", rst), ("a RST+ACK", rst_ack), ("a RST+SYN", rst_syn)] {
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!(
                            "{what} {}, where TCP is reset / dropped as {}",
                            why.what,
                            why.reason.name()
                        ),
                    ),
                    frame,
                    dropped(why.reason),
                )
                .given(why.steps.clone())
                .resetting(),
            );
        }
    }
    cases
}

/// The answer has its own length, whatever comes behind the segment.
fn lengths(family: Family) -> Vec<Case> {
    let flow = family.flow_to(9);
    let mut cases = Vec::new();
    for padding in [1usize, 6, 200] {
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{padding} bytes behind a SYN, where TCP is reset / reset without them"),
                ),
                [flow.syn(), vec![0xee; padding]].concat(),
                answer(family, flow, Acknowledging(0xffff_fff1)),
            )
            .resetting(),
        );
    }
    cases.push(
        Case::new(
            title(
                family,
                "a SYN of a VIP that another balancer owns, where TCP is reset / reset",
            ),
            flow.syn(),
            answer(family, flow, Acknowledging(0xffff_fff1)),
        )
        .given([Step::Lease(family.lease(), 0)])
        .resetting(),
    );
    let ports = Ends {
        client_port: 0xffff,
        port: 0xfff0,
        ..flow
    };
    cases.push(
        Case::new(
            title(
                family,
                "ports whose sum wraps, where TCP is reset / reset with the checksum right",
            ),
            ports.ack(),
            answer(family, ports, Bare(0x8765_4321)),
        )
        .resetting(),
    );
    for acknowledgment in [0u32, 1, 0xffff, 0xffff_0000, 0xffff_ffff] {
        let segment = flow.segment(&[], |tcp| {
            tcp.ack = true;
            tcp.acknowledgment_number = acknowledgment;
        });
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("an acknowledgment of {acknowledgment:08x}, where TCP is reset / reset with it"),
                ),
                segment,
                answer(family, flow, Bare(acknowledgment)),
            )
            .resetting(),
        );
    }
    cases
}

/// Only TCP is reset.
fn unanswered(family: Family) -> Vec<Case> {
    let question = family.question();
    let nowhere = Ends { port: 9, ..question };
    let mut cases = Vec::new();
    for resetting in [false, true] {
        let suffix = if resetting { ", where TCP is reset" } else { "" };
        let of = |what: &str, frame: Vec<u8>, reason: Counter| {
            let case = Case::new(
                title(family, &format!("{what}{suffix} / dropped as {}", reason.name())),
                frame,
                dropped(reason),
            );
            if resetting { case.resetting() } else { case }
        };
        cases.extend([
            of(
                "a datagram to no service",
                nowhere.datagram(),
                Counter::DropNoService,
            ),
            of(
                "a datagram to a VIP without services",
                question.to(family.other_vip()).datagram(),
                Counter::DropNoService,
            ),
            of(
                "a datagram to a service without members",
                question.datagram(),
                Counter::DropNoMember,
            )
            .given([family.dns_at(NONE)]),
        ]);
        // Reset or not, a segment that is refused for another reason is never answered.
        cases.extend([
            of(
                "a segment whose member has no next hop",
                family.flow().data(),
                Counter::DropNoNextHop,
            )
            .given([Step::Unresolved(1)]),
            of(
                "a segment cut in its header",
                family
                    .flow_to(9)
                    .packet(TCP, &family.flow().tcp(&[], |_| ())[..19]),
                Counter::DropTruncated,
            ),
            of(
                "a segment from a martian source",
                family.flow_to(9).from(family.vip()).syn(),
                Counter::DropMartian,
            ),
            of(
                "a segment whose slot names a target that is not there",
                family.flow().data(),
                Counter::DropInternal,
            )
            .given([family.web_at(0x7fff)]),
        ]);
    }
    cases
}

/// A RST is made of plain packets only.
fn unusual(family: Family) -> Vec<Case> {
    let flow = family.flow_to(9);
    let syn = flow.tcp(&[], |tcp| tcp.syn = true);
    let frames: Vec<(String, Vec<u8>)> = match family {
        Family::V4 => [1usize, 10]
            .into_iter()
            .map(|words| {
                let frame = spoilt(flow.syn(), |frame| {
                    frame[14] = 0x45 + words as u8;
                    frame.splice(34..34, vec![1; words * 4]);
                    let total = (frame.len() - 14) as u16;
                    frame[16..18].copy_from_slice(&total.to_be_bytes());
                });
                (
                    format!("a SYN with {words} words of IP options"),
                    with_header_checksum(frame),
                )
            })
            .collect(),
        Family::V6 => {
            let (IpAddr::V6(client), IpAddr::V6(vip)) = (family.client(), family.vip()) else {
                unreachable!("the family is IPv6");
            };
            [
                ("hop-by-hop options", Extension::HopByHop(1)),
                ("destination options", Extension::Destination(1)),
                ("a routing header", Extension::Routing(1)),
                (
                    "an atomic fragment header",
                    Extension::Fragment {
                        offset: 0,
                        more: false,
                        id: 5,
                    },
                ),
            ]
            .into_iter()
            .map(|(what, extension)| {
                let (first, bytes) = chained(&[extension], TCP, &syn);
                (
                    format!("a SYN behind {what}"),
                    ipv6(first, client, vip, &bytes, |_| ()),
                )
            })
            .collect()
        }
    };
    let mut cases = Vec::new();
    for (what, frame) in frames {
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{what} to no service, where TCP is reset / dropped all the same"),
                ),
                frame.clone(),
                dropped(Counter::DropNoService),
            )
            .resetting(),
        );
    }
    cases
}

/// Where only the slot tells that nobody has the flow.
fn late(family: Family) -> Vec<Case> {
    let flow = family.flow();
    let nobody = |phase| Step::Slot(family.web_slot(), slot(phase, NONE, 2, 3));
    let numbers = Acknowledging(0xffff_fff1);
    let of = |what: &str, frame: Vec<u8>, expected: Expected, steps: Vec<Step>| {
        Case::new(
            title(family, &format!("{what}, where TCP is reset")),
            frame,
            expected,
        )
        .given(steps)
        .resetting()
    };
    let renamed = |mut case: Case, fate: &str| {
        case.name = format!("{} / {fate}", case.name);
        case
    };
    vec![
        renamed(
            of(
                "a SYN in a slot that is moving to nobody",
                flow.syn(),
                answer(family, flow, numbers).and(&[Counter::SlotMoving]),
                vec![nobody(Phase::Moving)],
            ),
            "reset",
        ),
        renamed(
            of(
                "data in a slot that is moving to nobody",
                flow.data(),
                goes_to(3).and(&[Counter::SlotMoving, Counter::NotePending]),
                vec![nobody(Phase::Moving)],
            ),
            "to the oldest owner",
        ),
        renamed(
            of(
                "data in a slot that has moved to nobody",
                flow.data(),
                answer(family, flow, Bare(0x8765_4321)).and(&[Counter::SlotMoved]),
                vec![nobody(Phase::Moved)],
            ),
            "reset",
        ),
        renamed(
            of(
                "a noted flow's data in a slot that has moved to nobody",
                flow.data(),
                goes_to(5).and(&[Counter::SlotMoved, Counter::NoteFollowed]),
                vec![
                    Step::Slot(family.web_slot(), slot(Phase::Moving, 5, 2, 3)),
                    Step::Frame(flow.syn()),
                    Step::Frame(flow.ack()),
                    nobody(Phase::Moved),
                ],
            ),
            "to the note's member",
        ),
    ]
}
