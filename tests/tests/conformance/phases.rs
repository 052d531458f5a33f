//! Slots that are not settled: who gets a packet of which flow, and what is noted, phase by phase.
//!
//! A slot's current owner is 1, the one before 2, the one before that 3: while the slot moves, 3 owns flows
//! without a note. Flows with a note belong to member 5.

use foobar_common::counters::Counter::{
    self, DropNoMember, IcmpSteered, NoteFollowed, NoteOverwritten, NotePending, NotePromoted, SlotKept,
    SlotMoved, SlotMoving, SlotOpen,
};
use foobar_common::slot::{Member, NONE, Phase, Slot};
use foobar_common::target::{TARGET_DOWN, TARGET_DRAINED, TARGET_GONE};
use foobar_tests::packets::rig::slot;

use crate::case::{Case, Expected, Step, dropped, goes_to, opens};
use crate::errors::{about, sent, unreachable};
use crate::family::Family;

const PHASES: [(&str, Phase, Counter); 4] = [
    ("open", Phase::Open, SlotOpen),
    ("moving", Phase::Moving, SlotMoving),
    ("fresh", Phase::Fresh, SlotMoved),
    ("moved", Phase::Moved, SlotMoved),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &family in Family::BOTH {
        for (name, phase, counter) in PHASES {
            let of = InPhase {
                family,
                name,
                phase,
                counter,
            };
            cases.extend(
                [
                    of.unnoted(),
                    of.pending(),
                    of.noted(),
                    of.ended(),
                    of.void(),
                    of.datagrams(),
                ]
                .concat(),
            );
        }
        cases.extend([kept(family), owners(family), nobody(family)].concat());
    }
    cases
}

/// What a segment is about its flow, and its bytes.
fn segments(family: Family) -> Vec<(&'static str, Vec<u8>)> {
    let flow = family.flow();
    vec![
        ("a SYN", flow.syn()),
        ("an ACK", flow.ack()),
        ("data", flow.data()),
        (
            "a SYN+ACK",
            flow.segment(&[], |tcp| (tcp.syn, tcp.ack) = (true, true)),
        ),
        ("a FIN", flow.fin()),
        ("a RST", flow.rst()),
        ("an ICMP error", error(family)),
    ]
}

fn error(family: Family) -> Vec<u8> {
    about(family, unreachable(family), &sent(family.flow()))
}

/// The kinds of segments that are steered alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Opens,
    Belongs,
    Ends,
    Tells,
}

fn kind(what: &str) -> Kind {
    match what {
        "a SYN" => Kind::Opens,
        "a FIN" | "a RST" => Kind::Ends,
        "an ICMP error" => Kind::Tells,
        _ => Kind::Belongs,
    }
}

/// A segment of a kind goes to a member.
fn sent_to(kind: Kind, member: Member, counters: &[Counter]) -> Expected {
    match kind {
        Kind::Opens => opens(member).and(counters),
        Kind::Belongs | Kind::Ends => goes_to(member).and(counters),
        Kind::Tells => goes_to(member).and(&[IcmpSteered]).and(counters),
    }
}

/// A phase of a family's slots.
#[derive(Clone, Copy)]
struct InPhase {
    family: Family,
    name: &'static str,
    phase: Phase,
    counter: Counter,
}

impl InPhase {
    fn title(self, rest: &str) -> String {
        format!("{} / slots / {} / {rest}", self.family.name(), self.name)
    }

    /// The TCP service's slot and the UDP service's enter a phase.
    fn enter(self, phase: Phase, current: Member) -> [Step; 2] {
        let slot = slot(phase, current, 2, 3);
        [
            Step::Slot(self.family.web_slot(), slot),
            Step::Slot(self.family.dns_slot(), slot),
        ]
    }

    /// Frames come while member 5 is current, then these steps are taken, then the phase begins.
    fn after(self, frames: Vec<Vec<u8>>, then: Vec<Step>) -> Vec<Step> {
        let mut steps = self.enter(Phase::Moving, 5).to_vec();
        steps.extend(frames.into_iter().map(Step::Frame));
        steps.extend(then);
        steps.extend(self.enter(self.phase, 1));
        steps
    }

    /// The SYN and the first ACK of the flow, by which it has a note.
    fn established(self) -> Vec<Vec<u8>> {
        vec![self.family.flow().syn(), self.family.flow().ack()]
    }

    /// The owner of flows without a note.
    fn unnoted_owner(self) -> Member {
        if self.phase == Phase::Moving { 3 } else { 1 }
    }

    /// A case of each segment.
    fn each(self, what: &str, steps: &[Step], expected: impl Fn(Kind) -> Expected) -> Vec<Case> {
        segments(self.family)
            .into_iter()
            .map(|(segment, frame)| {
                let expected = expected(kind(segment));
                let fate = fate(&expected);
                Case::new(
                    self.title(&format!("{segment} of {what} / {fate}")),
                    frame,
                    expected,
                )
                .given(steps.iter().cloned())
            })
            .collect()
    }

