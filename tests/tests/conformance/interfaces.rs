//! Frames in several buffers, and targets behind other interfaces.

use foobar_common::counters::Counter;
use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::rig::{TCP, UDP};

use crate::case::{Case, Expected, Step, answered, dropped, goes_to, redirected};
use crate::errors::{about, sent, steered, unreachable};
use crate::family::Family;
use crate::fragments::fragment;
use crate::refused::{Numbers, reset};

/// The loopback interface, which every network namespace has: the only other one that is known to the program.
pub(crate) const KNOWN: u32 = 1;
const UNKNOWN: u32 = 0x7fff_0000;

/// Bytes of data with which a packet is in two buffers, and in three.
const LONG: [usize; 2] = [5000, 8900];

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| [buffers(family), interfaces(family)].concat())
        .collect()
}

fn buffers(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |what: &str, frame: Vec<u8>, expected: Expected, resetting: bool| {
        let case = Case::new(format!("{} / buffers / {what}", family.name()), frame, expected);
        cases.push(if resetting { case.resetting() } else { case });
    };
    let (flow, nowhere, question) = (family.flow(), family.flow_to(9), family.question());
    for length in LONG {
        let data = vec![0x5a; length];
        let segment = flow.segment(&data, |tcp| tcp.ack = true);
        case(
            &format!("{length} bytes of TCP / go to the slot's member, all counted"),
            segment.clone(),
            goes_to(1),
            false,
        );
        case(
            &format!("{length} bytes of TCP behind a tag / go to the slot's member, all counted"),
            tagged(&segment, &[(0x8100, 5)]),
            goes_to(1),
            false,
        );
        case(
            &format!("{length} bytes of UDP / go to the slot's member, all counted"),
            question.packet(UDP, &question.udp(&data)),
            goes_to(1),
            false,
        );
        case(
            &format!("{length} bytes of TCP without the last / dropped as truncated"),
            segment[..segment.len() - 1].to_vec(),
            dropped(Counter::DropTruncated),
            false,
        );
        let (ping, pong) = family.ping(family.vip(), &data);
        case(
            &format!("a ping of {length} bytes / answered with all of them"),
            ping,
            answered(Counter::AnswerEcho, pong),
            false,
        );
        let refused = nowhere.segment(&data, |tcp| tcp.ack = true);
        case(
            &format!("{length} bytes of TCP to no service / dropped for want of it"),
            refused.clone(),
            dropped(Counter::DropNoService),
            false,
        );
        case(
            &format!("{length} bytes of TCP to no service, where TCP is reset / reset by a short frame"),
            refused,
            answered(
                Counter::AnswerReset,
                reset(family, nowhere, Numbers::Bare(0x8765_4321)),
            ),
            true,
        );
        let id = 0x0f00 + length as u32;
        case(
            &format!("a first fragment of {length} bytes / goes to the slot's member and is noted"),
            fragment(
                (family.client(), family.vip()),
                TCP,
                id,
                0,
                true,
                &flow.tcp(&data, |tcp| tcp.ack = true),
            ),
            goes_to(1).and(&[Counter::FragmentNoted]),
            false,
        );
        case(
            &format!("an ICMP error that quotes {length} bytes / goes to its member"),
            about(family, unreachable(family), &[sent(flow), data].concat()),
            steered(1),
            false,
        );
    }
    cases
}

fn interfaces(family: Family) -> Vec<Case> {
    let (flow, question) = (family.flow(), family.question());
    let mut cases = Vec::new();
    for (what, frame, connections, counters) in [
        ("a SYN", flow.syn(), 1, &[][..]),
        ("data", flow.data(), 0, &[]),
        ("data behind a tag", tagged(&flow.data(), &[(0x8100, 5)]), 0, &[]),
        ("a datagram", question.datagram(), 0, &[]),
        (
            "an ICMP error",
            about(family, unreachable(family), &sent(flow)),
            0,
            &[Counter::IcmpSteered],
        ),
    ] {
        let of = |which: &str, ifindex: u32, expected: Expected| {
            Case::new(
                format!(
                    "{} / interfaces / {what} for a target behind {which}",
                    family.name()
                ),
                frame.clone(),
                expected.and(counters),
            )
            .given([Step::Behind(1, ifindex)])
        };
        cases.push(of(
            "another interface / is redirected to it",
            KNOWN,
            redirected(1, connections),
        ));
        cases.push(of(
            "an interface that is not known / dropped, and not counted as sent",
            UNKNOWN,
            dropped(Counter::DropRedirect),
        ));
    }
    cases
}
