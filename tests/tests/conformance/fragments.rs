//! Fragments (RFC 791 section 3.2, RFC 8200 section 4.5): the first one of a datagram is steered as any packet
//! and leaves behind where it went; the later ones follow it.
//!
//! What fragments leave behind stays from case to case, so that each case has an identification of its own.

use std::net::IpAddr;

use etherparse::{IpFragOffset, IpNumber};
use foobar_common::counters::Counter;
use foobar_common::slot::NONE;
use foobar_common::target::{TARGET_DOWN, TARGET_DRAINED, TARGET_GONE};
use foobar_tests::packets::frame::ipv4;
use foobar_tests::packets::frame_v6::{Extension, chained, ipv6, tagged};
use foobar_tests::packets::rig::{TCP, UDP};

use crate::case::{Case, Expected, Step, dropped, goes_to, opens, passes};
use crate::family::{Family, spoilt, with_header_checksum};

/// A fragment of a datagram; `offset` is in units of 8 bytes.
pub(crate) fn fragment(
    ends: (IpAddr, IpAddr),
    protocol: u8,
    id: u32,
    offset: u16,
    more: bool,
    payload: &[u8],
) -> Vec<u8> {
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4(IpNumber(protocol), source, destination, payload, |ip| {
                ip.identification = id as u16;
                ip.dont_fragment = false;
                ip.more_fragments = more;
                ip.fragment_offset = IpFragOffset::try_new(offset).expect("offsets have 13 bits");
            })
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Extension::Fragment { offset, more, id };
            let (first, bytes) = chained(&[header], protocol, payload);
            ipv6(first, source, destination, &bytes, |_| ())
        }
        _ => unreachable!("a packet is of one family"),
    }
}

/// The last fragment of a segment of the client's to the VIP.
pub(crate) fn later(family: Family, id: u32) -> Vec<u8> {
    of(family, TCP, id, 185, false, &[0x5a; 100])
}

fn of(family: Family, protocol: u8, id: u32, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    fragment(
        (family.client(), family.vip()),
        protocol,
        id,
        offset,
        more,
        payload,
    )
}

/// A first fragment with data to the TCP service.
fn first_data(family: Family, id: u32) -> Vec<u8> {
    of(
        family,
        TCP,
        id,
        0,
        true,
        &family.flow().tcp(&[7; 1460], |tcp| tcp.ack = true),
    )
}

/// The first 1480 bytes of a datagram of 3008.
fn first_datagram(family: Family, id: u32) -> Vec<u8> {
    let whole = family.question().udp(&[7; 3000]);
    of(family, UDP, id, 0, true, &whole[..1480])
}

fn noted(expected: Expected) -> Expected {
    expected.and(&[Counter::FragmentNoted])
}

fn follows(member: u16) -> Expected {
    goes_to(member).and(&[Counter::FragmentFollowed])
}

/// Gives each case its own identification.
struct Ids(u32);

impl Ids {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| {
            let mut ids = Ids(0x1000);
            [
                firsts(family, &mut ids),
                laters(family, &mut ids),
                strangers(family, &mut ids),
                members(family, &mut ids),
                refusals(family, &mut ids),
                other_protocols(family, &mut ids),
                own(family, &mut ids),
            ]
            .concat()
        })
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / fragments / {rest}", family.name())
}

