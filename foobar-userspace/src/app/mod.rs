//! The app role.

use std::path::PathBuf;

use anyhow::Result;

use crate::telemetry::LogArgs;

/// Options of `foobar app`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Logging
    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Where the configuration is bad or a socket cannot be opened.
pub async fn run(args: Args) -> Result<()> {
    args.log.install();
    crate::signals::stop()?.await;
    Ok(())
}
