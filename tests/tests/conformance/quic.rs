//! QUIC: a packet follows the server id in its connection id to a member that may have it; else its slot decides.

#[path = "quic/places.rs"]
mod places;

use foobar::dataplane::ServerIds;
use foobar_common::counters::Counter::QuicServerId;
use foobar_common::quic::ServerIdKey;
use foobar_common::slot::Member;
use foobar_common::target::{TARGET_CUT, TARGET_DOWN, TARGET_DRAINED, TARGET_GONE, TARGET_REMOVED};
use foobar_common::vip::VIP_QUIC;
use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::quic::{connection_id, long, short};
use foobar_tests::packets::rig::UDP;

use crate::case::{Case, Expected, Step, goes_to};
use crate::family::Family;
use crate::services::{QUIC, QUIC_BY_SOURCE, QUIC_CHANCE, QUIC_LONG, QUIC_RANGE, QUIC_SHORT, Service, all};

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

/// The connection id of [`NAMED`] at a service.
fn named(service: Service) -> Vec<u8> {
    connection_id(CONFIG, &ID[..length(service)])
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
                places::places(family),
                places::tunnels(family),
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
