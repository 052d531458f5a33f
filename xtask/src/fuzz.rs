//! `cargo xtask fuzz`: as many random packets as one likes through the program and its reference model.
//!
//! What is compared and how stands in the tests' package; here it is built and run.

use anyhow::{Result, ensure};

use crate::build::cargo;
use crate::{ebpf, exec};

/// How many packets, and which
#[derive(Debug, clap::Args)]
pub(crate) struct FuzzArgs {
    /// How many packets
    #[arg(long, default_value_t = 1_000_000)]
    packets: u64,
    /// The seed of a run to repeat; without it, a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// The number of the packet to begin with; packets before it in its episode are run as well
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Builds the program and the fuzzer, and runs it; an error where anything differs.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    ensure!(
        exec::is_root(),
        "the fuzzer loads an eBPF program: run it as root"
    );
    ebpf::build(ebpf::Variant::Dev)?;
    let mut command = cargo();
    command
        .args([
            "run",
            "--quiet",
            "--package",
            "foobar-tests",
            "--bin",
            "fuzz",
            "--",
        ])
        .args(["--packets", &args.packets.to_string()])
        .args(["--from", &args.from.to_string()]);
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if args.json {
        command.arg("--json");
    }
    exec::run(&mut command)
}
