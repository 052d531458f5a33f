//! `cargo xtask bench rolling-restart`: parse, run, print.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use foobar_common::bench::MAX_FLOWS;
use indicatif::{ProgressBar, ProgressStyle};

use super::network::MAX_BACKENDS;
use super::run::{Request, Sample, Tracking, run};
use super::{daemon, report};
use crate::stop::Stop;

/// Take out every backend in turn and put it back, under flows that live through it: slots, packets, notes and the
/// daemon, once a second. Runs a daemon in a network namespace, which is gone afterwards
#[derive(Debug, clap::Args)]
pub struct RollingRestart {
    /// Flows, each of which sends about once a second
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..=MAX_FLOWS))]
    flows: u64,
    /// Backends
    #[arg(long, value_name = "N", default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(2..=i64::from(MAX_BACKENDS)))]
    backends: u16,
    /// T, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "20s", value_parser = seconds)]
    idle_timeout: Duration,
    /// For programs: all samples
    #[arg(long)]
    json: bool,
}

/// `20` or `20s`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    match number.parse() {
        Ok(seconds @ 4..=3_600) => Ok(Duration::from_secs(seconds)),
        _ => Err("4 to 3600 seconds are wanted, as 20s".to_owned()),
    }
}

impl RollingRestart {
    /// Runs it and prints what came of it. `settle_down` is called when the daemon runs, before anything is measured.
    ///
    /// # Errors
    /// Where something is refused, or a signal ends it.
    pub fn run(&self, settle_down: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
        let stop = Stop::new()?;
        let request = Request {
            flows: self.flows,
            backends: self.backends,
            slots: 65_536,
            idle: self.idle_timeout,
            pause: Duration::from_secs(1),
            interval: Duration::from_secs(1),
            tracking: Tracking::Transitions,
        };
        eprintln!(
            "{} flows, {} backends, T {:?}, room for {} notes: about {} s",
            request.flows,
            request.backends,
            request.idle,
            daemon::sizes(&request).notes,
            (request.idle.as_secs() + u64::from(request.backends)) * 2 + 10
        );
        let bar = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{elapsed_precise} {msg}").context("the bar's template")?,
        );
        let outcome = run(request, settle_down, |sample| {
            bar.set_message(message(sample, &request));
            bar.tick();
            stop.check()
        })?;
        bar.finish_and_clear();
        let text = if self.json {
            report::json(&outcome)?
        } else {
            report::rendered(&outcome)
        };
        // A reader that has read enough and gone (`| head`) is no error.
        _ = std::io::stdout().lock().write_all(text.as_bytes());
        Ok(if outcome.is_sound() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn message(sample: &Sample, request: &Request) -> String {
    format!(
        "{:?}: {} of {} slots settled, {:.0} ns a packet, {} notes",
        sample.stage, sample.phases.settled, request.slots, sample.ns_median, sample.notes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_time_is_in_seconds() {
        assert_eq!(seconds("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(seconds("20"), Ok(Duration::from_secs(20)));
        assert!(seconds("1s").is_err() && seconds("20m").is_err());
    }
}
