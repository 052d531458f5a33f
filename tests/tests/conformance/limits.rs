//! Limits of new connections: so many of all sources together, so many of each. What they are charged is not earned
//! again while a case lasts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foobar_common::address::Address;
use foobar_common::admission::SynLimit;
use foobar_common::counters::Counter::{
    DropDenied, DropNoMember, DropSourceLimit, DropSynLimit, FragmentNoted, IcmpSteered,
};
use foobar_common::slot::NONE;
use foobar_common::vip::VIP_SYN_LIMIT;
use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::rig::{Rig, TCP};

use crate::case::{Case, Expected, Step, dropped, encapsulated, goes_to, opens};
use crate::errors::{about, sent, unreachable};
use crate::family::{Ends, Family};
use crate::fragments::fragment;
use crate::lists::DENIED;
use crate::outer::WAYS;
use crate::services::{BOTH_LIMITED, LIMITED, LIMITED_LISTED, LIMITED_RANGE, SOURCE_LIMITED, Service, all};

const HOUR_NS: u64 = 3_600_000_000_000;
/// New connections at once, of all and of a source.
const BURST: u16 = 3;
const SOURCE_BURST: u16 = 2;
/// Bits of an address that make it a source.
const SOURCE_BITS: (u32, u32) = (30, 64);

/// The limit of a service.
pub(crate) fn of(service: Service, family: Family) -> u16 {
    let limited = all().into_iter().filter(|service| service.has(VIP_SYN_LIMIT));
    let place = limited.take_while(|&other| other != service).count() as u16;
    if service.has(VIP_SYN_LIMIT) {
        1 + 2 * place + u16::from(family == Family::V6)
    } else {
        0
    }
}

/// Fills all buckets.
pub(crate) fn refill(rig: &Rig) {
    rig.plane.forget_sources();
    let mask = |bits: u32| {
        let mask = u128::MAX << (128 - bits);
        Address {
            bytes: mask.to_be_bytes(),
        }
        .words()
    };
    for service in all().into_iter().filter(|service| service.has(VIP_SYN_LIMIT)) {
        let counts = |is: bool, burst: u16| {
            if is {
                (HOUR_NS, HOUR_NS * u64::from(burst))
            } else {
                (0, 0)
            }
        };
        let (cost_ns, depth_ns) = counts(service != SOURCE_LIMITED, BURST);
        let by_source = service == SOURCE_LIMITED || service == BOTH_LIMITED;
        let (source_cost_ns, source_depth_ns) = counts(by_source, SOURCE_BURST);
        for &family in Family::BOTH {
            rig.plane.set_limit(
                of(service, family),
                SynLimit {
                    bucket: 0,
                    cost_ns,
                    depth_ns,
                    source_cost_ns,
                    source_depth_ns,
                    source_mask_v4: mask(96 + SOURCE_BITS.0),
                    source_mask_v6: mask(SOURCE_BITS.1),
                },
            );
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| {
            [
                of_all(family),
                of_sources(family),
                of_both(family),
                others(family),
            ]
            .concat()
        })
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / limits / {rest}", family.name())
}

/// Any of many clients, none of whom shares a source with another.
const fn stranger(family: Family, n: u16) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, (n * 4) as u8)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, 0x100 + n, 0, 0, 0, 1)),
    }
}

/// The first and the last address of the client's source, and the one behind it.
const fn source(family: Family) -> [IpAddr; 3] {
    match family {
        Family::V4 => [
            IpAddr::V4(Ipv4Addr::new(203, 0, 113, 76)),
            IpAddr::V4(Ipv4Addr::new(203, 0, 113, 79)),
            IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80)),
        ],
        Family::V6 => [
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, 0x77, 0, 0, 0, 0)),
            IpAddr::V6(Ipv6Addr::new(
                0x2001, 0xdb8, 0xc11e, 0x77, 0xffff, 0xffff, 0xffff, 0xffff,
            )),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, 0x78, 0, 0, 0, 0)),
        ],
    }
}

/// So many SYNs of different clients.
fn strangers(family: Family, service: Service, count: u16) -> Vec<Step> {
    (0..count)
        .map(|n| Step::Frame(service.flow(family).from(stranger(family, n)).syn()))
        .collect()
}

