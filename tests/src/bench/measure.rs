//! Measuring a row: rounds in which all programs take turns, and the judgement whether the row counts.

use anyhow::Result;
use foobar_common::bench::{BLOCK, Traffic};
use foobar_common::counters::Counter;
use foobar_common::target::TargetCounters;

use super::case::{BASE, Case, Claim, Met, Row, Sent, named};
use super::plane::{Counted, Plane};
use super::programs::{Beside, Programs, Run, Subject};
use super::traffic::traffic;

/// The lane of the program under test; the others share one.
const TESTED: u64 = 0;
const OTHERS: u64 = 1;

/// How much is done for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds, in each of which every program runs once.
    pub rounds: u32,
    /// Blocks of packets of a run.
    pub blocks: u32,
}

impl Effort {
    /// What figures are published of.
    pub const FULL: Self = Self {
        rounds: 21,
        blocks: 256,
    };
    /// A first impression.
    pub const QUICK: Self = Self {
        rounds: 5,
        blocks: 64,
    };
}

/// Nanoseconds a packet, over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The fastest round's.
    pub min: f64,
    /// The median round's.
    pub median: f64,
}

/// What the rounds of a row gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The balancer's, without the wrapper.
    pub net: Summary,
    /// The floor's, without the wrapper.
    pub floor: Summary,
    /// The wrapper's, as it was subtracted.
    pub wrapper: Summary,
}

/// Why a row doesn't count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

/// Measures a row. Something else than the kernel's refusal makes it [`Invalid`].
///
/// # Errors
/// Where the kernel refuses something.
pub fn measure(
    programs: &mut Programs,
    row: &Row,
    effort: Effort,
    progress: impl FnMut(),
) -> Result<Result<Figures, Invalid>> {
    Ok(rounds(programs, row, effort, progress)?.and_then(|times| {
        let figures = times.figures();
        if figures.net.min > 0.0 && figures.floor.min > 0.0 {
            Ok(figures)
        } else {
            Err(Invalid(
                "the wrapper alone took longer: the machine was too busy".to_owned(),
            ))
        }
    }))
}

/// Whether every packet of a row takes the way that its case claims; how long it takes doesn't matter.
///
/// # Errors
/// Where the kernel refuses something.
pub fn check(programs: &mut Programs, row: &Row) -> Result<Result<(), Invalid>> {
    const EFFORT: Effort = Effort { rounds: 2, blocks: 2 };
    Ok(rounds(programs, row, EFFORT, || ())?.map(drop))
}

fn rounds(
    programs: &mut Programs,
    row: &Row,
    effort: Effort,
    mut progress: impl FnMut(),
) -> Result<Result<Times, Invalid>> {
    let mut plane = Plane::new(row)?;
    programs.rewind()?;
    let tested = Traffic {
        lane: TESTED,
        ..row.plan.traffic(&row.case, row.flows, row.vips)?
    };
    let beside = Traffic {
        lane: OTHERS,
        ..tested
    };
    let base = named(BASE).expect("the base is a case");
    let floor = Traffic {
        lane: OTHERS,
        ..traffic(base, row.flows, 1)?
    };
    prepare(programs, &mut plane, row, &tested)?;

    let packets = u64::from(effort.rounds) * u64::from(effort.blocks) * BLOCK;
    let before = plane.counted()?;
    let floor_before = programs.floor_packets()?;
    let mut times = Times::default();
    for _ in 0..effort.rounds {
        let null = |programs: &mut Programs, traffic| {
            programs.run(Subject::Beside(Beside::Null), traffic, effort.blocks)
        };
        let mut own = null(programs, &beside)?.ns;
        if tested.left != tested.length {
            // Half of what it takes to change the length and to restore it is the wrapper's.
            let both = programs.run(Subject::Beside(Beside::Resizing), &beside, effort.blocks)?;
            own = (own + both.ns) / 2.0;
        }
        let run = programs.run(Subject::Tested(plane.plane.program_fd()?), &tested, effort.blocks)?;
        if let Err(invalid) = last_packet(&row.case.claim, &tested, &run) {
            return Ok(Err(invalid));
        }
        times.wrapper.push(own);
        times.tested.push(run.ns);
        times.floor_wrapper.push(null(programs, &floor)?.ns);
        let run = programs.run(Subject::Beside(Beside::Floor), &floor, effort.blocks)?;
        times.floor.push(run.ns);
        progress();
    }
    if row.case.is_common() && plane.plane.was_rare()? {
        return Ok(Err(Invalid(
            "packets were not on the common way of plain packets in settled slots".to_owned(),
        )));
    }
    if let Err(invalid) = judge(&row.case, &tested, packets, &before, &plane.counted()?) {
        return Ok(Err(invalid));
    }
    if programs.floor_packets()? - floor_before != packets {
        return Ok(Err(Invalid(
            "the floor has not forwarded every packet".to_owned(),
        )));
    }
    Ok(Ok(times))
}

