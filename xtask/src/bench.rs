//! `cargo xtask bench`: builds the programs as they are shipped and what measures them, and starts that. Its
//! options and output are those of `foobar-bench`, which knows the cases.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::build::cargo;
use crate::ebpf::{self, Variant};
use crate::{exec, workspace};

/// Builds and measures; the exit code is the measurement's.
pub(crate) fn run(options: &[OsString]) -> Result<ExitCode> {
    run_measurement("foobar-bench", options)
}

/// Builds the programs as they are shipped and a program of the tests' package, and runs that.
pub(crate) fn run_measurement(name: &str, options: &[OsString]) -> Result<ExitCode> {
    ebpf::build(Variant::Release)?;
    exec::run(cargo().args(["build", "--package", "foobar-tests", "--bin", name]))?;
    let program = workspace::target_dir().join("debug").join(name);
    let status = Command::new(&program)
        .args(options)
        .env("FOOBAR_BPF_DIR", workspace::bpf_dir())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
