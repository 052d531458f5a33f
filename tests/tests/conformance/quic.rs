//! QUIC: a packet follows the server id in its connection id to a member that may have it; else its slot decides.

use foobar::dataplane::ServerIds;
use foobar_common::counters::Counter::{
    DropDenied, FragmentFollowed, FragmentNoted, NotePending, QuicServerId, SlotKept, SlotMoving,
};
use foobar_common::quic::ServerIdKey;
use foobar_common::slot::{Member, NONE, Phase};
use foobar_common::target::{TARGET_CUT, TARGET_DOWN, TARGET_DRAINED, TARGET_GONE, TARGET_REMOVED};
use foobar_common::vip::VIP_QUIC;
use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::rig::{UDP, slot};

use crate::case::{Case, Expected, Step, dropped, encapsulated, goes_to};
use crate::family::Family;
use crate::fragments::fragment;
use crate::lists::DENIED;
use crate::outer::{Tunnel, WAYS, Way};
use crate::services::{
    QUIC, QUIC_BY_SOURCE, QUIC_CHANCE, QUIC_LISTED, QUIC_LONG, QUIC_RANGE, QUIC_SHORT, Service, all,
};

/// The number of the services' configuration.
pub(crate) const CONFIG: u8 = 2;
/// The bytes of the server id of [`NAMED`], as many as a service's ids have.
const ID: [u8; 8] = [0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18];
/// The member that it names. Slots lead to [`SLOTS`].
const NAMED: Member = 3;
const SLOTS: Member = 1;

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;
const UNKNOWN: u32 = 0x1a2a_3a4a;

/// Bytes of a service's server ids.
pub(crate) fn length(service: Service) -> usize {
    match service {
        QUIC_SHORT => 1,
        QUIC_LONG => 8,
        _ => 4,
    }
}

/// The server ids of all services: each has one.
pub(crate) fn server_ids() -> ServerIds {
    let mut ids = ServerIds::new();
    for service in all().into_iter().filter(|service| service.has(VIP_QUIC)) {
        for &family in Family::BOTH {
            let mut key = ServerIdKey {
                vip: service.id(family),
                ..ServerIdKey::default()
            };
            let length = length(service);
            key.id[..length].copy_from_slice(&ID[..length]);
            ids.insert(key, NAMED);
        }
    }
    ids
}

/// A connection id: configuration, server id, and a nonce of 4 bytes.
fn connection_id(config: u8, id: &[u8]) -> Vec<u8> {
    [&[config << 5 | 9][..], id, &[0x11, 0x22, 0x33, 0x44]].concat()
}

/// The connection id of [`NAMED`] at a service.
fn named(service: Service) -> Vec<u8> {
    connection_id(CONFIG, &ID[..length(service)])
}

/// A packet with a short header (RFC 9000 section 17.3).
fn short(id: &[u8]) -> Vec<u8> {
    [&[0x43][..], id, &[0x5a; 24]].concat()
}

/// A packet with a long header (RFC 8999 section 5.1), whose type has these two bits.
fn long(version: u32, kind: u8, id: &[u8]) -> Vec<u8> {
    [
        &[0xc3 | kind << 4][..],
        &version.to_be_bytes(),
        &[id.len() as u8],
        id,
        &[4, 9, 9, 9, 9],
        &[0x5a; 40],
    ]
    .concat()
}

fn datagram(family: Family, service: Service, payload: &[u8]) -> Vec<u8> {
    let flow = service.flow(family);
    flow.packet(UDP, &flow.udp(payload))
}

fn follows() -> Expected {
    goes_to(NAMED).and(&[QuicServerId])
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| {
            [
                forms(family),
                stages(family),
                others(family),
                cut(family),
                places(family),
                tunnels(family),
            ]
            .concat()
        })
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / quic / {rest}", family.name())
}

