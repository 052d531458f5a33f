//! `foobar agent`: what a backend needs besides its servers. `run` takes packets out of the balancers' tunnels
//! and passes on those whose flow is another backend's; `prepare`, `check` and `undo` are about the kernel's own
//! settings.
//!
//! `daemon` is the loop; `hops` knows the ways to other backends, `preparation` what the kernel has to be like,
//! both without sockets. It knows no services, slots or health: the balancers decide.

mod daemon;
mod hops;
mod preparation;
mod prepare;
mod state;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Subcommand;

use crate::config::agent::{self as config, AgentConfig};
use crate::dataplane::Pins;
use crate::telemetry::LogArgs;

/// What `foobar agent` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent: decapsulation by XDP, second chance
    Run {
        /// The file
        #[command(flatten)]
        file: ConfigArgs,
        /// Logging
        #[command(flatten)]
        log: LogArgs,
    },
    /// Show a running agent: ways to other backends, counters
    Status(status::Args),
    /// Set the kernel up for the VIPs: addresses on lo, ARP, reverse path filter, MSS; can be undone
    Prepare {
        /// The file
        #[command(flatten)]
        file: ConfigArgs,
        /// The MTU
        #[command(flatten)]
        how: PrepareArgs,
    },
    /// Say what is wrong with the backend and how to mend it; exit code 1 if something is
    Check {
        /// The file
        #[command(flatten)]
        file: ConfigArgs,
        /// The MTU
        #[command(flatten)]
        how: PrepareArgs,
        /// Write the outcome as JSON
        #[arg(long)]
        json: bool,
    },
    /// Take back what `prepare` has changed
    Undo {
        /// The file
        #[command(flatten)]
        file: ConfigArgs,
    },
    /// Remove the program, maps and link that an agent left; packets in tunnels are the kernel's again
    Detach {
        /// The file
        #[command(flatten)]
        file: ConfigArgs,
    },
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The agent's configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// What `prepare` and `check` are to reckon with.
#[derive(Debug, clap::Args)]
pub struct PrepareArgs {
    /// The longest packet that the way from the balancers takes, outer headers included; else the file's `mtu`
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1_280..=9_216))]
    mtu: Option<u16>,
}

impl ConfigArgs {
    fn load(&self) -> Result<AgentConfig> {
        config::load(&self.config).map_err(|report| anyhow!("the configuration is not valid\n{report}"))
    }

    fn load_with(&self, how: &PrepareArgs) -> Result<AgentConfig> {
        let mut config = self.load()?;
        config.mtu = how.mtu.unwrap_or(config.mtu);
        Ok(config)
    }
}

impl Command {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// Where the configuration is bad, or the kernel refuses.
    pub async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Run { file, log } => {
                log.install();
                daemon::run(file.config).await?;
            }
            Self::Status(args) => args.run().await?,
            Self::Prepare { file, how } => prepare::prepare(&file.load_with(&how)?).await?,
            Self::Check { file, how, json } => return prepare::check(&file.load_with(&how)?, json).await,
            Self::Undo { file } => prepare::undo(&file.load()?).await?,
            Self::Detach { file } => detach(&file.load()?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn detach(config: &AgentConfig) -> Result<()> {
    let pins = Pins::new(&config.pin_dir, &config.interface);
    let claim = match pins.claim() {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(error.into()),
        other => other.ok(),
    };
    let directory = pins.directory().display();
    let removed = pins
        .remove()
        .with_context(|| format!("cannot remove the pins in {directory}"))?;
    drop(claim);
    if removed {
        println!("{}: detached; {directory} removed", config.interface);
    } else {
        println!(
            "{}: nothing was attached by foobar agent ({directory} is not there)",
            config.interface
        );
    }
    Ok(())
}
