//! What became of everything: collected, and as a table or JSON. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::events::{Event, Load, Outcome};

/// What a machine has told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    kernel: Option<String>,
    loads: Vec<Load>,
    suites: Vec<Outcome>,
    /// Why the machine did not do all that it was to do.
    problem: Option<String>,
    #[serde(skip)]
    is_over: bool,
}

impl Report {
    /// Takes an event in; the line that tells it at once.
    pub(super) fn add(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Kernel { release } => {
                let line = format!("Linux {release} has booted");
                self.kernel = Some(release);
                Some(line)
            }
            Event::Load(load) => {
                let line = (load.refusal.is_some() || self.loads.len().is_multiple_of(8))
                    .then(|| format!("{} programs loaded; now {}", self.loads.len(), title(&load)));
                self.loads.push(load);
                line
            }
            Event::Begin { suite } => Some(format!("{suite} runs")),
            Event::Suite(outcome) => {
                let line = format!("{}: {}", outcome.suite, verdict(&outcome));
                self.suites.push(outcome);
                Some(line)
            }
            Event::End => {
                self.is_over = true;
                None
            }
            Event::Broken { error } => {
                self.problem = Some(error);
                None
            }
        }
    }

    /// The machine is off; `problem` is what was wrong with it.
    pub(super) fn close(&mut self, problem: Option<String>) {
        let ended_early = || (!self.is_over).then(|| "the machine ended before it had done all".to_owned());
        self.problem = self.problem.take().or(problem).or_else(ended_early);
    }

    /// Whether every program was taken and every suite passed.
    pub(super) fn is_good(&self) -> bool {
        self.problem.is_none()
            && self.loads.iter().all(|load| load.refusal.is_none())
            && self.suites.iter().all(|suite| suite.is_passed)
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = format!("Linux {}\n", self.kernel.as_deref().unwrap_or("has not booted"));
        if !self.loads.is_empty() {
            let _ = writeln!(
                text,
                "\n{:<10} {:<46} {:>10} {:>12} {:>9}",
                "program", "features", "verified", "instructions", "ms"
            );
        }
        for load in &self.loads {
            let _ = match &load.refusal {
                None => writeln!(
                    text,
                    "{:<10} {:<46} {:>10} {:>12} {:>9.1}",
                    load.program,
                    features(load),
                    load.verified,
                    load.instructions,
                    load.ms
                ),
                Some(_) => writeln!(text, "{:<10} {:<46} REFUSED", load.program, features(load)),
            };
        }
        if !self.suites.is_empty() {
            let _ = writeln!(text, "\n{:<12} {:>8}", "tests", "s");
        }
        for suite in &self.suites {
            let _ = writeln!(
                text,
                "{:<12} {:>8.1}  {}",
                suite.suite,
                suite.seconds,
                verdict(suite)
            );
        }
        for load in &self.loads {
            if let Some(refusal) = &load.refusal {
                let _ = writeln!(text, "\n{} is refused:\n{refusal}", title(load));
            }
        }
        for suite in &self.suites {
            if let Some(tail) = &suite.tail {
                let _ = writeln!(text, "\n{} failed:\n{tail}", suite.suite);
            }
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

fn verdict(outcome: &Outcome) -> String {
    let word = if outcome.is_passed { "passed" } else { "FAILED" };
    let summary = outcome.summary.trim_start_matches("ok. ");
    format!("{word}: {summary}")
}

fn features(load: &Load) -> String {
    match &load.features {
        None => String::new(),
        Some(features) if features.is_empty() => "none".to_owned(),
        Some(features) => features.join(" "),
    }
}

fn title(load: &Load) -> String {
    match &load.features {
        None => load.program.clone(),
        Some(_) => format!("{} with features: {}", load.program, features(load)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(refusal: Option<&str>) -> Event {
        Event::Load(Load {
            program: "balancer".to_owned(),
            features: Some(vec!["lists".to_owned(), "quic".to_owned()]),
            ms: 12.34,
            verified: 1_000,
            instructions: 500,
            refusal: refusal.map(str::to_owned),
        })
    }

    fn suite(is_passed: bool) -> Event {
        Event::Suite(Outcome {
            suite: "packets".to_owned(),
            is_passed,
            seconds: 1.0,
            summary: "ok. 3 passed".to_owned(),
            tail: (!is_passed).then(|| "assertion failed".to_owned()),
        })
    }

    fn told(events: impl IntoIterator<Item = Event>) -> Report {
        let mut report = Report::default();
        for event in events {
            report.add(event);
        }
        report.close(None);
        report
    }

    #[test]
    fn all_is_good_only_if_everything_is_and_the_machine_got_to_its_end() {
        assert!(told([load(None), suite(true), Event::End]).is_good());
        assert!(!told([load(None), suite(true)]).is_good());
        assert!(!told([load(Some("R1 invalid")), Event::End]).is_good());
        assert!(!told([load(None), suite(false), Event::End]).is_good());
        let error = "no disk".to_owned();
        assert!(!told([load(None), Event::Broken { error }, Event::End]).is_good());
    }

    #[test]
    fn the_table_says_what_was_refused_and_why() {
        let table = told([load(None), load(Some("R1 invalid")), suite(false), Event::End]).table();
        assert!(
            table.contains(
                "balancer   lists quic                                           1000          500      12.3"
            ),
            "{table}"
        );
        assert!(
            table.contains("REFUSED") && table.contains("R1 invalid"),
            "{table}"
        );
        assert!(
            table.contains("FAILED") && table.contains("assertion failed"),
            "{table}"
        );
    }
}