/// Ids of every length, in both forms, by services of every kind.
fn forms(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, service) in [
        ("ids of 4 bytes", QUIC),
        ("ids of a byte", QUIC_SHORT),
        ("ids of 8 bytes", QUIC_LONG),
        ("a range of ports", QUIC_RANGE),
        ("slots by source", QUIC_BY_SOURCE),
        ("candidates", QUIC_CHANCE),
    ] {
        for (what, packet) in [
            ("a short header", short(&named(service))),
            ("an Initial packet", long(V1, 0, &named(service))),
            ("a Handshake packet", long(V1, 2, &named(service))),
        ] {
            let frame = datagram(family, service, &packet);
            cases.push(Case::new(
                title(
                    family,
                    &format!("{name} / {what} with a member's id / goes to the member"),
                ),
                frame.clone(),
                follows(),
            ));
            cases.push(Case::new(
                title(
                    family,
                    &format!("{name} / {what} with a member's id, behind a tag / goes to the member"),
                ),
                tagged(&frame, &[(0x8100, 7)]),
                follows(),
            ));
        }
        let mut id = named(service);
        id[length(service)] ^= 0x80;
        cases.push(Case::new(
            title(
                family,
                &format!("{name} / an id that differs in its last byte / as the slot says"),
            ),
            datagram(family, service, &short(&id)),
            goes_to(SLOTS),
        ));
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{name} / from another address / goes to the member"),
                ),
                {
                    let flow = service.flow(family).from(family.other_client());
                    flow.packet(UDP, &flow.udp(&short(&named(service))))
                },
                follows(),
            )
            .given([service.at(family, 2)]),
        );
    }
    cases
}

/// What an id may be followed to depends on the member's state, and on whether the packet may open a connection.
fn stages(family: Family) -> Vec<Case> {
    let id = named(QUIC);
    let packets = [
        ("a short header", short(&id), false),
        ("version 1's Initial", long(V1, 0, &id), true),
        ("version 1's 0-RTT", long(V1, 1, &id), true),
        ("version 1's Handshake", long(V1, 2, &id), false),
        ("version 1's Retry", long(V1, 3, &id), false),
        ("version 2's Retry", long(V2, 0, &id), false),
        ("version 2's Initial", long(V2, 1, &id), true),
        ("version 2's 0-RTT", long(V2, 2, &id), true),
        ("version 2's Handshake", long(V2, 3, &id), false),
        ("an unknown version's long header", long(UNKNOWN, 2, &id), true),
        ("version negotiation's long header", long(0, 3, &id), true),
    ];
    let states = [
        ("is up", 0, true, true),
        ("is drained", TARGET_DRAINED, true, false),
        ("is in the configuration no more", TARGET_REMOVED, true, false),
        ("is down", TARGET_DOWN, false, false),
        ("is gone", TARGET_GONE, false, false),
        ("has had its drain's time", TARGET_CUT, false, false),
    ];
    let mut cases = Vec::new();
    for (what, packet, opens) in packets {
        for (state, flags, keeps, takes_new) in states {
            let is_followed = if opens { takes_new } else { keeps };
            let (outcome, expected) = if is_followed {
                ("goes to the member", follows())
            } else {
                ("as the slot says", goes_to(SLOTS))
            };
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("{what} with the id of a member that {state} / {outcome}"),
                    ),
                    datagram(family, QUIC, &packet),
                    expected,
                )
                .given([Step::Flags(NAMED, flags)]),
            );
        }
    }
    cases
}

/// Connection ids that name nobody.
fn others(family: Family) -> Vec<Case> {
    let id = &ID[..4];
    let mut cases = Vec::new();
    for (what, id) in [
        ("of another configuration", connection_id(CONFIG + 1, id)),
        ("of configuration 0", connection_id(0, id)),
        ("of configuration 7, which names no server", connection_id(7, id)),
        ("of another id", connection_id(CONFIG, &[0xa1, 0xb2, 0xc3, 0xd5])),
        ("of zeros", vec![0; 9]),
        (
            "of an id in another byte order",
            connection_id(CONFIG, &[0xd4, 0xc3, 0xb2, 0xa1]),
        ),
    ] {
        for (form, packet) in [("short", short(&id)), ("long", long(V1, 2, &id))] {
            cases.push(Case::new(
                title(
                    family,
                    &format!("a {form} header with a connection id {what} / as the slot says"),
                ),
                datagram(family, QUIC, &packet),
                goes_to(SLOTS),
            ));
        }
    }
    let random = connection_id(7, &[9; 4]);
    for (what, first, second, expected) in [
        ("first", named(QUIC), random.clone(), follows()),
        ("second", random, named(QUIC), goes_to(SLOTS)),
    ] {
        cases.push(Case::new(
            title(
                family,
                &format!("two packets in a datagram, the {what} with a member's id / the first one decides"),
            ),
            datagram(family, QUIC, &[long(V1, 2, &first), short(&second)].concat()),
            expected,
        ));
    }
    cases
}

