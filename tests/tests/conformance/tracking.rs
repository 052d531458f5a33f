//! Which flows a service notes: with tracking none, all, or all and strict.
//!
//! A slot's current owner is 1, while it moves the unnoted flows' owner is 3; noted flows belong to member 5.

use foobar_common::counters::Counter::{
    AnswerReset, DropNoMember, DropNoNote, NoteFollowed, NoteOverwritten, NotePending, NotePromoted,
    SlotKept, SlotMoved, SlotMoving, SlotOpen,
};
use foobar_common::slot::{NONE, Phase};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_tests::packets::rig::slot;

use crate::case::{Case, Expected, Step, answered, dropped, goes_to, opens};
use crate::errors::{about, sent, steered, unreachable};
use crate::family::{Ends, Family};
use crate::refused::{Numbers, reset};
use crate::services::{STRICT, STRICT_UDP, Service, TRACKED, TRACKED_UDP, UNTRACKED, UNTRACKED_UDP};

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| [none(family), all(family), strict(family)].concat())
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / tracking / {rest}", family.name())
}

fn enter(service: Service, family: Family, phase: Phase) -> Step {
    Step::Slot(service.slot(family), slot(phase, 1, 2, 3))
}

fn none(family: Family) -> Vec<Case> {
    let flow = UNTRACKED.flow(family);
    let error = about(family, unreachable(family), &sent(flow));
    let mut cases = Vec::new();
    for (name, phase, counter) in [
        ("settled", Phase::Settled, None),
        ("open", Phase::Open, Some(SlotOpen)),
        ("moving", Phase::Moving, Some(SlotMoving)),
        ("fresh", Phase::Fresh, Some(SlotMoved)),
        ("moved", Phase::Moved, Some(SlotMoved)),
        ("kept", Phase::Kept, Some(SlotKept)),
    ] {
        let tcp = enter(UNTRACKED, family, phase);
        let udp = enter(UNTRACKED_UDP, family, phase);
        let datagram = UNTRACKED_UDP.flow(family).datagram();
        for (what, frame, expected) in [
            ("a SYN", flow.syn(), opens(1)),
            ("data", flow.data(), goes_to(1)),
            ("a FIN", flow.fin(), goes_to(1)),
            ("a datagram", datagram.clone(), goes_to(1)),
            ("an ICMP error", error.clone(), steered(1)),
        ] {
            let expected = expected.and(counter.as_slice());
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("none / {what} in a slot that is {name} / to the current owner, not noted"),
                    ),
                    frame.clone(),
                    expected.clone(),
                )
                .given([tcp.clone(), udp.clone()]),
            );
            // Were anything noted, this one would follow the note.
            cases.push(
                Case::new(
                    title(family, &format!("none / {what} in a slot that is {name}, of a flow that is known / to the current owner")),
                    frame,
                    expected,
                )
                .given([
                    UNTRACKED.at(family, 5),
                    UNTRACKED_UDP.at(family, 5),
                    Step::Frame(flow.syn()),
                    Step::Frame(flow.ack()),
                    Step::Frame(datagram.clone()),
                    tcp.clone(),
                    udp.clone(),
                ]),
            );
        }
    }
    cases
}

