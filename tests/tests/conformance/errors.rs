//! ICMP errors (RFC 792, RFC 4443): they go to the member that has the flow they are about.

use std::net::IpAddr;

use foobar_common::counters::Counter;
use foobar_common::slot::NONE;
use foobar_tests::packets::frame_v6::{Extension, chained, tagged};
use foobar_tests::packets::rig::TCP;

use crate::case::{Case, Expected, dropped, goes_to};
use crate::family::{Ends, Family, packet, spoilt, with_header_checksum};
use crate::fragments::fragment;

/// A type and a code.
pub(crate) type Kind = (u8, u8);

/// Destination unreachable, by the port.
pub(crate) const fn unreachable(family: Family) -> Kind {
    match family {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    }
}

/// All errors that are steered.
const fn kinds(family: Family) -> &'static [(&'static str, Kind)] {
    match family {
        Family::V4 => &[
            ("network unreachable", (3, 0)),
            ("host unreachable", (3, 1)),
            ("port unreachable", (3, 3)),
            ("fragmentation needed", (3, 4)),
            ("time exceeded on the way", (11, 0)),
            ("time exceeded in reassembly", (11, 1)),
            ("parameter problem", (12, 0)),
            ("parameter problem of a code unknown", (12, 255)),
        ],
        Family::V6 => &[
            ("no route", (1, 0)),
            ("port unreachable", (1, 4)),
            ("packet too big", (2, 0)),
            ("time exceeded on the way", (3, 0)),
            ("time exceeded in reassembly", (3, 1)),
            ("parameter problem", (4, 0)),
            ("parameter problem of a code unknown", (4, 255)),
        ],
    }
}

/// Messages that are neither errors nor echo requests.
const fn others(family: Family) -> &'static [(&'static str, Kind)] {
    match family {
        Family::V4 => &[
            ("an echo reply", (0, 0)),
            ("an unassigned type 1", (1, 0)),
            ("an unassigned type 2", (2, 0)),
            ("a source quench", (4, 0)),
            ("a redirect", (5, 1)),
            ("an echo request of a code", (8, 1)),
            ("a router advertisement", (9, 0)),
            ("a router solicitation", (10, 0)),
            ("a timestamp", (13, 0)),
            ("a timestamp reply", (14, 0)),
            ("an address mask request", (17, 0)),
            ("an extended echo", (42, 0)),
            ("an ICMPv6 echo request", (128, 0)),
            ("a reserved type", (255, 255)),
        ],
        Family::V6 => &[
            ("a reserved type 0", (0, 0)),
            ("an unassigned error", (5, 0)),
            ("an ICMPv4 echo request", (8, 0)),
            ("ICMPv4's time exceeded", (11, 0)),
            ("a private error", (100, 0)),
            ("a reserved error", (127, 0)),
            ("an echo request of a code", (128, 1)),
            ("an echo reply", (129, 0)),
            ("a listener query", (130, 0)),
            ("a router solicitation", (133, 0)),
            ("a router advertisement", (134, 0)),
            ("a neighbour advertisement", (136, 0)),
            ("a redirect", (137, 0)),
            ("an extended echo", (160, 0)),
            ("a reserved type 255", (255, 255)),
        ],
    }
}

/// An error of a router on the way about a packet of the VIP's.
pub(crate) fn about(family: Family, kind: Kind, quoted: &[u8]) -> Vec<u8> {
    from(family, family.distant_router(), family.vip(), kind, quoted)
}

fn from(family: Family, source: IpAddr, destination: IpAddr, kind: Kind, quoted: &[u8]) -> Vec<u8> {
    let body = [&[0; 4], quoted].concat();
    family.icmp_to(source, destination, kind.0, kind.1, &body)
}

/// What a backend sent in a flow of the VIP's: the packet that errors quote.
pub(crate) fn sent(ends: Ends) -> Vec<u8> {
    ends.reversed().data()[14..].to_vec()
}

fn said(ends: Ends) -> Vec<u8> {
    ends.reversed().datagram()[14..].to_vec()
}

/// It goes to a member as an error.
pub(crate) fn steered(member: u16) -> Expected {
    goes_to(member).and(&[Counter::IcmpSteered])
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| [types(family), quotes(family), refusals(family), nobodys(family)].concat())
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / icmp error / {rest}", family.name())
}

