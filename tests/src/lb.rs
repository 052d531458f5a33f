//! The balancer's daemon in a world: its configuration, its life, and the operator's commands.
//!
//! It runs the binary that users get, and knows of it what its files, signals and commands are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::artifacts;
use crate::churn::{Backends, Member};
use crate::netns::{Namespace, run_command};
use crate::pins::Pins;
use crate::process::Process;
use crate::world::{Backend, Family, Lb, World};

/// The VIP's name in the configuration.
pub const VIP_NAME: &str = "streams";

/// How long the daemon may take to be ready, or to take a configuration.
const READY: Duration = Duration::from_secs(20);

/// A configuration of one VIP.
#[derive(Clone, Debug)]
pub struct Config {
    /// The VIP's family.
    pub family: Family,
    /// The VIP's port, and the backends'.
    pub port: u16,
    /// Whether the balancer answers for the VIP.
    pub owned: bool,
    /// The VRRP group that says so instead; where routers are told of the VIP, the group of its attributes.
    pub group: Option<&'static str>,
    /// Whether routers are told of the VIP instead.
    pub announced: bool,
    /// By addresses of which family backends are named.
    pub backends_by: Family,
    /// The backends with their weights.
    pub backends: Backends,
    /// T; the product's default if none.
    pub idle_timeout: Option<Duration>,
    /// The health checks' interval, and a quarter of it in doubt; the product's defaults if none.
    pub check_interval: Option<Duration>,
    /// The cluster's flow-hash seed.
    pub seed: u64,
    /// It is in a cluster, which [`crate::cluster::form`] has made and which has the seed.
    pub clustered: bool,
    /// The interface that packets come in by; `eth0` unless a test makes another.
    pub interface: &'static str,
    /// Targets that the maps have room for.
    pub targets: u32,
    /// Further lines of the VIP.
    pub vip_lines: Vec<&'static str>,
    /// Further lines of the VIP's check.
    pub check_lines: Vec<&'static str>,
    /// Backends that are no hosts of the world.
    pub strangers: Vec<Ipv4Addr>,
    /// Further text at the end of the file: other VIPs.
    pub further: String,
    /// The other balancers' MAC addresses.
    pub peer_macs: Vec<String>,
    /// Further tables, after all else; relative paths begin at the world's directory.
    pub tables: Vec<&'static str>,
    /// `[etcd]`: the VIP is not in the file then, but in [`Config::shared`].
    pub etcd: Option<String>,
}

impl Config {
    /// Backends of equal weight, everything else as the product has it.
    pub fn new(port: u16, backends: impl IntoIterator<Item = Backend>, seed: u64) -> Self {
        Self {
            family: Family::V4,
            port,
            owned: true,
            group: None,
            announced: false,
            backends_by: Family::V4,
            backends: backends
                .into_iter()
                .map(|backend| (backend, Member::serving()))
                .collect(),
            idle_timeout: None,
            check_interval: None,
            seed,
            clustered: false,
            interface: "eth0",
            targets: 512,
            vip_lines: Vec::new(),
            check_lines: Vec::new(),
            strangers: Vec::new(),
            further: String::new(),
            peer_macs: Vec::new(),
            tables: Vec::new(),
            etcd: None,
        }
    }

    /// The service.
    pub fn service(&self) -> SocketAddr {
        SocketAddr::new(self.family.vip(), self.port)
    }

    fn toml(&self, paths: &Paths) -> String {
        let own = format!(
            "interface = {:?}\npin_dir = {:?}\nadmin_socket = {:?}\n{}\npeer_macs = {:?}\n\
             [limits]\nslots = 65536\ntargets = {}\nnotes = 65536\npending_notes = 65536\n",
            self.interface,
            paths.pins,
            paths.socket,
            if self.clustered {
                format!("cluster = {:?}", paths.cluster)
            } else {
                format!("seed_file = {:?}", paths.seed)
            },
            self.peer_macs,
            self.targets,
        );
        own + self.etcd.as_ref().unwrap_or(&self.shared())
    }

    /// The VIP, and whatever comes after it.
    pub fn shared(&self) -> String {
        let mut toml = format!(
            "[[vip]]\nname = \"{VIP_NAME}\"\naddress = \"{}\"\nport = {}\nprotocol = \"tcp\"\n{}\n",
            self.family.vip(),
            self.port,
            match self.group {
                Some(group) if self.announced => format!("bgp = {group:?}"),
                Some(group) => format!("vrrp = {group:?}"),
                None if self.announced => "bgp = true".to_owned(),
                None => format!("owned = {}", self.owned),
            }
        );
        let ms = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
        if let Some(idle) = self.idle_timeout {
            let _ = writeln!(toml, "idle_timeout = {}", ms(idle));
        }
        for line in self.vip_lines.iter().chain(&["[vip.check]", "kind = \"tcp\""]) {
            let _ = writeln!(toml, "{line}");
        }
        if let Some(interval) = self.check_interval {
            let _ = writeln!(
                toml,
                "interval = {}\ndoubt_interval = {}",
                ms(interval),
                ms(interval / 4)
            );
        }
        for line in &self.check_lines {
            let _ = writeln!(toml, "{line}");
        }
        for (&backend, Member { weight, .. }) in &self.backends {
            let address = self.backends_by.backend(backend);
            let _ = writeln!(
                toml,
                "[[vip.backend]]\naddress = \"{address}\"\nweight = {weight}"
            );
        }
        for address in &self.strangers {
            let _ = writeln!(toml, "[[vip.backend]]\naddress = \"{address}\"");
        }
        toml += &self.further;
        for table in &self.tables {
            let _ = writeln!(toml, "{table}");
        }
        toml
    }
}

