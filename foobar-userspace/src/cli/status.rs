//! `foobar status`, `foobar drain` and `foobar undrain`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use http::Method;

use super::client::SocketArgs;
use crate::admin::{BackendStatus, Status};

/// Options of `foobar status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    /// Prints the status.
    pub(super) async fn run(self) -> Result<ExitCode> {
        let value = self.socket.call(Method::GET, "/v1/status").await?;
        if self.json {
            println!("{value:#}");
        } else {
            print!("{}", render(&serde_json::from_value(value)?));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Options of `foobar drain` and `foobar undrain`.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// The VIP's name
    vip: String,
    /// The backend's address
    backend: IpAddr,
    #[command(flatten)]
    socket: SocketArgs,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

impl DrainArgs {
    /// Drains the backend, or ends that: `action` is the API's word for it.
    pub(super) async fn run(self, action: &str) -> Result<ExitCode> {
        let path = format!("/v1/vips/{}/backends/{}/{action}", self.vip, self.backend);
        let value = self.socket.call(Method::POST, &path).await?;
        if self.json {
            println!("{value:#}");
        } else if action == "drain" {
            println!(
                "{} of {}: draining; new flows go elsewhere, established ones stay",
                self.backend, self.vip
            );
        } else {
            println!("{} of {}: takes new flows again", self.backend, self.vip);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The status for people.
fn render(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let mut line = |text: String| _ = writeln!(out, "{text}");
    line(format!(
        "foobar {} on {} ({} XDP), up {} s",
        status.version, status.interface, status.mode, status.uptime_s
    ));
    if let Some(pins) = &status.pins {
        line(format!("pins     {pins}"));
    }
    let nic = &status.nic;
    line(format!(
        "NIC      rx_dropped {}  rx_missed {}  rx_errors {}  tx_dropped {}",
        nic.rx_dropped, nic.rx_missed, nic.rx_errors, nic.tx_dropped
    ));
    line(format!(
        "notes    {} of {}",
        status.notes.used, status.notes.capacity
    ));
    if let Some(error) = &status.last_reload_error {
        line(format!(
            "RELOAD REFUSED, the old configuration is in force:\n{error}"
        ));
    }
    for vip in &status.vips {
        let phases = vip.phases;
        let trouble = match (vip.serving.as_str(), vip.waiting, vip.waiting_slots) {
            ("none_up", ..) => "  ALL BACKENDS DOWN, all are used",
            ("nobody", ..) => "  NO BACKEND",
            (_, true, _) => "  a change waits for room for notes",
            (_, false, 1..) => "  a change waits in slots that have three owners",
            (_, false, 0) => "",
        };
        line(format!(
            "\n{}  {}  {}{}",
            vip.name,
            vip.service,
            if vip.owned { "owned" } else { "not owned" },
            trouble
        ));
        line(format!(
            "  slots {}: settled {}, open {}, moving {}, moved {}, kept {}   packets {}  bytes {}  connections {}",
            vip.slots,
            phases.settled,
            phases.open,
            phases.moving,
            phases.moved,
            phases.kept,
            vip.packets,
            vip.bytes,
            vip.connections
        ));
        line(format!(
            "  {:<16} {:>6} {:<12} {:>7} {:>8} {:>12} {:>14} {:>11}  last check",
            "backend", "weight", "state", "slots", "earlier", "packets", "bytes", "connections"
        ));
        for backend in &vip.backends {
            line(format!(
                "  {:<16} {:>6} {:<12} {:>7} {:>8} {:>12} {:>14} {:>11}  {}",
                backend.address.to_string(),
                backend.weight,
                state(backend),
                backend.slots,
                backend.earlier_slots,
                backend.packets,
                backend.bytes,
                backend.connections,
                last(backend)
            ));
        }
    }
    line("\ncounters".to_owned());
    for (name, count) in status.counters.iter().filter(|(_, count)| **count > 0) {
        line(format!("  {name:<22} {count:>12}"));
    }
    out
}

fn state(backend: &BackendStatus) -> String {
    match (backend.removed, backend.drained) {
        (true, _) => format!("{} removed", backend.state),
        (_, true) => format!("{} drained", backend.state),
        _ => backend.state.clone(),
    }
}

fn last(backend: &BackendStatus) -> String {
    let mut text = backend.last_check.clone().unwrap_or_else(|| "-".to_owned());
    if let Some(latency) = backend.check_latency_us {
        _ = write!(text, " ({:.1} ms)", latency as f64 / 1000.0);
    }
    if let Some(trouble) = &backend.trouble {
        _ = write!(text, "; {trouble}");
    }
    text
}
