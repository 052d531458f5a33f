//! Network namespaces of a run's own: made and removed by `ip netns`, entered by `setns`.
//!
//! A name starts with [`PREFIX`] and the id of the process that owns it, so that [`sweep`] can tell what a
//! dead run left behind. It relies on root and iproute2; it knows nothing about what is in a namespace.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the names of all namespaces and run directories of these tests start with.
pub const PREFIX: &str = "fbt-";

const NAMED: &str = "/run/netns";

/// A named network namespace, removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `PREFIX + owner's pid - run - host` and brings its loopback up.
    pub fn create(run: u32, host: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{run}-{host}", std::process::id());
        run_command(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        // No router solicitations, no duplicate address detection: a world is IPv4 only until it is told otherwise.
        for dev in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{dev}/disable_ipv6"), "1")?;
        }
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into the namespace, for good: threads that it starts and sockets that it opens
    /// from now on are in there too.
    pub fn enter(&self) -> Result<()> {
        enter(&self.name)
    }

    /// Does `work` in a thread inside the namespace, and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.name, work)
    }

    /// Starts a process inside the namespace, with the mounts of its parent (`ip netns exec` would hide bpffs).
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.run(|| command.spawn().with_context(|| format!("start {command:?}")))
    }

    /// Runs a command inside the namespace; its output is part of the error if it fails.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run(|| run_command(Command::new(program).args(arguments)))
            .with_context(|| format!("in {}", self.name))
    }

    /// `ip ARGUMENTS` inside the namespace.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        self.command("ip", arguments)
    }

    /// From now on this MAC address is that of a neighbour on `eth0`, whatever the neighbour says.
    pub fn teach_neighbour(&self, address: IpAddr, mac: &str) -> Result<()> {
        let address = address.to_string();
        let entry = [
            "neigh",
            "replace",
            &address,
            "lladdr",
            mac,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ];
        self.ip(&entry)?;
        Ok(())
    }

    /// The MAC address of an interface, as `ip` writes it.
    pub fn mac_of(&self, interface: &str) -> Result<String> {
        let line = self.ip(&["-oneline", "link", "show", "dev", interface])?;
        let mut words = line.split_whitespace().skip_while(|&word| word != "link/ether");
        Ok(words
            .nth(1)
            .with_context(|| format!("no MAC address: {line}"))?
            .to_owned())
    }

    /// Writes a sysctl of the namespace, named by its path below /proc/sys.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = Path::new("/proc/sys").join(path);
        self.run(|| {
            std::fs::write(&file, value).with_context(|| format!("write {value} to {}", file.display()))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Moves the calling thread into a namespace by its name, for good.
pub fn enter(name: &str) -> Result<()> {
    let path = Path::new(NAMED).join(name);
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("setns to {name}"))
}

/// Does `work` in a thread inside a namespace, whoever made it, and waits for it.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            enter(name)?;
            work()
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Runs a command to its end and returns its standard output; a failure tells the command and both outputs.
pub fn run_command(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes what runs left behind whose owner is dead: processes in their namespaces, the namespaces, and
/// their run directories with the mounts in them.
pub fn sweep() {
    for name in leftovers(Path::new(NAMED)) {
        remove(&name);
    }
    for name in leftovers(&std::env::temp_dir()) {
        remove_directory(&std::env::temp_dir().join(name));
    }
}

/// Unmounts the bpffs in a run directory and removes the directory.
pub fn remove_directory(directory: &Path) {
    let mounted = directory.join("bpf");
    if mounted.exists() {
        // Nothing mounted there is as good.
        let _ = Command::new("umount").arg(&mounted).output();
    }
    let _ = std::fs::remove_dir_all(directory);
}

fn leftovers(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()))
        .collect()
}

fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn remove(name: &str) {
    if let Ok(pids) = run_command(Command::new("ip").args(["netns", "pids", name])) {
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
            // A thread of this very process may still be in there; it is not a stray process.
            if pid.unsigned_abs() != std::process::id() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        assert_eq!(owner("fbt-123-0-client"), Some(123));
        assert_eq!(owner("fbt-x-0-client"), None);
        assert_eq!(owner("other-123"), None);
    }
}
