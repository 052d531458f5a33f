//! What a scenario must show, judged by its figures. Pure.
//!
//! Counts are always judged. Times are only where there were enough faults for a median, and only by the command: a
//! test on a busy machine says nothing about them.

use serde::Serialize;

use super::figures::{Figures, Ms, Spread, sum};
use super::scenario::Scenario;

/// Faults from which on times are judged.
const ENOUGH: usize = 20;
/// No UDP echo, the median of the faults: the master-down interval at 100 ms and a hundredth of a second.
const OUTAGE_MS: Ms = 370.0;
/// The same where BFD notices, with 50 ms three times; and the longest of all.
const BFD_OUTAGE_MS: Ms = 150.0;
const BFD_LONGEST_OUTAGE_MS: Ms = 250.0;
/// From a request to its answer, the median of the faults' longest.
const STALL_MS: Ms = 450.0;
/// The same, the longest of all.
const LONGEST_STALL_MS: Ms = 1000.0;

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// How many: the same on any machine.
    Count,
    /// How long.
    Time,
}

/// Something that must be so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// In words.
    pub claim: String,
    /// What it is about.
    pub about: About,
    /// Whether it is so; nothing where there were too few faults to judge.
    pub holds: Option<bool>,
    /// What was seen.
    pub seen: String,
}

/// Judges a scenario.
pub fn claims(scenario: Scenario, figures: &Figures) -> Vec<Claim> {
    let mut claims = Claims(Vec::new());
    let held = &figures.held;
    let broken = sum(&held.broken);
    let share = broken as f64 / held.streams.max(1) as f64;
    claims.count(
        "no byte is wrong",
        figures.corrupt_bytes == 0,
        figures.corrupt_bytes,
    );
    match scenario {
        Scenario::ControlSeed => {
            // Half of them, and so many streams differ little from that.
            let seen = format!("{:.0} %", share * 100.0);
            claims.count(
                "35 to 65 % of the streams break",
                (0.35..0.65).contains(&share),
                seen,
            );
            return claims.0;
        }
        Scenario::ControlHistory => {
            // A fifth.
            let seen = format!("{:.0} %", share * 100.0);
            claims.count(
                "10 to 30 % of the streams break",
                (0.1..0.3).contains(&share),
                seen,
            );
            return claims.0;
        }
        // What it shows is for comparison.
        Scenario::LbKillClassic => return claims.0,
        _ => (),
    }
    let failed = sum(&figures.short.failed);
    let unvisited = sum(&figures.site.failed);
    if scenario == Scenario::Compound {
        // Without agents a flow that the peer has not heard of is lost.
        for (what, count, unheard) in [
            ("held stream breaks", broken, figures.held.unheard),
            ("short request fails", failed, figures.short.unheard),
            ("visit of the site fails", unvisited, figures.site.unheard),
        ] {
            claims.count(
                &format!("no {what} but those that only the dead balancer had noted"),
                count == unheard,
                format!("{count}, of them so {unheard}"),
            );
        }
    } else {
        claims.count("no held stream breaks", broken == 0, broken);
        claims.count("no short request fails", failed == 0, failed);
        claims.count("no visit of the site fails", unvisited == 0, unvisited);
    }
    match scenario {
        Scenario::DaemonKill => claims.count("no packet is lost", figures.udp.lost == 0, figures.udp.lost),
        Scenario::LbKill | Scenario::CompoundAgents | Scenario::Compound => claims.times(figures),
        Scenario::LbKillBgp => claims.times_by_bfd(figures),
        _ => (),
    }
    claims.0
}

/// Whether nothing that was judged is otherwise.
pub fn all_hold(claims: &[Claim]) -> bool {
    claims.iter().all(|claim| claim.holds != Some(false))
}

struct Claims(Vec<Claim>);

impl Claims {
    fn add(&mut self, claim: &str, about: About, holds: Option<bool>, seen: String) {
        self.0.push(Claim {
            claim: claim.to_owned(),
            about,
            holds,
            seen,
        });
    }

    fn count(&mut self, claim: &str, holds: bool, seen: impl ToString) {
        self.add(claim, About::Count, Some(holds), seen.to_string());
    }

    /// That something lasted at most so long.
    fn within(&mut self, figures: &Figures, what: &str, seen: Option<Ms>, limit: Ms) {
        let enough = figures.faults.len() >= ENOUGH;
        let holds = enough.then(|| seen.is_some_and(|seen| seen <= limit));
        let seen = seen.map_or_else(|| "-".to_owned(), |seen| format!("{seen:.0} ms"));
        self.add(&format!("{what} within {limit:.0} ms"), About::Time, holds, seen);
    }

    fn times_by_bfd(&mut self, figures: &Figures) {
        for (family, outage) in &figures.outage {
            let what = format!("{family}: the median outage is");
            self.within(figures, &what, Some(outage.median_ms), BFD_OUTAGE_MS);
            let what = format!("{family}: every outage is");
            self.within(figures, &what, Some(outage.max_ms), BFD_LONGEST_OUTAGE_MS);
        }
    }

    fn times(&mut self, figures: &Figures) {
        let mut within = |what: String, seen, limit| self.within(figures, &what, seen, limit);
        let median = |spread: &Spread| spread.median_ms;
        for (family, outage) in &figures.outage {
            within(
                format!("{family}: the median outage is"),
                Some(median(outage)),
                OUTAGE_MS,
            );
        }
        let stall = figures.stall.as_ref();
        within(
            "the median of the longest stalls is".to_owned(),
            stall.map(median),
            STALL_MS,
        );
        within(
            "every answer comes".to_owned(),
            Some(figures.held.longest_stall_ms),
            LONGEST_STALL_MS,
        );
    }
}