/// What `all` and `strict` have in common: flows that have a note.
fn noted(family: Family, name: &str, tcp: Service, udp: Service) -> Vec<Case> {
    let (flow, question) = (tcp.flow(family), udp.flow(family));
    let established = vec![
        tcp.at(family, 5),
        Step::Frame(flow.syn()),
        Step::Frame(flow.ack()),
        tcp.at(family, 1),
    ];
    let opened = vec![tcp.at(family, 5), Step::Frame(flow.syn()), tcp.at(family, 1)];
    let ended = [&established[..], &[Step::Frame(flow.fin())]].concat();
    let with = |step: Step| [&established[..], &[step]].concat();
    let asked = vec![
        udp.at(family, 5),
        Step::Frame(question.datagram()),
        udp.at(family, 1),
    ];
    let talking = [&asked[..], &[Step::Frame(question.datagram())]].concat();
    let error = about(family, unreachable(family), &sent(flow));
    [
        (
            "a SYN of an unknown flow / to the current owner, and is noted",
            flow.syn(),
            vec![],
            opens(1).and(&[NotePending]),
        ),
        (
            "a SYN once more / follows its note",
            flow.syn(),
            opened.clone(),
            opens(5).and(&[NoteFollowed]),
        ),
        (
            "the ACK after a SYN / follows the note and confirms it",
            flow.ack(),
            opened.clone(),
            goes_to(5).and(&[NoteFollowed, NotePromoted]),
        ),
        (
            "a FIN after a SYN / follows the note and confirms it",
            flow.fin(),
            opened.clone(),
            goes_to(5).and(&[NoteFollowed, NotePromoted]),
        ),
        (
            "an ICMP error after a SYN / follows the note",
            error.clone(),
            opened,
            steered(5),
        ),
        (
            "data of a noted flow / follows the note",
            flow.data(),
            established.clone(),
            goes_to(5).and(&[NoteFollowed]),
        ),
        (
            "a FIN of a noted flow / follows the note",
            flow.fin(),
            established.clone(),
            goes_to(5).and(&[NoteFollowed]),
        ),
        (
            "a SYN of a noted flow / follows the note",
            flow.syn(),
            established.clone(),
            opens(5).and(&[NoteFollowed]),
        ),
        (
            "an ICMP error about a noted flow / follows the note",
            error.clone(),
            established.clone(),
            steered(5),
        ),
        (
            "the last ACK of a flow that has ended / follows the note",
            flow.ack(),
            ended.clone(),
            goes_to(5).and(&[NoteFollowed]),
        ),
        (
            "a SYN of a flow that has ended / to the current owner, and takes the note along",
            flow.syn(),
            ended,
            opens(1).and(&[NoteOverwritten]),
        ),
        (
            "a SYN of a flow whose member is down / to the current owner, and takes the note along",
            flow.syn(),
            with(Step::Flags(5, TARGET_DOWN)),
            opens(1).and(&[NoteOverwritten]),
        ),
        (
            "data of a flow whose member is down / follows the note",
            flow.data(),
            with(Step::Flags(5, TARGET_DOWN)),
            goes_to(5).and(&[NoteFollowed]),
        ),
        (
            "a SYN of a flow whose member is gone / to the current owner, and takes the note along",
            flow.syn(),
            with(Step::Flags(5, TARGET_GONE)),
            opens(1).and(&[NoteOverwritten]),
        ),
        (
            "data of a noted flow whose service has no member any more / follows the note",
            flow.data(),
            with(tcp.at(family, NONE)),
            goes_to(5).and(&[NoteFollowed]),
        ),
        (
            "a SYN to a service without members / dropped for want of them",
            flow.syn(),
            vec![tcp.at(family, NONE)],
            dropped(DropNoMember),
        ),
        (
            "data of an unknown flow to a service without members / dropped for want of them",
            flow.data(),
            vec![tcp.at(family, NONE)],
            dropped(DropNoMember),
        ),
        (
            "a datagram of an unknown flow / to the current owner, and is noted",
            question.datagram(),
            vec![],
            goes_to(1).and(&[NotePending]),
        ),
        (
            "a second datagram / follows the note and confirms it",
            question.datagram(),
            asked,
            goes_to(5).and(&[NoteFollowed, NotePromoted]),
        ),
        (
            "a third datagram / follows the note",
            question.datagram(),
            talking.clone(),
            goes_to(5).and(&[NoteFollowed]),
        ),
        (
            "a datagram of a flow whose member is gone / to the current owner, and takes the note along",
            question.datagram(),
            [talking, vec![Step::Flags(5, TARGET_GONE)]].concat(),
            goes_to(1).and(&[NoteOverwritten]),
        ),
        (
            "data of an unknown flow in a slot that is moving / to the oldest owner, and is noted",
            flow.data(),
            vec![enter(tcp, family, Phase::Moving)],
            goes_to(3).and(&[SlotMoving, NotePending]),
        ),
        (
            "a FIN of an unknown flow in a slot that is moving / to the oldest owner",
            flow.fin(),
            vec![enter(tcp, family, Phase::Moving)],
            goes_to(3).and(&[SlotMoving]),
        ),
        (
            "a SYN of an unknown flow in a slot that has moved / to the current owner, and is noted",
            flow.syn(),
            vec![enter(tcp, family, Phase::Moved)],
            opens(1).and(&[SlotMoved, NotePending]),
        ),
        (
            "a SYN of an unknown flow in a slot that keeps owners / to the current owner, and is noted",
            flow.syn(),
            vec![enter(tcp, family, Phase::Kept)],
            opens(1).and(&[SlotKept, NotePending]),
        ),
        (
            "data of a noted flow in a slot that keeps owners / follows the note",
            flow.data(),
            with(enter(tcp, family, Phase::Kept)),
            goes_to(5).and(&[SlotKept, NoteFollowed]),
        ),
    ]
    .map(|(what, frame, steps, expected)| {
        Case::new(title(family, &format!("{name} / {what}")), frame, expected).given(steps)
    })
    .to_vec()
}

