//! Ethernet: which frames are looked into, and that VLAN tags stay as they are.

use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{OWN, ROUTER, ethernet};
use foobar_tests::packets::frame_v6::{Tag, tagged};

use crate::case::{Case, answered, goes_to, opens, passes};
use crate::family::Family;

/// Tags that are looked behind, each with its name.
pub(crate) const TAGS: &[(&str, &[Tag])] = &[
    ("one tag", &[(0x8100, 0x0064)]),
    ("one tag of priority 7 and DEI", &[(0x8100, 0xf064)]),
    ("a priority tag of no VLAN", &[(0x8100, 0x6000)]),
    ("one service tag", &[(0x88a8, 0x0fff)]),
    ("a service tag and a tag", &[(0x88a8, 0x0010), (0x8100, 0x0020)]),
    ("two tags", &[(0x8100, 0x0010), (0x8100, 0x0020)]),
    ("two service tags", &[(0x88a8, 0x0010), (0x88a8, 0x0020)]),
];

const TOO_MANY: &[(&str, &[Tag])] = &[
    ("three tags", &[(0x8100, 1), (0x8100, 2), (0x8100, 3)]),
    (
        "three tags, service tags first",
        &[(0x88a8, 1), (0x88a8, 2), (0x8100, 3)],
    ),
    ("a tag of an old type", &[(0x9100, 1)]),
    ("a tag of an old type behind a tag", &[(0x8100, 1), (0x9100, 1)]),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &family in Family::BOTH {
        let (name, flow) = (family.name(), family.flow());
        let shortest = family.transport();
        for (length, what) in [(14, "nothing"), (shortest - 1, "all but a byte")] {
            cases.push(Case::new(
                format!("ethernet / {name}'s type, {what} of its header / the kernel's"),
                flow.syn()[..length].to_vec(),
                passes(),
            ));
        }
        cases.extend(behind_tags(family));
        for &(what, tags) in TOO_MANY {
            cases.push(Case::new(
                format!("ethernet / {name} behind {what} / the kernel's"),
                tagged(&flow.syn(), tags),
                passes(),
            ));
        }
        for other in [0x0000, 0x05dc, 0x8847, 0x8864, 0x88cc, 0xffff] {
            cases.push(Case::new(
                format!("ethernet / {name}'s packet as type {other:04x} / the kernel's"),
                ethernet(OWN, ROUTER, other, &flow.syn()[14..]),
                passes(),
            ));
        }
    }
    let (v4, v6) = (Family::V4.flow().data(), Family::V6.flow().data());
    cases.push(Case::new(
        "ethernet / a packet of ipv4 as ipv6's type / the kernel's",
        ethernet(OWN, ROUTER, 0x86dd, &v4[14..]),
        passes(),
    ));
    cases.push(Case::new(
        "ethernet / a packet of ipv6 as ipv4's type / the kernel's",
        ethernet(OWN, ROUTER, 0x0800, &v6[14..]),
        passes(),
    ));
    cases
}

fn behind_tags(family: Family) -> Vec<Case> {
    let (name, flow) = (family.name(), family.flow());
    let mut cases = Vec::new();
    for &(what, tags) in TAGS {
        let behind = |frame: &[u8]| tagged(frame, tags);
        let title = |rest: &str| format!("ethernet / {name} behind {what} / {rest}");
        let (ping, pong) = family.ping(family.vip(), b"data");
        cases.extend([
            Case::new(
                title("a SYN opens a connection at the slot's member"),
                behind(&flow.syn()),
                opens(3),
            )
            .given([family.web_at(3)]),
            Case::new(
                title("data goes to the slot's member"),
                behind(&flow.data()),
                goes_to(3),
            )
            .given([family.web_at(3)]),
            Case::new(
                title("a datagram goes to the slot's member"),
                behind(&family.question().datagram()),
                goes_to(4),
            )
            .given([family.dns_at(4)]),
            Case::new(
                title("a ping is answered behind the same"),
                behind(&ping),
                answered(Counter::AnswerEcho, behind(&pong)),
            ),
            Case::new(
                title("another address's segment is the kernel's"),
                behind(&flow.to(family.host()).syn()),
                passes(),
            ),
        ]);
        let header = 12 + tags.len() * 4 + 2;
        for (length, cut) in [(header - 2, "all but the type"), (header, "the type alone")] {
            cases.push(Case::new(
                title(&format!("{cut}, the kernel's")),
                behind(&flow.syn())[..length].to_vec(),
                passes(),
            ));
        }
        let whole = behind(&flow.syn());
        let short = header + family.transport() - 14 - 1;
        cases.push(Case::new(
            title("all but a byte of the header, the kernel's"),
            whole[..short].to_vec(),
            passes(),
        ));
    }
    cases
}
