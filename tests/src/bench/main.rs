//! `cargo xtask bench`: parse, measure row by row, print.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use foobar_tests::bench::case::{CASES, Case, named, rows};
use foobar_tests::bench::measure::{Effort, measure};
use foobar_tests::bench::programs::Programs;
use foobar_tests::bench::report::{self, Measured};
use foobar_tests::bench::restart::command::RollingRestart;
use foobar_tests::bench::{compare, targets};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Measure the balancer's program: nanoseconds a packet, by BPF_PROG_TEST_RUN; needs root, attaches nothing
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    args_conflicts_with_subcommands = true
)]
struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// Fewer and shorter rounds: a first impression
    #[arg(long)]
    quick: bool,
    /// Only these cases
    #[arg(long, value_name = "CASE", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(CASES.iter().map(|case| case.name)))]
    only: Vec<String>,
    /// For programs: a list of rows
    #[arg(long)]
    json: bool,
    /// Save the run
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with a saved run; exit code 1 if something got slower
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// What else is measured.
#[derive(Debug, Subcommand)]
enum Other {
    RollingRestart(RollingRestart),
}

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn run(self) -> Result<ExitCode> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the bench loads eBPF programs: run it as root"
        );
        if let Some(Other::RollingRestart(restart)) = &self.other {
            return restart.run(stay_on_one_cpu);
        }
        let then = self.compare.as_deref().map(report::read).transpose()?;
        let now = self.measure()?;
        if let Some(path) = &self.save {
            report::write(path, &now)?;
        }
        let pairs = compare::pairs(then.as_deref().unwrap_or_default(), &now);
        let text = if self.json {
            report::json(&now)?
        } else {
            let mut parts = vec![report::rendered(&now)];
            let outcomes = targets::outcomes(&now);
            if !outcomes.is_empty() {
                parts.push(targets::rendered(&outcomes));
            }
            if then.is_some() {
                parts.push(compare::rendered(&pairs));
            }
            parts.join("\n")
        };
        // A reader that has read enough and gone (`| head`) is no error.
        _ = std::io::stdout().lock().write_all(text.as_bytes());
        let slower: Vec<_> = pairs.iter().filter(|pair| pair.is_slower()).collect();
        for pair in &slower {
            eprintln!(
                "slower: {} at {} flows",
                pair.now.case,
                report::count(pair.now.flows)
            );
        }
        let invalid = now.iter().any(|row| row.invalid.is_some());
        Ok(if invalid || !slower.is_empty() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn measure(&self) -> Result<Vec<Measured>> {
        let cases: Vec<Case> = if self.only.is_empty() {
            CASES.to_vec()
        } else {
            self.only.iter().filter_map(|name| named(name)).copied().collect()
        };
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        stay_on_one_cpu()?;
        let mut programs = Programs::load()?;
        let rows = rows(&cases);
        let bar = ProgressBar::new(rows.len() as u64 * u64::from(effort.rounds)).with_style(
            ProgressStyle::with_template("{elapsed_precise} {bar:40} {msg}").context("the bar's template")?,
        );
        let mut measured = Vec::new();
        for (nth, row) in rows.iter().enumerate() {
            bar.set_message(format!(
                "{}/{} {}, {} flows, {} VIPs, {} backends",
                nth + 1,
                rows.len(),
                row.case.name,
                report::count(row.flows),
                row.vips,
                row.backends
            ));
            if bar.is_hidden() {
                eprintln!("{}", bar.message());
            }
            let result = measure(&mut programs, row, effort, || bar.inc(1))
                .with_context(|| format!("{} at {} flows", row.case.name, report::count(row.flows)))?;
            bar.set_position((nth as u64 + 1) * u64::from(effort.rounds));
            measured.push(Measured::new(row, effort, result));
        }
        bar.finish_and_clear();
        Ok(measured)
    }
}

/// Keeps this thread on the last CPU that it may use: what it measures stays in one CPU's cache, and the
/// first one has the most interrupts.
fn stay_on_one_cpu() -> Result<()> {
    let me = Pid::from_raw(0);
    let allowed = sched_getaffinity(me)?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .context("this process may use no CPU")?;
    let mut one = CpuSet::new();
    one.set(last)?;
    Ok(sched_setaffinity(me, &one)?)
}