fn firsts(family: Family, ids: &mut Ids) -> Vec<Case> {
    let syn = family.flow().tcp(&[], |tcp| tcp.syn = true);
    let fin = family
        .flow()
        .tcp(&[1; 64], |tcp| (tcp.fin, tcp.ack) = (true, true));
    let long = family.flow().tcp(&[1; 64], |tcp| {
        tcp.ack = true;
        tcp.set_options_raw(&[1; 40]).expect("options fit");
    });
    let mut tcp = |payload: &[u8]| of(family, TCP, ids.next(), 0, true, payload);
    let mut cases = vec![
        Case::new(
            title(
                family,
                "a first one that is a SYN / opens a connection and is noted",
            ),
            tcp(&syn),
            noted(opens(3)),
        ),
        Case::new(
            title(
                family,
                "a first one with data / goes to the slot's member and is noted",
            ),
            tcp(&family.flow().tcp(&[7; 1460], |tcp| tcp.ack = true)),
            noted(goes_to(3)),
        ),
        Case::new(
            title(
                family,
                "a first one with FIN / goes to the slot's member and is noted",
            ),
            tcp(&fin),
            noted(goes_to(3)),
        ),
        Case::new(
            title(
                family,
                "a first one with 40 bytes of options / goes to the slot's member and is noted",
            ),
            tcp(&long[..60]),
            noted(goes_to(3)),
        ),
        Case::new(
            title(
                family,
                "a first one of 20 bytes of TCP / goes to the slot's member and is noted",
            ),
            tcp(&family.flow().tcp(&[], |tcp| tcp.ack = true)),
            noted(goes_to(3)),
        ),
    ];
    let datagram = family.question().udp(&[7; 3000]);
    for (what, length) in [("8 bytes", 8), ("16 bytes", 16), ("1480 bytes", 1480)] {
        cases.push(Case::new(
            title(
                family,
                &format!("the first {what} of a long datagram / goes to the slot's member and is noted"),
            ),
            of(family, UDP, ids.next(), 0, true, &datagram[..length]),
            noted(goes_to(4)),
        ));
    }
    for tags in [&[(0x8100, 7)][..], &[(0x88a8, 7), (0x8100, 8)]] {
        cases.push(Case::new(
            title(
                family,
                &format!(
                    "a first one behind {} tags / goes to the slot's member and is noted",
                    tags.len()
                ),
            ),
            tagged(&first_data(family, ids.next()), tags),
            noted(goes_to(3)),
        ));
    }
    cases
        .into_iter()
        .map(|case| case.given([family.web_at(3), family.dns_at(4)]))
        .collect()
}

fn laters(family: Family, ids: &mut Ids) -> Vec<Case> {
    let mut cases = Vec::new();
    // A first one goes to member 3 (TCP) or 4 (UDP); then the slots are another's.
    let mut case =
        |what: &str, protocol: u8, before: &[(u16, bool)], offset: u16, more: bool, length: usize| {
            let id = ids.next();
            let (first, member) = if protocol == TCP {
                (first_data(family, id), 3)
            } else {
                (first_datagram(family, id), 4)
            };
            let mut steps = vec![family.web_at(3), family.dns_at(4), Step::Frame(first)];
            for &(offset, more) in before {
                steps.push(Step::Frame(of(family, protocol, id, offset, more, &[1; 800])));
            }
            steps.extend([family.web_at(5), family.dns_at(6)]);
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("{what} / follows the first one, whosever the slot is now"),
                    ),
                    of(family, protocol, id, offset, more, &vec![0x5a; length]),
                    follows(member),
                )
                .given(steps),
            );
        };
    for (name, protocol) in [("TCP", TCP), ("UDP", UDP)] {
        case(&format!("a second one of {name}"), protocol, &[], 185, true, 1480);
        case(&format!("the last one of {name}"), protocol, &[], 185, false, 64);
        case(
            &format!("a third one of {name}"),
            protocol,
            &[(185, true)],
            285,
            false,
            40,
        );
        case(
            &format!("one of {name} that comes before its turn"),
            protocol,
            &[],
            5000,
            true,
            800,
        );
        case(
            &format!("one of {name} at the highest offset"),
            protocol,
            &[],
            8191,
            false,
            8,
        );
        case(
            &format!("one of {name} at the lowest offset"),
            protocol,
            &[],
            1,
            false,
            8,
        );
        case(
            &format!("one of {name} of a single byte"),
            protocol,
            &[],
            185,
            false,
            1,
        );
        case(
            &format!("one of {name} with no byte"),
            protocol,
            &[],
            185,
            false,
            0,
        );
        case(
            &format!("one of {name} twice"),
            protocol,
            &[(185, false)],
            185,
            false,
            800,
        );
    }
    cases
}