/// Ids that are not all there.
fn cut(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (form, whole, needed) in [
        ("short", short(&named(QUIC)), 6),
        ("long", long(V1, 2, &named(QUIC)), 15),
    ] {
        for length in (0..=needed).rev() {
            let (outcome, expected) = if length == needed {
                ("goes to the member", follows())
            } else {
                ("as the slot says", goes_to(SLOTS))
            };
            cases.push(Case::new(
                title(
                    family,
                    &format!("the first {length} bytes of a {form} header / {outcome}"),
                ),
                datagram(family, QUIC, &whole[..length]),
                expected,
            ));
        }
    }
    for length in [0u8, 1, 4, 5, 9, 20, 55, 200, 255] {
        let mut packet = long(V1, 2, &named(QUIC));
        packet[5] = length;
        let fits = length > 4 && usize::from(length) <= packet.len() - 6;
        let (outcome, expected) = if fits {
            ("goes to the member", follows())
        } else {
            ("as the slot says", goes_to(SLOTS))
        };
        cases.push(Case::new(
            title(
                family,
                &format!("a long header that says its connection id has {length} bytes / {outcome}"),
            ),
            datagram(family, QUIC, &packet),
            expected,
        ));
    }
    // What is behind the datagram is none of its own.
    for (length, expected, outcome) in [
        (13u16, goes_to(SLOTS), "as the slot says"),
        (14, follows(), "goes to the member"),
    ] {
        let flow = QUIC.flow(family);
        let mut udp = flow.udp(&short(&named(QUIC)));
        udp[4..6].copy_from_slice(&length.to_be_bytes());
        cases.push(Case::new(
            title(
                family,
                &format!("a UDP length of {length} in a packet that is longer / {outcome}"),
            ),
            flow.packet(UDP, &udp),
            expected,
        ));
    }
    cases
}

