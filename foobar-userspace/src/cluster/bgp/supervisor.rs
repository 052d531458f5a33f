//! The thread that BIRD lives by: it starts BIRD, tells it what is wanted, asks how its sessions are, and starts it
//! again when it ends or hangs. It has a thread and a runtime of its own, as the kernel ties a child's life to the
//! thread that started it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::Wanted;
use super::backoff::Backoff;
use super::control::{Control, ControlError};
use super::files::Files;
use super::process::{Bird, find};
use super::sessions::{Session, sessions};
use super::text::{NEIGHBOR_PREFIX, text};

/// How often sessions are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// One that has just been started has its socket within this.
const STARTING: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(10);
/// Between the withdrawal and the end of the sessions: routers have taken it by then, and what they had sent is here.
const LINGER: Duration = Duration::from_millis(200);
/// BIRD takes leave of its neighbors within this, or is killed.
const LEAVE: Duration = Duration::from_secs(3);

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

enum Command {
    Set(Box<Wanted>, oneshot::Sender<()>),
    Tell(oneshot::Sender<Told>),
    Stop,
}

/// The running thread. When this is dropped without [`Self::stop`], it withdraws and ends as well, unobserved.
#[derive(Debug)]
pub struct Supervisor {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
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
        let (commands, received) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("bgp".to_owned())
            .spawn(move || runtime.block_on(Supervision::new(program, files, wanted).run(received)))
            .map_err(StartError::Thread)?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Has routers be told this; returns when BIRD knows.
    pub async fn set(&self, wanted: Wanted) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Set(Box::new(wanted), done)).is_err() || is_done.await.is_err() {
            tracing::error!("BGP: the thread has ended, and BIRD with it");
        }
    }

    /// Whether the thread is gone, which it never should be.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// What there is to tell.
    pub async fn tell(&self) -> Told {
        let (reply, told) = oneshot::channel();
        // A thread that has ended has nothing to tell.
        drop(self.commands.send(Command::Tell(reply)));
        told.await.unwrap_or_default()
    }

    /// Withdraws everything, lets routers take that, and ends BIRD.
    pub async fn stop(mut self) {
        drop(self.commands.send(Command::Stop));
        if let Some(thread) = self.thread.take() {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::error!("BGP: the thread has panicked");
            }
        }
    }
}

/// Whether BIRD has read what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    All,
    /// It has to read its file again.
    LessThanThat,
}

struct Supervision {
    program: PathBuf,
    files: Files,
    wanted: Wanted,
    bird: Option<Bird>,
    control: Option<Control>,
    knows: Knows,
    backoff: Backoff,
    starts_at: Option<Instant>,
    told: Told,
}

