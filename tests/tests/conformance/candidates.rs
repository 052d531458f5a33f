//! Second chance: packets in GUE carry their slot's earlier owners, for the agents to find out whose the flow is.

use foobar_common::counters::Counter::{
    AnswerReset, DropNoMember, FragmentFollowed, FragmentNoted, IcmpSteered, SlotKept, SlotMoved, SlotMoving,
    SlotOpen,
};
use foobar_common::slot::{Member, NONE, Phase, Slot};
use foobar_common::target::{TARGET_CUT, TARGET_DOWN, TARGET_DRAINED, TARGET_GONE, TARGET_REMOVED};
use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::rig::{TCP, slot};

use crate::case::{Case, Expected, Step, answered, dropped, encapsulated, goes_to, opens};
use crate::errors::{about, sent, unreachable};
use crate::family::Family;
use crate::fragments::{fragment, later};
use crate::outer::{Outside, Tunnel, Way};
use crate::refused::{Numbers, reset};
use crate::services::{CHANCE, CHANCE_RANGE, CHANCE_UDP};

/// Of the options: the last candidate drops what is nobody's.
const DROP: u8 = 1;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &family in Family::BOTH {
        for over in [Family::V4, Family::V6] {
            let way = Way::new(Tunnel::Gue, over);
            cases.extend(orders(family, way));
            cases.extend(packets(family, way));
            cases.extend(nobody_new(family, way));
            cases.extend(who_is_listed(family, way));
        }
    }
    cases
}

fn title(family: Family, way: Way, rest: &str) -> String {
    format!("{} / candidates / {} / {rest}", family.name(), way.name())
}

fn kept(family: Family, current: Member, previous: Member, older: Member) -> Vec<Step> {
    let slot = slot(Phase::Kept, current, previous, older);
    [CHANCE, CHANCE_UDP, CHANCE_RANGE]
        .map(|service| Step::Slot(service.slot(family), slot))
        .to_vec()
}

/// All members are reached in one way.
fn all(way: Way) -> Vec<Step> {
    (1..=4).map(|member| Step::Way(member, way)).collect()
}

/// What a packet carries by the VIP's policy: nothing, where nobody is to be listed and nothing to be said.
fn listing(way: Way, listed: &[Member], resetting: bool) -> Outside {
    match (listed, resetting) {
        ([], true) => way.plain(),
        (_, true) => way.listing(listed, 0),
        (_, false) => way.listing(listed, DROP),
    }
}

fn with_policy(case: Case, resetting: bool) -> Case {
    if resetting { case.resetting() } else { case }
}

const POLICIES: [(bool, &str); 2] = [(false, ""), (true, ", and the last one's kernel may answer")];

fn orders(family: Family, way: Way) -> Vec<Case> {
    let mut cases = Vec::new();
    for (resetting, policy) in POLICIES {
        for (what, previous, older, listed) in [
            ("a previous and an older owner", 2, 3, &[2, 3][..]),
            ("a previous owner", 2, NONE, &[2]),
            ("an older owner alone", NONE, 3, &[3]),
            ("a previous owner that is the older one too", 2, 2, &[2]),
            ("a previous owner that is current", 1, 3, &[3]),
            ("an older owner that is current", 2, 1, &[2]),
            ("no other owner", NONE, NONE, &[]),
        ] {
            let case = Case::new(
                title(
                    family,
                    way,
                    &format!("data in a slot with {what}{policy} / each is listed once, the latest first"),
                ),
                CHANCE.flow(family).data(),
                encapsulated(1, 0, listing(way, listed, resetting)).and(&[SlotKept]),
            )
            .given(all(way))
            .given(kept(family, 1, previous, older));
            cases.push(with_policy(case, resetting));
        }
        let settled = Case::new(
            title(
                family,
                way,
                &format!("data in a settled slot{policy} / nobody is listed"),
            ),
            CHANCE.flow(family).data(),
            encapsulated(1, 0, listing(way, &[], resetting)),
        )
        .given(all(way));
        cases.push(with_policy(settled, resetting));
    }
    for (name, phase, counter) in [
        ("is open", Phase::Open, SlotOpen),
        ("moves", Phase::Moving, SlotMoving),
        ("has just moved", Phase::Fresh, SlotMoved),
        ("has moved", Phase::Moved, SlotMoved),
    ] {
        cases.push(
            Case::new(
                title(family, way, &format!("data in a slot that still {name} / to the current owner with the others listed, not noted")),
                CHANCE.flow(family).data(),
                encapsulated(1, 0, listing(way, &[2, 3], false)).and(&[counter]),
            )
            .given(all(way))
            .given([Step::Slot(CHANCE.slot(family), slot(phase, 1, 2, 3))]),
        );
    }
    cases
}

