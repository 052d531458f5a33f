//! Neighbour solicitations (RFC 4861 section 7): answered for an owned VIP, and judged as a host has to.

use std::net::{IpAddr, Ipv6Addr};

use foobar::dataplane::monotonic_ns;
use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{BROADCAST, IP, Mac, OWN, PEER, ROUTER, STRANGER, VIP};
use foobar_tests::packets::frame_v6::{
    ALL_NODES, CLIENT6, Extension, HOST6, OTHER_VIP6, ROUTER6, Solicitation, VIP6, advertisement, chained,
    group_mac, ipv6, solicited_node, source_link_layer, tagged,
};

use crate::case::{Case, Expected, Step, answered, dropped, passes};
use crate::ethernet::TAGS;
use crate::family::{Family, spoilt};

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The VIP that differs from [`VIP6`] in nothing that its group bears is none: an address of the same group.
const SAME_GROUP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0xb1a1, 0x5010);

/// The answer to who asks from [`ROUTER6`].
fn told(target: Ipv6Addr) -> Vec<u8> {
    advertisement(ROUTER, ROUTER6, target, SOLICITED | OVERRIDE)
}

/// The answer to a probe.
fn told_all(target: Ipv6Addr) -> Vec<u8> {
    advertisement(group_mac(ALL_NODES), ALL_NODES, target, OVERRIDE)
}

fn is_told(target: Ipv6Addr) -> Expected {
    answered(Counter::AnswerNeighbour, told(target))
}

pub(crate) fn cases() -> Vec<Case> {
    [answers(), lengths(), owners(), invalid(), macs(), kernels()].concat()
}

fn case(what: &str, frame: Vec<u8>, expected: Expected) -> Case {
    Case::new(format!("neighbour / {what}"), frame, expected)
}

fn answers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (whose, vip) in [("a VIP", VIP6), ("a VIP without services", OTHER_VIP6)] {
        cases.extend([
            case(
                &format!("{whose}, asked of its group / answered to the asker, solicited"),
                Solicitation::of(vip).frame(),
                is_told(vip),
            ),
            case(
                &format!("{whose}, asked of itself / answered to the asker, solicited"),
                Solicitation::unicast(vip).frame(),
                is_told(vip),
            ),
            case(
                &format!("{whose}, a probe / answered to all nodes, not solicited"),
                Solicitation::probe(vip).frame(),
                answered(Counter::AnswerNeighbour, told_all(vip)),
            ),
        ]);
    }
    let asked = Solicitation::of(VIP6);
    for (what, source) in [
        ("a global address", CLIENT6),
        (
            "a unique local address",
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9),
        ),
        (
            "an address of ones below multicast",
            Ipv6Addr::new(0xfeff, 0, 0, 0, 0, 0, 0, 0xffff),
        ),
        ("an address of few bits", Ipv6Addr::new(0, 0, 0, 0, 0, 0, 1, 0)),
    ] {
        let asked = Solicitation {
            source,
            ..asked.clone()
        };
        cases.push(case(
            &format!("from {what} / answered to it"),
            asked.frame(),
            answered(
                Counter::AnswerNeighbour,
                advertisement(ROUTER, source, VIP6, SOLICITED | OVERRIDE),
            ),
        ));
    }
    // The link-layer address in the option is the asker's to tell; the answer goes where the frame came from.
    let relayed = Solicitation {
        options: [&[1, 1], &STRANGER[..]].concat(),
        ..asked.clone()
    };
    cases.push(case(
        "an option with another MAC address than the frame's / answered to the frame's",
        relayed.frame(),
        is_told(VIP6),
    ));
    let mut by_mac = |what: &str, destination_mac: Mac| {
        let asked = Solicitation {
            destination_mac,
            ..asked.clone()
        };
        cases.push(case(
            &format!("asked of its group by {what} / answered"),
            asked.frame(),
            is_told(VIP6),
        ));
    };
    by_mac("the balancer's MAC", OWN);
    by_mac("all nodes' MAC", group_mac(ALL_NODES));
    by_mac("another IPv6 group's MAC", [0x33, 0x33, 0xff, 0, 0, 0]);
    let by_group = Solicitation {
        destination_mac: group_mac(solicited_node(VIP6)),
        ..Solicitation::unicast(VIP6)
    };
    cases.push(case(
        "asked of no group by a group's MAC / dropped as foreign",
        by_group.frame(),
        dropped(Counter::DropForeignMac),
    ));
    let from_peer = Solicitation {
        source_mac: PEER,
        ..asked.clone()
    };
    cases.push(case(
        "another balancer asks / answered",
        from_peer.frame(),
        answered(
            Counter::AnswerNeighbour,
            advertisement(PEER, ROUTER6, VIP6, SOLICITED | OVERRIDE),
        ),
    ));
    for &(what, tags) in TAGS {
        cases.push(case(
            &format!("behind {what} / answered behind the same"),
            tagged(&asked.frame(), tags),
            answered(Counter::AnswerNeighbour, tagged(&told(VIP6), tags)),
        ));
        cases.push(case(
            &format!("a probe behind {what} / answered behind the same"),
            tagged(&Solicitation::probe(VIP6).frame(), tags),
            answered(Counter::AnswerNeighbour, tagged(&told_all(VIP6), tags)),
        ));
    }
    for (what, head) in [
        ("a traffic class", [0x6b, 0x80, 0, 0]),
        ("a flow label", [0x60, 0x0f, 0xed, 0xcb]),
    ] {
        cases.push(case(
            &format!("{what} / answered without it"),
            spoilt(asked.frame(), |frame| frame[IP..IP + 4].copy_from_slice(&head)),
            is_told(VIP6),
        ));
    }
    cases
}

