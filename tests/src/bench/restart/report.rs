//! A rolling restart, as programs and people get it.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::run::{Flows, Memory, Outcome, Sample, Stage};
use crate::bench::report::table;

/// Everything for programs. Times in seconds.
#[derive(Debug, Serialize)]
struct Report<'a> {
    flows: u64,
    backends: u16,
    slots: u32,
    idle_timeout_s: f64,
    sound: bool,
    seen: Flows,
    memory_bytes: Memory,
    longest_silence_s: f64,
    longest_command_s: f64,
    settled_after_s: Option<f64>,
    samples: &'a [Sample],
}

/// The outcome for programs.
///
/// # Errors
/// Never, as its values are.
pub fn json(outcome: &Outcome) -> Result<String> {
    let request = &outcome.request;
    let report = Report {
        flows: request.flows,
        backends: request.backends,
        slots: request.slots,
        idle_timeout_s: request.idle.as_secs_f64(),
        sound: outcome.is_sound(),
        seen: outcome.flows,
        memory_bytes: outcome.memory,
        longest_silence_s: outcome.longest_silence.as_secs_f64(),
        longest_command_s: outcome.longest_command.as_secs_f64(),
        settled_after_s: outcome.settled_after.map(|after| after.as_secs_f64()),
        samples: &outcome.samples,
    };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

/// A moment, or the worst of several: what a line of the table has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Line {
    unsettled: f64,
    moving: f64,
    /// Fresh and moved.
    moved: f64,
    ns_min: f64,
    ns_median: f64,
    notes: u64,
    pending: u64,
    lost_notes: u64,
    daemon: f64,
    sweep: f64,
}

impl Line {
    fn of(sample: &Sample, slots: u32) -> Self {
        let share = |count: u32| 100.0 * f64::from(count) / f64::from(slots);
        let busy = |seconds: f64| 100.0 * seconds / sample.interval_s;
        let phases = sample.phases;
        Self {
            unsettled: share(phases.unsettled()),
            moving: share(phases.moving),
            moved: share(phases.fresh + phases.moved),
            ns_min: sample.ns_min,
            ns_median: sample.ns_median,
            notes: sample.notes,
            pending: sample.pending,
            lost_notes: sample.evicted + sample.full,
            daemon: busy(sample.daemon_cpu_s),
            sweep: busy(sample.sweep_cpu_s),
        }
    }

    /// The worse of each.
    fn worse(self, other: Self) -> Self {
        Self {
            unsettled: self.unsettled.max(other.unsettled),
            moving: self.moving.max(other.moving),
            moved: self.moved.max(other.moved),
            ns_min: self.ns_min.max(other.ns_min),
            ns_median: self.ns_median.max(other.ns_median),
            notes: self.notes.max(other.notes),
            pending: self.pending.max(other.pending),
            lost_notes: self.lost_notes.max(other.lost_notes),
            daemon: self.daemon.max(other.daemon),
            sweep: self.sweep.max(other.sweep),
        }
    }

    fn cells(&self, when: &str) -> [String; 11] {
        [
            when.to_owned(),
            format!("{:.1}", self.unsettled),
            format!("{:.1}", self.moving),
            format!("{:.1}", self.moved),
            format!("{:.1}", self.ns_min),
            format!("{:.1}", self.ns_median),
            self.notes.to_string(),
            self.pending.to_string(),
            self.lost_notes.to_string(),
            format!("{:.0}", self.daemon),
            format!("{:.0}", self.sweep),
        ]
    }
}

const HEADER: [&str; 11] = [
    "",
    "unsettled %",
    "moving %",
    "moved %",
    "ns min",
    "median",
    "notes",
    "pending",
    "evicted, full",
    "CPU %",
    "sweeps %",
];

/// The outcome for people.
pub fn rendered(outcome: &Outcome) -> String {
    let (request, samples) = (&outcome.request, &outcome.samples);
    let line = |sample: &Sample| Line::of(sample, request.slots);
    let of = |stage: Stage| samples.iter().filter(move |sample| sample.stage == stage);
    let worst = samples.iter().map(line).reduce(Line::worse).unwrap_or_default();
    let moments = [
        ("before", of(Stage::Before).next_back().map(line)),
        ("all are back", of(Stage::Restarting).next_back().map(line)),
        ("T after that", of(Stage::Settling).next().map(line)),
        ("at the end", samples.last().map(line)),
        ("the worst of each", Some(worst)),
    ];
    let mut text = table(
        HEADER,
        moments
            .iter()
            .filter_map(|(when, line)| Some(line.as_ref()?.cells(when))),
    );
    let sum = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>();
    let sweeps: u64 = samples.iter().map(|sample| sample.sweeps).sum();
    let settled = outcome.settled_after.map_or_else(
        || "not all slots settled".to_owned(),
        |after| {
            format!(
                "all slots settled {:.0} s after the last change",
                after.as_secs_f64()
            )
        },
    );
    // Writing to a string can't fail.
    let mut say = |line: String| _ = writeln!(text, "{line}");
    say(format!(
        "\n{} of {} flows moved off their backend; {} of {} packets reached none",
        outcome.flows.moved, request.flows, outcome.flows.lost, outcome.flows.looked_at
    ));
    say(format!(
        "{settled}, T is {:.0} s; a flow was silent for {:.1} s at most",
        request.idle.as_secs_f64(),
        outcome.longest_silence.as_secs_f64()
    ));
    say(format!(
        "CPU of the daemon: {:.1} s in {:.0} s, of which {:.1} s for {sweeps} sweeps; a command took {:.2} s at most",
        sum(|sample| sample.daemon_cpu_s),
        sum(|sample| sample.interval_s),
        sum(|sample| sample.sweep_cpu_s),
        outcome.longest_command.as_secs_f64()
    ));
    say(format!(
        "memory: {} MB for notes, {} MB for pending ones",
        outcome.memory.notes / 1_000_000,
        outcome.memory.pending / 1_000_000
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::super::run::Phases;
    use super::*;

    #[test]
    fn the_worst_is_each_figures_own() {
        let sample = |moving, notes| Sample {
            stage: Stage::Restarting,
            at_s: 1.0,
            interval_s: 2.0,
            phases: Phases {
                settled: 100 - moving,
                moving,
                ..Phases::default()
            },
            ns_min: 20.0,
            ns_median: 21.0,
            notes,
            pending: 0,
            evicted: 1,
            full: 2,
            sweeps: 1,
            daemon_cpu_s: 1.0,
            sweep_cpu_s: 0.5,
        };
        let worst = Line::of(&sample(25, 7), 100).worse(Line::of(&sample(50, 3), 100));
        assert_eq!((worst.moving, worst.unsettled, worst.notes), (50.0, 50.0, 7));
        assert_eq!((worst.lost_notes, worst.daemon, worst.sweep), (3, 50.0, 25.0));
    }
}