/// Later fragments whose first one is not known.
fn strangers(family: Family, ids: &mut Ids) -> Vec<Case> {
    let mut cases = vec![Case::new(
        title(family, "a later one without a first one / dropped as a fragment"),
        later(family, ids.next()),
        dropped(Counter::DropFragment),
    )];
    cases.push({
        let id = ids.next();
        Case::new(
            title(
                family,
                "a later one after another later one / dropped as a fragment",
            ),
            later(family, id),
            dropped(Counter::DropFragment),
        )
        .given([Step::Frame(later(family, id))])
    });
    let (client, vip) = (family.client(), family.vip());
    let other_protocol = match family {
        Family::V4 => dropped(Counter::DropFragment),
        // The protocol is no part of a datagram's identity (RFC 8200 section 4.5).
        Family::V6 => follows(1),
    };
    for (what, ends, protocol, step, expected) in [
        (
            "of another identification",
            (client, vip),
            TCP,
            1,
            dropped(Counter::DropFragment),
        ),
        (
            "of another client",
            (family.other_client(), vip),
            TCP,
            0,
            dropped(Counter::DropFragment),
        ),
        (
            "to another VIP",
            (client, family.other_vip()),
            TCP,
            0,
            dropped(Counter::DropFragment),
        ),
        ("of another protocol", (client, vip), UDP, 0, other_protocol),
    ] {
        let id = ids.next();
        ids.next();
        cases.push(
            Case::new(
                title(
                    family,
                    &format!(
                        "a later one {what} than the first one / {}",
                        if expected == follows(1) {
                            "follows it"
                        } else {
                            "dropped as a fragment"
                        }
                    ),
                ),
                fragment(ends, protocol, id + step, 185, false, &[1; 64]),
                expected,
            )
            .given([Step::Frame(first_data(family, id))]),
        );
    }
    if family == Family::V6 {
        for (what, bit) in [("first byte", 24), ("last byte", 0)] {
            let id = ids.next() | 0x5500_0000;
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!(
                            "a later one whose identification differs in its {what} / dropped as a fragment"
                        ),
                    ),
                    later(family, id ^ 1 << bit),
                    dropped(Counter::DropFragment),
                )
                .given([Step::Frame(first_data(family, id))]),
            );
            ids.next();
        }
    }
    let id = ids.next();
    cases.push(Case::new(
        title(family, "a later one to no VIP / the kernel's"),
        fragment((client, family.host()), TCP, id, 185, false, &[1; 64]),
        passes(),
    ));
    cases.push(Case::new(
        title(family, "a first one to no VIP / the kernel's"),
        fragment((client, family.host()), TCP, id, 0, true, &[1; 64]),
        passes(),
    ));
    cases
}

/// What becomes of the member meanwhile.
fn members(family: Family, ids: &mut Ids) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |what: &str, then: Vec<Step>, expected: Expected| {
        let id = ids.next();
        let mut steps = vec![family.web_at(3), Step::Frame(first_data(family, id))];
        steps.extend(then.into_iter().map(|step| match step {
            // A frame of the case's own: the first one once more.
            Step::Frame(_) => Step::Frame(first_data(family, id)),
            step => step,
        }));
        cases.push(Case::new(title(family, what), later(family, id), expected).given(steps));
    };
    case(
        "a later one whose member is gone / dropped as a fragment",
        vec![Step::Flags(3, TARGET_GONE)],
        dropped(Counter::DropFragment),
    );
    case(
        "a later one whose member is down / follows the first one",
        vec![Step::Flags(3, TARGET_DOWN)],
        follows(3),
    );
    case(
        "a later one whose member is drained / follows the first one",
        vec![Step::Flags(3, TARGET_DRAINED)],
        follows(3),
    );
    case(
        "a later one whose service has no member any more / follows the first one",
        vec![family.web_at(NONE)],
        follows(3),
    );
    case(
        "a later one of a VIP that another balancer owns / follows the first one",
        vec![Step::Lease(family.lease(), 0)],
        follows(3),
    );
    case(
        "a later one after two first ones / follows the second",
        vec![family.web_at(4), Step::Frame(Vec::new())],
        follows(4),
    );
    case(
        "a later one whose member has no next hop / dropped for want of it",
        vec![Step::Unresolved(3)],
        dropped(Counter::DropNoNextHop).and(&[Counter::FragmentFollowed]),
    );
    cases
}

/// First fragments that are not steered, and that leave nothing behind.
fn refusals(family: Family, ids: &mut Ids) -> Vec<Case> {
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
fn other_protocols(family: Family, ids: &mut Ids) -> Vec<Case> {
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

/// What only one of the families has.
fn own(family: Family, ids: &mut Ids) -> Vec<Case> {
    match family {
        Family::V4 => optioned(ids),
        Family::V6 => extended(ids),
    }
}

fn optioned(ids: &mut Ids) -> Vec<Case> {
    const FAMILY: Family = Family::V4;
    let with_options = |frame: Vec<u8>, words: usize| {
        with_header_checksum(spoilt(frame, |frame| {
            frame[14] = 0x45 + words as u8;
            frame.splice(34..34, vec![1; words * 4]);
            let total = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
        }))
    };
    let mut cases = Vec::new();
    for words in [1, 10] {
        let id = ids.next();
        let first = with_options(first_data(FAMILY, id), words);
        cases.push(Case::new(
            title(
                FAMILY,
                &format!(
                    "a first one with {words} words of IP options / goes to the slot's member and is noted"
                ),
            ),
            first.clone(),
            noted(goes_to(1)),
        ));
        cases.push(
            Case::new(
                title(
                    FAMILY,
                    &format!("a later one with {words} words of IP options / follows the first one"),
                ),
                with_options(later(FAMILY, id), words),
                follows(3),
            )
            .given([FAMILY.web_at(3), Step::Frame(first)]),
        );
    }
    for (what, flags, expected) in [
        (
            "more fragments and don't fragment at once",
            0x60,
            noted(goes_to(1)),
        ),
        ("more fragments and the reserved flag", 0xa0, noted(goes_to(1))),
    ] {
        let frame = spoilt(first_data(FAMILY, ids.next()), |frame| frame[20] = flags);
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("a first one with {what} / goes to the slot's member and is noted"),
            ),
            with_header_checksum(frame),
            expected,
        ));
    }
    cases
}

