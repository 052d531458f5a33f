//! The IPv6 header (RFC 8200): bounds, extension headers, addresses, next headers.

use std::net::Ipv6Addr;

use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{IP, VIP};
use foobar_tests::packets::frame_v6::{CLIENT6, Extension, HOST6, OTHER_VIP6, VIP6, chained, ipv6, tagged};

use crate::case::{Case, Expected, answered, dropped, goes_to, opens, passes};
use crate::family::{Ends, Family, spoilt};
use Extension::{Destination, Fragment, HopByHop, Routing};

const TCP: u8 = 6;
const UDP: u8 = 17;

const fn flow() -> Ends {
    Family::V6.flow()
}

fn set_length(frame: &mut [u8], length: usize) {
    frame[IP + 4..IP + 6].copy_from_slice(&(length as u16).to_be_bytes());
}

/// A packet of the client's to the VIP behind extension headers.
fn behind(extensions: &[Extension], upper: u8, payload: &[u8]) -> Vec<u8> {
    let (first, bytes) = chained(extensions, upper, payload);
    ipv6(first, CLIENT6, VIP6, &bytes, |_| ())
}

pub(crate) fn cases() -> Vec<Case> {
    [
        bounds(),
        sources(),
        untouched(),
        followed(),
        refused(),
        next_headers(),
        order(),
    ]
    .concat()
}

/// Each spoilt packet twice: for a VIP it is dropped, for another address it is the kernel's.
fn both(what: &str, frame: Vec<u8>, reason: Counter) -> [Case; 2] {
    let elsewhere = spoilt(frame.clone(), |frame| {
        frame[IP + 24..IP + 40].copy_from_slice(&HOST6.octets());
    });
    [
        Case::new(
            format!("ipv6 / {what} / dropped as {}", reason.name()),
            frame,
            dropped(reason),
        ),
        Case::new(
            format!("ipv6 / {what}, for no VIP / the kernel's"),
            elsewhere,
            passes(),
        ),
    ]
}

fn bounds() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in [0u8, 4, 5, 7, 15] {
        let frame = spoilt(flow().data(), |frame| frame[IP] = version << 4);
        cases.extend(both(
            &format!("version {version} in ipv6's type"),
            frame,
            Counter::DropMalformed,
        ));
    }
    let length = flow().data().len() - IP - 40;
    for (what, payload) in [
        ("one above the frame's", length + 1),
        ("of 1280 in a short frame", 1280),
        ("of 65535 in a short frame", 65_535),
    ] {
        cases.extend(both(
            &format!("a payload length {what}"),
            spoilt(flow().data(), |frame| set_length(frame, payload)),
            Counter::DropTruncated,
        ));
    }
    for (what, payload) in [("of none", 0), ("of 19", 19)] {
        cases.extend(both(
            &format!("a payload length {what} for TCP"),
            spoilt(flow().data(), |frame| set_length(frame, payload)),
            Counter::DropTruncated,
        ));
    }
    for padding in [1, 6, 200] {
        cases.push(Case::new(
            format!(
                "ipv6 / {padding} bytes behind the packet / goes with them, counted by the frame's length"
            ),
            [flow().data(), vec![0xee; padding]].concat(),
            goes_to(1),
        ));
    }
    cases
}

