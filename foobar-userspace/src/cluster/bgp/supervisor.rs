//! The daemon's end of the thread that BIRD lives by. Nothing here waits for BIRD, but [`Supervisor::stop`] and whoever
//! wants to know when BIRD has been told.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::Wanted;
use super::files::Files;
use super::process::find;
use super::sessions::Session;
use super::supervision::Supervision;

/// Why VIPs can't be announced at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no BIRD.
    #[error(
        "VIPs are announced by BIRD 2, and there is no program {0}: install the package bird2 (`apt-get install \
         bird2`; its own service is not needed: `systemctl disable --now bird`), or name the program in bgp.bird"
    )]
    NoBird(String),
    /// The private directory or its file can't be written.
    #[error("BIRD's directory {}: {error}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The thread or its runtime can't be made.
    #[error("the thread for BGP: {0}")]
    Thread(io::Error),
}

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// BIRD's process, while it runs.
    pub process: Option<u32>,
    /// Its version.
    pub version: Option<String>,
    /// How often it had to be started again.
    pub restarts: u64,
    /// What is wrong with it.
    pub trouble: Option<String>,
    /// The neighbors, in the configuration's order.
    pub sessions: Vec<Session>,
}

/// What is wanted, and the how manyth such thing that is.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) wanted: Wanted,
}

/// What the thread says, as often as it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) told: Told,
    /// The last order that BIRD knows of.
    pub(super) known: u64,
}

/// What the thread has said last, which is up to half a second old while it runs.
#[derive(Clone, Debug)]
pub struct Teller(watch::Receiver<Report>);

impl Teller {
    /// What there is to tell.
    #[must_use]
    pub fn told(&self) -> Told {
        self.0.borrow().told.clone()
    }
}

/// The running thread. When this is dropped without [`Self::stop`], it withdraws and ends as well, unobserved.
#[derive(Debug)]
pub struct Supervisor {
    orders: watch::Sender<Order>,
    reports: watch::Receiver<Report>,
    thread: JoinHandle<()>,
}

impl Supervisor {
    /// Starts BIRD, whose files are in a directory of its own.
    ///
    /// # Errors
    /// There is no BIRD, or no place for its files. One that does not run is tried again instead.
    pub fn start(directory: &Path, wanted: Wanted) -> Result<Self, StartError> {
        let configured = wanted.config.bird.as_deref();
        let program = find(configured).ok_or_else(|| {
            let name = configured.map_or_else(|| "`bird`".to_owned(), |path| path.display().to_string());
            StartError::NoBird(name)
        })?;
        let files = Files::in_directory(directory).map_err(|error| StartError::Directory {
            directory: directory.to_owned(),
            error,
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let order = Order { number: 1, wanted };
        let (orders, received) = watch::channel(order.clone());
        let (reporting, reports) = watch::channel(Report::default());
        let thread = std::thread::Builder::new()
            .name("bgp".to_owned())
            .spawn(move || {
                let supervision = Supervision::new(program, files, order, reporting);
                runtime.block_on(supervision.run(received));
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            orders,
            reports,
            thread,
        })
    }

    /// Has routers be told this, as soon as BIRD listens.
    pub fn set(&self, wanted: Wanted) {
        self.orders.send_modify(|order| {
            order.number += 1;
            order.wanted = wanted;
        });
    }

    /// Ends when BIRD knows what was set last, or will never know it.
    pub fn known(&self) -> impl Future<Output = ()> + Send + use<> {
        let (number, mut reports) = (self.orders.borrow().number, self.reports.clone());
        async move {
            // An error: the thread is gone, and BIRD with it.
            _ = reports.wait_for(|report| report.known >= number).await;
        }
    }

    /// Whether the thread is gone, which it never should be.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.orders.is_closed()
    }

    /// What there is to tell, also while it is stopped.
    #[must_use]
    pub fn teller(&self) -> Teller {
        Teller(self.reports.clone())
    }

    /// Withdraws everything, lets routers take that, and ends BIRD.
    pub async fn stop(self) {
        // The thread takes that for the end.
        drop(self.orders);
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("BGP: the thread has panicked");
        }
    }
}
