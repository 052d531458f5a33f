//! The command line: roles that run, and the operator's commands as thin clients of the admin API.

#[cfg(feature = "lb")]
pub(crate) mod client;
#[cfg(feature = "lb")]
mod cluster;
#[cfg(feature = "lb")]
mod config;
#[cfg(feature = "lb")]
mod status;

use std::process::ExitCode;

use clap::Parser;

#[cfg(any(feature = "web", feature = "app", feature = "dns"))]
use crate::role::RoleArgs;

/// An XDP load balancer and the web stack behind it
#[derive(Debug, Parser)]
#[command(name = "foobar", version, propagate_version = true)]
pub enum Command {
    /// Run the balancer's daemon: XDP steering, health checks, drains
    #[cfg(feature = "lb")]
    Lb(crate::lb::Args),
    /// On a backend: take packets out of their tunnels, pass on what is another's, prepare the kernel
    #[cfg(feature = "agent")]
    #[command(subcommand)]
    Agent(crate::agent::Command),
    /// Show a running balancer: VIPs, backends, slots, counters
    #[cfg(feature = "lb")]
    Status(status::StatusArgs),
    /// Let a backend take no new flows; established ones stay
    #[cfg(feature = "lb")]
    Drain(status::DrainArgs),
    /// Let a drained backend take new flows again
    #[cfg(feature = "lb")]
    Undrain(status::DrainArgs),
    /// Make and show a cluster of balancers: they steer alike, and hear of each other's flows
    #[cfg(feature = "lb")]
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Validate configuration files
    #[cfg(feature = "lb")]
    #[command(subcommand)]
    Config(config::Command),
    /// Run a web server: TLS, static files, compression, reverse proxy to the app tier
    #[cfg(feature = "web")]
    Web(RoleArgs),
    /// Run an app server: the site's API over MySQL
    #[cfg(feature = "app")]
    App(RoleArgs),
    /// Run the authoritative name server of the cluster's zone
    #[cfg(feature = "dns")]
    Dns(RoleArgs),
}

impl Command {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// What stopped it, in words for a person; the exit code is then 1.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            #[cfg(feature = "lb")]
            Self::Lb(args) => return crate::lb::run(args).await,
            #[cfg(feature = "lb")]
            Self::Cluster(command) => return command.run().await,
            #[cfg(feature = "agent")]
            Self::Agent(command) => return command.run().await,
            #[cfg(feature = "lb")]
            Self::Status(args) => return args.run().await,
            #[cfg(feature = "lb")]
            Self::Drain(args) => return args.run("drain").await,
            #[cfg(feature = "lb")]
            Self::Undrain(args) => return args.run("undrain").await,
            #[cfg(feature = "lb")]
            Self::Config(command) => return command.run(),
            #[cfg(feature = "web")]
            Self::Web(args) => crate::web::run(args).await?,
            #[cfg(feature = "app")]
            Self::App(args) => crate::app::run(args).await?,
            #[cfg(feature = "dns")]
            Self::Dns(args) => crate::dns::run(args).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