/// Sends what has to come before: a first look at every table, and the packets that make notes.
fn prepare(programs: &mut Programs, plane: &mut Plane, row: &Row, tested: &Traffic) -> Result<()> {
    let Met::Noted(phase) = row.case.met else {
        return Ok(());
    };
    // The first packet of a flow makes its note, the next one promotes it.
    let twice = Traffic { dwell: 2, ..*tested };
    let mut left = row.flows * 2 / BLOCK + 2;
    while left > 0 {
        let blocks = left.clamp(2, 1_024) as u32;
        programs.run(Subject::Tested(plane.plane.program_fd()?), &twice, blocks)?;
        left = left.saturating_sub(u64::from(blocks));
    }
    plane.set_slots(phase);
    Ok(())
}

/// Whether the last packet of a run ended as claimed.
fn last_packet(claim: &Claim, traffic: &Traffic, run: &Run) -> Result<(), Invalid> {
    if (run.action, run.length) == (claim.action, traffic.left) {
        return Ok(());
    }
    Err(Invalid(format!(
        "the last packet ended with action {} and {} bytes instead of {} and {}",
        run.action, run.length, claim.action, traffic.left
    )))
}

/// Whether the program's counters show that every one of the `packets` went the way that the case claims.
pub fn judge(
    case: &Case,
    traffic: &Traffic,
    packets: u64,
    before: &Counted,
    after: &Counted,
) -> Result<(), Invalid> {
    for &counter in Counter::ALL {
        let grown = after.since(before, counter);
        let fine = if case.claim.counts.contains(&counter) {
            grown == packets
        } else {
            grown == 0 || case.claim.may_count.contains(&counter)
        };
        if !fine {
            return Err(Invalid(format!(
                "{} has counted {grown} of {packets} packets",
                counter.name()
            )));
        }
    }
    let (sent, connections) = match case.claim.sent {
        Sent::Nothing => (0, 0),
        Sent::Packets => (packets, 0),
        Sent::Connections => (packets, packets),
    };
    let expected = TargetCounters {
        packets: sent,
        bytes: sent * traffic.left,
        connections,
    };
    let counted = after.sent_since(before);
    if counted != expected {
        return Err(Invalid(format!(
            "targets have counted {counted:?} instead of {expected:?}"
        )));
    }
    Ok(())
}

#[derive(Default)]
struct Times {
    wrapper: Vec<f64>,
    tested: Vec<f64>,
    floor_wrapper: Vec<f64>,
    floor: Vec<f64>,
}

impl Times {
    fn figures(&self) -> Figures {
        let net = |with: &[f64], without: &[f64]| {
            let (with, without) = (summary(with), summary(without));
            Summary {
                min: with.min - without.min,
                median: with.median - without.median,
            }
        };
        Figures {
            net: net(&self.tested, &self.wrapper),
            floor: net(&self.floor, &self.floor_wrapper),
            wrapper: summary(&self.wrapper),
        }
    }
}

/// Of the times of some rounds, at least one.
pub(super) fn summary(times: &[f64]) -> Summary {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    Summary {
        min: sorted[0],
        median: sorted[sorted.len() / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_without_the_wrapper() {
        let times = Times {
            wrapper: vec![22.0, 20.0, 21.0],
            tested: vec![50.0, 33.0, 34.0],
            floor_wrapper: vec![20.0, 20.0, 90.0],
            floor: vec![28.0, 29.0, 27.0],
        };
        let figures = times.figures();
        assert_eq!((figures.net.min, figures.net.median), (13.0, 13.0));
        assert_eq!((figures.floor.min, figures.floor.median), (7.0, 8.0));
        assert_eq!((figures.wrapper.min, figures.wrapper.median), (20.0, 21.0));
    }

    #[test]
    fn one_packet_on_another_way_makes_a_row_invalid() {
        let case = named(BASE).expect("the base is a case");
        let traffic = traffic(case, 1, 1).expect("it has a frame");
        let before = Counted::default();
        let mut after = Counted {
            targets: TargetCounters {
                packets: 1_000,
                bytes: 1_000 * traffic.length,
                connections: 0,
            },
            ..before
        };
        assert_eq!(judge(case, &traffic, 1_000, &before, &after), Ok(()));
        after.counters.slot_moved = 1;
        assert!(judge(case, &traffic, 1_000, &before, &after).is_err());
        after = before;
        assert!(judge(case, &traffic, 1_000, &before, &after).is_err());
    }
}