/// Slots, services, fragments and lists.
fn places(family: Family) -> Vec<Case> {
    let packet = short(&named(QUIC));
    let frame = datagram(family, QUIC, &packet);
    let mut cases = Vec::new();
    for (name, phase) in [
        ("is open", Phase::Open),
        ("moves", Phase::Moving),
        ("has just moved", Phase::Fresh),
        ("has moved", Phase::Moved),
        ("is kept", Phase::Kept),
    ] {
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("a member's id in a slot that {name} / goes to the member, not noted"),
                ),
                frame.clone(),
                follows(),
            )
            .given([
                Step::Slot(QUIC.slot(family), slot(phase, 1, 2, 4)),
                Step::Frame(frame.clone()),
            ]),
        );
    }
    cases.push(
        Case::new(
            title(
                family,
                "a member's id at a service whose slot has nobody / goes to the member",
            ),
            frame.clone(),
            follows(),
        )
        .given([QUIC.at(family, NONE)]),
    );
    cases.push(
        Case::new(
            title(family, "no id in a slot that moves / to the old owner, noted"),
            datagram(family, QUIC, b"a question"),
            goes_to(2).and(&[SlotMoving, NotePending]),
        )
        .given([Step::Slot(QUIC.slot(family), slot(Phase::Moving, 1, 2, 0))]),
    );
    cases.push(Case::new(
        title(
            family,
            "a member's id at a service that doesn't look at ids / as the slot says",
        ),
        {
            let flow = family.question();
            flow.packet(UDP, &flow.udp(&packet))
        },
        goes_to(SLOTS),
    ));
    let piece = |id: u32, offset: u16, payload: &[u8]| {
        fragment((family.client(), family.vip()), UDP, id, offset, true, payload)
    };
    let whole = QUIC.flow(family).udp(&[&packet[..], &[0; 400]].concat());
    cases.push(Case::new(
        title(
            family,
            "a first fragment with a member's id / goes to the member and is noted",
        ),
        piece(0x3800, 0, &whole[..64]),
        follows().and(&[FragmentNoted]),
    ));
    cases.push(Case::new(
        title(
            family,
            "a first fragment that ends before its id does / as the slot says, and is noted",
        ),
        piece(0x3801, 0, &whole[..8]),
        goes_to(SLOTS).and(&[FragmentNoted]),
    ));
    cases.push(
        Case::new(
            title(
                family,
                "a later fragment behind one with a member's id / follows it",
            ),
            piece(0x3802, 8, &[7; 64]),
            goes_to(NAMED).and(&[FragmentFollowed]),
        )
        .given([Step::Frame(piece(0x3802, 0, &whole[..64]))]),
    );
    let flow = QUIC_LISTED.flow(family).from(DENIED.of(family));
    for (what, packet) in [
        ("a short header", short(&named(QUIC_LISTED))),
        ("an Initial packet", long(V1, 0, &named(QUIC_LISTED))),
    ] {
        let frame = flow.packet(UDP, &flow.udp(&packet));
        cases.push(Case::new(
            title(
                family,
                &format!("{what} of a denied source with a member's id / dropped as denied"),
            ),
            frame.clone(),
            dropped(DropDenied),
        ));
        cases.push(Case::new(
            title(
                family,
                &format!("{what} of a denied source with a member's id, behind a tag / dropped as denied"),
            ),
            tagged(&frame, &[(0x8100, 7)]),
            dropped(DropDenied),
        ));
        cases.push(Case::new(
            title(
                family,
                &format!("{what} of a source that is served with a member's id / goes to the member"),
            ),
            datagram(family, QUIC_LISTED, &packet),
            follows(),
        ));
    }
    cases
}

fn tunnels(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for way in WAYS {
        for (name, service) in [("slots by flow", QUIC), ("slots by source", QUIC_BY_SOURCE)] {
            let frame = datagram(family, service, &short(&named(service)));
            for (what, frame, other) in [
                ("a member's id", frame.clone(), frame.clone()),
                (
                    "a member's id behind a tag",
                    tagged(&frame, &[(0x8100, 7)]),
                    frame.clone(),
                ),
                ("no id", datagram(family, service, b"a question"), frame),
            ] {
                let expected = encapsulated(NAMED, 0, way.plain().like(other));
                let expected = if what == "no id" {
                    expected
                } else {
                    expected.and(&[QuicServerId])
                };
                cases.push(
                    Case::new(
                        title(
                            family,
                            &format!("{} / {name} / {what} / goes to the member, in a header like the flow's other ones", way.name()),
                        ),
                        frame,
                        expected,
                    )
                    .given([Step::Way(NAMED, way), Step::Sources, service.at(family, NAMED)]),
                );
            }
        }
    }
    let gue = Way::new(Tunnel::Gue, family);
    let kept = Step::Slot(QUIC_CHANCE.slot(family), slot(Phase::Kept, 1, 2, 4));
    let ways = || [1, 2, NAMED, 4].map(|member| Step::Way(member, gue));
    cases.push(
        Case::new(
            title(
                family,
                "a member's id where packets carry candidates / goes to the member, and nobody is listed",
            ),
            datagram(family, QUIC_CHANCE, &short(&named(QUIC_CHANCE))),
            encapsulated(NAMED, 0, gue.listing(&[], 1)).and(&[QuicServerId]),
        )
        .given(ways())
        .given([kept.clone()]),
    );
    cases.push(
        Case::new(
            title(
                family,
                "no id where packets carry candidates / the slot's owners are listed",
            ),
            datagram(family, QUIC_CHANCE, b"a question"),
            encapsulated(1, 0, gue.listing(&[2, 4], 1)).and(&[SlotKept]),
        )
        .given(ways())
        .given([kept]),
    );
    cases
}
