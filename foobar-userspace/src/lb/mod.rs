//! `foobar lb`: the balancer's daemon. It joins configuration, health, next hops and steering tables, and
//! writes the outcome into the data plane. Packets never wait for it.
//!
//! `daemon` is the loop (events in, in one task); `steering` is what it knows and does, without sockets.

mod admission;
mod adopt;
mod apply;
mod bgp;
mod canary;
mod daemon;
mod election;
pub mod entry;
mod events;
mod features;
pub(crate) mod fleet;
mod link;
mod member;
mod note_exchange;
mod peers;
pub(crate) mod preflight;
mod presence;
mod server_ids;
mod sharing;
mod steering;
mod sweep;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::cli::client::SocketArgs;
use crate::config::{self, Config};
use crate::dataplane::Pins;
use crate::network::{self, XdpMode};
use crate::telemetry::LogArgs;

const RELEASE_POLL: Duration = Duration::from_millis(5);
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// Options of `foobar lb`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// What else `foobar lb` does. The daemon is told by its admin socket.
#[derive(Debug, Subcommand)]
enum Command {
    /// Hand the VIPs of all VRRP groups over to other balancers, and take none while another one lives; withdraw those
    /// that routers are told of; outlasts restarts of the daemon
    Drain(DrainArgs),
    /// End that: take VIPs again, as priorities and preemption say
    Undrain(DrainArgs),
    /// Remove the programs, maps and links that a daemon left; packets are no longer forwarded
    Detach {
        /// The configuration file that the daemon ran with
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Options of `foobar lb drain` and `foobar lb undrain`.
#[derive(Debug, clap::Args)]
struct DrainArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

impl DrainArgs {
    /// Tells the daemon: `action` is the API's word for it.
    async fn run(&self, action: &str) -> Result<ExitCode> {
        let value = self
            .socket
            .call(http::Method::POST, &format!("/v1/{action}"))
            .await?;
        if self.json {
            println!("{value:#}");
        } else if action == "drain" {
            println!(
                "draining: the VIPs of VRRP groups are handed over, and those that routers are told of are withdrawn \
                 (`foobar status` shows who has them)"
            );
        } else {
            println!("not draining any more: VIPs come back as priorities and preemption say");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs the daemon until SIGTERM or SIGINT, or the subcommand.
///
/// # Errors
/// Where the configuration is bad, the machine can't run the data plane, or a socket can't be opened.
pub async fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Some(Command::Detach { config }) => return detach(&read(&config)?).await,
        Some(Command::Drain(args)) => return args.run("drain").await,
        Some(Command::Undrain(args)) => return args.run("undrain").await,
        None => (),
    }
    let config = args
        .config
        .context("--config FILE is missing: see `foobar lb --help`")?;
    args.log.install();
    daemon::run(config).await?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &std::path::Path) -> Result<Config> {
    let loaded = match fleet::load_without_etcd(path, None) {
        Ok((Ok(config), _)) => Ok(config),
        // What is to be detached is in the file.
        _ => config::load(path),
    };
    loaded.map_err(fleet::invalid)
}

async fn detach(config: &Config) -> Result<ExitCode> {
    let pins = Pins::new(&config.pin_dir, &config.interface);
    let claim = match pins.claim() {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(error.into()),
        other => other.ok(),
    };
    let removed = pins
        .remove()
        .with_context(|| format!("cannot remove the pins in {}", pins.directory().display()))?;
    drop(claim);
    daemon::forget_check_route(config).await;
    if removed {
        until_released(&config.interface).await;
    }
    if removed {
        println!(
            "{}: detached; {} removed",
            config.interface,
            pins.directory().display()
        );
    } else {
        println!(
            "{}: nothing was attached by foobar ({} is not there)",
            config.interface,
            pins.directory().display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the kernel has let go of the program: it does so a moment after the last pin of the link is gone.
/// In vain where another's program is on the interface; hence the limit.
async fn until_released(interface: &str) {
    let released = async {
        // An error means that the interface is gone, and the program with it.
        while !matches!(network::xdp_mode(interface).await, Ok(XdpMode::None) | Err(_)) {
            tokio::time::sleep(RELEASE_POLL).await;
        }
    };
    if tokio::time::timeout(RELEASE_LIMIT, released).await.is_err() {
        eprintln!("foobar: {interface} still has an XDP program (see `ip link show dev {interface}`)");
    }
}
