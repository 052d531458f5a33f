//! `cargo xtask`: everything one does with foobar's tree. Parse and dispatch, no logic.

mod build;
mod compiler;
mod ebpf;
mod exec;
mod setup;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Set up, build, run and test foobar
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what is missing on this machine: eBPF compiler and linker, the lab's servers and tools
    Setup {
        /// Only say what is missing; exit code 1 if something is
        #[arg(long)]
        check: bool,
    },
    /// Compile the eBPF programs to target/bpf
    BuildEbpf {
        /// As shipped: no debugging features, whatever FOOBAR_BPF_FEATURES says
        #[arg(long)]
        release: bool,
    },
    /// Build everything: the eBPF programs, and the foobar binary with them embedded
    Build,
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Setup { check } => {
                setup::run(if check {
                    setup::Mode::Check
                } else {
                    setup::Mode::Install
                })?;
            }
            Self::BuildEbpf { release } => {
                ebpf::build(if release {
                    ebpf::Variant::Release
                } else {
                    ebpf::Variant::Dev
                })?;
            }
            Self::Build => build::build()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn main() -> ExitCode {
    match Command::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