fn packets(family: Family, way: Way) -> Vec<Case> {
    let (flow, question, range) = (
        CHANCE.flow(family),
        CHANCE_UDP.flow(family),
        CHANCE_RANGE.flow(family),
    );
    let id = 0x3000 + if way.over == Family::V4 { 0 } else { 16 };
    let first = |id: u32| {
        let payload = flow.tcp(&[7; 400], |tcp| tcp.ack = true);
        fragment((family.client(), family.vip()), TCP, id, 0, true, &payload)
    };
    let list = || listing(way, &[2, 3], false);
    let case = |what: &str, frame: Vec<u8>, expected: Expected| {
        Case::new(
            title(
                family,
                way,
                &format!("{what} / carries the slot's earlier owners"),
            ),
            frame,
            expected,
        )
        .given(all(way))
        .given(kept(family, 1, 2, 3))
    };
    let plain = |connections| encapsulated(1, connections, list()).and(&[SlotKept]);
    vec![
        case("a SYN", flow.syn(), plain(1)),
        case("a FIN", flow.fin(), plain(0)),
        case("a RST", flow.rst(), plain(0)),
        case("a datagram", question.datagram(), plain(0)),
        case("data for a port of a range", range.data(), plain(0)),
        case(
            "data behind two tags",
            tagged(&flow.data(), &[(0x88a8, 1), (0x8100, 2)]),
            plain(0),
        ),
        case(
            "an ICMP error",
            about(family, unreachable(family), &sent(flow)),
            plain(0).and(&[IcmpSteered]),
        ),
        case("a first fragment", first(id), plain(0).and(&[FragmentNoted])),
        case(
            "a later fragment, whatever the slot's owners are now",
            later(family, id + 1),
            encapsulated(1, 0, list()).and(&[FragmentFollowed]),
        )
        .given([Step::Frame(first(id + 1))])
        .given(kept(family, 4, 1, NONE)),
        case(
            "a later fragment whose earlier owner is gone by now",
            later(family, id + 2),
            encapsulated(1, 0, listing(way, &[3], false)).and(&[FragmentFollowed]),
        )
        .given([Step::Frame(first(id + 2)), Step::Way(2, way.with(TARGET_GONE))]),
    ]
}

/// All backends are drained: who owned the slot goes on with the flows that it has, and there are no new ones.
fn nobody_new(family: Family, way: Way) -> Vec<Case> {
    let (flow, question) = (CHANCE.flow(family), CHANCE_UDP.flow(family));
    let case = |what: &str, frame: Vec<u8>, expected: Expected| {
        Case::new(
            title(family, way, &format!("{what} in a slot without a current owner")),
            frame,
            expected,
        )
        .given(all(way))
        .given(kept(family, NONE, 2, 3))
    };
    let previous = || encapsulated(2, 0, listing(way, &[3], false)).and(&[SlotKept]);
    let mut cases = Vec::new();
    for (what, frame) in [
        ("data", flow.data()),
        ("a FIN", flow.fin()),
        ("a RST", flow.rst()),
        ("a datagram", question.datagram()),
    ] {
        cases.push(case(&format!("to the latest owner / {what}"), frame, previous()));
    }
    cases.push(case(
        "to the latest owner / an ICMP error",
        about(family, unreachable(family), &sent(flow)),
        previous().and(&[IcmpSteered]),
    ));
    cases.push(case(
        "dropped for want of a member / a SYN",
        flow.syn(),
        dropped(DropNoMember).and(&[SlotKept]),
    ));
    cases.push(
        case(
            "reset, where TCP is / a SYN",
            flow.syn(),
            answered(
                AnswerReset,
                reset(family, flow, Numbers::Acknowledging(0xffff_fff1)),
            )
            .and(&[SlotKept]),
        )
        .resetting(),
    );
    cases
}

fn who_is_listed(family: Family, way: Way) -> Vec<Case> {
    let other = match way.over {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    let flow = CHANCE.flow(family);
    let mut cases = Vec::new();
    for (what, second, listed) in [
        ("that is down", way.with(TARGET_DOWN), &[2, 3][..]),
        ("that is drained", way.with(TARGET_DRAINED), &[2, 3]),
        (
            "that is in the configuration no more",
            way.with(TARGET_REMOVED),
            &[2, 3],
        ),
        ("whose drain is over", way.with(TARGET_CUT), &[2, 3]),
        ("that is gone", way.with(TARGET_GONE), &[3]),
        ("of the other family", Way::new(Tunnel::Gue, other), &[3]),
        ("behind IP in IP", Way::new(Tunnel::Ipip, way.over), &[3]),
        ("in no tunnel", Way::new(Tunnel::None, way.over), &[3]),
    ] {
        let word = if listed.len() == 2 { "listed" } else { "not listed" };
        cases.push(
            Case::new(
                title(family, way, &format!("a previous owner {what} / {word}")),
                flow.data(),
                encapsulated(1, 0, listing(way, listed, false)).and(&[SlotKept]),
            )
            .given(all(way))
            .given(kept(family, 1, 2, 3))
            .given([Step::Way(2, second)]),
        );
    }
    let ipip = Way::new(Tunnel::Ipip, way.over);
    cases.push(
        Case::new(
            title(
                family,
                way,
                "a current owner behind IP in IP / gets the packet without a list",
            ),
            flow.syn(),
            encapsulated(1, 1, ipip.plain()).and(&[SlotKept]),
        )
        .given(all(way))
        .given(kept(family, 1, 2, 3))
        .given([Step::Way(1, ipip)]),
    );
    for (what, frame, expected) in [
        ("data", flow.data(), goes_to(1)),
        ("a SYN", flow.syn(), opens(1)),
        (
            "data behind a tag",
            tagged(&flow.data(), &[(0x8100, 7)]),
            goes_to(1),
        ),
    ] {
        cases.push(
            Case::new(
                title(
                    family,
                    way,
                    &format!("{what} for a current owner in no tunnel / gets the packet in its own frame"),
                ),
                frame,
                expected.and(&[SlotKept]),
            )
            .given(all(way))
            .given(kept(family, 1, 2, 3))
            .given([Step::Way(1, Way::new(Tunnel::None, way.over))]),
        );
    }
    cases.push(
        Case::new(
            title(
                family,
                way,
                "data in a settled slot of another's / goes to it alone",
            ),
            flow.data(),
            encapsulated(4, 0, listing(way, &[], false)),
        )
        .given(all(way))
        .given([Step::Slot(CHANCE.slot(family), Slot::settled(4))]),
    );
    cases
}
