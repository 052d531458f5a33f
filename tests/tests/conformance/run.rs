//! Runs cases on the real program and tells in words and bytes where one differs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use foobar::dataplane::Sweep;
use foobar_common::admission::Features;
use foobar_common::counters::Counter;
use foobar_common::slot::{Member, Slot};
use foobar_tests::packets::frame::OWN;
use foobar_tests::packets::outcome::{Outcome, Sent};
use foobar_tests::packets::rig::{LEASE, OTHER_LEASE, Policy, Rig, Setup, TARGETS, backend_mac};

use crate::case::{Case, Expected, Fate, Step};
use crate::family::{Family, LEASE6, OTHER_LEASE6};
use crate::interfaces::KNOWN;
use crate::outer::{Tunnel, Way, source};
use crate::{limits, lists, outer, quic, services};

/// Runs cases on a program with these features; returns a text for each that failed.
pub(crate) fn all(cases: &[Case], features: Features) -> Result<Vec<String>> {
    let rig = |policy| {
        let setup = Setup {
            policy,
            ..Setup::default()
        };
        world(Rig::with_features(setup, features)?)
    };
    let mut dropping = rig(Policy::Drop)?;
    let mut resetting = rig(Policy::Reset)?;
    let mut failures = Vec::new();
    for case in cases {
        let rig = match case.policy {
            Policy::Drop => &mut dropping,
            Policy::Reset => &mut resetting,
        };
        for step in &case.setup {
            take(rig, step);
        }
        // Answers to what is too big are 1,000 a second.
        if case.expected.counters.contains(&Counter::AnswerTooBig) {
            thread::sleep(Duration::from_millis(1));
        }
        let outcome = rig.send(&case.frame);
        let failure = match &case.expected.fate {
            Fate::ForwardedAs(other, connections) => match member_of(&rig.send(other)) {
                Some(member) => difference(case, &Fate::Forwarded(member, *connections), &outcome),
                None => Some(format!(
                    "{}\n  the frame to be followed goes to nobody",
                    case.name
                )),
            },
            fate @ (Fate::Encapsulated(member, connections, outside)
            | Fate::EncapsulatedElsewhere(member, connections, outside)) => {
                let like = outside.other().map(|other| rig.send(other).verdict.frame);
                let seen = like.as_deref().unwrap_or(&outcome.verdict.frame);
                let frame = outside.frame(*member, &case.frame, seen);
                let elsewhere = matches!(fate, Fate::EncapsulatedElsewhere(..));
                let action = if elsewhere { REDIRECT } else { TX };
                compare(case, (action, frame, Some((*member, *connections))), &outcome)
            }
            fate => difference(case, fate, &outcome),
        };
        failures.extend(failure);
        clear(rig).with_context(|| format!("after {}", case.name))?;
    }
    Ok(failures)
}

/// The only member that an outcome's frame was counted at.
fn member_of(outcome: &Outcome) -> Option<Member> {
    match outcome.targets[..] {
        [sent] => Some(sent.member),
        _ => None,
    }
}

/// The members that frames go to.
pub(crate) fn members(frames: &[Vec<u8>]) -> Result<BTreeSet<Member>> {
    let mut rig = world(Rig::new()?)?;
    Ok(frames
        .iter()
        .filter_map(|frame| member_of(&rig.send(frame)))
        .collect())
}

/// The rig's world, with the VIPs of the other family and the special services besides.
fn world(mut rig: Rig) -> Result<Rig> {
    let mut entries = rig.services();
    entries.extend(Family::V6.services(&rig));
    for &family in Family::BOTH {
        entries.extend(services::entries(family, &rig));
    }
    rig.plane.set_services(&entries)?;
    rig.plane.add_tx_port(KNOWN)?;
    lists::fill(&mut rig)?;
    rig.plane.set_server_ids(&quic::server_ids())?;
    clear(&mut rig)?;
    Ok(rig)
}

/// As in the beginning, but for fragments, which cannot be forgotten: cases tell theirs apart themselves.
fn clear(rig: &mut Rig) -> Result<()> {
    for index in Family::BOTH
        .iter()
        .flat_map(|family| [family.web_slot(), family.dns_slot()])
    {
        rig.set(index, Slot::settled(1));
    }
    for &family in Family::BOTH {
        services::settle(family, rig);
    }
    for member in 1..=TARGETS {
        let way = Way::new(Tunnel::None, Family::V4);
        rig.plane.set_target(member, &way.target(member));
    }
    rig.plane.set_outer_source(&source(false));
    limits::refill(rig);
    for lease in [LEASE, OTHER_LEASE, LEASE6, OTHER_LEASE6] {
        rig.plane.set_lease(lease, u64::MAX);
    }
    rig.plane.sweep_notes(|_| Sweep::Delete);
    Ok(())
}

