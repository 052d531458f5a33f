//! Where programs, maps and links are pinned: DIRECTORY/LAYOUT/INTERFACE/NAME on a bpffs. A directory per
//! layout, so that a new layout never meets an old map.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use foobar_common::layout;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A claim to pins: [`Pins::claim`].
#[derive(Debug)]
pub struct Claim {
    _lock: Flock<fs::File>,
}

/// The pins of a program on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// The pins below `base` (a directory on a bpffs) for `interface`.
    pub fn new(base: &Path, interface: &str) -> Self {
        Self {
            directory: base.join(format!("{:016x}", layout::HASH)).join(interface),
        }
    }

    /// The directory that holds them.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The pin of the link between program and interface.
    pub fn link(&self) -> PathBuf {
        self.directory.join("link")
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// Where the base is not on a bpffs (in words that say how to mount one), or not writable.
    pub fn create(&self) -> io::Result<()> {
        let existing = self
            .directory
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(Path::new("/"));
        let kind = nix::sys::statfs::statfs(existing)?.filesystem_type();
        if kind != nix::sys::statfs::BPF_FS_MAGIC {
            return Err(io::Error::other(format!(
                "{} is not on a BPF file system: mount one (mount -t bpf bpf /sys/fs/bpf), or set pin_dir to a directory on one",
                self.directory.display()
            )));
        }
        fs::create_dir_all(&self.directory)
    }

    /// Claims the pins for this process, until the value is dropped: two daemons on the same maps would undo
    /// each other's slots.
    ///
    /// # Errors
    /// Where another process has them (`WouldBlock`), or the directory is not there.
    pub fn claim(&self) -> io::Result<Claim> {
        let directory = fs::File::open(&self.directory)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Claim { _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!(
                    "a foobar daemon runs with the pins in {}: let it reload (SIGHUP), or stop it first",
                    self.directory.display()
                ),
            )),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Removes everything pinned for the interface; the link last but one, the maps after it.
    ///
    /// # Errors
    /// Where a pin can't be removed. Nothing pinned is no error: `false` then.
    pub fn remove(&self) -> io::Result<bool> {
        if !self.directory.exists() {
            return Ok(false);
        }
        match fs::remove_file(self.link()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        for entry in fs::read_dir(&self.directory)? {
            fs::remove_file(entry?.path())?;
        }
        fs::remove_dir(&self.directory)?;
        if let Some(layout) = self.directory.parent() {
            // Other interfaces may have pins there.
            drop(fs::remove_dir(layout));
        }
        Ok(true)
    }
}
