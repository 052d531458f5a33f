//! `cargo xtask chaos`: builds the programs as they are shipped and what kills balancers under load, and starts that.
//! Its options and output are those of `foobar-chaos`, which knows the scenarios.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::bench::run_measurement;
use crate::build::next_release;
use crate::ebpf::{self, Variant};

/// Builds and runs; the exit code tells whether every scenario shows what it must.
pub(crate) fn run(options: &[OsString]) -> Result<ExitCode> {
    ebpf::build(Variant::Release)?;
    next_release()?;
    run_measurement("foobar-chaos", &["foobar"], options)
}