fn sources() -> Vec<Case> {
    let mut cases = Vec::new();
    let question = Family::V6.question();
    for (what, source) in [
        ("the unspecified address", Ipv6Addr::UNSPECIFIED),
        ("loopback", Ipv6Addr::LOCALHOST),
        (
            "the first multicast address",
            Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        ),
        ("all nodes", Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
        ("the last multicast address", Ipv6Addr::from([0xff; 16])),
        ("a mapped ipv4 address", VIP.to_ipv6_mapped()),
        (
            "the mapped form of no address",
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        ),
        ("its own destination", VIP6),
    ] {
        for (protocol, frame) in [
            ("tcp", flow().from(source.into()).data()),
            ("udp", question.from(source.into()).datagram()),
        ] {
            cases.push(Case::new(
                format!("ipv6 / {protocol} / from {what} / dropped as a martian"),
                frame,
                dropped(Counter::DropMartian),
            ));
        }
        cases.push(Case::new(
            format!("ipv6 / tcp / from {what}, for no VIP / the kernel's"),
            flow().from(source.into()).to(HOST6.into()).data(),
            passes(),
        ));
    }
    for (what, source) in [
        (
            "the address behind loopback",
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 2),
        ),
        ("a word more than loopback", Ipv6Addr::new(1, 0, 0, 0, 0, 0, 0, 1)),
        (
            "an address before multicast",
            Ipv6Addr::new(0xfeff, 0, 0, 0, 0, 0, 0, 1),
        ),
        ("a link-local address", Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
        (
            "a unique local address",
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        ),
        (
            "a translated ipv4 address",
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xcb00, 0x714d),
        ),
        (
            "an address that only ends like a mapped one",
            Ipv6Addr::new(0, 0, 0, 1, 0, 0xffff, 1, 1),
        ),
        ("another VIP", OTHER_VIP6),
        ("the balancer itself", HOST6),
    ] {
        cases.push(Case::new(
            format!("ipv6 / tcp / from {what} / goes to the slot's member"),
            flow().from(source.into()).data(),
            goes_to(1),
        ));
    }
    cases.push(Case::new(
        "ipv6 / tcp / to the mapped form of an ipv4 VIP / the kernel's",
        flow().to(VIP.to_ipv6_mapped().into()).data(),
        passes(),
    ));
    cases
}

fn untouched() -> Vec<Case> {
    let mut cases = Vec::new();
    for hops in [0u8, 1, 64, 255] {
        cases.push(Case::new(
            format!("ipv6 / a hop limit of {hops} / goes to the slot's member as it is"),
            spoilt(flow().data(), |frame| frame[IP + 7] = hops),
            goes_to(1),
        ));
    }
    for (what, head) in [
        ("a traffic class", [0x6b, 0x80, 0, 0]),
        ("a flow label", [0x60, 0x0f, 0xed, 0xcb]),
        ("traffic class and flow label of ones", [0x6f, 0xff, 0xff, 0xff]),
    ] {
        cases.push(Case::new(
            format!("ipv6 / {what} / goes to the slot's member as it is"),
            spoilt(flow().data(), |frame| frame[IP..IP + 4].copy_from_slice(&head)),
            goes_to(1),
        ));
    }
    cases
}

fn atomic() -> Extension {
    Fragment {
        offset: 0,
        more: false,
        id: 7,
    }
}

