//! What is known of a lab between two commands: its shape and its processes, in a file of the run.
//!
//! The network is not recorded: its names follow from the run's.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::processes::Process;
use super::topology::{Host, Run, Shape};

/// A lab that was started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) run: Run,
    /// The servers that belong to the lab now.
    pub(crate) shape: Shape,
    pub(crate) processes: Vec<Process>,
    /// Where the site is open to this machine, if it is.
    pub(crate) published: Option<SocketAddr>,
}

impl State {
    /// A lab without a process.
    pub(crate) fn new(run: Run, shape: Shape) -> Self {
        Self {
            run,
            shape,
            processes: Vec::new(),
            published: None,
        }
    }

    /// The recorded state of a run, if there is one.
    pub(crate) fn load(run: &Run) -> Result<Option<Self>> {
        let file = file(run);
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is not readable; `cargo xtask down` clears it", file.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Records the state; whoever reads at the same time sees the old or the new one.
    pub(crate) fn save(&self) -> Result<()> {
        let file = file(&self.run);
        let staged = file.with_extension("new");
        fs::write(&staged, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&staged, &file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The processes of a host.
    pub(crate) fn of(&self, host: Host) -> impl Iterator<Item = &Process> {
        let name = host.to_string();
        self.processes.iter().filter(move |process| process.host == name)
    }

    /// Those that should run and do not.
    pub(crate) fn dead(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| !process.is_alive())
    }
}

fn file(run: &Run) -> PathBuf {
    run.directory().join("state.json")
}

/// Held by whoever changes a run, so that two commands do not mix.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the run's other commands to end.
    pub(crate) fn take(run: &Run) -> Result<Self> {
        let path = run.directory().with_extension("lock");
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        loop {
            let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            if file.try_lock().is_err() {
                eprintln!("another command works on the lab {run}; waiting for it");
                file.lock()?;
            }
            // `down` removes the file while it holds it: then this one is nobody's.
            if file.metadata()?.nlink() > 0 {
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// Removes the lock with what is left of the lab's directories.
    pub(crate) fn remove(self) {
        drop(fs::remove_file(&self.path));
        if let Some(parent) = self.path.parent() {
            // Another run may still be in there.
            drop(fs::remove_dir(parent));
        }
    }
}
