//! The IPv4 header (RFC 791): lengths, options, checksum, addresses, protocols.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::IpNumber;
use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{CLIENT, Flow, HOST, IP, OTHER_VIP, VIP, ipv4};
use foobar_tests::packets::rig::{DNS, WEB};

use crate::case::{Case, Expected, dropped, goes_to, opens, passes};
use crate::family::{Family, spoilt, with_header_checksum};

const FLOW: Flow = Flow::new(40_001, WEB);
const QUESTION: Flow = Flow::new(40_002, DNS);

/// A segment whose header is changed, its checksum right afterwards.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    with_header_checksum(spoilt(FLOW.data(), change))
}

fn set_total(frame: &mut [u8], total: usize) {
    frame[IP + 2..IP + 4].copy_from_slice(&(total as u16).to_be_bytes());
}

pub(crate) fn cases() -> Vec<Case> {
    [
        versions_and_lengths(),
        checksums(),
        sources(),
        untouched(),
        protocols(),
        order(),
    ]
    .concat()
}

/// Each spoilt packet twice: for a VIP it is dropped, for another address it is the kernel's.
fn both(what: &str, frame: Vec<u8>, reason: Counter) -> [Case; 2] {
    let elsewhere = spoilt(frame.clone(), |frame| {
        frame[IP + 16..IP + 20].copy_from_slice(&HOST.octets());
    });
    [
        Case::new(
            format!("ipv4 / {what} / dropped as {}", reason.name()),
            frame,
            dropped(reason),
        ),
        Case::new(
            format!("ipv4 / {what}, for no VIP / the kernel's"),
            elsewhere,
            passes(),
        ),
    ]
}

fn versions_and_lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in [0u8, 1, 3, 5, 6, 15] {
        let frame = changed(|frame| frame[IP] = version << 4 | 5);
        cases.extend(both(
            &format!("version {version} in ipv4's type"),
            frame,
            Counter::DropMalformed,
        ));
    }
    for words in 0..5u8 {
        let frame = spoilt(FLOW.data(), |frame| frame[IP] = 0x40 | words);
        cases.extend(both(
            &format!("a header of {words} words"),
            frame,
            Counter::DropMalformed,
        ));
    }
    for (words, total) in [(5, 0), (5, 1), (5, 19), (6, 23), (10, 39), (15, 59)] {
        let frame = spoilt(FLOW.segment(&[0; 64], |_, _| ()), |frame| {
            frame[IP] = 0x40 | words;
            set_total(frame, total);
        });
        cases.extend(both(
            &format!("a header of {words} words and a total length of {total}"),
            with_header_checksum(frame),
            Counter::DropMalformed,
        ));
    }
    let length = FLOW.data().len() - IP;
    for (what, total) in [
        ("one above the frame's", length + 1),
        ("of 1500 in a short frame", 1500),
        ("of 65535 in a short frame", 65_535),
    ] {
        cases.extend(both(
            &format!("a total length {what}"),
            changed(|frame| set_total(frame, total)),
            Counter::DropTruncated,
        ));
    }
    for padding in [1, 6, 18, 200] {
        cases.push(Case::new(
            format!(
                "ipv4 / {padding} bytes behind the packet / goes with them, counted by the frame's length"
            ),
            [FLOW.data(), vec![0xee; padding]].concat(),
            goes_to(1),
        ));
    }
    cases
}