/// Chains of extension headers that are walked.
fn followed() -> Vec<Case> {
    let chains: Vec<(&str, Vec<Extension>)> = vec![
        ("hop-by-hop options", vec![HopByHop(1)]),
        ("hop-by-hop options of three units", vec![HopByHop(3)]),
        ("destination options", vec![Destination(1)]),
        ("destination options of ten units", vec![Destination(10)]),
        ("a routing header", vec![Routing(1)]),
        ("a routing header of five units", vec![Routing(5)]),
        ("an atomic fragment header", vec![atomic()]),
        (
            "hop-by-hop and destination options",
            vec![HopByHop(1), Destination(1)],
        ),
        ("destination options twice", vec![Destination(1), Destination(2)]),
        ("the order that RFC 8200 recommends", {
            vec![HopByHop(1), Destination(1), Routing(3), atomic(), Destination(1)]
        }),
        (
            "an atomic fragment header and destination options",
            vec![atomic(), Destination(1)],
        ),
        ("five extension headers", vec![Destination(1); 5]),
        ("six extension headers", vec![Destination(1); 6]),
        ("six, hop-by-hop options first", {
            [vec![HopByHop(1)], vec![Destination(1); 5]].concat()
        }),
        ("six of several units", vec![Destination(4); 6]),
    ];
    let mut cases = Vec::new();
    let (syn, data) = (
        flow().tcp(&[], |tcp| tcp.syn = true),
        flow().tcp(b"data", |tcp| tcp.ack = true),
    );
    let datagram = Family::V6.question().udp(b"a question");
    for (what, chain) in chains {
        let of = |protocol: &str, upper: u8, payload: &[u8], expected: Expected| {
            Case::new(
                format!("ipv6 / {protocol} / behind {what} / goes to the slot's member"),
                behind(&chain, upper, payload),
                expected,
            )
        };
        cases.extend([
            of("tcp, a SYN", TCP, &syn, opens(3)).given([Family::V6.web_at(3)]),
            of("tcp", TCP, &data, goes_to(3)).given([Family::V6.web_at(3)]),
            of("udp", UDP, &datagram, goes_to(4)).given([Family::V6.dns_at(4)]),
        ]);
        let tag = [(0x8100, 9)];
        cases.push(Case::new(
            format!("ipv6 / tcp / behind a tag and {what} / goes to the slot's member"),
            tagged(&behind(&chain, TCP, &data), &tag),
            goes_to(1),
        ));
    }
    let (client, vip) = (Family::V6.client(), Family::V6.vip());
    let body = b"\x12\x34\0\x09data";
    let ping = Family::V6.icmp_message(128, 0, (client, vip), body);
    let pong = Family::V6.icmp_message(129, 0, (vip, client), body);
    let (first, answer) = chained(&[Destination(1)], 58, &pong);
    let answer = ipv6(first, VIP6, CLIENT6, &answer, |_| ());
    cases.push(Case::new(
        "ipv6 / echo request / behind destination options / answered with them",
        behind(&[Destination(1)], 58, &ping),
        answered(Counter::AnswerEcho, Family::V6.sent_back(answer)),
    ));
    cases
}

/// Chains of extension headers that are not.
fn refused() -> Vec<Case> {
    let data = flow().tcp(b"data", |tcp| tcp.ack = true);
    let mut cases = Vec::new();
    for (what, chain, reason) in [
        (
            "seven extension headers",
            vec![Destination(1); 7],
            Counter::DropExtension,
        ),
        (
            "seven, hop-by-hop options first",
            [vec![HopByHop(1)], vec![Destination(1); 6]].concat(),
            Counter::DropExtension,
        ),
        (
            "hop-by-hop options behind destination options",
            vec![Destination(1), HopByHop(1)],
            Counter::DropExtension,
        ),
        (
            "hop-by-hop options twice",
            vec![HopByHop(1), HopByHop(1)],
            Counter::DropExtension,
        ),
        (
            "hop-by-hop options behind a routing header",
            vec![Routing(1), HopByHop(1)],
            Counter::DropExtension,
        ),
        (
            "an atomic fragment header twice",
            vec![atomic(), atomic()],
            Counter::DropMalformed,
        ),
        (
            "atomic fragment headers around destination options",
            vec![atomic(), Destination(1), atomic()],
            Counter::DropMalformed,
        ),
        (
            "a first fragment's header behind an atomic one",
            vec![
                atomic(),
                Fragment {
                    offset: 0,
                    more: true,
                    id: 8,
                },
            ],
            Counter::DropMalformed,
        ),
    ] {
        cases.extend(both(
            &format!("tcp behind {what}"),
            behind(&chain, TCP, &data),
            reason,
        ));
    }
    for (what, chain) in [
        ("hop-by-hop options", HopByHop(1)),
        ("destination options", Destination(1)),
        ("a routing header", Routing(1)),
        ("a fragment header", atomic()),
    ] {
        let (first, header) = chained(std::slice::from_ref(&chain), TCP, &[]);
        for left in [0, 1, 7] {
            cases.extend(both(
                &format!("{what} of which {left} bytes are there"),
                ipv6(first, CLIENT6, VIP6, &header[..left], |_| ()),
                Counter::DropTruncated,
            ));
            // Behind the packet there are bytes, and they don't count.
            let frame = ipv6(first, CLIENT6, VIP6, &[&header[..], &data].concat(), |ip| {
                ip.payload_length = left as u16;
            });
            cases.extend(both(
                &format!("{what} of which {left} bytes are in the packet and all in the frame"),
                frame,
                Counter::DropTruncated,
            ));
        }
        cases.extend(both(
            &format!("{what} and no byte of TCP"),
            ipv6(first, CLIENT6, VIP6, &header, |_| ()),
            Counter::DropTruncated,
        ));
    }
    for (what, chain) in [
        ("destination options", Destination(1)),
        ("a routing header", Routing(1)),
        ("hop-by-hop options", HopByHop(1)),
    ] {
        let (first, mut bytes) = chained(std::slice::from_ref(&chain), TCP, &data);
        bytes[1] = 4;
        cases.extend(both(
            &format!("{what} that say they are longer than the packet"),
            ipv6(first, CLIENT6, VIP6, &bytes, |_| ()),
            Counter::DropTruncated,
        ));
        bytes[1] = 255;
        cases.extend(both(
            &format!("{what} that say they have 256 units"),
            ipv6(first, CLIENT6, VIP6, &bytes, |_| ()),
            Counter::DropTruncated,
        ));
    }
    cases
}