fn types(family: Family) -> Vec<Case> {
    let (flow, question) = (family.flow(), family.question());
    let mut cases = Vec::new();
    for &(what, kind) in kinds(family) {
        let web = about(family, kind, &sent(flow));
        cases.extend([
            Case::new(
                title(family, &format!("{what}, about a TCP flow / goes to its member")),
                web.clone(),
                steered(3),
            )
            .given([family.web_at(3), family.dns_at(4)]),
            Case::new(
                title(family, &format!("{what}, about a UDP flow / goes to its member")),
                about(family, kind, &said(question)),
                steered(4),
            )
            .given([family.web_at(3), family.dns_at(4)]),
            Case::new(
                title(family, &format!("{what}, behind two tags / goes to its member")),
                tagged(&web, &[(0x88a8, 3), (0x8100, 4)]),
                steered(3),
            )
            .given([family.web_at(3)]),
            Case::new(
                title(
                    family,
                    &format!("{what}, from the client itself / goes to its member"),
                ),
                from(family, family.client(), family.vip(), kind, &sent(flow)),
                steered(1),
            ),
        ]);
    }
    for &(what, kind) in others(family) {
        cases.push(Case::new(
            title(family, &format!("{what}, with a packet quoted / dropped as ICMP")),
            about(family, kind, &sent(flow)),
            dropped(Counter::DropIcmp),
        ));
        cases.push(Case::new(
            title(family, &format!("{what}, of eight bytes / dropped as ICMP")),
            about(family, kind, &[]),
            dropped(Counter::DropIcmp),
        ));
    }
    cases
}

/// A quoted packet's header, changed by hand where its family has a place for that.
fn quotes(family: Family) -> Vec<Case> {
    let flow = family.flow();
    let header = family.transport() - 14;
    let quoted = sent(flow);
    let error = |quoted: &[u8]| about(family, unreachable(family), quoted);
    let mut cases = Vec::new();
    for (what, length) in [
        ("the ports alone", header + 4),
        ("a byte more than the ports", header + 5),
        ("eight bytes of TCP", header + 8),
        ("the TCP header", header + 20),
    ] {
        cases.push(Case::new(
            title(
                family,
                &format!("of the quoted packet {what} / goes to its member"),
            ),
            error(&quoted[..length]),
            steered(1),
        ));
    }
    cases.push(Case::new(
        title(family, "bytes behind the error / goes to its member with them"),
        [error(&quoted[..header + 4]), vec![0xee; 30]].concat(),
        steered(1),
    ));
    cases.push(Case::new(
        title(
            family,
            "a long extension behind the quoted packet / goes to its member",
        ),
        error(&[&quoted[..], &[0x20; 600]].concat()),
        steered(1),
    ));
    cases.push(Case::new(
        title(
            family,
            "a wrong ICMP checksum / goes to its member, which has to look itself",
        ),
        spoilt(error(&quoted), |frame| frame[family.transport() + 2] ^= 0x55),
        steered(1),
    ));
    cases.push(Case::new(
        title(
            family,
            "a quoted packet of TTL 0 and a wrong TCP checksum / goes to its member",
        ),
        error(&spoilt(quoted.clone(), |quoted| {
            quoted[if header == 20 { 8 } else { 7 }] = 0;
            quoted[header + 16] ^= 0xff;
        })),
        steered(1),
    ));
    let (source, destination) = (family.vip(), family.client());
    let first = fragment((source, destination), TCP, 77, 0, true, &quoted[header..]);
    cases.push(Case::new(
        title(family, "a quoted first fragment / goes to its member"),
        error(&first[14..]),
        steered(1),
    ));
    match family {
        Family::V4 => {
            for words in 1..=10usize {
                let with_options = options(&quoted, words);
                cases.push(Case::new(
                    title(
                        family,
                        &format!("a quoted packet with {words} words of options / goes to its member"),
                    ),
                    error(&with_options[..24 + words * 4]),
                    steered(1),
                ));
                cases.push(Case::new(
                    title(family, &format!("a quoted packet cut in its ports behind {words} words of options / dropped as ICMP")),
                    error(&with_options[..23 + words * 4]),
                    dropped(Counter::DropIcmp),
                ));
            }
            let outer = spoilt(error(&quoted), |frame| {
                frame[14] = 0x47;
                frame.splice(34..34, [1; 8]);
                let total = (frame.len() - 14) as u16;
                frame[16..18].copy_from_slice(&total.to_be_bytes());
            });
            cases.push(Case::new(
                title(family, "options of its own / goes to its member with them"),
                with_header_checksum(outer),
                steered(1),
            ));
        }
        Family::V6 => cases.extend(extensions(&quoted)),
    }
    cases
}