/// The answer is as long as its content, whatever the solicitation was.
fn lengths() -> Vec<Case> {
    let with = |options: Vec<u8>| Solicitation {
        options,
        ..Solicitation::of(VIP6)
    };
    let unknown = |units: u8| {
        let mut option = vec![0x5a; usize::from(units) * 8];
        option[..2].copy_from_slice(&[200, units]);
        option
    };
    let mut cases = vec![
        case(
            "no option / answered, the frame grows",
            with(Vec::new()).frame(),
            is_told(VIP6),
        ),
        case(
            "its source's option / answered, the frame stays",
            with(source_link_layer()).frame(),
            is_told(VIP6),
        ),
        case(
            "a nonce besides / answered, the frame shrinks",
            with([source_link_layer(), vec![14, 1, 1, 2, 3, 4, 5, 6]].concat()).frame(),
            is_told(VIP6),
        ),
        case(
            "a probe with a nonce / answered",
            Solicitation {
                options: vec![14, 1, 1, 2, 3, 4, 5, 6],
                ..Solicitation::probe(VIP6)
            }
            .frame(),
            answered(Counter::AnswerNeighbour, told_all(VIP6)),
        ),
    ];
    for units in [2u8, 3, 10, 32] {
        cases.push(case(
            &format!("an unknown option of {units} units / answered without it"),
            with(unknown(units)).frame(),
            is_told(VIP6),
        ));
    }
    cases.push(case(
        "ten options / answered without them",
        with(source_link_layer().repeat(10)).frame(),
        is_told(VIP6),
    ));
    for padding in [1usize, 18, 400] {
        cases.push(case(
            &format!("{padding} bytes behind the packet / answered without them"),
            [Solicitation::of(VIP6).frame(), vec![0xee; padding]].concat(),
            is_told(VIP6),
        ));
    }
    cases
}

fn owners() -> Vec<Case> {
    let lease = Family::V6.lease();
    let mut cases = Vec::new();
    for (what, asked) in [
        ("asked of its group", Solicitation::of(VIP6)),
        ("asked of itself", Solicitation::unicast(VIP6)),
        ("a probe", Solicitation::probe(VIP6)),
    ] {
        for (why, until_ns) in [("no lease", 0), ("a lease that has ended", 1)] {
            cases.push(
                case(
                    &format!("{what}, {why} / dropped, its owner answers"),
                    asked.frame(),
                    dropped(Counter::DropNotOwner),
                )
                .given([Step::Lease(lease, until_ns)]),
            );
        }
    }
    cases.push(
        case(
            "a lease that ends in an hour / answered",
            Solicitation::of(VIP6).frame(),
            is_told(VIP6),
        )
        .given([Step::Lease(lease, monotonic_ns() + 3_600_000_000_000)]),
    );
    cases
}

