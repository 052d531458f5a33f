//! `cargo xtask down`: nothing of a lab is left, whatever state it was in.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::state::{Lock, State};
use super::topology::{Host, Run};
use super::{network, processes, roles};
use crate::exec;

/// How long the processes may take to end by themselves.
const LIMIT: Duration = Duration::from_secs(12);

/// Stops a lab and removes all that it made; harmless where there is none.
pub(crate) fn down(run: &Run) -> Result<()> {
    ensure!(exec::is_root(), "removing the lab's namespaces needs root");
    let lock = Lock::take(run)?;
    let there = run.directory().exists() || !network::namespaces(run).is_empty();
    clear(run)?;
    lock.remove();
    println!(
        "{}",
        if there {
            format!("The lab {run} is gone")
        } else {
            format!("There is no lab {run}")
        }
    );
    Ok(())
}

/// Does the work of `down`, for whoever holds the lock.
pub(crate) fn clear(run: &Run) -> Result<()> {
    // A state that cannot be read must not keep anybody from clearing up.
    if let Some(state) = State::load(run).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        None
    }) {
        processes::stop(&state.processes, LIMIT);
    }
    end_the_rest(run);
    for host in [Host::Lb(1), Host::Lb(2)] {
        network::unmount(&roles::bpffs(run, host))?;
    }
    network::remove_all(run)?;
    match fs::remove_dir_all(run.directory()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", run.directory().display()))
        }
        _ => Ok(()),
    }
}

/// Ends what still runs inside the run's own namespaces: what `exec` left there, or an interrupted start.
fn end_the_rest(run: &Run) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left: HashSet<i32> = network::namespaces(run)
            .iter()
            .flat_map(|n| network::processes_in(n))
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in left {
            // It may have ended since it was listed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