fn checksums() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, spoil) in [
        ("a checksum that is wrong by a bit", (IP + 10, 0x01)),
        ("a checksum that is wrong in its other byte", (IP + 11, 0x80)),
        ("a TTL that the checksum doesn't cover", (IP + 8, 0x10)),
        (
            "an identification that the checksum doesn't cover",
            (IP + 4, 0xff),
        ),
        ("a source that the checksum doesn't cover", (IP + 14, 0x04)),
    ] {
        let frame = spoilt(FLOW.data(), |frame| frame[spoil.0] ^= spoil.1);
        cases.extend(both(what, frame, Counter::DropChecksum));
    }
    cases.extend(both(
        "no checksum at all",
        spoilt(FLOW.data(), |frame| frame[IP + 10..IP + 12].fill(0)),
        Counter::DropChecksum,
    ));
    for words in [1usize, 3, 10] {
        let options = vec![1u8; words * 4];
        let frame = FLOW.segment(b"data", |_, ip| {
            ip.options = options[..].try_into().expect("options fit")
        });
        cases.extend(both(
            &format!("{words} words of options, the last byte not covered by the checksum"),
            spoilt(frame, |frame| frame[IP + 20 + words * 4 - 1] ^= 1),
            Counter::DropChecksum,
        ));
    }
    // Identifications with which the sum wraps, or nearly so.
    for identification in [0u16, 1, 0x7fff, 0xfffe, 0xffff] {
        let frame = changed(|frame| frame[IP + 4..IP + 6].copy_from_slice(&identification.to_be_bytes()));
        cases.push(Case::new(
            format!("ipv4 / identification {identification:04x} under a right checksum / goes to the slot's member"),
            frame,
            goes_to(1),
        ));
    }
    cases
}

fn sources() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, source) in [
        ("no address", [0, 0, 0, 0]),
        ("this network's last address", [0, 255, 255, 255]),
        ("a loopback address", [127, 0, 0, 1]),
        ("the last loopback address", [127, 255, 255, 255]),
        ("the first multicast address", [224, 0, 0, 0]),
        ("a multicast address", [239, 1, 2, 3]),
        ("a reserved address", [240, 0, 0, 1]),
        ("the broadcast address", [255, 255, 255, 255]),
        ("its own destination", VIP.octets()),
    ] {
        let frame = FLOW.from(Ipv4Addr::from(source)).data();
        let datagram = QUESTION.from(Ipv4Addr::from(source)).datagram();
        cases.push(Case::new(
            format!("ipv4 / tcp / from {what} / dropped as a martian"),
            frame.clone(),
            dropped(Counter::DropMartian),
        ));
        cases.push(Case::new(
            format!("ipv4 / udp / from {what} / dropped as a martian"),
            datagram,
            dropped(Counter::DropMartian),
        ));
        let elsewhere = FLOW.from(Ipv4Addr::from(source)).to(HOST).data();
        cases.push(Case::new(
            format!("ipv4 / tcp / from {what}, for no VIP / the kernel's"),
            elsewhere,
            passes(),
        ));
    }
    for (what, source) in [
        ("the first address that is a network's", [1, 0, 0, 0]),
        ("the last address before loopback", [126, 255, 255, 255]),
        ("the first address behind loopback", [128, 0, 0, 0]),
        ("the last address before multicast", [223, 255, 255, 255]),
        ("a private address", [10, 0, 0, 1]),
        ("a link-local address", [169, 254, 1, 1]),
        ("another VIP", OTHER_VIP.octets()),
        ("the balancer itself", HOST.octets()),
    ] {
        cases.push(Case::new(
            format!("ipv4 / tcp / from {what} / goes to the slot's member"),
            FLOW.from(Ipv4Addr::from(source)).data(),
            goes_to(1),
        ));
    }
    cases
}

