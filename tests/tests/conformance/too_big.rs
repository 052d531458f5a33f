//! What doesn't fit into a tunnel: fragmentation needed (RFC 1191 section 4) and packet too big (RFC 4443 section
//! 3.2), in the VIP's name.

use std::net::IpAddr;

use foobar_common::counters::Counter::{
    AnswerTooBig, DropTooBig, FragmentFollowed, FragmentNoted, IcmpSteered, NotePending, SlotMoving,
};
use foobar_common::slot::Phase;
use foobar_tests::packets::frame_v6::{Extension, chained, tagged};
use foobar_tests::packets::rig::{TCP, UDP, slot};

use crate::case::{Case, Expected, Step, answered, dropped, encapsulated, goes_to};
use crate::errors::{about, unreachable};
use crate::family::{Ends, Family, packet, spoilt, with_header_checksum};
use crate::fragments::fragment;
use crate::outer::{Outside, Tunnel, WAYS, Way, network};
use crate::services::{CHANCE, RANGE};

/// Bytes of a packet that an answer quotes.
const QUOTED: usize = 512;

/// The flow of a service, its member's way, and what that adds at most.
struct Path {
    name: String,
    flow: Ends,
    way: Way,
    added: usize,
    /// A packet that fits.
    fitting: Outside,
}

fn paths(family: Family) -> Vec<Path> {
    let header = |way: Way| match way.over {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let mut paths: Vec<Path> = WAYS
        .into_iter()
        .map(|way| Path {
            name: way.name(),
            flow: family.flow(),
            way,
            added: header(way) + if way.tunnel == Tunnel::Gue { 12 } else { 0 },
            fitting: way.plain(),
        })
        .collect();
    for over in [Family::V4, Family::V6] {
        let way = Way::new(Tunnel::Gue, over);
        let candidates = match over {
            Family::V4 => 4 + 2 * 4,
            Family::V6 => 4 + 2 * 16,
        };
        paths.push(Path {
            name: format!("{} with room for candidates", way.name()),
            flow: CHANCE.flow(family),
            way,
            added: header(way) + 12 + candidates,
            fitting: way.listing(&[], 1),
        });
    }
    paths
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &family in Family::BOTH {
        for path in paths(family) {
            cases.extend(lengths(family, &path));
        }
        cases.extend(kinds(family));
        cases.extend(untold(family));
    }
    cases
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / too big / {rest}", family.name())
}

/// A segment in a packet of so many bytes.
fn long(flow: Ends, length: usize) -> Vec<u8> {
    let headers = if flow.vip.is_ipv4() { 40 } else { 60 };
    flow.segment(&vec![0x5a; length - headers], |tcp| tcp.ack = true)
}

/// The answer to a frame: the MTU, and the beginning of the packet.
fn answer(family: Family, frame: &[u8], mtu: usize) -> Vec<u8> {
    let at = network(frame);
    let packet = &frame[at..];
    let ends = match family {
        Family::V4 => {
            let address =
                |at: usize| IpAddr::from([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
            (address(16), address(12))
        }
        Family::V6 => {
            let address = |at: usize| {
                let octets: [u8; 16] = std::array::from_fn(|place| packet[at + place]);
                IpAddr::from(octets)
            };
            (address(24), address(8))
        }
    };
    let (kind, code) = match family {
        Family::V4 => (3, 4),
        Family::V6 => (2, 0),
    };
    let body = [&(mtu as u32).to_be_bytes()[..], &packet[..QUOTED]].concat();
    let built = family.icmp_to(ends.0, ends.1, kind, code, &body);
    let mut answer = family.sent_back(built);
    if family == Family::V4 {
        answer[18..22].copy_from_slice(&[0, 0, 0x40, 0]);
        answer = with_header_checksum(answer);
    }
    // Behind the tags that the packet had.
    [&answer[..12], &frame[12..at - 2], &answer[12..]].concat()
}

fn told(family: Family, frame: &[u8], mtu: usize) -> Expected {
    answered(AnswerTooBig, answer(family, frame, mtu))
}

fn lengths(family: Family, path: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for mtu in [1280, 1500, 9216] {
        let way = Way { mtu, ..path.way };
        let room = usize::from(mtu) - path.added;
        let fits = long(path.flow, room);
        let longer = long(path.flow, room + 1);
        let name = format!("{} where {mtu} bytes fit", path.name);
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{name} / the longest packet that fits / goes to the slot's member"),
                ),
                fits,
                encapsulated(1, 0, path.fitting.clone()),
            )
            .given([Step::Way(1, way)]),
        );
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{name} / one of a byte more / answered with what fits"),
                ),
                longer.clone(),
                told(family, &longer, room),
            )
            .given([Step::Way(1, way)]),
        );
    }
    cases
}

/// The way that the following cases are about, and what fits.
const WAY: Way = Way::new(Tunnel::Ipip, Family::V4);
const ROOM: usize = 1480;

