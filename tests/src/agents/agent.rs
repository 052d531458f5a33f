//! `foobar agent` on a backend: its configuration, its life, and the operator's commands.
//!
//! It runs the binary that users get, and knows of it what its files, signals and commands are.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use serde_json::Value;

use super::DEADLINE;
use crate::artifacts;
use crate::process::Process;
use crate::world::{Backend, LB, VIP, World, backend_address};

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The VIPs that it takes packets out for.
    pub vips: Vec<IpAddr>,
    /// Where outer headers come from, as prefixes.
    pub trusted: Vec<String>,
    /// The other backends.
    pub peers: Vec<IpAddr>,
}

impl AgentConfig {
    fn toml(&self, world: &World, backend: Backend) -> String {
        let list = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        format!(
            "interface = \"eth0\"\nvips = {:?}\ntrusted = {:?}\npeers = {:?}\npin_dir = {:?}\nadmin_socket = {:?}\n\
             state_file = {:?}\n",
            list(&self.vips),
            self.trusted,
            list(&self.peers),
            world.bpffs().join(format!("agent{backend}")),
            file(world, backend, "sock"),
            file(world, backend, "json")
        )
    }
}

fn file(world: &World, backend: Backend, what: &str) -> PathBuf {
    world.directory().join(format!("agent{backend}.{what}"))
}

/// A backend's agent.
#[derive(Debug)]
pub struct Agent<'a> {
    world: &'a World,
    backend: Backend,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    _deliver: Ebpf,
}

impl<'a> Agent<'a> {
    /// Writes the agent's configuration; nothing is started. All other backends are its peers, unless they are to
    /// be found.
    pub fn configure(world: &'a World, backend: Backend, peers: &[Backend]) -> Result<Self> {
        let config = AgentConfig {
            vips: vec![VIP.into()],
            trusted: vec![LB.to_string()],
            peers: peers.iter().map(|&peer| backend_address(peer).into()).collect(),
        };
        Self::configure_as(world, backend, &config)
    }

    fn configure_as(world: &'a World, backend: Backend, config: &AgentConfig) -> Result<Self> {
        let file = |what: &str| file(world, backend, what);
        fs::write(file("toml"), config.toml(world, backend))?;
        Ok(Self {
            world,
            backend,
            config: file("toml"),
            socket: file("sock"),
            log: file("log"),
            process: None,
            _deliver: world.deliver_xdp_of(backend)?,
        })
    }

    /// Prepares the backend and starts the agent.
    pub fn start(world: &'a World, backend: Backend, peers: &[Backend]) -> Result<Self> {
        Self::configure(world, backend, peers)?.started()
    }

    /// As [`start`](Self::start), told something else.
    pub fn start_as(world: &'a World, backend: Backend, config: &AgentConfig) -> Result<Self> {
        Self::configure_as(world, backend, config)?.started()
    }

    fn started(self) -> Result<Self> {
        let mut agent = self;
        agent.does("prepare")?;
        agent.run()?;
        agent.wait("the ways to all peers", |status| {
            let backends = status["backends"].as_array();
            backends.is_some_and(|list| list.iter().all(|backend| backend["mac"].is_string()))
        })?;
        Ok(agent)
    }

    /// Starts the agent, which must not be running, and waits until it answers.
    pub fn run(&mut self) -> Result<()> {
        let mut command = Command::new(artifacts::binary()?);
        command.args(["agent", "run", "--config"]).arg(&self.config);
        let host = self.world.backend(self.backend)?;
        self.process = Some(Process::start(host, &mut command, &self.log)?);
        self.wait("the agent answers", |_| true)
    }

    /// Kills the agent (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the agent is not running")?.kill()
    }

    /// Ends the agent in an orderly way (SIGTERM).
    pub fn stop(&mut self) -> Result<()> {
        let process = self.process.take().context("the agent is not running")?;
        process.end(DEADLINE).context("the agent")
    }

    /// Runs `foobar agent VERB` on the backend: its output and exit code.
    pub fn output(&self, verb: &str, options: &[&str]) -> Result<Output> {
        let mut command = Command::new(artifacts::binary()?);
        command
            .args(["agent", verb])
            .args(options)
            .arg("--config")
            .arg(&self.config);
        self.world
            .backend(self.backend)?
            .run(|| command.output().with_context(|| format!("start {command:?}")))
    }

    /// Runs `foobar agent VERB` on the backend, which must succeed: what it says.
    pub fn does(&self, verb: &str) -> Result<String> {
        let output = self.output(verb, &[])?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "agent {verb}: {}\n{said}", output.status);
        Ok(said)
    }

    /// What `foobar agent status --json` says.
    pub fn status(&self) -> Result<Value> {
        let output = Command::new(artifacts::binary()?)
            .args(["agent", "status", "--json", "--socket"])
            .arg(&self.socket)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A counter.
    pub fn count(&self, counter: &str) -> Result<u64> {
        self.status()?["counters"][counter]
            .as_u64()
            .with_context(|| format!("there is no counter {counter}"))
    }

    /// Waits for a status.
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let status = self.status();
            if status.as_ref().is_ok_and(&is_so) {
                return Ok(());
            }
            if let Some(process) = &mut self.process
                && let Some(ended) = process.ended()?
            {
                bail!("{what}: the agent has ended, {ended}\n{}", process.tail());
            }
            ensure!(
                start.elapsed() < DEADLINE,
                "not within {DEADLINE:?}: {what}\n{status:?}\n{}",
                self.process.as_ref().map(Process::tail).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