/// What a host must not heed: for its group the kernel drops it, for the VIP itself the balancer does.
fn invalid() -> Vec<Case> {
    let (group, unicast) = (Solicitation::of(VIP6), Solicitation::unicast(VIP6));
    let options = |options: &[u8]| options.to_vec();
    let mut cases = Vec::new();
    let mut both = |what: &str, edit: &dyn Fn(&mut Solicitation), spoil: &dyn Fn(&mut Vec<u8>)| {
        for (asked, whom, expected, fate) in [
            (&group, "its group", passes(), "the kernel's"),
            (
                &unicast,
                "the VIP itself",
                dropped(Counter::DropIcmp),
                "dropped as ICMP",
            ),
        ] {
            let mut asked = asked.clone();
            edit(&mut asked);
            cases.push(case(
                &format!("{what}, asked of {whom} / {fate}"),
                spoilt(asked.frame(), |frame| spoil(frame)),
                expected,
            ));
        }
    };
    let whole: &dyn Fn(&mut Vec<u8>) = &|_| ();
    for hops in [0u8, 1, 64, 254] {
        both(
            &format!("a hop limit of {hops}"),
            &|asked| asked.hop_limit = hops,
            whole,
        );
    }
    for code in [1u8, 255] {
        both(&format!("a code of {code}"), &|asked| asked.code = code, whole);
    }
    for (what, place, bits) in [
        ("a checksum wrong by a bit", 56, 0x01),
        ("a checksum wrong in its other byte", 57, 0x80),
        ("a reserved word that the checksum doesn't cover", 58, 0x01),
        ("an option that the checksum doesn't cover", 85, 0x01),
        ("a source that the checksum doesn't cover", 23, 0x01),
    ] {
        both(what, &|_| (), &|frame| frame[place] ^= bits);
    }
    both("no checksum", &|_| (), &|frame| frame[56..58].fill(0));
    for (what, tail) in [
        ("an option of length 0", options(&[1, 0, 2, 3, 4, 5, 6, 7])),
        (
            "an option of length 0 behind a sound one",
            [source_link_layer(), vec![14, 0, 0, 0, 0, 0, 0, 0]].concat(),
        ),
        (
            "an option that runs beyond the message",
            options(&[1, 2, 3, 4, 5, 6, 7, 8]),
        ),
        ("half an option", options(&[1, 1, 2, 3])),
        ("a byte behind its target", options(&[1])),
        (
            "a byte behind its option",
            [source_link_layer(), vec![0]].concat(),
        ),
    ] {
        both(what, &|asked| asked.options.clone_from(&tail), whole);
    }
    for length in [8usize, 16, 23] {
        let message = group.message();
        let cut = |destination: Ipv6Addr| {
            ipv6(58, ROUTER6, destination, &message[..length], |ip| {
                ip.hop_limit = 255
            })
        };
        cases.push(case(
            &format!("{length} bytes of a message, asked of its group / the kernel's"),
            cut(solicited_node(VIP6)),
            passes(),
        ));
        cases.push(case(
            &format!("{length} bytes of a message, asked of the VIP itself / dropped as ICMP"),
            cut(VIP6),
            dropped(Counter::DropIcmp),
        ));
    }
    cases.extend(askers());
    cases.extend(wrapped());
    cases
}

