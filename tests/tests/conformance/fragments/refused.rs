//! Fragments that nobody gets, and of protocols that are not balanced.

use foobar_common::counters::Counter;
use foobar_common::slot::NONE;
use foobar_tests::packets::rig::{TCP, UDP};

use super::{Ids, first_data, later, of, title};
use crate::case::{Case, Step, dropped};
use crate::family::Family;

/// First fragments that are not steered, and that leave nothing behind.
pub(super) fn refusals(family: Family, ids: &mut Ids) -> Vec<Case> {
    let flow = family.flow();
    let segment = flow.tcp(&[], |tcp| tcp.ack = true);
    let optioned = flow.tcp(&[], |tcp| {
        tcp.ack = true;
        tcp.set_options_raw(&[1; 12]).expect("options fit");
    });
    let closed = family.flow_to(9).tcp(&[1; 64], |tcp| tcp.syn = true);
    let short = |length: usize| segment[..length].to_vec();
    let udp = |length: u16| {
        let mut datagram = family.question().udp(&[1; 64]);
        datagram[4..6].copy_from_slice(&length.to_be_bytes());
        datagram
    };
    let offset = |words: u8| {
        let mut segment = flow.tcp(&[1; 64], |_| ());
        segment[12] = words << 4;
        segment
    };
    let mut cases = Vec::new();
    let list = [
        ("with no byte of TCP", TCP, short(0), Counter::DropTruncated),
        ("with 8 bytes of TCP", TCP, short(8), Counter::DropTruncated),
        ("with 16 bytes of TCP", TCP, short(16), Counter::DropTruncated),
        ("with 19 bytes of TCP", TCP, short(19), Counter::DropTruncated),
        (
            "whose TCP options are cut",
            TCP,
            optioned[..24].to_vec(),
            Counter::DropTruncated,
        ),
        (
            "whose TCP data offset is 4 words",
            TCP,
            offset(4),
            Counter::DropMalformed,
        ),
        (
            "with 7 bytes of UDP",
            UDP,
            udp(64)[..7].to_vec(),
            Counter::DropTruncated,
        ),
        ("with a UDP length of 7", UDP, udp(7), Counter::DropMalformed),
        ("to no service", TCP, closed, Counter::DropNoService),
        ("of SCTP", 132, vec![0; 64], Counter::DropNoService),
    ];
    for (what, protocol, payload, reason) in list {
        for resetting in [false, true] {
            let suffix = if resetting {
                ", where TCP would be reset"
            } else {
                ""
            };
            let id = ids.next();
            let first = of(family, protocol, id, 0, true, &payload);
            let case = Case::new(
                title(
                    family,
                    &format!("a first one {what}{suffix} / dropped as {}", reason.name()),
                ),
                first.clone(),
                dropped(reason),
            );
            cases.push(if resetting { case.resetting() } else { case });
            if !resetting {
                cases.push(
                    Case::new(
                        title(
                            family,
                            &format!("a later one after a first one {what} / dropped as a fragment"),
                        ),
                        of(family, protocol, id, 185, false, &[1; 64]),
                        dropped(Counter::DropFragment),
                    )
                    .given([Step::Frame(first)]),
                );
            }
        }
    }
    for resetting in [false, true] {
        let suffix = if resetting {
            ", where TCP would be reset"
        } else {
            ""
        };
        let case = Case::new(
            title(
                family,
                &format!("a first one to a service without members{suffix} / dropped for want of them"),
            ),
            first_data(family, ids.next()),
            dropped(Counter::DropNoMember),
        )
        .given([family.web_at(NONE)]);
        cases.push(if resetting { case.resetting() } else { case });
    }
    let id = ids.next();
    cases.push(
        Case::new(
            title(
                family,
                "a later one after a first one to a service without members / dropped as a fragment",
            ),
            later(family, id),
            dropped(Counter::DropFragment),
        )
        .given([family.web_at(NONE), Step::Frame(first_data(family, id))]),
    );
    cases
}

/// ICMP in pieces is refused, whatever its first piece would be.
pub(super) fn other_protocols(family: Family, ids: &mut Ids) -> Vec<Case> {
    let mut cases = Vec::new();
    let (ping, _) = family.ping(family.vip(), &[1; 64]);
    let message = &ping[family.transport()..];
    for (what, offset, more) in [("first", 0, true), ("middle", 9, true), ("last", 9, false)] {
        cases.push(Case::new(
            title(
                family,
                &format!("the {what} one of a ping / dropped as a fragment"),
            ),
            of(family, family.icmp(), ids.next(), offset, more, message),
            dropped(Counter::DropFragment),
        ));
    }
    let id = ids.next();
    cases.push(
        Case::new(
            title(
                family,
                "a later one of ICMP after a first one of TCP / dropped as a fragment",
            ),
            of(family, family.icmp(), id, 185, false, &[1; 64]),
            dropped(Counter::DropFragment),
        )
        .given([Step::Frame(first_data(family, id))]),
    );
    cases.push(Case::new(
        title(family, "a later one of GRE / dropped as a fragment"),
        of(family, 47, ids.next(), 185, false, &[1; 64]),
        dropped(Counter::DropFragment),
    ));
    cases
}
