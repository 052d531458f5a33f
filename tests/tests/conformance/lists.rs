//! Source lists: the longest prefix that a source has decides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use foobar::dataplane::{ListEntry, SourceTrie};
use foobar_common::address::Address;
use foobar_common::admission::{LIST_ALLOW, LIST_DENY, ListVerdict};
use foobar_common::counters::Counter::{
    AnswerEcho, DropDenied, DropFragment, DropMalformed, DropMartian, FragmentFollowed, FragmentNoted,
    SlotKept,
};
use foobar_common::slot::{NONE, Phase};
use foobar_common::vip::{VIP_LIST, VIP_LIST_ONLY};
use foobar_tests::packets::frame_v6::{Extension, chained, tagged};
use foobar_tests::packets::rig::{Rig, TCP, slot};

use crate::case::{Case, Expected, Step, answered, dropped, goes_to, opens};
use crate::errors::{about, sent, steered, unreachable};
use crate::family::{Ends, Family, spoilt, with_header_checksum};
use crate::fragments::fragment;
use crate::services::{LISTED, LISTED_CHANCE, LISTED_RANGE, LISTED_UDP, ONLY, ONLY_UDP, Service};

/// The list of whom nobody but these prefixes says anything.
const DENYING: u16 = 3;
/// The list of those who are served.
const SERVING: u16 = 4;

/// An address of each family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(Ipv4Addr, Ipv6Addr);

impl Source {
    /// The one of a family.
    pub(crate) const fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.0),
            Family::V6 => IpAddr::V6(self.1),
        }
    }
}

const fn source(v4: [u8; 4], v6: [u16; 8]) -> Source {
    let [a, b, c, d] = v4;
    let [s, t, u, v, w, x, y, z] = v6;
    Source(Ipv4Addr::new(a, b, c, d), Ipv6Addr::new(s, t, u, v, w, x, y, z))
}

/// A source that [`DENYING`] denies, and [`SERVING`] doesn't name.
pub(crate) const DENIED: Source = source([198, 51, 100, 130], [0x2001, 0xdb8, 0xde01, 0x80, 0, 0, 0, 2]);

/// What [`DENYING`] says: prefixes in each other, of IPv4 and of IPv6.
fn denying() -> Vec<ListEntry> {
    let entry =
        |address: &str, length, verdict| prefix(address.parse().expect("an address"), length, verdict);
    vec![
        entry("198.51.100.128", 25, LIST_DENY),
        entry("198.51.100.144", 28, LIST_ALLOW),
        entry("198.51.100.150", 32, LIST_DENY),
        entry("2001:db8:de01::", 48, LIST_DENY),
        entry("2001:db8:de01:90::", 60, LIST_ALLOW),
        entry("2001:db8:de01:96::", 64, LIST_DENY),
        entry("2001:db8:de01:96::7", 128, LIST_ALLOW),
    ]
}

/// Sources at the edges of these, and whether they are served.
const EDGES: [(&str, Source, bool); 8] = [
    (
        "the last before a denied prefix",
        source(
            [198, 51, 100, 127],
            [0x2001, 0xdb8, 0xde00, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff],
        ),
        true,
    ),
    (
        "the first of a denied prefix",
        source([198, 51, 100, 128], [0x2001, 0xdb8, 0xde01, 0, 0, 0, 0, 0]),
        false,
    ),
    (
        "the last before an exception",
        source(
            [198, 51, 100, 143],
            [0x2001, 0xdb8, 0xde01, 0x8f, 0xffff, 0xffff, 0xffff, 0xffff],
        ),
        false,
    ),
    (
        "the first of an exception",
        source([198, 51, 100, 144], [0x2001, 0xdb8, 0xde01, 0x90, 0, 0, 0, 0]),
        true,
    ),
    (
        "the last of an exception",
        source(
            [198, 51, 100, 159],
            [0x2001, 0xdb8, 0xde01, 0x9f, 0xffff, 0xffff, 0xffff, 0xffff],
        ),
        true,
    ),
    (
        "one that is denied in an exception",
        source([198, 51, 100, 150], [0x2001, 0xdb8, 0xde01, 0x96, 0, 0, 0, 6]),
        false,
    ),
    (
        "the last of a denied prefix",
        source(
            [198, 51, 100, 255],
            [0x2001, 0xdb8, 0xde01, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff],
        ),
        false,
    ),
    (
        "the first behind a denied prefix",
        source([198, 51, 101, 0], [0x2001, 0xdb8, 0xde02, 0, 0, 0, 0, 0]),
        true,
    ),
];