impl Supervision {
    fn new(program: PathBuf, files: Files, wanted: Wanted) -> Self {
        Self {
            program,
            files,
            wanted,
            bird: None,
            control: None,
            knows: Knows::All,
            backoff: Backoff::default(),
            starts_at: None,
            told: Told::default(),
        }
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.start();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Set(wanted, done)) => {
                        self.set(*wanted).await;
                        // Who asked may be gone.
                        _ = done.send(());
                    }
                    Some(Command::Tell(reply)) => {
                        self.look().await;
                        _ = reply.send(self.told.clone());
                    }
                    Some(Command::Stop) | None => break,
                },
                status = ended(self.bird.as_mut()) => self.on_end(&status),
                () = until(self.starts_at) => self.start(),
                _ = look.tick() => self.look().await,
            }
        }
        self.stop().await;
    }

    /// Writes what is wanted and runs BIRD on it.
    fn start(&mut self) {
        self.starts_at = None;
        self.control = None;
        let started = self
            .files
            .write(&text(&self.wanted))
            .and_then(|()| Bird::start(&self.program, &self.files));
        match started {
            Ok(bird) => {
                tracing::info!(process = bird.id(), program = %self.program.display(), "BIRD started");
                self.told.process = bird.id();
                self.bird = Some(bird);
                self.knows = Knows::All;
            }
            Err(error) => {
                self.trouble(format!("BIRD can't be started: {error}"));
                self.starts_at = Some(Instant::now() + self.backoff.after(Duration::ZERO));
            }
        }
    }

    fn on_end(&mut self, status: &io::Result<ExitStatus>) {
        let Some(bird) = self.bird.take() else {
            return;
        };
        self.control = None;
        self.told.process = None;
        self.told.restarts += 1;
        self.told.sessions.clear();
        let wait = self.backoff.after(bird.age());
        self.starts_at = Some(Instant::now() + wait);
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.trouble(format!(
            "BIRD has ended ({how}) and is started again: no VIP is announced. It said last: {:?}",
            bird.last_line()
        ));
    }

    fn trouble(&mut self, what: String) {
        tracing::error!("BGP: {what}");
        self.told.trouble = Some(what);
    }

    async fn set(&mut self, wanted: Wanted) {
        for address in wanted.announced.difference(&self.wanted.announced) {
            tracing::info!(%address, "BGP: the VIP is announced");
        }
        for address in self.wanted.announced.difference(&wanted.announced) {
            tracing::info!(%address, "BGP: the VIP is withdrawn");
        }
        self.wanted = wanted;
        self.knows = Knows::LessThanThat;
        self.inform().await;
    }

    /// Has a running BIRD read what is wanted now.
    async fn inform(&mut self) {
        if self.bird.is_none() {
            // It is told when it starts.
            return;
        }
        if let Err(error) = self.files.write(&text(&self.wanted)) {
            self.trouble(format!("BIRD's configuration can't be written: {error}"));
            return;
        }
        let Some(reply) = self.ask("configure").await else {
            return;
        };
        self.knows = Knows::All;
        if reply.is_refusal() {
            let why = reply.last().to_owned();
            self.trouble(format!(
                "BIRD refuses its configuration, the old one stays in force: {why}"
            ));
        } else {
            self.told.trouble = None;
        }
    }

    /// Asks BIRD; without an answer, it is killed, and with that started again.
    async fn ask(&mut self, request: &str) -> Option<super::reply::Reply> {
        match self.try_to_ask(request).await {
            Ok(reply) => Some(reply),
            Err(error) => {
                self.control = None;
                self.trouble(error.to_string());
                if let Some(bird) = &mut self.bird {
                    bird.kill();
                }
                None
            }
        }
    }

    async fn try_to_ask(&mut self, request: &str) -> Result<super::reply::Reply, ControlError> {
        let control = match &mut self.control {
            Some(control) => control,
            none => {
                let control = connect(&self.files.control).await?;
                self.told.version = Some(control.version.clone());
                none.insert(control)
            }
        };
        control.ask(request).await
    }

    /// Looks at the sessions, and says which have come and gone.
    async fn look(&mut self) {
        if self.bird.is_none() {
            return;
        }
        if self.knows == Knows::LessThanThat {
            self.inform().await;
        }
        let protocols = format!("show protocols all \"{NEIGHBOR_PREFIX}*\"");
        let Some(protocols) = self.ask(&protocols).await else {
            return;
        };
        let Some(bfd) = self.ask("show bfd sessions").await else {
            return;
        };
        let found = sessions(&self.wanted.config.neighbors, &protocols, &bfd);
        for session in &found {
            let mut before = self.told.sessions.iter();
            let was_established = before
                .find(|before| before.neighbor == session.neighbor)
                .is_some_and(Session::is_established);
            let (neighbor, state) = (session.neighbor, &session.state);
            match (was_established, session.is_established()) {
                (false, true) => tracing::info!(%neighbor, "BGP: the session is established"),
                (true, false) => {
                    tracing::warn!(%neighbor, state, error = session.last_error, "BGP: the session has ended");
                }
                _ => (),
            }
        }
        if self.told.sessions.is_empty() && self.told.trouble.is_some() && self.knows == Knows::All {
            // It has come back and answers.
            self.told.trouble = None;
        }
        self.told.sessions = found;
    }

    /// Withdraws, waits, and has BIRD take leave.
    async fn stop(mut self) {
        if self.bird.is_some() {
            self.wanted.announced.clear();
            self.inform().await;
            sleep(LINGER).await;
            self.ask("down").await;
        }
        if let Some(bird) = &mut self.bird
            && timeout(LEAVE, bird.ended()).await.is_err()
        {
            tracing::warn!("BIRD does not take leave, and is killed");
            bird.kill();
            drop(bird.ended().await);
        }
        // It has passwords in it, which nobody needs any more.
        if let Err(error) = std::fs::remove_file(&self.files.config) {
            tracing::warn!(%error, "BIRD's configuration stays behind");
        }
    }
}

/// Connects, where BIRD may just have been started.
async fn connect(socket: &Path) -> Result<Control, ControlError> {
    let end = Instant::now() + STARTING;
    loop {
        match Control::connect(socket).await {
            Err(ControlError::Socket(_)) if Instant::now() < end => sleep(RETRY).await,
            other => return other,
        }
    }
}

async fn ended(bird: Option<&mut Bird>) -> io::Result<ExitStatus> {
    match bird {
        Some(bird) => bird.ended().await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
