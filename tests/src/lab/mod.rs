//! The lab that `cargo xtask up` starts, as a test uses it: a run of its own name, gone when dropped.
//!
//! It knows of the lab what a user does: the commands, and the JSON of `status`. What it makes is called after
//! the process that owns it, so that the next run clears what a dead one left.

pub mod browser;
pub mod held;
pub mod https;
pub mod traces;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::artifacts;
use crate::netns;

/// The name that the lab serves.
pub const SITE: &str = "wwwfoobar.com";
/// The cluster's addresses.
pub const VIPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 101), Ipv4Addr::new(192, 0, 2, 102)];

/// The cluster's IPv6 addresses, of the same owners in the same order.
pub const VIPS6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x101),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x102),
];

const PREFIX: &str = "e2e";
const RUNS: &str = "/run/foobar-lab";

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    run: String,
    xtask: PathBuf,
    target: PathBuf,
}

impl Lab {
    /// Starts a lab of two web and two app servers, after clearing those of dead test runs.
    pub fn start() -> Result<Self> {
        let lab = Self::named(format!("{PREFIX}{}", std::process::id()))?;
        for stale in stale_runs() {
            Self::named(stale)?.down()?;
        }
        lab.up(&["--web", "2", "--app", "2"])?;
        Ok(lab)
    }

    fn named(run: String) -> Result<Self> {
        Ok(Self {
            run,
            xtask: artifacts::xtask()?,
            target: artifacts::target_directory()?,
        })
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Where the run keeps its files.
    pub fn directory(&self) -> PathBuf {
        Path::new(RUNS).join(&self.run)
    }

    /// The certificate of the lab's authority.
    pub fn authority(&self) -> PathBuf {
        self.directory().join("certificates/ca.crt")
    }

    /// The network namespace of a host.
    pub fn namespace(&self, host: &str) -> String {
        format!("foobar-{}-{host}", self.run)
    }

    /// `cargo xtask WORD --name RUN ARGUMENTS`, to its end.
    pub fn xtask(&self, word: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.xtask);
        command.arg(word).args(["--name", &self.run]).args(arguments);
        command.env("CARGO_TARGET_DIR", &self.target);
        command.output().with_context(|| format!("start {command:?}"))
    }

    /// Starts the lab, brings it to other numbers, or starts again what has died.
    pub fn up(&self, arguments: &[&str]) -> Result<String> {
        succeeded("up", &self.xtask("up", arguments)?)
    }

    /// Takes the lab down.
    pub fn down(&self) -> Result<String> {
        succeeded("down", &self.xtask("down", &[])?)
    }

    /// Runs a command on a host, as `cargo xtask exec` does it.
    pub fn exec(&self, host: &str, words: &[&str]) -> Result<Output> {
        self.xtask("exec", &[&[host, "--"], words].concat())
    }

    /// Runs a command on a host; an exit code that is not zero is an error with all that it said.
    pub fn exec_ok(&self, host: &str, words: &[&str]) -> Result<String> {
        succeeded(&format!("{host}: {}", words.join(" ")), &self.exec(host, words)?)
    }

    /// What `cargo xtask status --json` says.
    pub fn status(&self) -> Result<Value> {
        let output = self.xtask("status", &["--json"])?;
        serde_json::from_slice(&output.stdout).context("the lab's status is not JSON")
    }

    /// The id of the process that a host runs, if it runs.
    pub fn pid(&self, host: &str) -> Result<i32> {
        let status = self.status()?;
        let hosts = status["hosts"].as_array().context("the status lists no hosts")?;
        let process = hosts
            .iter()
            .find(|entry| entry["name"] == host)
            .map(|entry| &entry["processes"][0])
            .with_context(|| format!("the status has no {host}"))?;
        ensure!(process["running"] == true, "{host} runs nothing: {process}");
        let pid = process["pid"]
            .as_i64()
            .with_context(|| format!("{host} has no pid: {process}"))?;
        Ok(i32::try_from(pid)?)
    }

    /// Ends a host's process by a signal, and waits for its end.
    pub fn end(&self, host: &str, signal: Signal) -> Result<()> {
        let pid = self.pid(host)?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {host}'s {pid}"))?;
        wait(Duration::from_secs(20), || match self.pid(host) {
            Ok(pid) => bail!("{host}'s process {pid} still runs"),
            Err(_) => Ok(()),
        })
        .map(drop)
    }

    /// A row of the lab's database, its columns separated by tabs.
    pub fn query(&self, sql: &str) -> Result<String> {
        let words = ["mariadb", "--user=root", "--batch", "--skip-column-names"];
        let text = self.exec_ok("db1", &[&words[..], &["--execute", sql, "foobar"]].concat())?;
        Ok(text.trim_end().to_owned())
    }

    /// Copies the lab's logs to a directory, which need not be there: they go with the lab.
    pub fn keep_logs(&self, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
        for entry in std::fs::read_dir(self.directory().join("logs"))? {
            let entry = entry?;
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// Does `work` inside a host's network namespace.
    pub fn inside<T: Send>(&self, host: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        netns::inside(&self.namespace(host), work)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        match self.down() {
            Ok(_) => {}
            Err(error) => eprintln!("the lab {} is not all gone: {error:#}", self.run),
        }
    }
}

/// Asks again and again until there is an answer, and returns it with the time that it took.
pub fn wait<T>(limit: Duration, question: impl Fn() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        match question() {
            Ok(answer) => return Ok((answer, start.elapsed())),
            Err(error) if start.elapsed() > limit => {
                return Err(error.context(format!("not within {limit:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn succeeded(what: &str, output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{what}: {}\n{said}{errors}",
        output.status
    );
    Ok(said)
}

/// The runs of test processes that are dead.
fn stale_runs() -> Vec<String> {
    let entries = std::fs::read_dir(RUNS).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            name.strip_prefix(PREFIX)
                .and_then(|pid| pid.parse::<u32>().ok())
                .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
        })
        .collect()
}
