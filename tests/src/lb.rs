//! The balancer's daemon in a world: its configuration, its life, and the operator's commands.
//!
//! It runs the binary that users get, and knows of it what its files, signals and commands are.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::artifacts;
use crate::churn::{Backends, Member};
use crate::netns::run_command;
use crate::pins::Pins;
use crate::process::Process;
use crate::world::{Backend, VIP, World, backend_address};

/// The VIP's name in the configuration.
pub const VIP_NAME: &str = "streams";

/// How long the daemon may take to be ready, or to take a configuration.
const READY: Duration = Duration::from_secs(20);

/// A configuration of one VIP.
#[derive(Clone, Debug)]
pub struct Config {
    /// The VIP's port, and the backends'.
    pub port: u16,
    /// The backends with their weights.
    pub backends: Backends,
    /// T; the product's default if none.
    pub idle_timeout: Option<Duration>,
    /// The health checks' interval, and a quarter of it in doubt; the product's defaults if none.
    pub check_interval: Option<Duration>,
    /// The cluster's flow-hash seed.
    pub seed: u64,
}

impl Config {
    /// Backends of equal weight, everything else as the product has it.
    pub fn new(port: u16, backends: impl IntoIterator<Item = Backend>, seed: u64) -> Self {
        Self {
            port,
            backends: backends
                .into_iter()
                .map(|backend| (backend, Member::serving()))
                .collect(),
            idle_timeout: None,
            check_interval: None,
            seed,
        }
    }

    fn toml(&self, paths: &Paths) -> String {
        let mut toml = format!(
            "interface = \"eth0\"\npin_dir = {:?}\nadmin_socket = {:?}\nseed_file = {:?}\n\
             [limits]\nslots = 65536\ntargets = 512\nnotes = 65536\npending_notes = 65536\n\
             [[vip]]\nname = \"{VIP_NAME}\"\naddress = \"{VIP}\"\nport = {}\nprotocol = \"tcp\"\n",
            paths.pins, paths.socket, paths.seed, self.port
        );
        let ms = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
        if let Some(idle) = self.idle_timeout {
            let _ = writeln!(toml, "idle_timeout = {}", ms(idle));
        }
        toml.push_str("[vip.check]\nkind = \"tcp\"\n");
        if let Some(interval) = self.check_interval {
            let _ = writeln!(
                toml,
                "interval = {}\ndoubt_interval = {}",
                ms(interval),
                ms(interval / 4)
            );
        }
        for (&backend, Member { weight, .. }) in &self.backends {
            let address = backend_address(backend);
            let _ = writeln!(
                toml,
                "[[vip.backend]]\naddress = \"{address}\"\nweight = {weight}"
            );
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
    log: PathBuf,
}

/// A balancer: the daemon, and what it leaves pinned.
#[derive(Debug)]
pub struct Balancer<'a> {
    world: &'a World,
    binary: PathBuf,
    paths: Paths,
    process: Option<Process>,
}

impl<'a> Balancer<'a> {
    /// Starts the daemon and waits until it answers and every backend that has a weight owns slots.
    pub fn start(world: &'a World, config: &Config) -> Result<Self> {
        let directory = world.directory();
        let mut balancer = Self {
            world,
            binary: artifacts::binary()?,
            paths: Paths {
                config: directory.join("lb.toml"),
                pins: world.bpffs().join("foobar"),
                socket: directory.join("lb.sock"),
                seed: directory.join("seed"),
                log: directory.join("lb.log"),
            },
            process: None,
        };
        let seed = format!("{:016x}{:016x}\n", config.seed, !config.seed);
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&balancer.paths.seed)?;
        std::io::Write::write_all(&mut file, seed.as_bytes())?;
        balancer.configure(config)?;
        balancer.run()?;
        let (pins, service) = (balancer.pins()?, SocketAddrV4::new(VIP, config.port));
        balancer.wait("every backend owns slots", |_| {
            let owners = pins
                .range_of(service)
                .and_then(|range| range.all().map(|slot| pins.owner(slot)).collect());
            let owners: BTreeSet<Option<Backend>> = owners.unwrap_or_default();
            config
                .backends
                .iter()
                .all(|(&backend, member)| !member.serves() || owners.contains(&Some(backend)))
        })?;
        Ok(balancer)
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
        let mut command = Command::new(&self.binary);
        command.args(["lb", "--config"]).arg(&self.paths.config);
        self.process = Some(Process::start(self.world.lb(), &mut command, &self.paths.log)?);
        self.wait("the daemon answers", |_| true)?;
        Ok(())
    }

    /// Writes a configuration and has the daemon take it (SIGHUP).
    pub fn reload(&self, config: &Config) -> Result<()> {
        self.configure(config)?;
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
        let mut process = self.process.take().context("the daemon is not running")?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(READY)?;
        ensure!(
            status.success(),
            "the daemon ended with {status}\n{}",
            process.tail()
        );
        Ok(())
    }

    /// What `foobar status --json` says.
    pub fn status(&self) -> Result<Value> {
        let output = run_command(
            Command::new(&self.binary)
                .args(["status", "--json", "--socket"])
                .arg(&self.paths.socket),
        )?;
        serde_json::from_str(&output).with_context(|| format!("the status is no JSON: {output}"))
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

    /// `foobar lb detach`: programs and maps go, or it is an error.
    pub fn detach(&self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["lb", "detach", "--config"]).arg(&self.paths.config);
        self.world.lb().run(|| run_command(&mut command))?;
        ensure!(self.pins().is_err(), "detached, but something is still pinned");
        Ok(())
    }

    /// The pinned maps.
    pub fn pins(&self) -> Result<Pins> {
        Pins::open(&self.paths.pins)
    }

    fn operate(&self, verb: &str, backend: Backend) -> Result<()> {
        let address = backend_address(backend).to_string();
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
