//! What a run has counted, as programs and people get it.

use anyhow::Result;
use serde::Serialize;

use super::counts::{Astray, Backend, Fate, FlowCounts, Hop};
use super::run::Outcome;
use crate::bench::report::{count, figure, table};

/// A case's counts. Those of packets that made notes beforehand are among them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The case's name.
    pub case: &'static str,
    /// Flows that took turns.
    pub flows: u64,
    /// Packets a second that the generator sent.
    pub packets_per_second: f64,
    /// Packets that the generator has sent.
    pub sent: u64,
    /// Packets that the balancer's program has taken.
    pub taken: u64,
    /// Packets that it has dropped, by reasons.
    pub dropped: u64,
    /// Packets that it has left to the kernel.
    pub passed: u64,
    /// Packets that it has answered.
    pub answered: u64,
    /// Packets that it has sent to targets.
    pub to_targets: u64,
    /// Packets that the backends have received.
    pub received: u64,
    /// Packets that the kernel could not take anywhere on the way, and has counted.
    pub lost: u64,
    /// Packets of which nobody knows what became.
    pub unaccounted: u64,
    /// Packets at the wrong place.
    pub astray: Vec<Astray>,
    /// Why the packets did not take the way that the case claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misled: Option<String>,
    /// Every point of the way.
    pub hops: Vec<Hop>,
    /// Each backend's counts.
    pub backends: Vec<Backend>,
    /// The flows, as they arrived.
    pub arrived: FlowCounts,
}

impl Report {
    /// Of a run.
    pub fn of(outcome: &Outcome) -> Self {
        let counts = &outcome.counts;
        let hops = counts.hops();
        let with = |fate| {
            hops.iter()
                .flat_map(|hop| hop.with(fate))
                .map(|part| part.packets)
                .sum()
        };
        Self {
            case: outcome.request.case.name,
            flows: outcome.request.flows,
            packets_per_second: outcome.rate().round(),
            sent: counts.generated,
            taken: counts.balancer.xdp_packets,
            dropped: with(Fate::Dropped),
            passed: with(Fate::Passed),
            answered: with(Fate::Answered),
            to_targets: counts.to_targets(),
            received: counts.received(),
            lost: with(Fate::Lost),
            unaccounted: counts.unaccounted(),
            astray: counts.astray(),
            misled: outcome.misled.clone(),
            backends: counts.backends.clone(),
            arrived: counts.flows,
            hops,
        }
    }
}

/// The reports for programs.
///
/// # Errors
/// Never: there is nothing in it that JSON does not have.
pub fn json(reports: &[Report]) -> Result<String> {
    Ok(serde_json::to_string_pretty(reports)? + "\n")
}

/// The reports for people. Of a single case every point is shown, of several only what did not go on.
pub fn rendered(reports: &[Report]) -> String {
    let mut text = table(
        [
            "case",
            "flows",
            "sent",
            "balancer",
            "dropped",
            "passed",
            "answered",
            "targets",
            "received",
            "lost",
            "unaccounted",
            "M/s",
        ],
        reports.iter().map(|report| {
            [
                report.case.to_owned(),
                count(report.flows),
                report.sent.to_string(),
                report.taken.to_string(),
                report.dropped.to_string(),
                report.passed.to_string(),
                report.answered.to_string(),
                report.to_targets.to_string(),
                report.received.to_string(),
                report.lost.to_string(),
                report.unaccounted.to_string(),
                figure(Some(report.packets_per_second / 1e6)),
            ]
        }),
    );
    let everything = reports.len() == 1;
    let points: Vec<_> = reports
        .iter()
        .flat_map(|report| points(report, everything))
        .collect();
    if !points.is_empty() {
        text.push('\n');
        text += &table(["point", "packets", "of"], points);
    }
    for report in reports {
        for Astray { what, count } in &report.astray {
            text += &format!("{}: {count} {what}\n", report.case);
        }
        if let Some(why) = &report.misled {
            text += &format!("{}: not on its way: {why}\n", report.case);
        }
    }
    text
}

fn points(report: &Report, everything: bool) -> Vec<[String; 3]> {
    let mut lines = Vec::new();
    for hop in &report.hops {
        let line = |what: &str, packets: u64| {
            [
                format!("{}, {}: {what}", report.case, hop.at),
                packets.to_string(),
                hop.came.to_string(),
            ]
        };
        let shown = |fate| everything || fate != Fate::WentOn;
        for part in hop.parts.iter().filter(|part| shown(part.fate)) {
            lines.push(line(&part.name, part.packets));
        }
        if hop.unaccounted > 0 {
            lines.push(line("UNACCOUNTED", hop.unaccounted));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::counts::{Counts, sample};
    use super::super::run::Request;
    use super::*;
    use crate::bench::case::{BASE, named};

    fn report(counts: Counts) -> Report {
        let request = Request {
            case: *named(BASE).expect("the base is a case"),
            packets: 100,
            flows: 10,
            backends: 2,
            fault: None,
        };
        Report::of(&Outcome {
            request,
            counts,
            took: Duration::from_micros(50),
            misled: None,
        })
    }

    /// The line that begins so, its words.
    fn line<'a>(text: &'a str, begin: &str) -> Option<Vec<&'a str>> {
        let rest = text.lines().find_map(|line| line.strip_prefix(begin))?;
        Some(rest.split_whitespace().collect())
    }

    #[test]
    fn people_see_where_packets_ended_and_by_which_name() {
        let reports = [report(sample()), report(sample())];
        let text = rendered(&reports);
        let summary = "10 100 99 5 3 2 89 86 4 0 2.0";
        assert_eq!(line(&text, BASE), Some(summary.split(' ').collect()), "{text}");
        let dropped = line(&text, &format!("{BASE}, balancer: drop_no_member"));
        assert_eq!(dropped, Some(vec!["4", "99"]), "{text}");
        let full = format!("{BASE}, balancer to lb: ring full (xdp_tx_errors of the balancer)");
        assert_eq!(line(&text, &full), Some(vec!["1", "91"]), "{text}");
        assert!(!text.contains("went on"), "{text}");
        assert!(rendered(&reports[..1]).contains("went on"));
    }

    #[test]
    fn what_is_unaccounted_for_stands_where_it_is_missing() -> Result<()> {
        let mut counts = sample();
        counts.balancer.xdp_tx_errors = 0;
        counts.flows.split = 7;
        let reports = [report(counts)];
        let text = rendered(&reports);
        let missing = line(&text, &format!("{BASE}, balancer to lb: UNACCOUNTED"));
        assert_eq!(missing, Some(vec!["1", "91"]), "{text}");
        assert!(text.contains("7 flows at several backends"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&json(&reports)?)?;
        assert_eq!(json[0]["unaccounted"], 1);
        assert_eq!(json[0]["astray"][0]["count"], 7);
        assert_eq!(json[0]["backends"][1]["target"], 44);
        Ok(())
    }
}