/// An IPv4 packet with so many words of options.
fn options(packet: &[u8], words: usize) -> Vec<u8> {
    let mut packet = [&packet[..20], &vec![1; words * 4], &packet[20..]].concat();
    packet[0] = 0x45 + words as u8;
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet
}

fn extensions(quoted: &[u8]) -> Vec<Case> {
    use Extension::{Destination, Fragment, HopByHop, Routing};
    const FAMILY: Family = Family::V6;
    let atomic = Fragment {
        offset: 0,
        more: false,
        id: 3,
    };
    let later = Fragment {
        offset: 185,
        more: false,
        id: 3,
    };
    let behind = |chain: &[Extension]| {
        let (first, bytes) = chained(chain, TCP, &quoted[40..]);
        packet(FAMILY.vip(), FAMILY.client(), first, &bytes)[14..].to_vec()
    };
    let mut cases = Vec::new();
    for (what, chain) in [
        ("destination options", vec![Destination(1)]),
        ("long destination options", vec![Destination(5)]),
        ("hop-by-hop options", vec![HopByHop(2)]),
        ("a routing header", vec![Routing(3)]),
        ("an atomic fragment header", vec![atomic.clone()]),
        ("two extension headers", vec![HopByHop(1), Destination(2)]),
        (
            "a routing and a fragment header",
            vec![Routing(1), atomic.clone()],
        ),
    ] {
        let quoted = behind(&chain);
        let ports = quoted.len() - 18 - 20 + 4;
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("a quoted packet behind {what} / goes to its member"),
            ),
            about(FAMILY, unreachable(FAMILY), &quoted[..ports]),
            steered(1),
        ));
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("a quoted packet cut in its ports behind {what} / dropped as ICMP"),
            ),
            about(FAMILY, unreachable(FAMILY), &quoted[..ports - 1]),
            dropped(Counter::DropIcmp),
        ));
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("a quoted packet cut behind {what}, and bytes behind the packet / dropped as ICMP"),
            ),
            [
                about(FAMILY, unreachable(FAMILY), &quoted[..ports - 4]),
                vec![0; 40],
            ]
            .concat(),
            dropped(Counter::DropIcmp),
        ));
    }
    for (what, chain) in [
        ("behind three extension headers", vec![Destination(1); 3]),
        ("that is a later fragment", vec![later.clone()]),
        (
            "that is a later fragment behind a routing header",
            vec![Routing(1), later],
        ),
    ] {
        cases.push(Case::new(
            title(FAMILY, &format!("a quoted packet {what} / dropped as ICMP")),
            about(FAMILY, unreachable(FAMILY), &behind(&chain)),
            dropped(Counter::DropIcmp),
        ));
    }
    let message = FAMILY.icmp_message(
        1,
        4,
        (FAMILY.distant_router(), FAMILY.vip()),
        &[&[0; 4], quoted].concat(),
    );
    for (what, chain) in [
        ("destination options", vec![Destination(1)]),
        ("six extension headers", vec![Destination(1); 6]),
    ] {
        let (first, bytes) = chained(&chain, 58, &message);
        cases.push(Case::new(
            title(FAMILY, &format!("itself behind {what} / goes to its member")),
            packet(FAMILY.distant_router(), FAMILY.vip(), first, &bytes),
            steered(1),
        ));
    }
    cases
}