#[derive(Debug)]
struct Paths {
    config: PathBuf,
    pins: PathBuf,
    socket: PathBuf,
    seed: PathBuf,
    cluster: PathBuf,
    log: PathBuf,
}

/// A balancer: the daemon, and what it leaves pinned.
#[derive(Debug)]
pub struct Balancer<'a> {
    host: &'a Namespace,
    backends_by: Family,
    binary: PathBuf,
    paths: Paths,
    process: Option<Process>,
}

impl<'a> Balancer<'a> {
    /// Starts the daemon and waits until it answers and every backend that has a weight owns slots.
    pub fn start(world: &'a World, config: &Config) -> Result<Self> {
        let mut balancer = Self::prepare(world, config)?;
        balancer.run()?;
        balancer.wait_owners(config)?;
        Ok(balancer)
    }

    /// As [`start`](Self::start), on one of two balancers' hosts.
    pub fn start_on(world: &'a World, lb: Lb, config: &Config) -> Result<Self> {
        let mut balancer = Self::prepare_on(world, lb, config)?;
        balancer.run()?;
        balancer.wait_owners(config)?;
        Ok(balancer)
    }

    /// Writes the daemon's files; nothing is started.
    pub fn prepare(world: &'a World, config: &Config) -> Result<Self> {
        Self::prepare_on(world, Lb::First, config)
    }

    /// As [`prepare`](Self::prepare), on one of two balancers' hosts.
    pub fn prepare_on(world: &'a World, lb: Lb, config: &Config) -> Result<Self> {
        let file = |what: &str| world.directory().join(format!("{}.{what}", lb.name()));
        let balancer = Self {
            host: world.balancer(lb)?,
            backends_by: config.backends_by,
            binary: artifacts::binary()?,
            paths: Paths {
                config: file("toml"),
                pins: world.bpffs().join(format!("foobar-{}", lb.name())),
                socket: file("sock"),
                seed: file("seed"),
                cluster: file("cluster"),
                log: file("log"),
            },
            process: None,
        };
        balancer.write_seed(config.seed)?;
        balancer.configure(config)?;
        Ok(balancer)
    }