    fn unnoted(self) -> Vec<Case> {
        let owner = self.unnoted_owner();
        self.each("a flow without a note", &self.enter(self.phase, 1), |kind| {
            let (member, noted) = match kind {
                Kind::Opens => (1, self.phase != Phase::Moved),
                Kind::Belongs => (owner, self.phase == Phase::Moving),
                Kind::Ends | Kind::Tells => (owner, false),
            };
            let note: &[_] = if noted { &[NotePending] } else { &[] };
            sent_to(kind, member, note).and(&[self.counter])
        })
    }

    /// The flow's SYN was noted, and nothing has come since.
    fn pending(self) -> Vec<Case> {
        let steps = self.after(vec![self.family.flow().syn()], Vec::new());
        self.each("a flow whose SYN is noted", &steps, |kind| {
            let counters: &[_] = match kind {
                Kind::Opens => &[NoteFollowed],
                Kind::Belongs | Kind::Ends => &[NoteFollowed, NotePromoted],
                Kind::Tells => &[],
            };
            sent_to(kind, 5, counters).and(&[self.counter])
        })
    }

    fn noted(self) -> Vec<Case> {
        let followed = |kind| match kind {
            Kind::Tells => sent_to(kind, 5, &[self.counter]),
            _ => sent_to(kind, 5, &[self.counter, NoteFollowed]),
        };
        let established = self.established();
        let drained = vec![Step::Flags(5, TARGET_DRAINED)];
        [
            self.each(
                "a noted flow",
                &self.after(established.clone(), Vec::new()),
                followed,
            ),
            self.each(
                "a noted flow whose member is drained",
                &self.after(established, drained),
                followed,
            ),
        ]
        .concat()
    }

    /// The flow has a note, and is over or as good as over: only a SYN leaves it.
    fn ended(self) -> Vec<Case> {
        let over = |kind| match kind {
            Kind::Opens => sent_to(kind, 1, &[self.counter, NoteOverwritten]),
            Kind::Tells => sent_to(kind, 5, &[self.counter]),
            _ => sent_to(kind, 5, &[self.counter, NoteFollowed]),
        };
        let flow = self.family.flow();
        let with = |last: Vec<u8>| [self.established(), vec![last]].concat();
        let mut cases = Vec::new();
        for (what, frames, then) in [
            ("a noted flow that has ended by FIN", with(flow.fin()), vec![]),
            ("a noted flow that has ended by RST", with(flow.rst()), vec![]),
            (
                "a noted flow whose member is down",
                self.established(),
                vec![Step::Flags(5, TARGET_DOWN)],
            ),
        ] {
            cases.extend(self.each(what, &self.after(frames, then), over));
        }
        cases
    }

    /// The flow has a note, of a member that is gone: as if it had none, but for the place.
    fn void(self) -> Vec<Case> {
        let owner = self.unnoted_owner();
        let gone = vec![Step::Flags(5, TARGET_GONE)];
        let expected = |kind| {
            let (member, overwritten) = match kind {
                Kind::Opens => (1, true),
                Kind::Belongs => (owner, self.phase == Phase::Moving),
                Kind::Ends | Kind::Tells => (owner, false),
            };
            let note: &[_] = if overwritten { &[NoteOverwritten] } else { &[] };
            sent_to(kind, member, note).and(&[self.counter])
        };
        [
            self.each(
                "a noted flow whose member is gone",
                &self.after(self.established(), gone.clone()),
                expected,
            ),
            self.each(
                "a flow whose SYN is noted and whose member is gone",
                &self.after(vec![self.family.flow().syn()], gone),
                expected,
            ),
        ]
        .concat()
    }

    fn datagrams(self) -> Vec<Case> {
        let question = self.family.question().datagram();
        let moving = self.phase == Phase::Moving;
        let owner = self.unnoted_owner();
        // The first one goes to the owner before the last but one, here 5; the second confirms it.
        let of_five = |then: Vec<Step>| {
            let mut steps = vec![Step::Slot(self.family.dns_slot(), slot(Phase::Moving, 1, 2, 5))];
            steps.extend(then);
            steps.extend(self.enter(self.phase, 1));
            steps
        };
        let one = Step::Frame(question.clone());
        let mut cases = Vec::new();
        let mut case = |what: &str, steps: Vec<Step>, member: Member, counters: &[Counter]| {
            let expected = goes_to(member).and(&[self.counter]).and(counters);
            let fate = fate(&expected);
            cases.push(
                Case::new(
                    self.title(&format!("a datagram {what} / {fate}")),
                    question.clone(),
                    expected,
                )
                .given(steps),
            );
        };
        let written: &[_] = match self.phase {
            Phase::Moving | Phase::Fresh => &[NotePending],
            Phase::Open | Phase::Moved | Phase::Settled | Phase::Kept => &[],
        };
        case(
            "of a flow without a note",
            self.enter(self.phase, 1).to_vec(),
            owner,
            written,
        );
        for (what, flag) in [("down", TARGET_DOWN), ("gone", TARGET_GONE)] {
            let mut steps = self.enter(self.phase, 1).to_vec();
            steps.push(Step::Flags(3, flag));
            case(
                &format!("of a flow without a note whose old owner is {what}"),
                steps,
                1,
                written,
            );
        }
        let two = vec![one.clone(), one.clone()];
        case(
            "of a flow noted once",
            of_five(vec![one.clone()]),
            5,
            &[NoteFollowed, NotePromoted],
        );
        case("of a noted flow", of_five(two.clone()), 5, &[NoteFollowed]);
        for (what, flag) in [("down", TARGET_DOWN), ("drained", TARGET_DRAINED)] {
            let then = [two.clone(), vec![Step::Flags(5, flag)]].concat();
            case(
                &format!("of a noted flow whose member is {what}"),
                of_five(then),
                5,
                &[NoteFollowed],
            );
        }
        let overwritten: &[_] = match self.phase {
            Phase::Moving | Phase::Fresh => &[NoteOverwritten],
            Phase::Open | Phase::Moved | Phase::Settled | Phase::Kept => &[],
        };
        let gone = [two, vec![Step::Flags(5, TARGET_GONE)]].concat();
        case(
            "of a noted flow whose member is gone",
            of_five(gone),
            if moving { 3 } else { 1 },
            overwritten,
        );
        cases
    }
}