fn extended(ids: &mut Ids) -> Vec<Case> {
    use Extension::{Destination, HopByHop, Routing};
    const FAMILY: Family = Family::V6;
    let (IpAddr::V6(client), IpAddr::V6(vip)) = (FAMILY.client(), FAMILY.vip()) else {
        unreachable!("the family is IPv6");
    };
    let data = FAMILY.flow().tcp(&[7; 200], |tcp| tcp.ack = true);
    let behind =
        |before: &[Extension], (offset, more): (u16, bool), id: u32, after: &[Extension], payload: &[u8]| {
            let chain = [before, &[Extension::Fragment { offset, more, id }], after].concat();
            let (first, bytes) = chained(&chain, TCP, payload);
            ipv6(first, client, vip, &bytes, |_| ())
        };
    let mut cases = Vec::new();
    for (what, before, after) in [
        (
            "hop-by-hop options before its fragment header",
            vec![HopByHop(1)],
            vec![],
        ),
        (
            "a routing header before its fragment header",
            vec![Routing(2)],
            vec![],
        ),
        (
            "destination options behind its fragment header",
            vec![],
            vec![Destination(1)],
        ),
        (
            "six extension headers",
            vec![HopByHop(1), Destination(1), Routing(1)],
            vec![Destination(1); 2],
        ),
    ] {
        let id = ids.next();
        let first = behind(&before, (0, true), id, &after, &data);
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("a first one with {what} / goes to the slot's member and is noted"),
            ),
            first.clone(),
            noted(goes_to(1)),
        ));
        cases.push(
            Case::new(
                title(
                    FAMILY,
                    &format!("a later one after a first one with {what} / follows it"),
                ),
                behind(&before, (30, false), id, &[], b"the rest"),
                follows(3),
            )
            .given([FAMILY.web_at(3), Step::Frame(first)]),
        );
    }
    // Behind a later one's fragment header there is data, whatever number it names.
    let id = ids.next();
    let named = |number: u8| {
        let header = Extension::Fragment {
            offset: 30,
            more: false,
            id,
        };
        let (first, bytes) = chained(&[header], number, &[0xff; 40]);
        ipv6(first, client, vip, &bytes, |_| ())
    };
    for (what, number) in [
        ("destination options", 60),
        ("hop-by-hop options", 0),
        ("a fragment header", 44),
    ] {
        cases.push(
            Case::new(
                title(
                    FAMILY,
                    &format!("a later one whose datagram begins with {what} / follows the first one"),
                ),
                named(number),
                follows(3),
            )
            .given([FAMILY.web_at(3), Step::Frame(first_data(FAMILY, id))]),
        );
    }
    cases.push(Case::new(
        title(
            FAMILY,
            "a first one whose destination options run beyond it / dropped as truncated",
        ),
        spoilt(
            behind(&[], (0, true), ids.next(), &[Destination(1)], &data),
            |frame| frame[63] = 255,
        ),
        dropped(Counter::DropTruncated),
    ));
    cases.push(Case::new(
        title(
            FAMILY,
            "a first one with seven extension headers / dropped as an extension",
        ),
        behind(&[], (0, true), ids.next(), &vec![Destination(1); 6], &data),
        dropped(Counter::DropExtension),
    ));
    for bits in [2, 4, 6] {
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("an atomic one with reserved bits {bits} / goes to the slot's member"),
            ),
            spoilt(behind(&[], (0, false), ids.next(), &[], &data), |frame| {
                frame[57] |= bits
            }),
            goes_to(1),
        ));
    }
    cases
}
