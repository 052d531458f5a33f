//! `cargo xtask pktgen`: builds the programs as they are shipped and what sends frames through them, and starts
//! that. Its options and output are those of `foobar-pktgen`, which knows the cases.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::bench::run_measurement;

/// Builds and sends; the exit code tells whether every packet is accounted for.
pub(crate) fn run(options: &[OsString]) -> Result<ExitCode> {
    run_measurement("foobar-pktgen", &[], options)
}