fn next_headers() -> Vec<Case> {
    let data = flow().tcp(b"data", |tcp| tcp.ack = true);
    let mut cases = Vec::new();
    for (what, number) in [
        ("ICMPv4", 1),
        ("IPv4", 4),
        ("IPv6", 41),
        ("GRE", 47),
        ("ESP", 50),
        ("AH", 51),
        ("no next header", 59),
        ("SCTP", 132),
        ("a mobility header", 135),
        ("an experiment", 253),
        ("a reserved number", 255),
    ] {
        for (how, chain) in [
            ("", vec![]),
            (" behind destination options", vec![Destination(1)]),
        ] {
            cases.push(Case::new(
                format!("ipv6 / {what}{how} / dropped for want of a service"),
                behind(&chain, number, &data),
                dropped(Counter::DropNoService),
            ));
            cases.push(
                Case::new(
                    format!("ipv6 / {what}{how}, where TCP would be reset / dropped for want of a service"),
                    behind(&chain, number, &data),
                    dropped(Counter::DropNoService),
                )
                .resetting(),
            );
        }
    }
    cases
}

fn order() -> Vec<Case> {
    let martian = flow().from(VIP6.into());
    let of = |what: &str, frame: Vec<u8>, expected: Expected| {
        Case::new(format!("ipv6 / order / {what}"), frame, expected)
    };
    let (first, late) = chained(&[Destination(1), HopByHop(1)], TCP, &[]);
    vec![
        of(
            "a wrong version comes before a length beyond the frame",
            spoilt(flow().data(), |frame| {
                frame[IP] = 0x40;
                set_length(frame, 1500);
            }),
            dropped(Counter::DropMalformed),
        ),
        of(
            "a length beyond the frame comes before a martian source",
            spoilt(martian.data(), |frame| set_length(frame, 1500)),
            dropped(Counter::DropTruncated),
        ),
        of(
            "a martian source comes before extension headers out of order",
            ipv6(first, VIP6, VIP6, &late, |_| ()),
            dropped(Counter::DropMartian),
        ),
        of(
            "extension headers out of order come before a transport header that is cut",
            ipv6(first, CLIENT6, VIP6, &late, |_| ()),
            dropped(Counter::DropExtension),
        ),
        of(
            "a cut transport header comes before the want of a service",
            Family::V6.flow_to(9).packet(TCP, &flow().tcp(&[], |_| ())[..19]),
            dropped(Counter::DropTruncated),
        ),
    ]
}
