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

use anyhow::{Context as _, Result};

use crate::role::{RoleArgs, read_config};

pub use config::{Config, DatabaseConfig};
pub use server::AppServer;

/// Runs until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// Where the configuration is bad or the socket cannot be opened. A database that does not answer is no
/// error.
pub async fn run(args: RoleArgs) -> Result<()> {
    args.log.install();
    let stop = crate::signals::stop()?;
    let path = args.config.display();
    let config: Config = read_config(&args.config, "app")?;
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