/// Wrong sources, destinations and targets.
fn askers() -> Vec<Case> {
    let with = |source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr| Solicitation {
        destination_mac: OWN,
        source,
        destination,
        options: Vec::new(),
        ..Solicitation::of(target)
    };
    let group = solicited_node(VIP6);
    let other_group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xffa1, 0x5011);
    vec![
        case(
            "a VIP that is not the one whose address it is sent to / dropped as ICMP",
            with(ROUTER6, VIP6, OTHER_VIP6).frame(),
            dropped(Counter::DropIcmp),
        ),
        case(
            "another host's address, asked of a VIP / dropped as ICMP",
            with(ROUTER6, VIP6, HOST6).frame(),
            dropped(Counter::DropIcmp),
        ),
        case(
            "a VIP, asked of another group / the kernel's",
            with(ROUTER6, other_group, VIP6).frame(),
            passes(),
        ),
        case(
            "a VIP, asked of all nodes / the kernel's",
            with(ROUTER6, ALL_NODES, VIP6).frame(),
            passes(),
        ),
        case(
            "a VIP, asked of the balancer's address / the kernel's",
            with(ROUTER6, HOST6, VIP6).frame(),
            passes(),
        ),
        case(
            "a VIP, asked of a group of a wider scope / the kernel's",
            with(
                ROUTER6,
                Ipv6Addr::new(0xff05, 0, 0, 0, 0, 1, 0xffa1, 0x5010),
                VIP6,
            )
            .frame(),
            passes(),
        ),
        case(
            "a VIP, asked of a group like its own / the kernel's",
            with(
                ROUTER6,
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 2, 0xffa1, 0x5010),
                VIP6,
            )
            .frame(),
            passes(),
        ),
        case(
            "an address of a VIP's group / the kernel's",
            with(ROUTER6, group, SAME_GROUP).frame(),
            passes(),
        ),
        case(
            "the balancer's own address / the kernel's",
            Solicitation::of(HOST6).frame(),
            passes(),
        ),
        case(
            "the balancer's own address, asked of itself / the kernel's",
            Solicitation::unicast(HOST6).frame(),
            passes(),
        ),
        case(
            "a probe for the balancer's own address / the kernel's",
            Solicitation::probe(HOST6).frame(),
            passes(),
        ),
        case(
            "a group's address / the kernel's",
            with(ROUTER6, solicited_node(group), group).frame(),
            passes(),
        ),
        case(
            "the mapped form of an ipv4 VIP / the kernel's",
            Solicitation::of(VIP.to_ipv6_mapped()).frame(),
            passes(),
        ),
        case(
            "a VIP, asked of the mapped form of an ipv4 VIP / the kernel's",
            with(ROUTER6, VIP.to_ipv6_mapped(), VIP6).frame(),
            passes(),
        ),
        case(
            "from a group / the kernel's",
            with(ALL_NODES, group, VIP6).frame(),
            passes(),
        ),
        case(
            "a probe for a VIP, asked of itself / dropped as a martian",
            with(Ipv6Addr::UNSPECIFIED, VIP6, VIP6).frame(),
            dropped(Counter::DropMartian),
        ),
        case(
            "from a group, asked of the VIP itself / dropped as a martian",
            with(ALL_NODES, VIP6, VIP6).frame(),
            dropped(Counter::DropMartian),
        ),
        case(
            "from loopback, asked of the VIP itself / dropped as a martian",
            with(Ipv6Addr::LOCALHOST, VIP6, VIP6).frame(),
            dropped(Counter::DropMartian),
        ),
        case(
            "from the VIP itself, asked of itself / dropped as a martian",
            with(VIP6, VIP6, VIP6).frame(),
            dropped(Counter::DropMartian),
        ),
    ]
}