fn kinds(family: Family) -> Vec<Case> {
    let (flow, question) = (family.flow(), family.question());
    let mut cases = Vec::new();
    let mut case = |what: &str, frame: Vec<u8>, counters: &[_], steps: Vec<Step>| {
        let expected = told(family, &frame, ROOM).and(counters);
        cases.push(
            Case::new(
                title(family, &format!("{what} / answered with what fits")),
                frame,
                expected,
            )
            .given([Step::Way(1, WAY)])
            .given(steps),
        );
    };
    let data = vec![0x5a; 1600];
    case(
        "a SYN with data",
        flow.segment(&data, |tcp| tcp.syn = true),
        &[],
        vec![],
    );
    case(
        "a datagram",
        question.packet(UDP, &question.udp(&data)),
        &[],
        vec![],
    );
    case(
        "data for a port of a range",
        long(RANGE.flow(family), 1600),
        &[],
        vec![RANGE.at(family, 1)],
    );
    case("data in two buffers", long(flow, 5000), &[], vec![]);
    case(
        "data in three buffers behind a tag",
        tagged(&long(flow, 8900), &[(0x8100, 5)]),
        &[],
        vec![],
    );
    for tags in [&[(0x8100, 7)][..], &[(0x88a8, 7), (0x8100, 8)]] {
        let frame = tagged(&long(flow, 1600), tags);
        case(
            &format!("data behind {} tags, which the answer keeps,", tags.len()),
            frame,
            &[],
            vec![],
        );
    }
    case(
        "padded data",
        [long(flow, 1600), vec![0; 30]].concat(),
        &[],
        vec![],
    );
    case(
        "data for a target without a next hop",
        long(flow, 1600),
        &[],
        vec![Step::Unresolved(1)],
    );
    case(
        "data of an unknown flow in a slot that moves",
        long(flow, 1600),
        &[SlotMoving, NotePending],
        vec![Step::Slot(family.web_slot(), slot(Phase::Moving, 1, 0, 0))],
    );
    let first = fragment(
        (family.client(), family.vip()),
        TCP,
        0x2900,
        0,
        true,
        &flow.tcp(&data, |tcp| tcp.ack = true),
    );
    case("a first fragment", first, &[FragmentNoted], vec![]);
    match family {
        Family::V4 => {
            for (what, flags) in [
                ("data that may be fragmented", 0),
                ("data that must not be fragmented", 0x40),
            ] {
                let frame = with_header_checksum(spoilt(long(flow, 1600), |frame| frame[20] = flags));
                case(what, frame, &[], vec![]);
            }
        }
        Family::V6 => {
            let chain = [Extension::Destination(1)];
            let (first, bytes) = chained(&chain, TCP, &flow.tcp(&data, |tcp| tcp.ack = true));
            case(
                "data behind destination options",
                flow.packet(first, &bytes),
                &[],
                vec![],
            );
        }
    }
    cases
}

/// RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e): who is told nothing.
fn untold(family: Family) -> Vec<Case> {
    let flow = family.flow();
    let quoted = long(flow.reversed(), 1600)[14..].to_vec();
    let mut cases = vec![
        Case::new(
            title(family, "an ICMP error / dropped, for errors are not answered"),
            about(family, unreachable(family), &quoted),
            dropped(DropTooBig).and(&[IcmpSteered]),
        )
        .given([Step::Way(1, WAY)]),
        Case::new(
            title(
                family,
                "data for a target in no tunnel / goes there whatever it is said to take",
            ),
            long(flow, 1600),
            goes_to(1),
        )
        .given([Step::Way(1, Way::new(Tunnel::None, Family::V4))]),
    ];
    let segment = flow.tcp(&[7; 64], |tcp| tcp.ack = true);
    let piece = |id: u32, offset: u16, payload: &[u8]| {
        fragment((family.client(), family.vip()), TCP, id, offset, true, payload)
    };
    let later = piece(0x2901, 10, &[0x5a; 1600]);
    let (what, expected) = match family {
        Family::V4 => (
            "a later fragment / dropped, for only the first one is answered",
            dropped(DropTooBig),
        ),
        Family::V6 => (
            "a later fragment / answered with what fits",
            told(family, &later, ROOM),
        ),
    };
    cases.push(
        Case::new(title(family, what), later, expected.and(&[FragmentFollowed]))
            .given([Step::Way(1, WAY), Step::Frame(piece(0x2901, 0, &segment))]),
    );
    if family == Family::V6 {
        let ends = (family.distant_router(), family.vip());
        let (kind, code) = unreachable(family);
        let message = family.icmp_message(kind, code, ends, &[&[0; 4][..], &quoted].concat());
        let (first, bytes) = chained(&[Extension::Destination(1)], 58, &message);
        cases.push(
            Case::new(
                title(
                    family,
                    "an ICMP error behind destination options / dropped, for errors are not answered",
                ),
                packet(ends.0, ends.1, first, &bytes),
                dropped(DropTooBig).and(&[IcmpSteered]),
            )
            .given([Step::Way(1, WAY)]),
        );
    }
    cases
}