/// What a balancer leaves alone.
fn untouched() -> Vec<Case> {
    let mut cases = Vec::new();
    for ttl in [0u8, 1, 64, 255] {
        cases.push(Case::new(
            format!("ipv4 / a TTL of {ttl} / goes to the slot's member as it is"),
            changed(|frame| frame[IP + 8] = ttl),
            goes_to(1),
        ));
    }
    for tos in [0x01u8, 0xb8, 0xff] {
        cases.push(Case::new(
            format!("ipv4 / a type of service of {tos:02x} / goes to the slot's member as it is"),
            changed(|frame| frame[IP + 1] = tos),
            goes_to(1),
        ));
    }
    for (what, flags) in [
        ("no flag", 0),
        ("don't fragment", 0x40),
        ("the reserved flag", 0x80),
    ] {
        cases.push(Case::new(
            format!("ipv4 / {what} / is no fragment and goes to the slot's member"),
            changed(|frame| frame[IP + 6] = flags),
            goes_to(1),
        ));
    }
    for words in 1..=10usize {
        let options = vec![1u8; words * 4];
        let with = |syn: bool| {
            FLOW.segment(b"data", |tcp, ip| {
                (tcp.syn, tcp.ack) = (syn, !syn);
                ip.options = options[..].try_into().expect("options fit");
            })
        };
        cases.push(Case::new(
            format!("ipv4 / {words} words of options / data goes to the slot's member with them"),
            with(false),
            goes_to(1),
        ));
        cases.push(Case::new(
            format!("ipv4 / {words} words of options / a SYN opens a connection"),
            with(true),
            opens(1),
        ));
    }
    cases
}

fn protocols() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, protocol) in [
        ("hop-by-hop options", 0),
        ("IGMP", 2),
        ("IPv4", 4),
        ("IPv6", 41),
        ("an IPv6 fragment", 44),
        ("GRE", 47),
        ("ESP", 50),
        ("AH", 51),
        ("ICMPv6", 58),
        ("SCTP", 132),
        ("UDP-Lite", 136),
        ("a reserved protocol", 255),
    ] {
        let transport = &FLOW.data()[IP + 20..];
        for (how, payload) in [("with a segment's bytes", transport), ("without a byte", &[][..])] {
            let frame = |destination| ipv4(IpNumber(protocol), CLIENT, destination, payload, |_| ());
            cases.push(Case::new(
                format!("ipv4 / {what} {how} / dropped for want of a service"),
                frame(VIP),
                dropped(Counter::DropNoService),
            ));
            cases.push(
                Case::new(
                    format!("ipv4 / {what} {how}, where TCP would be reset / dropped for want of a service"),
                    frame(VIP),
                    dropped(Counter::DropNoService),
                )
                .resetting(),
            );
        }
    }
    cases
}

/// A packet that several things are wrong with is counted once, by the first.
fn order() -> Vec<Case> {
    let martian = Family::V4.flow().from(IpAddr::V4(VIP));
    let of = |what: &str, frame: Vec<u8>, expected: Expected| {
        Case::new(format!("ipv4 / order / {what}"), frame, expected)
    };
    vec![
        of(
            "a wrong version comes before a length beyond the frame",
            changed(|frame| {
                frame[IP] = 0x65;
                set_total(frame, 1500);
            }),
            dropped(Counter::DropMalformed),
        ),
        of(
            "a length beyond the frame comes before a wrong checksum",
            spoilt(FLOW.data(), |frame| set_total(frame, 1500)),
            dropped(Counter::DropTruncated),
        ),
        of(
            "a wrong checksum comes before a martian source",
            spoilt(martian.data(), |frame| frame[IP + 10] ^= 1),
            dropped(Counter::DropChecksum),
        ),
        of(
            "a martian source comes before a transport header that is cut",
            martian.packet(6, &martian.tcp(&[], |_| ())[..19]),
            dropped(Counter::DropMartian),
        ),
        of(
            "a martian source comes before a fragment that nobody knows",
            with_header_checksum(spoilt(martian.data(), |frame| frame[IP + 7] = 9)),
            dropped(Counter::DropMartian),
        ),
        of(
            "a martian source comes before the want of a service",
            martian.packet(47, &[0; 4]),
            dropped(Counter::DropMartian),
        ),
        of(
            "a cut transport header comes before the want of a service",
            Family::V4.flow_to(9).packet(6, &FLOW.data()[IP + 20..IP + 39]),
            dropped(Counter::DropTruncated),
        ),
    ]
}
