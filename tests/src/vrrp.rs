//! VRRP in a world: configurations of a group, who answers for its addresses, and what a client's pings say of the
//! time between.

pub mod capture;
pub mod frr;
pub mod keepalived;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lb::{Balancer, Config};
use crate::netns::Namespace;
use crate::process::Process;
use crate::steady::PORT;
use crate::world::{Backend, VIP, VIP6, World, backend_address, ipv6_of};

/// The group's identifier.
pub const ROUTER_ID: u8 = 51;
/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A balancer's place in the group.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its priority.
    pub priority: u8,
    /// How often it advertises.
    pub interval: Duration,
    /// Further lines of the group.
    pub lines: &'static str,
}

impl Place {
    /// A priority, 100 ms, all else as the product has it.
    pub const fn of(priority: u8) -> Self {
        Self {
            priority,
            interval: Duration::from_millis(100),
            lines: "",
        }
    }
}

/// A balancer's configuration: a group with an IPv4 VIP and, in a world with IPv6, an IPv6 one.
pub fn config(place: Place, with_ipv6: bool, backends: Backend) -> Config {
    let mut config = Config {
        group: Some("site"),
        vip_lines: vec!["slots = 256"],
        check_lines: vec!["interval = \"300ms\"", "doubt_interval = \"100ms\""],
        ..Config::new(PORT, 1..=backends, 7)
    };
    config.further = format!(
        "[[vrrp]]\nname = \"site\"\nrouter_id = {ROUTER_ID}\npriority = {}\ninterval = \"{}ms\"\n{}\n",
        place.priority,
        place.interval.as_millis(),
        place.lines
    );
    if with_ipv6 {
        config.further += &format!(
            "[[vip]]\nname = \"six\"\naddress = \"{VIP6}\"\nport = {PORT}\nslots = 256\nvrrp = \"site\"\n\
             [vip.check]\nkind = \"tcp\"\ninterval = \"300ms\"\ndoubt_interval = \"100ms\"\n"
        );
        for backend in 1..=backends {
            let address = ipv6_of(backend_address(backend));
            config.further += &format!("[[vip.backend]]\naddress = \"{address}\"\n");
        }
    }
    config
}

/// A virtual router in a status.
pub fn router<'a>(status: &'a Value, family: &str) -> &'a Value {
    let routers = status["vrrp"].as_array().map(Vec::as_slice).unwrap_or_default();
    routers
        .iter()
        .find(|router| router["family"] == family)
        .unwrap_or(&Value::Null)
}

/// Whether all virtual routers of a status are in a state.
pub fn all_are(status: &Value, state: &str) -> bool {
    let routers = status["vrrp"].as_array().map(Vec::as_slice).unwrap_or_default();
    !routers.is_empty() && routers.iter().all(|router| router["state"] == state)
}

/// Waits until all virtual routers of a balancer are in a state.
pub fn wait_state(balancer: &mut Balancer<'_>, state: &str) -> Result<Value> {
    balancer.wait(&format!("VRRP is {state}"), |status| all_are(status, state))
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(start.elapsed())
}

/// Who answers a broadcast ARP request for the IPv4 VIP: MAC addresses.
pub fn who_has(client: &Namespace) -> Result<Vec<String>> {
    let vip = VIP.to_string();
    let said = client.run(|| {
        // Exit code 1: nobody.
        let output = Command::new("arping")
            .args(["-b", "-c", "1", "-w", "1", "-I", "eth0", &vip])
            .output()
            .context("arping")?;
        Ok(String::from_utf8_lossy(&output.stdout).to_lowercase())
    })?;
    let mut macs: Vec<String> = said
        .split('[')
        .filter_map(|rest| Some(rest.split_once(']')?.0.to_owned()))
        .collect();
    macs.sort_unstable();
    macs.dedup();
    Ok(macs)
}

/// The host with this MAC address answers for the IPv4 VIP, and no other one does.
pub fn answers_alone(client: &Namespace, mac: &str) -> Result<()> {
    let macs = who_has(client)?;
    ensure!(macs == [mac], "{macs:?} answer for the VIP, {mac} should");
    Ok(())
}

/// A ping of the client's that runs: each answered echo request of a VIP with its time.
#[derive(Debug)]
pub struct Pings {
    process: Process,
    log: PathBuf,
}

/// What pings came to.
#[derive(Clone, Debug)]
pub struct Answers {
    /// When answers came, since the epoch.
    pub at: Vec<Duration>,
    /// Requests sent.
    pub sent: u64,
}

impl Pings {
    /// Pings an address every so many milliseconds, for at most a minute.
    pub fn start(world: &World, to: IpAddr, every_ms: u32) -> Result<Self> {
        let log = world.directory().join(format!("ping-{to}"));
        // Nothing there is as good.
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new("ping");
        command.args([
            "-n",
            "-D",
            "-w",
            "60",
            "-i",
            &format!("{}", f64::from(every_ms) / 1000.0),
        ]);
        let process = Process::start(world.client(), command.arg(to.to_string()), &log)?;
        let pings = Self { process, log };
        until("the VIP answers", || Ok(!pings.answers()?.is_empty()))?;
        Ok(pings)
    }

    fn answers(&self) -> Result<Vec<Duration>> {
        let text = std::fs::read_to_string(&self.log)?;
        let times = text
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(|line| {
                let (time, _) = line.strip_prefix('[')?.split_once(']')?;
                time.parse().ok().map(Duration::from_secs_f64)
            });
        Ok(times.collect())
    }

    /// Ends them.
    pub fn stop(mut self) -> Result<Answers> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(PATIENCE)?;
        let text = std::fs::read_to_string(&self.log)?;
        let summary = text
            .lines()
            .find(|line| line.contains("packets transmitted"))
            .context("ping has no summary")?;
        let sent = summary.split_whitespace().next().unwrap_or_default().parse()?;
        Ok(Answers {
            at: self.answers()?,
            sent,
        })
    }
}

impl Answers {
    /// The longest time between two answers.
    pub fn longest_gap(&self) -> Duration {
        let gaps = self.at.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        gaps.max().unwrap_or_default()
    }
}
