//! Server ids and what else decides: slots, services, fragments, lists, tunnels, candidates.

use foobar_common::counters::Counter::{
    DropDenied, FragmentFollowed, FragmentNoted, NotePending, QuicServerId, SlotKept, SlotMoving,
};
use foobar_common::slot::{NONE, Phase};
use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::rig::{UDP, slot};

use super::{NAMED, SLOTS, V1, datagram, follows, long, named, short, title};
use crate::case::{Case, Step, dropped, encapsulated, goes_to};
use crate::family::Family;
use crate::fragments::fragment;
use crate::lists::DENIED;
use crate::outer::{Tunnel, WAYS, Way};
use crate::services::{QUIC, QUIC_BY_SOURCE, QUIC_CHANCE, QUIC_LISTED};

/// Slots, services, fragments and lists.
pub(super) fn places(family: Family) -> Vec<Case> {
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

pub(super) fn tunnels(family: Family) -> Vec<Case> {
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
