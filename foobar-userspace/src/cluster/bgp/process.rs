//! The program BIRD: found, and run as a child that ends when the daemon does.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::files::Files;

const PROGRAM: &str = "bird";
/// Where distributions put it, which is not among the places that every user's shell looks at.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];

/// The program, if it is there: the configured one, or what its name finds.
pub(super) fn find(configured: Option<&Path>) -> Option<PathBuf> {
    if let Some(program) = configured {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    directories
        .map(|directory| directory.join(PROGRAM))
        .find(|program| program.is_file())
}

/// A BIRD that runs.
#[derive(Debug)]
pub(super) struct Bird {
    child: Child,
    started: Instant,
    is_killed: bool,
    last_line: Arc<Mutex<String>>,
}

impl Bird {
    /// Starts it. The calling thread has to live as long as BIRD is to: the kernel kills BIRD (PR_SET_PDEATHSIG) when
    /// that thread ends, whatever ends it.
    ///
    /// # Errors
    /// Where the program can't be run.
    pub(super) fn start(program: &Path, files: &Files) -> io::Result<Self> {
        let mut command = Command::new(program);
        // In the foreground.
        command.arg("-f").arg("-c").arg(&files.config);
        command.arg("-s").arg(&files.control).arg("-P").arg(&files.pid);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A terminal's interrupt is for the daemon, which withdraws first.
            .process_group(0)
            .kill_on_drop(true);
        let daemon = nix::unistd::getpid();
        let die_with_daemon = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // It may have died before that.
            if getppid() == daemon {
                Ok(())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        };
        // SAFETY: between fork and exec it makes two system calls, allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(die_with_daemon);
        }
        let mut child = command.spawn()?;
        let last_line = Arc::<Mutex<String>>::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(follow(stderr, Arc::clone(&last_line)));
        }
        Ok(Self {
            child,
            started: Instant::now(),
            is_killed: false,
            last_line,
        })
    }

    /// Its process id, while it has not ended.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How long it has run.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The last line of its log.
    pub(super) fn last_line(&self) -> String {
        self.last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns when it has ended. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Whether its end has been brought about: it answers nothing any more.
    pub(super) const fn is_killed(&self) -> bool {
        self.is_killed
    }

    /// Kills it; [`Self::ended`] sees its end.
    pub(super) fn kill(&mut self) {
        self.is_killed = true;
        if let Err(error) = self.child.start_kill() {
            tracing::error!(%error, "BIRD can't be killed");
        }
    }
}

/// Hands BIRD's log on. It names neighbors and states, and never a password.
async fn follow(stderr: ChildStderr, last_line: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!("BIRD: {line}");
        *last_line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_program_counts_and_no_other() {
        let shell = Path::new("/bin/sh");
        assert_eq!(find(Some(shell)), Some(shell.to_owned()));
        assert_eq!(find(Some(Path::new("/bin/there-is-no-such-bird"))), None);
        assert_eq!(find(Some(Path::new("/bin"))), None);
    }
}