fn take(rig: &mut Rig, step: &Step) {
    match step {
        Step::Slot(index, slot) => rig.set(*index, *slot),
        Step::Flags(member, flags) => rig.set_target_flags(*member, *flags),
        Step::Behind(member, ifindex) => {
            rig.plane
                .set_next_hop(*member, backend_mac(*member), OWN, *ifindex);
        }
        Step::Unresolved(member) => rig.plane.clear_next_hop(*member),
        Step::Lease(index, until_ns) => rig.plane.set_lease(*index, *until_ns),
        Step::Way(member, way) => rig.plane.set_target(*member, &way.target(*member)),
        Step::Sources => rig.plane.set_outer_source(&outer::source(true)),
        Step::Frame(frame) => _ = rig.send(frame),
    }
}

const ACTIONS: [&str; 5] = ["ABORTED", "DROP", "PASS", "TX", "REDIRECT"];

/// What a case expects, in the terms of what is seen: the verdict, the bytes, and who is sent how many connections.
type Expectation = (u32, Vec<u8>, Option<(Member, u64)>);

const TX: u32 = 3;
const REDIRECT: u32 = 4;

fn expectation(case: &Case, fate: &Fate, outcome: &Outcome) -> Expectation {
    match fate {
        Fate::Dropped => (1, case.frame.clone(), None),
        Fate::Passed => (2, case.frame.clone(), None),
        Fate::Answered(answer) => (TX, answer.clone(), None),
        Fate::ForwardedAs(..) | Fate::Encapsulated(..) | Fate::EncapsulatedElsewhere(..) => {
            unreachable!("what is expected depends on what another frame becomes")
        }
        Fate::Forwarded(member, connections) | Fate::Redirected(member, connections) => {
            let action = if matches!(fate, Fate::Forwarded(..)) {
                TX
            } else {
                REDIRECT
            };
            (action, outcome.rewritten(*member), Some((*member, *connections)))
        }
    }
}

fn difference(case: &Case, fate: &Fate, outcome: &Outcome) -> Option<String> {
    compare(case, expectation(case, fate, outcome), outcome)
}

fn compare(case: &Case, (action, bytes, sent): Expectation, outcome: &Outcome) -> Option<String> {
    let targets: Vec<Sent> = sent
        .into_iter()
        .map(|(member, connections)| Sent {
            member,
            packets: 1,
            bytes: bytes.len() as u64,
            connections,
        })
        .collect();
    let mut counters = names(&case.expected);
    let mut moved = outcome.counters.clone();
    counters.sort_unstable();
    moved.sort_unstable();
    let mut text = String::new();
    let seen = outcome.verdict.action;
    if seen != action {
        let name = |action: u32| ACTIONS.get(action as usize).copied().unwrap_or("no such verdict");
        line(&mut text, "verdict", name(action), name(seen));
    }
    if moved != counters {
        line(
            &mut text,
            "counters",
            &format!("{counters:?}"),
            &format!("{moved:?}"),
        );
    }
    if outcome.targets != targets {
        line(
            &mut text,
            "targets",
            &format!("{targets:?}"),
            &format!("{:?}", outcome.targets),
        );
    }
    if outcome.verdict.frame != bytes {
        text += &hex_difference(&bytes, &outcome.verdict.frame);
    }
    (!text.is_empty()).then(|| format!("{}\n{}", case.name, text.trim_end()))
}

fn names(expected: &Expected) -> Vec<(&'static str, u64)> {
    expected
        .counters
        .iter()
        .map(|counter| (counter.name(), 1))
        .collect()
}

fn line(text: &mut String, what: &str, expected: &str, seen: &str) {
    writeln!(text, "  {what}: expected {expected}, seen {seen}").expect("a string takes all");
}

/// The rows of 16 bytes in which two frames differ, and marks below the bytes that do.
fn hex_difference(expected: &[u8], seen: &[u8]) -> String {
    let mut text = format!("  bytes: expected {}, seen {}\n", expected.len(), seen.len());
    for start in (0..expected.len().max(seen.len())).step_by(16) {
        let row = |bytes: &[u8]| -> Vec<Option<u8>> {
            (start..start + 16)
                .map(|place| bytes.get(place).copied())
                .collect()
        };
        let (wanted, got) = (row(expected), row(seen));
        if wanted == got {
            continue;
        }
        let marks: Vec<_> = wanted
            .iter()
            .zip(&got)
            .map(|(a, b)| if a == b { "  " } else { "^^" })
            .collect();
        writeln!(text, "    {start:04x} expected {}", hex(&wanted)).expect("a string takes all");
        writeln!(text, "         seen     {}", hex(&got)).expect("a string takes all");
        writeln!(text, "                  {}", marks.join(" ").trim_end()).expect("a string takes all");
    }
    text
}

fn hex(row: &[Option<u8>]) -> String {
    let octets: Vec<_> = row
        .iter()
        .map(|byte| byte.map_or_else(|| "--".to_owned(), |byte| format!("{byte:02x}")))
        .collect();
    octets.join(" ")
}