fn prefix(address: IpAddr, length: u32, verdict: ListVerdict) -> ListEntry {
    ListEntry {
        address: Address::from(address).bytes,
        length: length + if address.is_ipv4() { 96 } else { 0 },
        verdict,
    }
}

/// The list of a service.
pub(crate) const fn of(service: Service) -> u16 {
    if service.has(VIP_LIST_ONLY) {
        SERVING
    } else if service.has(VIP_LIST) {
        DENYING
    } else {
        0
    }
}

/// Puts the lists in their places.
pub(crate) fn fill(rig: &mut Rig) -> Result<()> {
    rig.plane.set_list(DENYING, &SourceTrie::new(&denying())?)?;
    let serving: Vec<ListEntry> = Family::BOTH
        .iter()
        .map(|family| match family.client() {
            address @ IpAddr::V4(_) => prefix(address, 31, LIST_ALLOW),
            address @ IpAddr::V6(_) => prefix(address, 64, LIST_ALLOW),
        })
        .collect();
    Ok(rig.plane.set_list(SERVING, &SourceTrie::new(&serving)?)?)
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| {
            [
                edges(family),
                only(family),
                packets(family),
                fragments(family),
                unlisted(family),
            ]
            .concat()
        })
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / lists / {rest}", family.name())
}

fn outcome(served: bool, expected: Expected) -> (&'static str, Expected) {
    if served {
        ("goes to the slot's member", expected)
    } else {
        ("dropped as denied", dropped(DropDenied))
    }
}

fn edges(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (who, source, served) in EDGES {
        let flow = |service: Service| service.flow(family).from(source.of(family));
        for (what, frame, expected) in [
            ("a SYN", flow(LISTED).syn(), opens(1)),
            ("data", flow(LISTED).data(), goes_to(1)),
            ("a datagram", flow(LISTED_UDP).datagram(), goes_to(1)),
            (
                "data behind a tag",
                tagged(&flow(LISTED).data(), &[(0x8100, 9)]),
                goes_to(1),
            ),
            (
                "data for a port of a range",
                flow(LISTED_RANGE).data(),
                goes_to(1),
            ),
        ] {
            let (outcome, expected) = outcome(served, expected);
            cases.push(Case::new(
                title(family, &format!("{what} of {who} / {outcome}")),
                frame,
                expected,
            ));
        }
    }
    cases
}

/// Whom a list of those who are served doesn't name is denied.
fn only(family: Family) -> Vec<Case> {
    let behind = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 75)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(
            0x2001, 0xdb8, 0xc11e, 0x76, 0xffff, 0xffff, 0xffff, 0xffff,
        )),
    };
    let mut cases = Vec::new();
    for (who, source, served) in [
        ("one that is named", family.client(), true),
        ("the last before those who are named", behind, false),
        (
            "the first behind those who are named",
            family.other_client(),
            false,
        ),
        ("one whom another list names", DENIED.of(family), false),
    ] {
        let flow = |service: Service| service.flow(family).from(source);
        for (what, frame, expected) in [
            ("a SYN", flow(ONLY).syn(), opens(1)),
            ("data", flow(ONLY).data(), goes_to(1)),
            ("a datagram", flow(ONLY_UDP).datagram(), goes_to(1)),
        ] {
            let (outcome, expected) = outcome(served, expected);
            cases.push(Case::new(
                title(family, &format!("only some / {what} of {who} / {outcome}")),
                frame,
                expected,
            ));
        }
    }
    cases
}

