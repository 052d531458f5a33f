//! The lab's processes: started detached inside a namespace, known by pid and start time, stopped by them.
//!
//! A pid alone is not enough, as the kernel gives it to somebody else later; together with the start time
//! (and the boot that it counts from) it names one process.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process of the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The host it runs on.
    pub(crate) host: String,
    /// What it is: `web`, `lb`, `mariadbd`, ...
    pub(crate) role: String,
    pub(crate) pid: i32,
    /// When it started, in clock ticks since the boot (proc(5), stat, field 22).
    pub(crate) started: u64,
    /// The boot that the ticks count from.
    pub(crate) boot: String,
    pub(crate) log: PathBuf,
}

impl Process {
    /// Starts a command in a session of its own, its output appended to the log.
    pub(crate) fn start(host: &str, role: &str, command: &Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(key, value),
                None => detached.env_remove(key),
            };
        }
        detached
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .current_dir("/");
        let child = detached
            .spawn()
            .with_context(|| format!("cannot start {role} on {host}"))?;
        let pid = i32::try_from(child.id()).context("a pid is an int")?;
        let started = start_time(pid).with_context(|| format!("{role} on {host} ended at once"))?;
        Ok(Self {
            host: host.to_owned(),
            role: role.to_owned(),
            pid,
            started,
            boot: boot_id(),
            log: log.to_path_buf(),
        })
    }

    /// Whether it still runs; one that ended and was not waited for does not count.
    pub(crate) fn is_alive(&self) -> bool {
        self.boot == boot_id() && start_time(self.pid) == Some(self.started)
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end in this very moment: then there is nothing left to do.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits for its end; false when the time is over.
    pub(crate) fn wait_for_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default(), lines)
    }
}

/// Stops processes together: SIGTERM to all, SIGKILL to those that are left when the time is over.
pub(crate) fn stop(processes: &[Process], limit: Duration) {
    for process in processes {
        process.signal(Signal::SIGTERM);
    }
    let deadline = Instant::now() + limit;
    for process in processes {
        if !process.wait_for_end(deadline.saturating_duration_since(Instant::now())) {
            eprintln!(
                "{} on {} did not stop within {limit:?} and is killed",
                process.role, process.host
            );
            process.signal(Signal::SIGKILL);
            process.wait_for_end(Duration::from_secs(5));
        }
    }
}

/// The start time of a process that runs.
fn start_time(pid: i32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the start time from proc(5)'s stat line, unless the process is dead and only not waited for. The
/// program's name, in parentheses, may itself contain spaces and parentheses.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let state = fields.first()?;
    // Field 3 is the first one after the name, field 22 the start time.
    (!["Z", "X"].contains(state)).then(|| fields.get(19)?.parse().ok())?
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_read_behind_any_program_name() {
        let fields = "S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(&format!("7 (a ) b) {fields}")), Some(4242));
        assert_eq!(
            parse_stat(&format!("7 (a) {}", fields.replacen('S', "Z", 1))),
            None
        );
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn a_process_is_alive_until_it_is_stopped_and_a_reused_pid_is_not_it() {
        let log = std::env::temp_dir().join(format!("foobar-xtask-process-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; exec sleep 60"]);
        let process = Process::start("here", "sleep", &command, &log).unwrap();
        assert!(process.is_alive());
        assert!(
            !Process {
                started: process.started + 1,
                ..process.clone()
            }
            .is_alive()
        );
        assert!(
            !Process {
                boot: "another".to_owned(),
                ..process.clone()
            }
            .is_alive()
        );
        stop(std::slice::from_ref(&process), Duration::from_secs(10));
        assert!(!process.is_alive());
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_tail_is_the_end() {
        assert_eq!(tail("1\n2\n3\n", 2), "2\n3");
        assert_eq!(tail("1", 2), "1");
    }
}
