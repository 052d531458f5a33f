//! The web role: TLS, static files, compression, and a reverse proxy to the app tier.
//!
//! [`server`] owns sockets, [`connection`] their connections, [`service`] their requests; [`live`] is what a
//! reload replaces. The rest is one subject a file, most of it pure: it takes headers and returns decisions.
//! Nothing here knows what the API means.

pub mod access_log;
pub mod activity;
pub mod body;
pub mod compression;
pub mod config;
pub mod connection;
pub mod forwarded;
pub mod health;
pub mod hop_by_hop;
pub mod host;
pub mod live;
pub mod pages;
pub mod preconditions;
pub mod proxy;
pub mod range;
pub mod redirect;
pub mod security;
pub mod server;
pub mod service;
pub mod site_path;
pub mod static_files;
pub mod tls;
pub mod upload;
pub mod upstreams;

#[cfg(test)]
mod tests;

use std::pin::pin;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use self::config::Config;
use self::server::Server;
use crate::role::RoleArgs;

/// Runs until SIGTERM or SIGINT, then drains. SIGHUP reads the configuration again.
///
/// # Errors
/// Where the configuration is bad or a socket cannot be opened.
pub async fn run(args: RoleArgs) -> Result<()> {
    args.log.install();
    let mut stop = pin!(crate::signals::stop()?);
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let mut config = Config::read(&args.config)?;
    let server = Server::start(&config).await?;
    tracing::info!(https = ?server.https_addresses(), http = ?server.http_addresses(), "serving");
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = hangup.recv() => match reload(&server, &args) {
                Ok(next) => {
                    tracing::info!(upstreams = ?next.upstreams, "reloaded");
                    config = next;
                }
                Err(error) => tracing::error!("reload refused, going on as before: {error:#}"),
            },
        }
    }
    tracing::info!(patience_seconds = config.drain_timeout_seconds, "draining");
    server.drain(config.drain_timeout()).await;
    tracing::info!("drained");
    Ok(())
}

fn reload(server: &Server, args: &RoleArgs) -> Result<Config> {
    let config = Config::read(&args.config)?;
    server.reload(&config)?;
    Ok(config)
}
