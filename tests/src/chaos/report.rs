//! Scenarios' figures and claims, as people and programs get them.

use anyhow::Result;
use serde::Serialize;

use super::claims::{Claim, all_hold};
use super::figures::{Causes, Figures, Spread, sum};
use super::run::Outcome;
use super::scenario::Scenario;
use super::timeline::Mark;
use crate::bench::report::table;

/// A scenario for programs.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which one.
    pub scenario: Scenario,
    /// Streams that were asked for.
    pub streams: usize,
    /// The seed.
    pub seed: u64,
    /// Whether all claims hold that could be judged.
    pub holds: bool,
    /// What it must show.
    pub claims: Vec<Claim>,
    /// What it came to.
    pub figures: Figures,
    /// What was done.
    pub events: Vec<Told>,
}

/// An event for programs.
#[derive(Debug, Serialize)]
pub struct Told {
    /// When, in seconds from the load's beginning.
    pub at: f64,
    /// What it is.
    pub mark: Mark,
    /// In words.
    pub what: String,
}

impl Report {
    /// What became of a scenario.
    pub fn of(outcome: &Outcome) -> Self {
        Self {
            scenario: outcome.request.scenario,
            streams: outcome.request.streams,
            seed: outcome.request.seed,
            holds: all_hold(&outcome.claims),
            claims: outcome.claims.clone(),
            figures: outcome.figures.clone(),
            events: outcome
                .observed
                .events
                .iter()
                .map(|event| Told {
                    at: event.at.as_secs_f64(),
                    mark: event.mark,
                    what: event.what.clone(),
                })
                .collect(),
        }
    }
}

/// Scenarios for programs.
///
/// # Errors
/// None that can be expected: the figures are plain.
pub fn json(reports: &[Report]) -> Result<String> {
    Ok(serde_json::to_string_pretty(reports)? + "\n")
}

/// Scenarios for people: what broke, what stood still, and every claim.
pub fn rendered(reports: &[Report]) -> String {
    let mut text = table(
        [
            "scenario",
            "faults",
            "streams",
            "broken",
            "short",
            "failed",
            "visits",
            "failed",
            "corrupt",
            "UDP",
            "lost",
            "elsewhere",
            "resent",
        ],
        reports.iter().map(|report| {
            let Figures {
                held,
                short,
                site,
                udp,
                faults,
                ..
            } = &report.figures;
            [
                report.scenario.name(),
                faults.len().to_string(),
                held.streams.to_string(),
                sum(&held.broken).to_string(),
                short.opened.to_string(),
                sum(&short.failed).to_string(),
                site.visits.to_string(),
                sum(&site.failed).to_string(),
                report.figures.corrupt_bytes.to_string(),
                udp.sent.to_string(),
                udp.lost.to_string(),
                udp.lost_elsewhere.to_string(),
                report.figures.retransmitted.to_string(),
            ]
        }),
    );
    text += "\nmilliseconds, median and longest of the faults:\n";
    text += &table(
        [
            "scenario",
            "outage IPv4",
            "outage IPv6",
            "stall",
            "longest stall",
            "without a fault",
            "opening",
            "visit",
        ],
        reports.iter().map(|report| {
            let Figures {
                held,
                short,
                outage,
                stall,
                ..
            } = &report.figures;
            [
                report.scenario.name(),
                spread(outage.get("ipv4")),
                spread(outage.get("ipv6")),
                spread(stall.as_ref()),
                format!("{:.0}", held.longest_stall_ms),
                format!("{:.0}", held.longest_stall_elsewhere_ms),
                format!("{:.0}", short.longest_opening_ms),
                format!("{:.0}", report.figures.site.longest_ms),
            ]
        }),
    );
    for report in reports {
        text += &format!("\n{} (seed {}):\n", report.scenario.name(), report.seed);
        for claim in &report.claims {
            let verdict = match claim.holds {
                Some(true) => "ok",
                Some(false) => "FAILED",
                None => "not judged",
            };
            text += &format!("  {verdict:<11} {}: {}\n", claim.claim, claim.seen);
        }
        let (held, short) = (&report.figures.held, &report.figures.short);
        for (what, causes) in [
            ("held streams that broke", &held.broken),
            ("held streams of killed backends", &held.of_dead_backends),
            ("short requests that failed", &short.failed),
            ("short requests to killed backends", &short.of_dead_backends),
            ("visits of the site that failed", &report.figures.site.failed),
        ] {
            if !causes.is_empty() {
                text += &format!("  {what}: {}\n", by_cause(causes));
            }
        }
    }
    text
}

fn by_cause(causes: &Causes) -> String {
    let each: Vec<_> = causes
        .iter()
        .map(|(cause, count)| format!("{cause} {count}"))
        .collect();
    each.join(", ")
}

fn spread(spread: Option<&Spread>) -> String {
    spread.map_or_else(
        || "-".to_owned(),
        |spread| format!("{:.0} / {:.0}", spread.median_ms, spread.max_ms),
    )
}
