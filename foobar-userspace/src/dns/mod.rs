//! The dns role: an authoritative name server for the cluster's zone.
//!
//! Relies on hickory for the wire format and the sockets. Knows nothing of the balancer: the addresses
//! that it hands out are the configuration's. It never recurses and never transfers a zone.

mod config;
mod server;
mod zone;

use anyhow::{Context as _, Result};

use crate::role::{RoleArgs, read_config};

pub use config::{Config, ConfigError};
pub use server::NameServer;
pub use zone::{Answer, Question, Zone};

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Where the configuration is bad or a socket cannot be opened.
pub async fn run(args: RoleArgs) -> Result<()> {
    args.log.install();
    let stop = crate::signals::stop()?;
    let path = args.config.display();
    let config: Config = read_config(&args.config, "dns")?;
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
