//! What runs on which host: the command of each, its configuration file, and starting it until it is ready.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::configs::{self, Files};
use super::processes::Process;
use super::state::State;
use super::topology::{Host, Run, Segment};
use super::{database, lb_status, network, readiness};
use crate::workspace;

/// The host's address on a segment that it is on.
pub(crate) fn address(host: Host, segment: Segment) -> Result<Ipv4Addr> {
    host.address(segment)
        .with_context(|| format!("{host} is not on the {segment} segment"))
}

/// The tier servers that configurations name.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    pub(crate) webs: Vec<Host>,
    pub(crate) apps: Vec<Host>,
}

fn config_file(run: &Run, host: Host) -> PathBuf {
    run.directory().join("configs").join(format!("{host}.toml"))
}

fn log_file(run: &Run, host: Host) -> PathBuf {
    run.directory().join("logs").join(format!("{host}.log"))
}

/// Writes the host's configuration; true if that changed it.
pub(crate) fn write_config(run: &Run, host: Host, members: &Members) -> Result<bool> {
    let directory = run.directory();
    let site = workspace::root().join("foobar-userspace/site");
    let files = Files {
        run: &directory,
        site: &site,
    };
    let text = match host {
        Host::Client | Host::Db => return Ok(false),
        Host::Dns => configs::dns(),
        Host::App(_) => configs::app(files, host),
        Host::Web(_) => configs::web(files, host, members.apps.iter().copied()),
        Host::Lb(_) => configs::lb(files, host, &members.webs),
    };
    let file = config_file(run, host);
    if fs::read_to_string(&file).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    let staged = file.with_extension("new");
    fs::write(&staged, text)
        .and_then(|()| fs::rename(&staged, &file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(true)
}

/// Rewrites the host's configuration and has its process read it again, if it differs.
pub(crate) fn reconfigure(state: &State, host: Host, members: &Members) -> Result<()> {
    if write_config(&state.run, host, members)? {
        for process in state.of(host) {
            process.signal(Signal::SIGHUP);
        }
    }
    Ok(())
}

/// Starts what the host runs, unless it runs, and waits until it is ready. A failure names the host and
/// shows the end of its log.
pub(crate) fn ensure_running(state: &mut State, host: Host, members: &Members) -> Result<()> {
    let run = state.run.clone();
    write_config(&run, host, members)?;
    if !state.of(host).any(Process::is_alive) {
        let name = host.to_string();
        state.processes.retain(|process| process.host != name);
        if let Some(process) = start(&run, host)? {
            state.processes.push(process);
            state.save()?;
        }
    }
    let process = state.of(host).next();
    let gone = || {
        let dead = process.filter(|process| !process.is_alive())?;
        Some(format!("its process {} ({}) has ended", dead.pid, dead.role))
    };
    match readiness::wait_until(|| readiness::ask(&run, host), gone) {
        Ok(took) => println!("  {host:<7} ready after {:.1} s", took.as_secs_f32()),
        Err(reason) => match process {
            None => bail!("{host} is not ready: {reason:#}"),
            Some(process) => bail!(
                "{host} is not ready: {reason:#}\nThe end of {}:\n{}",
                process.log.display(),
                process.log_tail(20)
            ),
        },
    }
    if host == Host::Db {
        database::grant(&run)?;
    }
    Ok(())
}

fn start(run: &Run, host: Host) -> Result<Option<Process>> {
    let (role, command) = match host {
        Host::Client => return Ok(None),
        Host::Db => {
            database::initialise(run)?;
            ("mariadbd", database::command(run)?)
        }
        Host::App(_) => ("app", foobar(run, host, "app")),
        Host::Web(_) => ("web", foobar(run, host, "web")),
        Host::Dns => ("dns", foobar(run, host, "dns")),
        Host::Lb(_) => {
            network::mount_bpffs(&bpffs(run, host))?;
            drop(fs::remove_file(lb_status::socket(run, host)));
            ("lb", foobar(run, host, "lb"))
        }
    };
    let log = log_file(run, host);
    Process::start(&host.to_string(), role, &command, &log).map(Some)
}

fn foobar(run: &Run, host: Host, role: &str) -> Command {
    let mut command = network::in_namespace(&run.namespace(host));
    command
        .arg(workspace::foobar_binary())
        .arg(role)
        .arg("--config")
        .arg(config_file(run, host));
    command
}

/// Where a balancer pins its programs and maps.
pub(crate) fn bpffs(run: &Run, host: Host) -> PathBuf {
    run.directory().join("bpf").join(host.to_string())
}
