//! The dns role: an authoritative name server for the cluster's zone.
//!
//! Relies on hickory for the wire format and the sockets. Of the balancer it knows what clients see: the addresses that
//! it hands out are the configuration's, and where they are checked, those that serve. It never recurses and never
//! transfers a zone.

mod checks;
mod config;
mod server;
mod zone;

use anyhow::{Context as _, Result};

use crate::role::{RoleArgs, read_config};

pub use checks::{Checks, Knowledge};
pub use config::{CheckConfig, Config, ConfigError, Kind, NameConfig};
pub use server::{NameServer, Openness};
pub use zone::{Answer, Checked, Question, Zone};

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
    let openness = Openness {
        nsid: config.nsid.clone(),
        status_clients: config.status_clients.clone(),
    };
    let mut server = NameServer::bind(&config.listen, zone, openness).await?;
    for address in server.addresses() {
        tracing::info!(%address, zone = %config.zone, "answering over UDP and TCP");
    }
    tokio::select! {
        () = stop => tracing::info!("asked to stop"),
        ended = server.ended() => return ended.context("the name server ended by itself"),
    }
    server.stop().await
}