/// So many SYNs of one client, each of a flow of its own.
fn greedy(flow: Ends, count: u16) -> Vec<Step> {
    (0..count)
        .map(|n| {
            let flow = Ends {
                client_port: 50_000 + n,
                ..flow
            };
            Step::Frame(flow.syn())
        })
        .collect()
}

fn of_all(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, service) in [("one port", LIMITED), ("a range of ports", LIMITED_RANGE)] {
        for before in 0..=BURST {
            let (outcome, expected) = if before < BURST {
                ("opens a connection", opens(1))
            } else {
                ("dropped for the VIP's limit", dropped(DropSynLimit))
            };
            for (what, tags) in [("a SYN", &[][..]), ("a SYN behind a tag", &[(0x8100, 7)])] {
                cases.push(
                    Case::new(
                        title(
                            family,
                            &format!("{name} / {what} behind {before} of others / {outcome}"),
                        ),
                        tagged(&service.flow(family).syn(), tags),
                        expected.clone(),
                    )
                    .given(strangers(family, service, before)),
                );
            }
        }
    }
    cases.push(
        Case::new(
            title(
                family,
                "the same SYN once more, when all is used up / dropped for the VIP's limit",
            ),
            LIMITED.flow(family).syn(),
            dropped(DropSynLimit),
        )
        .given(vec![Step::Frame(LIMITED.flow(family).syn()); BURST.into()]),
    );
    cases.push(
        Case::new(
            title(
                family,
                "a SYN to another service, when all is used up / opens a connection",
            ),
            LIMITED_RANGE.flow(family).syn(),
            opens(1),
        )
        .given(strangers(family, LIMITED, 8)),
    );
    cases
}

fn of_sources(family: Family) -> Vec<Case> {
    let [first, last, behind] = source(family);
    let flow = SOURCE_LIMITED.flow(family);
    let case = |what: &str, client: IpAddr, expected: Expected, steps: Vec<Step>| {
        Case::new(title(family, what), flow.from(client).syn(), expected).given(steps)
    };
    let mut cases = Vec::new();
    for before in 0..=SOURCE_BURST {
        let (outcome, expected) = if before < SOURCE_BURST {
            ("opens a connection", opens(1))
        } else {
            ("dropped for its source's limit", dropped(DropSourceLimit))
        };
        cases.push(case(
            &format!("a SYN behind {before} of its client / {outcome}"),
            family.client(),
            expected,
            greedy(flow, before),
        ));
    }
    let used_up = || greedy(flow.from(first), 9);
    cases.extend([
        case(
            "a SYN of the last address of a source that has used up its limit / dropped for its source's limit",
            last,
            dropped(DropSourceLimit),
            used_up(),
        ),
        case(
            "a SYN of the first address behind such a source / opens a connection",
            behind,
            opens(1),
            used_up(),
        ),
        case(
            "a SYN behind many of others / opens a connection",
            family.client(),
            opens(1),
            strangers(family, SOURCE_LIMITED, 12),
        ),
    ]);
    cases.push(
        Case::new(
            title(family, "a SYN to another limited service of a source that has used up its limit here / opens a connection"),
            BOTH_LIMITED.flow(family).from(first).syn(),
            opens(1),
        )
        .given(used_up()),
    );
    cases
}

/// Whom one of both refuses takes nothing from the other.
fn of_both(family: Family) -> Vec<Case> {
    let flow = BOTH_LIMITED.flow(family);
    let syn_of = |n: u16| flow.from(stranger(family, n)).syn();
    let after = |steps: [Vec<Step>; 2]| steps.concat();
    vec![
        Case::new(
            title(
                family,
                "both / a SYN too many of its source / dropped for its source's limit",
            ),
            flow.syn(),
            dropped(DropSourceLimit),
        )
        .given(greedy(flow, SOURCE_BURST)),
        Case::new(
            title(
                family,
                "both / a SYN of another behind many that were too many of their source / opens a connection",
            ),
            syn_of(1),
            opens(1),
        )
        .given(greedy(flow, 20)),
        Case::new(
            title(family, "both / one of another more / dropped for the VIP's limit"),
            syn_of(2),
            dropped(DropSynLimit),
        )
        .given(after([greedy(flow, 20), vec![Step::Frame(syn_of(1))]])),
        Case::new(
            title(
                family,
                "both / a SYN too many for both / dropped for its source's limit",
            ),
            flow.syn(),
            dropped(DropSourceLimit),
        )
        .given(after([greedy(flow, 20), vec![Step::Frame(syn_of(1))]])),
        Case::new(
            title(
                family,
                "both / a SYN of a source that only the VIP's limit refused / dropped for the VIP's limit",
            ),
            syn_of(9),
            dropped(DropSynLimit),
        )
        .given(after([
            strangers(family, BOTH_LIMITED, BURST),
            vec![Step::Frame(syn_of(9)); 5],
        ])),
    ]
}