/// In words, so that a name tells all.
fn fate(expected: &Expected) -> String {
    let crate::case::Fate::Forwarded(member, _) = expected.fate else {
        unreachable!("all segments here go to somebody");
    };
    let whose = match member {
        1 => "to the current owner",
        3 => "to the oldest owner",
        5 => "to the note's member",
        _ => unreachable!("nobody else is named"),
    };
    let has = |counter| expected.counters.contains(&counter);
    let noted = if has(NotePending) {
        ", and is noted"
    } else if has(NoteOverwritten) {
        ", and takes the note along"
    } else if has(NotePromoted) {
        ", and confirms the note"
    } else {
        ""
    };
    format!("{whose}{noted}")
}

/// Slots that keep earlier owners note nothing, and don't look notes up.
fn kept(family: Family) -> Vec<Case> {
    let of = InPhase {
        family,
        name: "kept",
        phase: Phase::Kept,
        counter: SlotKept,
    };
    let current = |kind| sent_to(kind, 1, &[SlotKept]);
    let mut cases = [
        of.each("a flow without a note", &of.enter(Phase::Kept, 1), current),
        of.each("a noted flow", &of.after(of.established(), Vec::new()), current),
    ]
    .concat();
    cases.push(
        Case::new(
            of.title("a datagram / to the current owner"),
            family.question().datagram(),
            goes_to(1).and(&[SlotKept]),
        )
        .given(of.enter(Phase::Kept, 1)),
    );
    let settled = InPhase {
        name: "settled",
        phase: Phase::Settled,
        ..of
    };
    cases.extend(settled.each(
        "a noted flow",
        &settled.after(settled.established(), Vec::new()),
        |kind| sent_to(kind, 1, &[]),
    ));
    cases
}

/// Who owns the flows without a note while a slot moves: the oldest owner that is known.
fn owners(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, previous, older, owner) in [
        ("two earlier owners", 2, 3, 3),
        ("one earlier owner", 2, NONE, 2),
        ("no earlier owner", NONE, NONE, 1),
        ("an owner before nobody", NONE, 3, 3),
    ] {
        let steps = [Step::Slot(
            family.web_slot(),
            slot(Phase::Moving, 1, previous, older),
        )];
        for (segment, frame, counters) in [
            ("a FIN", family.flow().fin(), &[SlotMoving][..]),
            ("data", family.flow().data(), &[SlotMoving, NotePending]),
        ] {
            cases.push(
                Case::new(
                    format!(
                        "{} / slots / moving / {segment} in a slot with {what} / to member {owner}",
                        family.name()
                    ),
                    frame,
                    goes_to(owner).and(counters),
                )
                .given(steps.clone()),
            );
        }
        cases.push(
            Case::new(
                format!(
                    "{} / slots / moving / a SYN in a slot with {what} / to member 1",
                    family.name()
                ),
                family.flow().syn(),
                opens(1).and(&[SlotMoving, NotePending]),
            )
            .given(steps),
        );
    }
    cases
}

/// Slots whose current owner is nobody.
fn nobody(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, phase, counter) in PHASES {
        let slot = Slot {
            current: NONE,
            ..slot(phase, 1, 2, 3)
        };
        for (what, frame) in segments(family) {
            let kind = kind(what);
            let expected = if phase == Phase::Moving && kind != Kind::Opens {
                let note: &[_] = if kind == Kind::Belongs {
                    &[NotePending]
                } else {
                    &[]
                };
                sent_to(kind, 3, note).and(&[counter])
            } else {
                dropped(DropNoMember).and(&[counter])
            };
            let fate = match expected.fate {
                crate::case::Fate::Dropped => "dropped for want of a member",
                _ => "to the oldest owner",
            };
            cases.push(
                Case::new(
                    format!("{} / slots / {name} to nobody / {what} / {fate}", family.name()),
                    frame,
                    expected,
                )
                .given([Step::Slot(family.web_slot(), slot)]),
            );
        }
    }
    cases
}
