//! What the figures have to be: a few multiples, of the floor or of other rows of the same run.
//!
//! Every row measures the floor as well, by the same program and packets; at a few nanoseconds, one row's may be a fifth
//! off. A target compares with the run's, the median of them all.

use super::case::BASE;
use super::measure::summary;
use super::report::{Measured, table};

/// The dimensions of a row, by which a target finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    case: &'static str,
    flows: u64,
    vips: u32,
    slots: u32,
}

const fn at(case: &'static str, flows: u64) -> At {
    At {
        case,
        flows,
        vips: 1,
        slots: 65_536,
    }
}

const fn wide(vips: u32, slots: u32) -> At {
    At {
        vips,
        slots,
        ..at(BASE, 1_000_000)
    }
}

/// What a row is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Floor,
    Row(At),
}

/// A target.
#[derive(Clone, Copy, Debug)]
struct Target {
    says: &'static str,
    row: At,
    to: To,
    limit: f64,
}

const fn target(says: &'static str, row: At, to: To, limit: f64) -> Target {
    Target { says, row, to, limit }
}

const TARGETS: &[Target] = &[
    target("settled, 1 flow, of the floor", at(BASE, 1), To::Floor, 3.0),
    target(
        "settled, 1 M flows, of 1 flow",
        at(BASE, 1_000_000),
        To::Row(at(BASE, 1)),
        1.15,
    ),
    target(
        "IPv6 of IPv4, 1 flow",
        at("v6-tcp-settled-l2", 1),
        To::Row(at(BASE, 1)),
        1.3,
    ),
    target(
        "IPv6 of IPv4, 1 M flows",
        at("v6-tcp-settled-l2", 1_000_000),
        To::Row(at(BASE, 1_000_000)),
        1.3,
    ),
    target(
        "SYN flood of settled, 10 M flows",
        at("v4-syn-flood-l2", 10_000_000),
        To::Row(at(BASE, 10_000_000)),
        1.2,
    ),
    target(
        "noted flow in a moved slot, of the floor",
        at("v4-tcp-moved-l2", 1),
        To::Floor,
        10.0,
    ),
    target(
        "IPIP, 1 flow, of the floor",
        at("v4-tcp-settled-ipip", 1),
        To::Floor,
        4.5,
    ),
    target(
        "GUE with three candidates, 1 flow, of the floor",
        at("v4-tcp-kept-gue", 1),
        To::Floor,
        5.5,
    ),
    target("no VIP, of the floor", at("v4-not-vip", 1), To::Floor, 1.5),
    target(
        "16 VIPs of 65,536 slots, 1 M flows, of the floor",
        wide(16, 65_536),
        To::Floor,
        8.0,
    ),
    target(
        "1,000 VIPs of 4,096 slots, 1 M flows, of the floor",
        wide(1_000, 4_096),
        To::Floor,
        8.0,
    ),
];

/// A target and how far from it a run is.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the target says.
    pub says: &'static str,
    /// The most that it may be.
    pub limit: f64,
    /// What it is.
    pub measured: f64,
}

impl Outcome {
    /// Whether the target is met.
    pub fn is_met(&self) -> bool {
        self.measured <= self.limit
    }
}

/// The targets that a run has valid rows for.
pub fn outcomes(rows: &[Measured]) -> Vec<Outcome> {
    let floor = floor(rows);
    TARGETS
        .iter()
        .filter_map(|target| {
            let row = find(rows, target.row)?;
            let measured = match target.to {
                To::Floor => row.net_ns_min? / floor?,
                To::Row(other) => row.net_ns_min? / find(rows, other)?.net_ns_min?,
            };
            Some(Outcome {
                says: target.says,
                limit: target.limit,
                measured,
            })
        })
        .collect()
}

/// The floor of a run, in nanoseconds.
fn floor(rows: &[Measured]) -> Option<f64> {
    let floors: Vec<f64> = rows.iter().filter_map(|row| row.floor_ns_min).collect();
    (!floors.is_empty()).then(|| summary(&floors).median)
}

fn find(rows: &[Measured], at: At) -> Option<&Measured> {
    rows.iter().find(|row| {
        (row.case.as_str(), row.flows, row.vips, row.slots, row.backends)
            == (at.case, at.flows, at.vips, at.slots, 256)
    })
}

/// The outcomes for people.
pub fn rendered(outcomes: &[Outcome]) -> String {
    table(
        ["target", "at most", "is", ""],
        outcomes.iter().map(|outcome| {
            [
                outcome.says.to_owned(),
                format!("{:.2}", outcome.limit),
                format!("{:.2}", outcome.measured),
                if outcome.is_met() { "met" } else { "MISSED" }.to_owned(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::super::case::{CASES, rows};
    use super::*;

    fn row(case: &str, floor_ns_min: f64) -> Measured {
        Measured {
            case: case.to_owned(),
            flows: 1,
            vips: 1,
            slots: 65_536,
            backends: 256,
            net_ns_min: Some(12.0),
            net_ns_median: Some(13.0),
            floor_ns_min: Some(floor_ns_min),
            wrapper_ns_min: Some(30.0),
            rounds: 21,
            invalid: None,
        }
    }

    #[test]
    fn a_target_compares_with_the_floor_of_the_whole_run() {
        let rows = [row(BASE, 3.0), row("v6-denied", 4.0), row("v4-denied", 5.0)];
        let outcomes = outcomes(&rows);
        assert_eq!(outcomes.len(), 1);
        assert_eq!(outcomes[0].measured, 12.0 / 4.0);
    }

    #[test]
    fn every_target_is_about_rows_that_are_measured() {
        let rows = rows(CASES);
        let measured = |at: At| {
            rows.iter().any(|row| {
                (row.case.name, row.flows, row.vips, row.slots, row.backends)
                    == (at.case, at.flows, at.vips, at.slots, 256)
            })
        };
        for target in TARGETS {
            assert!(measured(target.row), "{}", target.says);
            if let To::Row(other) = target.to {
                assert!(measured(other), "{}", target.says);
            }
        }
    }
}
