//! What the roles that serve have in common: their options, and how a configuration file is read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use crate::telemetry::LogArgs;

/// Options of `foobar web`, `foobar app` and `foobar dns`.
#[derive(Debug, clap::Args)]
pub struct RoleArgs {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Logging
    #[command(flatten)]
    pub log: LogArgs,
}

/// Reads a role's configuration; `role` names it in errors.
///
/// # Errors
/// Where the file can't be read or is not a `C` in TOML, with its place.
pub fn read_config<C: DeserializeOwned>(path: &Path, role: &str) -> Result<C> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    toml::from_str(&text).with_context(|| format!("{file} is no {role} configuration"))
}
