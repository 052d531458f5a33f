//! `foobar agent status`, and what the agent tells about itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::cli::client;
use crate::config::agent::DEFAULT_SOCKET;

/// Options of `foobar agent status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's admin socket
    #[arg(long, value_name = "PATH", env = "FOOBAR_AGENT_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Prints the status.
    pub(super) async fn run(self) -> Result<()> {
        let value = client::call(&self.socket, "foobar agent run", Method::GET, "/v1/status").await?;
        if self.json {
            println!("{value:#}");
        } else {
            print!("{}", render(&serde_json::from_value(value)?));
        }
        Ok(())
    }
}

/// `GET /v1/status` of the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Status {
    /// The agent's version.
    pub(super) version: String,
    /// The interface that the program is attached to.
    pub(super) interface: String,
    /// `native`, `generic`, `multiple`, or `detached` where nothing is attached to the interface.
    pub(super) mode: String,
    /// How long the agent has run, in seconds.
    pub(super) uptime_s: u64,
    /// The directory of the pins.
    pub(super) pins: String,
    /// What was wrong with the configuration at the last reload, if it was refused.
    pub(super) last_reload_error: Option<String>,
    /// The VIPs that packets are decapsulated for.
    pub(super) vips: Vec<IpAddr>,
    /// Other backends.
    pub(super) backends: Vec<Backend>,
    /// The data plane's counters, by name.
    pub(super) counters: BTreeMap<String, u64>,
}

/// Another backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Backend {
    /// Its address.
    pub(super) address: IpAddr,
    /// The MAC address of the way to it, where there is one.
    pub(super) mac: Option<String>,
}

/// The status for people.
fn render(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let mut line = |text: String| _ = writeln!(out, "{text}");
    line(format!(
        "foobar agent {} on {} ({} XDP), up {} s",
        status.version, status.interface, status.mode, status.uptime_s
    ));
    line(format!("pins     {}", status.pins));
    if let Some(error) = &status.last_reload_error {
        line(format!(
            "RELOAD REFUSED, the old configuration is in force:\n{error}"
        ));
    }
    let vips: Vec<String> = status.vips.iter().map(ToString::to_string).collect();
    line(format!("VIPs     {}", vips.join(", ")));
    line("\nother backends".to_owned());
    for backend in &status.backends {
        let mac = backend.mac.as_deref().unwrap_or("not reachable yet");
        line(format!("  {:<40} {mac}", backend.address.to_string()));
    }
    line("\ncounters".to_owned());
    for (name, count) in status.counters.iter().filter(|(_, count)| **count > 0) {
        line(format!("  {name:<22} {count:>12}"));
    }
    out
}
