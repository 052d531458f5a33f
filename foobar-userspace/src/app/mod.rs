//! The app role: the site's API (RealWorld "Conduit") over MySQL.
//!
//! `routes` speaks HTTP and JSON, `store` speaks SQL, `auth` knows passwords and tokens; each knows
//! nothing of the others' trade. Plain HTTP/1.1: TLS ends at the web tier in front. A database that is
//! away is an answer (503), never a reason to stop.

mod auth;
mod config;
mod error;
mod health;
mod routes;
mod server;
mod store;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::telemetry::LogArgs;

pub use config::{Config, DatabaseConfig};
pub use server::AppServer;

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

/// Runs until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// Where the configuration is bad or the socket cannot be opened. A database that does not answer is no
/// error.
pub async fn run(args: Args) -> Result<()> {
    args.log.install();
    let stop = crate::signals::stop()?;
    let path = args.config.display();
    let text = tokio::fs::read_to_string(&args.config)
        .await
        .with_context(|| format!("cannot read {path}"))?;
    let config: Config = toml::from_str(&text).with_context(|| format!("{path} is no app configuration"))?;
    let mut server = AppServer::start(&config)
        .await
        .with_context(|| format!("{path} is refused"))?;
    tokio::select! {
        () = stop => tracing::info!("asked to stop; draining"),
        ended = server.ended() => return ended,
    }
    server.drain().await;
    Ok(())
}