fn refusals(family: Family) -> Vec<Case> {
    let flow = family.flow();
    let header = family.transport() - 14;
    let quoted = sent(flow);
    let other = match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    let (vip, client) = (family.vip(), family.client());
    let of = |protocol: u8| packet(vip, client, protocol, &quoted[header..])[14..].to_vec();
    let later = fragment((vip, client), TCP, 77, 185, false, &quoted[header..]);
    let icmp = family.icmp_to(vip, client, 0, 0, b"data");
    let mut cases = Vec::new();
    for (what, quoted) in [
        ("no packet", Vec::new()),
        ("a byte of a packet", quoted[..1].to_vec()),
        ("a header cut by a byte", quoted[..header - 1].to_vec()),
        ("a header alone", quoted[..header].to_vec()),
        ("a header and three bytes of ports", quoted[..header + 3].to_vec()),
        ("a later fragment", later[14..].to_vec()),
        ("the ICMP of a backend", icmp[14..].to_vec()),
        ("a packet of another protocol", of(47)),
        ("a packet of SCTP", of(132)),
        ("a packet of the other family", sent(other.flow())),
        ("a packet of the client's", flow.data()[14..].to_vec()),
        ("a packet of another VIP's", sent(flow.to(family.other_vip()))),
        ("a packet of the balancer's", sent(flow.to(family.host()))),
        (
            "a packet of a wrong version",
            spoilt(quoted.clone(), |quoted| quoted[0] ^= 0x10),
        ),
    ] {
        cases.push(Case::new(
            title(family, &format!("{what} quoted / dropped as ICMP")),
            about(family, unreachable(family), &quoted),
            dropped(Counter::DropIcmp),
        ));
        // What follows the packet in its frame is not part of it.
        if quoted.len() < header + 4 {
            cases.push(Case::new(
                title(
                    family,
                    &format!("{what} quoted, the rest behind the packet / dropped as ICMP"),
                ),
                [
                    about(family, unreachable(family), &quoted),
                    sent(flow)[quoted.len()..].to_vec(),
                ]
                .concat(),
                dropped(Counter::DropIcmp),
            ));
        }
    }
    if family == Family::V4 {
        for (what, first) in [("four", 0x44), ("no", 0x40)] {
            cases.push(Case::new(
                title(
                    family,
                    &format!("a packet with a header of {what} words quoted / dropped as ICMP"),
                ),
                about(
                    family,
                    unreachable(family),
                    &spoilt(quoted.clone(), |quoted| quoted[0] = first),
                ),
                dropped(Counter::DropIcmp),
            ));
        }
    }
    for length in 0..8usize {
        let message = family.icmp_message(3, 1, (family.distant_router(), vip), &[0; 4]);
        cases.push(Case::new(
            title(family, &format!("{length} bytes of a message / dropped as ICMP")),
            packet(family.distant_router(), vip, family.icmp(), &message[..length]),
            dropped(Counter::DropIcmp),
        ));
    }
    cases
}

/// Errors about flows that nobody has are dropped by the same reasons as their packets, and never reset.
fn nobodys(family: Family) -> Vec<Case> {
    let error = |quoted: Vec<u8>| about(family, unreachable(family), &quoted);
    let closed = error(sent(family.flow_to(9)));
    let wrong_protocol = error(said(family.flow()));
    let web = error(sent(family.flow()));
    let mut cases = Vec::new();
    for resetting in [false, true] {
        let suffix = if resetting {
            ", where TCP would be reset"
        } else {
            ""
        };
        let with_policy = |case: Case| if resetting { case.resetting() } else { case };
        cases.extend(
            [
                Case::new(
                    title(
                        family,
                        &format!("about a flow to no service{suffix} / dropped for want of it"),
                    ),
                    closed.clone(),
                    dropped(Counter::DropNoService),
                ),
                Case::new(
                    title(
                        family,
                        &format!("about UDP to a TCP service's port{suffix} / dropped for want of it"),
                    ),
                    wrong_protocol.clone(),
                    dropped(Counter::DropNoService),
                ),
                Case::new(
                    title(
                        family,
                        &format!(
                            "about a flow to a service without members{suffix} / dropped for want of them"
                        ),
                    ),
                    web.clone(),
                    dropped(Counter::DropNoMember),
                )
                .given([family.web_at(NONE)]),
            ]
            .map(with_policy),
        );
    }
    cases.push(
        Case::new(
            title(
                family,
                "about a flow whose member has no next hop / dropped for want of it",
            ),
            web.clone(),
            dropped(Counter::DropNoNextHop).and(&[Counter::IcmpSteered]),
        )
        .given([crate::case::Step::Unresolved(1)]),
    );
    cases.push(
        Case::new(
            title(
                family,
                "about a flow of a VIP that another balancer owns / goes to its member all the same",
            ),
            web,
            steered(1),
        )
        .given([crate::case::Step::Lease(family.lease(), 0)]),
    );
    let message = about(family, unreachable(family), &sent(family.flow()));
    let message = &message[family.transport()..];
    let ends = (family.distant_router(), family.vip());
    for (what, offset, more) in [("first", 0, true), ("later", 3, true), ("last", 3, false)] {
        cases.push(Case::new(
            title(
                family,
                &format!("a {what} fragment of one / dropped as a fragment"),
            ),
            fragment(ends, family.icmp(), 0x0e00, offset, more, message),
            dropped(Counter::DropFragment),
        ));
    }
    cases.push(Case::new(
        title(
            family,
            "UDP's port to a UDP service, in a quoted TCP packet / dropped for want of a service",
        ),
        about(family, unreachable(family), &sent(family.question())),
        dropped(Counter::DropNoService),
    ));
    cases
}
