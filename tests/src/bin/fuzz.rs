//! `cargo xtask fuzz`: packets through the real program and the reference model, as many as one likes.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use foobar_common::admission::FEATURES_ALL;
use foobar_tests::fuzz::{Progress, Request, Summary, run};

/// How often progress is shown where it isn't a terminal that sees it.
const QUIET: Duration = Duration::from_secs(10);

/// Differences after which there is no point in going on.
const ENOUGH: usize = 10;

/// Compare the program with its model on random, mutated and adversarial packets; needs root
#[derive(Debug, Parser)]
#[command(name = "cargo xtask fuzz", bin_name = "cargo xtask fuzz")]
struct Arguments {
    /// How many packets
    #[arg(long, default_value_t = 1_000_000)]
    packets: u64,
    /// The seed of a run to repeat; else a new one
    #[arg(long)]
    seed: Option<u64>,
    /// The number of the packet to begin with; the whole of its episode is run
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// For programs
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let request = Request {
        packets: arguments.packets,
        seed: arguments.seed.unwrap_or_else(new_seed),
        from: arguments.from,
        features: FEATURES_ALL,
        enough: ENOUGH,
        fault: None,
    };
    eprintln!("seed {}", request.seed);
    let begin = Instant::now();
    let mut shown = begin;
    let summary = run(request, |progress| show(progress, begin, &mut shown))?;
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    if arguments.json {
        println!("{}", summary.to_json());
    } else {
        print(&summary);
    }
    Ok(if summary.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A seed that no other run is likely to have.
fn new_seed() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.as_nanos() as u64 ^ u64::from(std::process::id()) << 40
}

fn show(progress: Progress, begin: Instant, shown: &mut Instant) {
    let is_terminal = std::io::stderr().is_terminal();
    let is_over = progress.packets >= progress.of;
    if !is_over && !is_terminal && shown.elapsed() < QUIET {
        return;
    }
    *shown = Instant::now();
    let rate = progress.packets as f64 / begin.elapsed().as_secs_f64().max(0.001);
    let (before, after) = if is_terminal { ("\r", "   ") } else { ("", "\n") };
    eprint!(
        "{before}{} of {} packets, {rate:.0} a second, {} differences{after}",
        progress.packets, progress.of, progress.differences
    );
    // Progress that can't be shown is no reason to stop.
    drop(std::io::stderr().flush());
}

fn print(summary: &Summary) {
    for difference in &summary.differences {
        println!("{difference}\n");
    }
    for (fate, count) in &summary.fates {
        println!("  {fate:<22} {count:>10}");
    }
    println!(
        "{} packets, {} differences, {} to a wrong target, {:.1} s, seed {}",
        summary.packets,
        summary.differences.len(),
        summary.wrong_target,
        summary.elapsed.as_secs_f64(),
        summary.seed
    );
}
