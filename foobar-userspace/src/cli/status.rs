//! `foobar status`, `foobar drain` and `foobar undrain`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use http::Method;

use super::client::SocketArgs;
use crate::admin::{BackendStatus, BgpStatus, CanaryStatus, EtcdStatus, Status, VrrpStatus};

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
    if status.drained {
        line(
            "DRAINED by an operator: VIPs of VRRP groups, and those that routers are told of, go to other balancers \
             (`foobar lb undrain`)"
                .to_owned(),
        );
    }
    if let Some(error) = &status.last_reload_error {
        line(format!(
            "RELOAD REFUSED, the old configuration is in force:\n{error}"
        ));
    }
    if let Some(shared) = &status.etcd {
        etcd(shared).into_iter().for_each(&mut line);
    }
    if let Some(cluster) = &status.cluster {
        line(String::new());
        super::cluster::shown(cluster)
            .lines()
            .map(str::to_owned)
            .for_each(&mut line);
    }
    for router in &status.vrrp {
        line(String::new());
        vrrp(router).into_iter().for_each(&mut line);
    }
    if let Some(told) = &status.bgp {
        line(String::new());
        bgp(told).into_iter().for_each(&mut line);
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
            match (vip.owned, &vip.group) {
                (true, None) if vip.by_bgp => "announced by BGP".to_owned(),
                (false, None) if vip.by_bgp => "not announced, BGP".to_owned(),
                (true, None) => "owned".to_owned(),
                (false, None) => "not owned".to_owned(),
                (true, Some(group)) => format!("owned by VRRP {group}"),
                (false, Some(group)) => format!("not owned, VRRP {group}"),
            },
            trouble
        ));
        if let Some(canary) = &vip.canary {
            line(canary_line(canary));
        }
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

/// A virtual router, in lines.
fn vrrp(router: &VrrpStatus) -> Vec<String> {
    let priority = if router.priority == router.configured_priority {
        format!("priority {}", router.priority)
    } else {
        format!("priority {} of {}", router.priority, router.configured_priority)
    };
    let why = if router.reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", router.reasons.join(", "))
    };
    let active = match (router.state.as_str(), router.active) {
        ("active", _) => String::new(),
        (_, Some(active)) => format!("  active is {active}"),
        (_, None) => "  nobody is heard".to_owned(),
    };
    let mut lines = vec![
        format!(
            "vrrp {}  router_id {}  {}  {} for {:.1} s  {priority}{why}{active}",
            router.name,
            router.router_id,
            router.family,
            router.state.to_uppercase(),
            router.since_ms as f64 / 1000.0
        ),
        format!(
            "  transitions {}   adverts sent {}, not sent {}, received {}, invalid {}{}",
            router.transitions,
            router.sent,
            router.not_sent,
            router.received,
            router.invalid.values().sum::<u64>(),
            by_reason(&router.invalid)
        ),
        format!(
            "  addresses {}",
            router
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        ),
    ];
    if !router.mismatched.is_empty() {
        lines.push(format!(
            "  another router is configured differently{}",
            by_reason(&router.mismatched)
        ));
    }
    if let Some(trouble) = &router.trouble {
        lines.push(format!("  CANNOT SEND: {trouble}"));
    }
    lines
}

/// What connections through the own data plane show.
fn canary_line(canary: &CanaryStatus) -> String {
    match (canary.state.as_str(), canary.latency_us) {
        ("up", Some(us)) => format!("  canary holds, {us} us"),
        ("up", None) => "  canary holds".to_owned(),
        ("down", _) => format!("  CANARY FAILS: {}", canary.last),
        _ if canary.last.is_empty() => "  canary not known yet".to_owned(),
        _ => format!("  canary not known yet: {}", canary.last),
    }
}

/// The fleet's part of the configuration, in lines.
fn etcd(shared: &EtcdStatus) -> Vec<String> {
    let value = match (shared.revision, shared.since_s.unwrap_or_default()) {
        (None, _) => "no value in force".to_owned(),
        (Some(revision), since) if shared.from_copy => {
            format!("revision {revision} in force for {since} s, FROM THE COPY")
        }
        (Some(revision), since) => format!("revision {revision} in force for {since} s"),
    };
    let endpoint = shared.endpoint.as_deref().unwrap_or("NOT CONNECTED");
    let mut lines = vec![format!("etcd     {}  {endpoint}  {value}", shared.key)];
    if shared.missing {
        lines.push("  THE KEY IS NOT THERE: what was in force goes on".to_owned());
    }
    if let Some(trouble) = &shared.trouble {
        lines.push(format!("  TROUBLE: {trouble}"));
    }
    if let (Some(why), Some(revision)) = (&shared.refused, shared.refused_revision) {
        lines.push(format!(
            "  REVISION {revision} REFUSED, nothing has changed:\n{why}"
        ));
    }
    if let Some(trouble) = &shared.copy_trouble {
        lines.push(format!("  THE COPY CANNOT BE WRITTEN: {trouble}"));
    }
    lines
}

/// The announcements, in lines.
fn bgp(told: &BgpStatus) -> Vec<String> {
    let process = match told.process {
        Some(process) => format!("process {process}"),
        None => "DOES NOT RUN".to_owned(),
    };
    let version = told.version.as_deref().unwrap_or("-");
    let mut lines = vec![format!(
        "bgp by BIRD {version}  {process}  restarts {}",
        told.restarts
    )];
    if let Some(trouble) = &told.trouble {
        lines.push(format!("  TROUBLE: {trouble}"));
    }
    for session in &told.sessions {
        let since = session
            .since_s
            .map_or(String::new(), |since| format!(" for {since} s"));
        let bfd = session
            .bfd
            .as_ref()
            .map_or_else(|| "without BFD".to_owned(), |state| format!("BFD {state}"));
        let exported: u64 = session.exported.values().sum();
        let mut text = format!(
            "  neighbor {}  AS {}  {}{since}  {bfd}  routes {exported}",
            session.neighbor,
            session.remote_as,
            session.state.to_uppercase()
        );
        if session.state != "established"
            && let Some(error) = &session.last_error
        {
            _ = write!(text, "  ({error})");
        }
        lines.push(text);
    }
    for route in &told.routes {
        let state = if route.announced { "announced" } else { "WITHDRAWN" };
        let why = if route.reasons.is_empty() {
            String::new()
        } else {
            format!(" ({})", route.reasons.join(", "))
        };
        lines.push(format!("  {:<16} {state}{why}", route.address.to_string()));
    }
    lines
}

fn by_reason(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!(" ({})", counts.join(", "))
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
