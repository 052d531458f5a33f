//! `cargo xtask test`: everything that has to hold before a commit, and what CI runs. Each step prints its
//! time; the first that fails ends the run and is named.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::build::{self, cargo};
use crate::{ebpf, exec, setup, workspace};

/// A step of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// rustfmt
    Format,
    /// The eBPF objects
    Ebpf,
    /// clippy, warnings denied; the eBPF crate by its host build
    Clippy,
    /// Documentation, warnings denied
    Docs,
    /// All test binaries, and the programs that they start
    Build,
    /// Unit and property tests, the app server against its database
    Unit,
    /// Packets through the real eBPF program, and through the reference model; the bench's validity
    Packets,
    /// End to end, in network namespaces
    EndToEnd,
}

impl Step {
    fn title(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Ebpf => "eBPF objects",
            Self::Clippy => "clippy",
            Self::Docs => "documentation",
            Self::Build => "build",
            Self::Unit => "unit and property tests",
            Self::Packets => "packet tests",
            Self::EndToEnd => "end-to-end tests",
        }
    }

    fn run(self) -> Result<()> {
        match self {
            Self::Format => exec::run(cargo().args(["fmt", "--all", "--check"])),
            Self::Ebpf => ebpf::build(ebpf::Variant::Dev),
            Self::Clippy => {
                exec::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
            }
            Self::Docs => exec::run(
                cargo()
                    .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
                    .env("RUSTDOCFLAGS", "-Dwarnings"),
            ),
            Self::Build => {
                build::next_release()?;
                exec::run(&mut build::programs())?;
                exec::run(cargo().args(["test", "--workspace", "--no-run", "--quiet"]))
            }
            Self::Unit => exec::run(cargo().args(["test", "--workspace", "--exclude", "foobar-tests"])),
            Self::Packets => {
                ebpf::build(ebpf::Variant::Planted)?;
                exec::run(
                    cargo()
                        .args(["test", "--package", "foobar-tests", "--lib"])
                        .args(["--test", "packets", "--test", "conformance"])
                        .args(["--test", "fuzz", "--test", "bench"]),
                )
            }
            // One at a time, and with their progress: each has its own world on the same two cores.
            Self::EndToEnd => exec::run(
                cargo()
                    .args([
                        "test",
                        "--package",
                        "foobar-tests",
                        "--test",
                        "setup",
                        "--test",
                        "daemon",
                        "--test",
                        "agent",
                        "--test",
                        "streams",
                        "--test",
                        "pktgen",
                        "--test",
                        "restart",
                        "--test",
                        "second_chance",
                        "--test",
                        "vrrp",
                        "--test",
                        "cluster",
                        "--test",
                        "bgp",
                        "--test",
                        "etcd",
                        "--test",
                        "chaos",
                        "--test",
                        "lab",
                    ])
                    .args(["--", "--test-threads", "1", "--nocapture"]),
            ),
        }
    }
}

/// Sets up what is missing, and runs the steps: these, or all.
pub(crate) fn run(only: &[Step]) -> Result<()> {
    ensure!(
        exec::is_root(),
        "the tests load eBPF programs and make network namespaces: run them as root"
    );
    let begin = Instant::now();
    setup::run(setup::Mode::Install)?;
    let mut times = vec![("set-up", begin.elapsed())];
    for &step in Step::value_variants() {
        if !only.is_empty() && !only.contains(&step) {
            continue;
        }
        println!("\n== {}", step.title());
        let begin = Instant::now();
        step.run().with_context(|| format!("{} failed", step.title()))?;
        times.push((step.title(), begin.elapsed()));
        println!("== {}: passed in {}", step.title(), seconds(begin.elapsed()));
    }
    println!("\nAll steps passed ({}):", workspace::target_dir().display());
    for (title, time) in times {
        println!("  {title:<26} {:>9}", seconds(time));
    }
    println!("  {:<26} {:>9}", "together", seconds(begin.elapsed()));
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