/// Nothing but SYNs is limited, and who is refused is told nothing.
fn others(family: Family) -> Vec<Case> {
    let flow = BOTH_LIMITED.flow(family);
    let used_up = || greedy(flow, 9);
    let mut cases = Vec::new();
    for (what, frame, expected) in [
        ("data", flow.data(), goes_to(1)),
        ("an ACK", flow.ack(), goes_to(1)),
        ("a FIN", flow.fin(), goes_to(1)),
        ("a RST", flow.rst(), goes_to(1)),
        (
            "a SYN+ACK",
            flow.segment(&[], |tcp| (tcp.syn, tcp.ack) = (true, true)),
            goes_to(1),
        ),
        (
            "a SYN+FIN",
            flow.segment(&[], |tcp| (tcp.syn, tcp.fin) = (true, true)),
            goes_to(1),
        ),
        (
            "an ICMP error",
            about(family, unreachable(family), &sent(flow)),
            goes_to(1).and(&[IcmpSteered]),
        ),
    ] {
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{what}, when all is used up / goes to the slot's member"),
                ),
                frame,
                expected,
            )
            .given(used_up()),
        );
    }
    let first = |id: u32| {
        let payload = flow.tcp(&[7; 64], |tcp| tcp.syn = true);
        fragment((family.client(), family.vip()), TCP, id, 0, true, &payload)
    };
    cases.push(Case::new(
        title(
            family,
            "a first fragment that is a SYN / opens a connection and is noted",
        ),
        first(0x3a00),
        opens(1).and(&[FragmentNoted]),
    ));
    cases.push(
        Case::new(
            title(
                family,
                "a first fragment that is a SYN, when all is used up / dropped for its source's limit",
            ),
            first(0x3a01),
            dropped(DropSourceLimit),
        )
        .given(used_up()),
    );
    cases.push(
        Case::new(
            title(
                family,
                "a SYN too many where nobody could take it and TCP is reset / dropped for its source's limit",
            ),
            flow.syn(),
            dropped(DropSourceLimit),
        )
        .given(used_up())
        .given([BOTH_LIMITED.at(family, NONE)])
        .resetting(),
    );
    cases.push(
        Case::new(
            title(
                family,
                "a SYN within its limit where nobody can take it / dropped for want of a member",
            ),
            flow.syn(),
            dropped(DropNoMember),
        )
        .given([BOTH_LIMITED.at(family, NONE)]),
    );
    let listed = LIMITED_LISTED.flow(family);
    let denied = listed.from(DENIED.of(family));
    cases.push(
        Case::new(
            title(
                family,
                "a SYN behind many of a denied source / opens a connection, for they are charged nothing",
            ),
            listed.syn(),
            opens(1),
        )
        .given(greedy(denied, 9)),
    );
    cases.push(
        Case::new(
            title(
                family,
                "a SYN of a denied source, when all is used up / dropped as denied",
            ),
            denied.syn(),
            dropped(DropDenied),
        )
        .given(strangers(family, LIMITED_LISTED, 9)),
    );
    for way in WAYS {
        let name = way.name();
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{name} / a SYN within its limit / opens a connection"),
                ),
                flow.syn(),
                encapsulated(1, 1, way.plain()),
            )
            .given([Step::Way(1, way)]),
        );
        cases.push(
            Case::new(
                title(
                    family,
                    &format!("{name} / a SYN too many / dropped for its source's limit"),
                ),
                flow.syn(),
                dropped(DropSourceLimit),
            )
            .given([Step::Way(1, way)])
            .given(used_up()),
        );
    }
    cases
}