/// A denied source is told nothing, whatever it sends and whatever the slot is like.
fn packets(family: Family) -> Vec<Case> {
    let flow = LISTED.flow(family).from(DENIED.of(family));
    let extended = match family {
        Family::V4 => with_header_checksum(spoilt(flow.data(), |frame| {
            frame[14] = 0x46;
            frame.splice(34..34, [1; 4]);
            let total = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
        })),
        Family::V6 => {
            let (first, bytes) = chained(
                &[Extension::Destination(1)],
                TCP,
                &flow.tcp(b"data", |tcp| tcp.ack = true),
            );
            flow.packet(first, &bytes)
        }
    };
    let mut cases = Vec::new();
    for (where_, phase, current) in [
        ("a settled slot", Phase::Settled, 1),
        ("a slot that moves", Phase::Moving, 1),
        ("a slot of nobody's", Phase::Settled, NONE),
    ] {
        for (what, frame) in [
            ("a SYN", flow.syn()),
            ("data", flow.data()),
            ("a FIN", flow.fin()),
            ("a RST", flow.rst()),
            ("data behind IP options", extended.clone()),
        ] {
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!(
                            "{what} of a denied source to {where_}, where TCP is reset / dropped as denied"
                        ),
                    ),
                    frame,
                    dropped(DropDenied),
                )
                .given([Step::Slot(LISTED.slot(family), slot(phase, current, 2, NONE))])
                .resetting(),
            );
        }
    }
    let kept = LISTED_CHANCE.flow(family);
    for (what, tags) in [("", &[][..]), (" behind a tag", &[(0x8100, 7)])] {
        for (who, source, expected) in [
            (
                "of a denied source to a slot that is kept / dropped as denied, and not counted as steered",
                DENIED.of(family),
                dropped(DropDenied),
            ),
            (
                "of one that is served to a slot that is kept / goes to its member, and is counted as steered",
                family.client(),
                goes_to(1).and(&[SlotKept]),
            ),
        ] {
            cases.push(
                Case::new(
                    title(family, &format!("data{what} {who}")),
                    tagged(&kept.from(source).data(), tags),
                    expected,
                )
                .given([Step::Slot(LISTED_CHANCE.slot(family), slot(Phase::Kept, 1, 2, 3))]),
            );
        }
    }
    cases
}

/// The first one is looked up, the later ones follow it.
fn fragments(family: Family) -> Vec<Case> {
    let piece = |source: IpAddr, id: u32, offset: u16| {
        let ends: Ends = LISTED.flow(family).from(source);
        let payload = match offset {
            0 => ends.tcp(&[7; 64], |tcp| tcp.ack = true),
            _ => vec![7; 64],
        };
        fragment((source, family.vip()), TCP, id, offset, true, &payload)
    };
    let (denied, served) = (DENIED.of(family), family.client());
    vec![
        Case::new(
            title(family, "a first fragment of a denied source / dropped as denied"),
            piece(denied, 0x3900, 0),
            dropped(DropDenied),
        ),
        Case::new(
            title(
                family,
                "a later fragment of a denied source / dropped as a fragment",
            ),
            piece(denied, 0x3901, 8),
            dropped(DropFragment),
        )
        .given([Step::Frame(piece(denied, 0x3901, 0))]),
        Case::new(
            title(
                family,
                "a first fragment of a source that is served / goes to the slot's member and is noted",
            ),
            piece(served, 0x3902, 0),
            goes_to(1).and(&[FragmentNoted]),
        ),
        Case::new(
            title(
                family,
                "a later fragment of a source that is served / follows the first one",
            ),
            piece(served, 0x3903, 8),
            goes_to(1).and(&[FragmentFollowed]),
        )
        .given([Step::Frame(piece(served, 0x3903, 0))]),
    ]
}

/// What lists say nothing of.
fn unlisted(family: Family) -> Vec<Case> {
    let flow = LISTED.flow(family).from(DENIED.of(family));
    let error = about(
        family,
        unreachable(family),
        &sent(ONLY.flow(family).from(DENIED.of(family))),
    );
    let body = b"\x12\x34\x00\x09data";
    let request = match family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 129),
    };
    let (asked, reply) = (
        family.icmp_to(DENIED.of(family), family.vip(), request.0, 0, body),
        family.icmp_to(family.vip(), DENIED.of(family), request.1, 0, body),
    );
    let malformed = spoilt(flow.data(), |frame| frame[family.transport() + 12] = 0x40);
    let martian = LISTED.flow(family).from(family.vip()).data();
    vec![
        Case::new(
            title(
                family,
                "an ICMP error about a flow of whom nobody names, from a router whom nobody names / goes to the flow's member",
            ),
            error,
            steered(1),
        ),
        Case::new(
            title(family, "a ping of a denied source / answered"),
            asked,
            answered(AnswerEcho, family.sent_back(reply)),
        ),
        Case::new(
            title(
                family,
                "data of a denied source to a service without a list / goes to the slot's member",
            ),
            family.flow().from(DENIED.of(family)).data(),
            goes_to(1),
        ),
        Case::new(
            title(
                family,
                "a malformed segment of a denied source / dropped as malformed",
            ),
            malformed,
            dropped(DropMalformed),
        ),
        Case::new(
            title(family, "data from the VIP's own address / dropped as a martian"),
            martian,
            dropped(DropMartian),
        ),
    ]
}