    /// Writes the seed file.
    pub fn write_seed(&self, seed: u64) -> Result<()> {
        let seed = format!("{seed:016x}{:016x}\n", !seed);
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.paths.seed)?;
        Ok(std::io::Write::write_all(&mut file, seed.as_bytes())?)
    }

    /// Waits until every backend that has a weight owns slots.
    pub fn wait_owners(&mut self, config: &Config) -> Result<()> {
        let (pins, service) = (self.pins()?, config.service());
        self.wait("every backend owns slots", |_| {
            let owners = pins
                .range_of(service)
                .and_then(|range| range.all().map(|slot| pins.owner(slot)).collect());
            let owners: BTreeSet<Option<Backend>> = owners.unwrap_or_default();
            config
                .backends
                .iter()
                .all(|(&backend, member)| !member.serves() || owners.contains(&Some(backend)))
        })?;
        Ok(())
    }

    /// Writes the configuration, as a whole; the daemon is not told.
    pub fn configure(&self, config: &Config) -> Result<()> {
        let fresh = self.paths.config.with_extension("new");
        fs::write(&fresh, config.toml(&self.paths))?;
        fs::rename(&fresh, &self.paths.config)?;
        Ok(())
    }

    /// Starts the daemon, which must not be running, and waits until it is ready.
    pub fn run(&mut self) -> Result<()> {
        self.run_under(&[])
    }

    /// As [`run`](Self::run), started by another command (`setpriv ...`) that becomes the daemon.
    pub fn run_under(&mut self, wrapper: &[&str]) -> Result<()> {
        let mut command = self.daemon(wrapper);
        self.process = Some(Process::start(self.host, &mut command, &self.paths.log)?);
        self.wait("the daemon answers", |_| true)?;
        Ok(())
    }

    /// Starts the daemon, started by another command if there is one, and waits until it refuses to run:
    /// what it says.
    pub fn refusal(&self, wrapper: &[&str]) -> Result<String> {
        let log = self.paths.log.with_extension("refusal");
        // Nothing there is as good.
        let _ = fs::remove_file(&log);
        let mut process = Process::start(self.host, &mut self.daemon(wrapper), &log)?;
        let status = process.wait(READY)?;
        let said = fs::read_to_string(&log)?;
        ensure!(status.code() == Some(1), "the daemon ended with {status}\n{said}");
        Ok(said)
    }

    fn daemon(&self, wrapper: &[&str]) -> Command {
        let mut words = wrapper.iter().map(OsStr::new).chain([
            self.binary.as_os_str(),
            OsStr::new("lb"),
            OsStr::new("--config"),
        ]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg(&self.paths.config);
        command
    }

    /// Has what is run from now on be another build.
    pub fn use_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// The daemon's process id.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the daemon is not running")?.id())
    }

    /// Everything that the daemon has logged.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.paths.log)?)
    }

    /// The configuration file.
    pub fn config_file(&self) -> &Path {
        &self.paths.config
    }

    /// The admin socket's path.
    pub fn socket(&self) -> &Path {
        &self.paths.socket
    }

    /// Writes a configuration and has the daemon take it (SIGHUP).
    pub fn reload(&self, config: &Config) -> Result<()> {
        self.configure(config)?;
        self.hangup()
    }

    /// Has the daemon read its configuration again (SIGHUP).
    pub fn hangup(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the daemon is not running")?
            .signal(Signal::SIGHUP)
    }

    /// Kills the daemon (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the daemon is not running")?.kill()
    }

    /// Ends the daemon in an orderly way (SIGTERM); packets go on flowing.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.process.take().context("the daemon is not running")?;
        process.end(READY).context("the daemon")
    }

    /// What `foobar status --json` says.
    pub fn status(&self) -> Result<Value> {
        let output = self.status_text(&["--json"])?;
        serde_json::from_str(&output).with_context(|| format!("the status is no JSON: {output}"))
    }

    /// What `foobar status` says, with further options.
    pub fn status_text(&self, options: &[&str]) -> Result<String> {
        run_command(
            Command::new(&self.binary)
                .arg("status")
                .args(options)
                .arg("--socket")
                .arg(&self.paths.socket),
        )
    }

    /// Waits for a status.
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let start = Instant::now();
        loop {
            let status = self.status();
            if let Ok(status) = &status
                && is_so(status)
            {
                return Ok(status.clone());
            }
            if let Some(process) = &mut self.process
                && let Some(ended) = process.ended()?
            {
                bail!("{what}: the daemon has ended, {ended}\n{}", process.tail());
            }
            ensure!(
                start.elapsed() < READY,
                "not within {READY:?}: {what}\n{status:?}\n{}",
                self.process.as_ref().map(Process::tail).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `foobar drain`.
    pub fn drain(&self, backend: Backend) -> Result<()> {
        self.operate("drain", backend)
    }

    /// `foobar undrain`.
    pub fn undrain(&self, backend: Backend) -> Result<()> {
        self.operate("undrain", backend)
    }

    /// `foobar lb detach`: programs and maps go, or it is an error. What it says.
    pub fn detach(&self) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(["lb", "detach", "--config"]).arg(&self.paths.config);
        let said = self.host.run(|| run_command(&mut command))?;
        ensure!(self.pins().is_err(), "detached, but something is still pinned");
        Ok(said)
    }

    /// Takes the program off the interface under the daemon.
    pub fn detach_by_force(&self) -> Result<()> {
        // LAYOUT/INTERFACE/link.
        let layouts = fs::read_dir(&self.paths.pins)?.flatten();
        let interfaces = layouts.filter_map(|layout| fs::read_dir(layout.path()).ok());
        for interface in interfaces.flatten().flatten() {
            let link = interface.path().join("link");
            run_command(
                Command::new("bpftool")
                    .args(["link", "detach", "pinned"])
                    .arg(link),
            )?;
        }
        Ok(())
    }

    /// The pinned maps.
    pub fn pins(&self) -> Result<Pins> {
        Pins::open(&self.paths.pins)
    }

    /// `foobar lb drain` or `undrain`.
    pub fn operate_balancer(&self, verb: &str) -> Result<()> {
        run_command(
            Command::new(&self.binary)
                .args(["lb", verb, "--socket"])
                .arg(&self.paths.socket),
        )?;
        Ok(())
    }

    fn operate(&self, verb: &str, backend: Backend) -> Result<()> {
        let address = self.backends_by.backend(backend).to_string();
        run_command(
            Command::new(&self.binary)
                .args([verb, VIP_NAME, &address, "--socket"])
                .arg(&self.paths.socket),
        )?;
        Ok(())
    }
}

impl Drop for Balancer<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(process) = &self.process
        {
            eprintln!("--- the end of the balancer's log\n{}\n---", process.tail());
        }
    }
}