/// Steps after which the flow has a note that doesn't count any more.
fn void(family: Family, service: Service, flow: Ends) -> Vec<Step> {
    vec![
        service.at(family, 5),
        Step::Frame(flow.syn()),
        Step::Frame(flow.ack()),
        service.at(family, 1),
        Step::Flags(5, TARGET_GONE),
    ]
}

fn all(family: Family) -> Vec<Case> {
    let flow = TRACKED.flow(family);
    let error = about(family, unreachable(family), &sent(flow));
    let mut cases = noted(family, "all", TRACKED, TRACKED_UDP);
    cases.extend(
        [
            (
                "data of an unknown flow / to the current owner, and is noted",
                flow.data(),
                vec![],
                goes_to(1).and(&[NotePending]),
            ),
            (
                "a second segment of such a flow / follows the note and confirms it",
                flow.data(),
                vec![
                    TRACKED.at(family, 5),
                    Step::Frame(flow.data()),
                    TRACKED.at(family, 1),
                ],
                goes_to(5).and(&[NoteFollowed, NotePromoted]),
            ),
            (
                "a FIN of an unknown flow / to the current owner",
                flow.fin(),
                vec![],
                goes_to(1),
            ),
            (
                "a RST of an unknown flow / to the current owner",
                flow.rst(),
                vec![],
                goes_to(1),
            ),
            (
                "an ICMP error about an unknown flow / to the current owner",
                error,
                vec![],
                steered(1),
            ),
            (
                "data of a flow whose member is gone / to the current owner, and takes the note along",
                flow.data(),
                void(family, TRACKED, flow),
                goes_to(1).and(&[NoteOverwritten]),
            ),
            (
                "a FIN of a flow whose member is gone / to the current owner",
                flow.fin(),
                void(family, TRACKED, flow),
                goes_to(1),
            ),
        ]
        .map(|(what, frame, steps, expected): (_, _, Vec<Step>, Expected)| {
            Case::new(title(family, &format!("all / {what}")), frame, expected).given(steps)
        }),
    );
    cases
}

fn strict(family: Family) -> Vec<Case> {
    let flow = STRICT.flow(family);
    let syn_ack = flow.segment(&[], |tcp| (tcp.syn, tcp.ack) = (true, true));
    let error = about(family, unreachable(family), &sent(flow));
    let mut cases = noted(family, "strict", STRICT, STRICT_UDP);
    for (what, frame, answer) in [
        ("an ACK", flow.ack(), Some(Numbers::Bare(0x8765_4321))),
        ("data", flow.data(), Some(Numbers::Bare(0x8765_4321))),
        ("a SYN+ACK", syn_ack, Some(Numbers::Bare(0x8765_4321))),
        ("a FIN", flow.fin(), Some(Numbers::Bare(0x8765_4321))),
        ("a RST", flow.rst(), None),
        ("an ICMP error", error, None),
    ] {
        for (whose, steps) in [
            ("of an unknown flow", vec![]),
            ("of a flow whose member is gone", void(family, STRICT, flow)),
        ] {
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("strict / {what} {whose} / dropped for want of a note"),
                    ),
                    frame.clone(),
                    dropped(DropNoNote),
                )
                .given(steps.clone()),
            );
            let (fate, expected) = match answer {
                Some(numbers) => ("reset", answered(AnswerReset, reset(family, flow, numbers))),
                None => ("dropped for want of a note", dropped(DropNoNote)),
            };
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("strict / {what} {whose}, where TCP would be reset / {fate}"),
                    ),
                    frame.clone(),
                    expected,
                )
                .given(steps)
                .resetting(),
            );
        }
    }
    cases
}
