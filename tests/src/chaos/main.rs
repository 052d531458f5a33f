//! `cargo xtask chaos`: parse, run scenario by scenario, print.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum as _};
use foobar_tests::artifacts;
use foobar_tests::chaos::interrupt::Interrupt;
use foobar_tests::chaos::picture;
use foobar_tests::chaos::report::{self, Report};
use foobar_tests::chaos::run::{Outcome, Request, run};
use foobar_tests::chaos::scenario::Scenario;
use foobar_tests::chaos::scenes::Pace;
use indicatif::{ProgressBar, ProgressStyle};

/// Kill, stop and return balancers while streams run through them, and count what breaks; needs root. Makes its own
/// network namespaces, which are gone afterwards. Exit code 1 if a scenario does not show what it must
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Args {
    /// Which scenarios [default: all]
    #[arg(value_enum)]
    scenario: Vec<Scenario>,
    /// How long each one goes on, instead of its own number of rounds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: Option<u64>,
    /// How often something goes wrong in each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: Option<u32>,
    /// Held streams
    #[arg(long, value_name = "N", default_value_t = 1000)]
    streams: usize,
    /// The seed of a run to repeat; else a new one
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// For programs: a list of scenarios
    #[arg(long)]
    json: bool,
    /// Where the pictures and the report go [default: target/chaos]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn run(self) -> Result<ExitCode> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "this loads eBPF programs and makes network namespaces: run it as root"
        );
        let stop = Interrupt::new()?;
        let out = match self.out {
            Some(out) => out,
            None => artifacts::target_directory()?.join("chaos"),
        };
        std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        let scenarios = if self.scenario.is_empty() {
            Scenario::value_variants().to_vec()
        } else {
            self.scenario
        };
        let seed = self.seed.unwrap_or_else(new_seed);
        eprintln!("seed {seed}");
        let bar = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{elapsed_precise} {msg}").context("the bar's template")?,
        );
        bar.enable_steady_tick(Duration::from_millis(500));
        let mut reports = Vec::new();
        for (nth, &scenario) in scenarios.iter().enumerate() {
            let request = Request {
                scenario,
                streams: self.streams,
                rounds: self.kills,
                length: self.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
                pace: Pace::FULL,
                seed,
            };
            let name = scenario.name();
            let place = format!("{}/{} {name}", nth + 1, scenarios.len());
            if bar.is_hidden() {
                eprintln!("{place}");
            }
            let outcome = run(request, &mut |step| {
                bar.set_message(format!("{place}: {step}"));
                stop.check()
            })
            .with_context(|| name.clone())?;
            write_picture(&out, &outcome)?;
            reports.push(Report::of(&outcome));
            let file = out.join("report.json");
            std::fs::write(&file, report::json(&reports)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        bar.finish_and_clear();
        let text = if self.json {
            report::json(&reports)?
        } else {
            let pictures = format!("\npictures and report: {}\n", out.display());
            report::rendered(&reports) + &pictures
        };
        // A reader that has read enough and gone (`| head`) is no error.
        _ = std::io::stdout().lock().write_all(text.as_bytes());
        let holds = reports.iter().all(|report| report.holds);
        Ok(if holds {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn write_picture(out: &Path, outcome: &Outcome) -> Result<()> {
    let name = outcome.request.scenario.name();
    let title = format!(
        "{name}: {} streams, {} faults, seed {}",
        outcome.request.streams,
        outcome.figures.faults.len(),
        outcome.request.seed
    );
    let file = out.join(format!("{name}.svg"));
    let picture = picture::svg(&title, outcome.request.streams, &outcome.observed);
    std::fs::write(&file, picture).with_context(|| format!("cannot write {}", file.display()))
}

/// A seed that no other run is likely to have.
fn new_seed() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 40) >> 16
}
