//! The task that writes the copy: the daemon's loop does not wait for a disk.

use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};

use super::{Kept, copy};
use crate::config::Etcd;

/// The running task; ends when dropped, but not in the middle of a write.
pub(super) struct Keeper {
    wanted: watch::Sender<Option<Kept>>,
    trouble: watch::Receiver<Option<String>>,
    task: AbortHandle,
}

impl Keeper {
    pub(super) fn start(etcd: Etcd) -> Self {
        let (wanted, asked) = watch::channel(None);
        let (said, trouble) = watch::channel(None);
        let task = tokio::spawn(run(etcd, asked, said));
        Self {
            wanted,
            trouble,
            task: task.abort_handle(),
        }
    }

    /// Has a value be written, unless it is the last one that was.
    pub(super) fn keep(&self, kept: &Kept) {
        self.wanted.send_if_modified(|wanted| {
            let is_new = wanted.as_ref() != Some(kept);
            if is_new {
                *wanted = Some(kept.clone());
            }
            is_new
        });
    }

    /// Why the copy is not the value in force, if it could not be written.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(etcd: Etcd, mut asked: watch::Receiver<Option<Kept>>, said: watch::Sender<Option<String>>) {
    while asked.changed().await.is_ok() {
        let Some(kept) = asked.borrow_and_update().clone() else {
            continue;
        };
        let etcd = etcd.clone();
        let written = spawn_blocking(move || copy::write(&etcd, &kept)).await;
        let trouble = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(trouble) = &trouble {
            tracing::error!("the copy can't be written: {trouble}");
        }
        said.send_replace(trouble);
    }
}
