//! The dns role: an authoritative name server for the cluster's zone.
//!
//! Relies on hickory for the wire format and the sockets. Knows nothing of the balancer: the addresses
//! that it hands out are the configuration's. It never recurses and never transfers a zone.

mod config;
mod server;
mod zone;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::telemetry::LogArgs;

pub use config::{Config, ConfigError};
pub use server::NameServer;
pub use zone::{Answer, Question, Zone};

/// Options of `foobar dns`.
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
    let stop = crate::signals::stop()?;
    let path = args.config.display();
    let text = tokio::fs::read_to_string(&args.config)
        .await
        .with_context(|| format!("cannot read {path}"))?;
    let config: Config = toml::from_str(&text).with_context(|| format!("{path} is no dns configuration"))?;
    let zone = config.zone().with_context(|| format!("{path} is refused"))?;
    let mut server = NameServer::bind(&config.listen, zone).await?;
    for address in server.addresses() {
        tracing::info!(%address, zone = %config.zone, "answering over UDP and TCP");
    }
    tokio::select! {
        () = stop => tracing::info!("asked to stop"),
        ended = server.ended() => return ended.context("the name server ended by itself"),
    }
    server.stop().await
}
