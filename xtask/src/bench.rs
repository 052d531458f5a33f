//! `cargo xtask bench`: builds the programs as they are shipped and what measures them, and starts that. Its
//! options and output are those of `foobar-bench`, which knows the cases.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::build::cargo;
use crate::ebpf::{self, Variant};
use crate::{exec, workspace};

/// Builds and measures; the exit code is the measurement's. A rolling restart is of the daemon that users get.
pub(crate) fn run(options: &[OsString]) -> Result<ExitCode> {
    run_measurement("foobar-bench", &["foobar"], options)
}

/// Builds the programs as they are shipped, a program of the tests' package, and what it starts; and runs that
/// program.
pub(crate) fn run_measurement(name: &str, starts: &[&str], options: &[OsString]) -> Result<ExitCode> {
    ebpf::build(Variant::Release)?;
    let mut build = cargo();
    build.args([
        "build",
        "--package",
        "foobar-tests",
        "--package",
        "foobar-userspace",
    ]);
    for program in [&[name], starts].concat() {
        build.args(["--bin", program]);
    }
    exec::run(&mut build)?;
    let program = workspace::target_dir().join("debug").join(name);
    let status = Command::new(&program)
        .args(options)
        .env("FOOBAR_BPF_DIR", workspace::bpf_dir())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
