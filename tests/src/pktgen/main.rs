//! `cargo xtask pktgen`: parse, send case by case, print.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use foobar_common::bench::{MAX_LIVE_BACKENDS, MAX_LIVE_FLOWS};
use foobar_tests::bench::case::Case;
use foobar_tests::bench::report::count;
use foobar_tests::pktgen::case::{all, named};
use foobar_tests::pktgen::report::{self, Report};
use foobar_tests::pktgen::run::{Request, run};
use foobar_tests::stop::Stop;
use indicatif::{ProgressBar, ProgressStyle};

/// The flows of a case that does not ask for more.
const FLOWS: u64 = 1 << 16;

/// Send live frames through the balancer's program on a veth pair, at full speed, and account for each; needs
/// root. Makes its own network namespaces, which are gone afterwards
#[derive(Debug, Parser)]
#[command(name = "cargo xtask pktgen", bin_name = "cargo xtask pktgen")]
struct Args {
    /// Packets of each case
    #[arg(long, value_name = "N", default_value_t = 2_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    packets: u64,
    /// Flows that take turns [default: 65536; of floods 8388608]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_LIVE_FLOWS))]
    flows: Option<u64>,
    /// Backends
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIVE_BACKENDS)))]
    backends: u32,
    /// Only these cases; of a single one, every point is shown
    #[arg(long, value_name = "CASE", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(all().map(|case| case.name)))]
    case: Vec<String>,
    /// For programs: a list of cases
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask pktgen: {error:#}");
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
        let stop = Stop::new()?;
        let cases: Vec<Case> = if self.case.is_empty() {
            all().copied().collect()
        } else {
            self.case.iter().filter_map(|name| named(name)).copied().collect()
        };
        let bar = ProgressBar::new(cases.len() as u64 * self.packets).with_style(
            ProgressStyle::with_template("{elapsed_precise} {bar:40} {human_pos} packets, {per_sec}, {msg}")
                .context("the bar's template")?,
        );
        let (mut reports, mut sound) = (Vec::new(), true);
        for (nth, &case) in cases.iter().enumerate() {
            let request = Request {
                case,
                packets: self.packets,
                flows: self.flows.unwrap_or_else(|| flows_of(&case)),
                backends: self.backends,
                fault: None,
            };
            bar.set_message(format!(
                "{}/{} {}, {} flows, {} backends",
                nth + 1,
                cases.len(),
                case.name,
                count(request.flows),
                request.backends
            ));
            if bar.is_hidden() {
                eprintln!("{}", bar.message());
            }
            let outcome = run(request, |packets| {
                bar.inc(packets);
                stop.check()
            })
            .with_context(|| case.name)?;
            sound &= outcome.is_sound();
            reports.push(Report::of(&outcome));
        }
        bar.finish_and_clear();
        let text = if self.json {
            report::json(&reports)?
        } else {
            report::rendered(&reports)
        };
        // A reader that has read enough and gone (`| head`) is no error.
        _ = std::io::stdout().lock().write_all(text.as_bytes());
        Ok(if sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// A usual number of flows; a flood has as many as there can be.
fn flows_of(case: &Case) -> u64 {
    if case.is_flood() { MAX_LIVE_FLOWS } else { FLOWS }
}
