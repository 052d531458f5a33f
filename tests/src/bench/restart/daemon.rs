//! The balancer's daemon of a rolling restart: started, operated, and asked what it has cost.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use foobar::dataplane::{DataPlane, Pins, Sizes};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::network::{INTERFACE, Network, address};
use super::run::{Request, Tracking};
use crate::artifacts;
use crate::bench::case::Family;
use crate::bench::traffic::{BENCHMARK, PORT};
use crate::netns::run_command;
use crate::process::Process;

/// How long anything but a restart may take.
const READY: Duration = Duration::from_secs(60);
/// The idle time while the VIP is set up: what its backends' arrival moves settles soon.
const SHORT: Duration = Duration::from_secs(1);
/// The unit of times in /proc/PID/stat: USER_HZ is 100 wherever this runs.
const TICK: Duration = Duration::from_millis(10);
const SEED: &str = "0f1e2d3c4b5a69781122334455667788\n";
const VIP: &str = "bench";

/// A running daemon with one VIP.
pub struct Daemon {
    process: Process,
    binary: PathBuf,
    socket: PathBuf,
    pins: PathBuf,
    sizes: Sizes,
}

/// What the daemon says of itself, and the kernel of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Notes in use, as of its last sweep.
    pub notes: u64,
    /// Sweeps so far.
    pub sweeps: u64,
    /// CPU time of the sweeps so far.
    pub sweep_cpu: Duration,
    /// CPU time of the process so far.
    pub cpu: Duration,
}

/// The maps that have room for all flows: a tenth of the notes has to be free, or changes wait.
pub fn sizes(request: &Request) -> Sizes {
    Sizes {
        slots: request.slots,
        targets: u32::from(request.backends) * 4,
        notes: (request.flows + request.flows / 4).max(4_096) as u32,
        pending_notes: request
            .flows
            .next_power_of_two()
            .max(Sizes::default().pending_notes.into()) as u32,
        ..Sizes::default()
    }
}

impl Daemon {
    /// Starts it, and returns when every backend has its slots and all of them are settled.
    ///
    /// # Errors
    /// Where it does not get that far.
    pub fn start(network: &Network, request: &Request) -> Result<Self> {
        let directory = network.directory();
        let (config, log) = (directory.join("lb.toml"), directory.join("lb.log"));
        let mut seed = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(directory.join("seed"))?;
        std::io::Write::write_all(&mut seed, SEED.as_bytes())?;
        fs::write(&config, toml(network, request, SHORT))?;
        let binary = artifacts::binary()?;
        let mut command = Command::new(&binary);
        command.args(["lb", "--config"]).arg(&config);
        let mut daemon = Self {
            process: Process::start(network.balancer(), &mut command, &log)?,
            binary,
            socket: socket(directory),
            pins: network.bpffs(),
            sizes: sizes(request),
        };
        daemon.wait("every backend has settled slots", |daemon| {
            // Before the socket is there, that is no error.
            Ok(daemon.status().is_ok_and(|status| is_settled(&status)))
        })?;
        fs::write(&config, toml(network, request, request.idle))?;
        daemon.process.signal(Signal::SIGHUP)?;
        daemon.wait("the configuration is read again", |_| {
            Ok(fs::read_to_string(&log)?.contains("configuration reloaded"))
        })?;
        Ok(daemon)
    }

    fn wait(&mut self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !is_so(self)? {
            if let Some(ended) = self.process.ended()? {
                bail!("{what}: the daemon has ended, {ended}\n{}", self.process.tail());
            }
            ensure!(
                begin.elapsed() < READY,
                "not within {READY:?}: {what}\n{}",
                self.process.tail()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The program as the daemon has it, upon the daemon's own maps.
    ///
    /// # Errors
    /// Where the pins can't be used.
    pub fn plane(&self) -> Result<DataPlane> {
        Ok(DataPlane::open(Some(self.pins()), self.sizes, 0)?)
    }

    fn pins(&self) -> Pins {
        Pins::new(&self.pins, INTERFACE)
    }

    /// What a pinned map takes of the kernel's memory, in bytes.
    ///
    /// # Errors
    /// Where the kernel does not say it.
    pub fn memory_of(&self, map: &str) -> Result<u64> {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let map = aya::maps::MapData::from_pin(self.pins().map(map))?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
        let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
        Ok(bytes.context("the kernel says no memlock")?.trim().parse()?)
    }

    /// `foobar drain`.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub fn drain(&self, backend: u16) -> Result<()> {
        self.operate("drain", backend)
    }

    /// `foobar undrain`.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub fn undrain(&self, backend: u16) -> Result<()> {
        self.operate("undrain", backend)
    }

    fn operate(&self, verb: &str, backend: u16) -> Result<()> {
        let backend = address(backend).to_string();
        self.ask(&[verb, VIP, &backend]).map(drop)
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        run_command(
            Command::new(&self.binary)
                .args(words)
                .arg("--socket")
                .arg(&self.socket),
        )
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(&["status", "--json"])?)?)
    }

    /// What it says of itself, and the kernel of it.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn told(&self) -> Result<Told> {
        let status = self.status()?;
        let number = |path: &str| {
            let value = status.pointer(path).and_then(Value::as_u64);
            value.with_context(|| format!("the status has no {path}"))
        };
        Ok(Told {
            notes: number("/notes/used")?,
            sweeps: number("/sweeps/count")?,
            sweep_cpu: Duration::from_micros(number("/sweeps/cpu_us")?),
            cpu: cpu_of(self.process.id())?,
        })
    }
}

/// Whether each backend has a MAC address and slots, and nothing moves.
fn is_settled(status: &Value) -> bool {
    let vip = &status["vips"][0];
    let backends = vip["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    vip["phases"]["settled"] == vip["slots"]
        && !backends.is_empty()
        && backends
            .iter()
            .all(|backend| backend["mac"].is_string() && backend["slots"].as_u64() > Some(0))
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("lb.sock")
}

fn toml(network: &Network, request: &Request, idle: Duration) -> String {
    let (directory, sizes) = (network.directory(), sizes(request));
    let vip = BENCHMARK.vips(Family::V4, 1).next().expect("one was asked for");
    let tracking = match request.tracking {
        Tracking::Transitions => "transitions",
        Tracking::None => "none",
    };
    let mut toml = format!(
        "interface = {INTERFACE:?}\npin_dir = {:?}\nadmin_socket = {:?}\nseed_file = {:?}\n\
         [limits]\nslots = {}\ntargets = {}\nnotes = {}\npending_notes = {}\n\
         [[vip]]\nname = {VIP:?}\naddress = \"{vip}\"\nport = {PORT}\nslots = {}\ntracking = {tracking:?}\n\
         idle_timeout = \"{}ms\"\n[vip.check]\nkind = \"none\"\n",
        network.bpffs(),
        socket(directory),
        directory.join("seed"),
        sizes.slots,
        sizes.targets,
        sizes.notes,
        sizes.pending_notes,
        request.slots,
        idle.as_millis(),
    );
    for backend in network.backends() {
        // Writing to a string can't fail.
        _ = write!(toml, "[[vip.backend]]\naddress = \"{}\"\n", address(backend));
    }
    toml
}

/// CPU time that a process has used, in user and kernel mode.
fn cpu_of(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("not as proc(5) says: {stat}"))?;
    Ok(TICK * ticks as u32)
}

/// utime and stime of /proc/PID/stat: fields 14 and 15, of which the second one, in parentheses, may have spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_spaces_in_its_name_has_its_cpu_time() {
        let stat = "77 (a b) c) S 1 77 77 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 3 0 500";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("77 (a) S 1"), None);
    }
}