/// Solicitations whose IPv6 header is wrong, or not directly before them.
fn wrapped() -> Vec<Case> {
    let (group, unicast) = (Solicitation::of(VIP6), Solicitation::unicast(VIP6));
    let cut = |frame: Vec<u8>| frame[..frame.len() - 1].to_vec();
    let mut cases = vec![
        case(
            "cut by a byte, asked of its group / the kernel's",
            cut(group.frame()),
            passes(),
        ),
        case(
            "cut by a byte, asked of the VIP itself / dropped as truncated",
            cut(unicast.frame()),
            dropped(Counter::DropTruncated),
        ),
        case(
            "version 4, asked of its group / the kernel's",
            spoilt(group.frame(), |frame| frame[IP] = 0x40),
            passes(),
        ),
        case(
            "version 4, asked of the VIP itself / dropped as malformed",
            spoilt(unicast.frame(), |frame| frame[IP] = 0x40),
            dropped(Counter::DropMalformed),
        ),
    ];
    for (what, extension) in [
        ("hop-by-hop options", Extension::HopByHop(1)),
        ("destination options", Extension::Destination(1)),
        (
            "an atomic fragment header",
            Extension::Fragment {
                offset: 0,
                more: false,
                id: 9,
            },
        ),
    ] {
        for (asked, whom, expected, fate) in [
            (&group, "its group", passes(), "the kernel's"),
            (
                &unicast,
                "the VIP itself",
                dropped(Counter::DropIcmp),
                "dropped as ICMP",
            ),
        ] {
            let (first, bytes) = chained(std::slice::from_ref(&extension), 58, &asked.message());
            let frame = ipv6(first, asked.source, asked.destination, &bytes, |ip| {
                ip.hop_limit = 255
            });
            cases.push(case(
                &format!("behind {what}, asked of {whom} / {fate}"),
                frame,
                expected,
            ));
        }
    }
    cases
}

fn macs() -> Vec<Case> {
    let between = |asked: &Solicitation, destination: Mac, source: Mac| {
        let frame = asked.frame();
        [&destination[..], &source, &frame[12..]].concat()
    };
    let (group, unicast) = (Solicitation::of(VIP6), Solicitation::unicast(VIP6));
    let mut cases = vec![
        case(
            "from the balancer's own MAC, asked of its group / the kernel's",
            between(&group, group.destination_mac, OWN),
            passes(),
        ),
        case(
            "from the balancer's own MAC, asked of the VIP itself / the kernel's",
            between(&unicast, OWN, OWN),
            passes(),
        ),
        case(
            "from another balancer's MAC, asked of the VIP itself / dropped as a loop",
            between(&unicast, OWN, PEER),
            dropped(Counter::DropLoop),
        ),
    ];
    for (whose, mac) in [
        ("another host's", STRANGER),
        ("another balancer's", PEER),
        ("everybody's", BROADCAST),
        ("an IPv4 group's", [1, 0, 0x5e, 0, 0, 1]),
        ("nearly an IPv6 group's", [0x33, 0x32, 0xff, 0xa1, 0x50, 0x10]),
    ] {
        cases.push(case(
            &format!("to {whose} MAC, asked of its group / the kernel's"),
            between(&group, mac, ROUTER),
            passes(),
        ));
        cases.push(case(
            &format!("to {whose} MAC, asked of the VIP itself / dropped as foreign"),
            between(&unicast, mac, ROUTER),
            dropped(Counter::DropForeignMac),
        ));
    }
    cases
}

/// Neighbour discovery that asks nothing.
fn kernels() -> Vec<Case> {
    let claim = advertisement(group_mac(ALL_NODES), ALL_NODES, VIP6, OVERRIDE);
    let to_vip = advertisement(OWN, VIP6, HOST6, SOLICITED);
    let mut cases = vec![
        case(
            "an advertisement to all nodes / the kernel's",
            spoilt(claim, |frame| frame[6..12].copy_from_slice(&STRANGER)),
            passes(),
        ),
        case(
            "an advertisement to a VIP / dropped as ICMP",
            spoilt(to_vip, |frame| frame[6..12].copy_from_slice(&ROUTER)),
            dropped(Counter::DropIcmp),
        ),
    ];
    for (what, kind) in [
        ("a router solicitation", 133),
        ("a router advertisement", 134),
        ("a redirect", 137),
    ] {
        let message =
            Family::V6.icmp_message(kind, 0, (IpAddr::V6(ROUTER6), IpAddr::V6(ALL_NODES)), &[0; 36]);
        let frame = ipv6(58, ROUTER6, ALL_NODES, &message, |ip| ip.hop_limit = 255);
        cases.push(case(
            &format!("{what} to all nodes / the kernel's"),
            spoilt(frame, |frame| frame[..6].copy_from_slice(&group_mac(ALL_NODES))),
            passes(),
        ));
    }
    cases
}
