//! The thread that BIRD lives by: it starts BIRD, tells it what is wanted, asks how its sessions are, and starts it
//! again when it ends or hangs. It has a thread and a runtime of its own, as the kernel ties a child's life to the
//! thread that started it, and so that nobody else waits for a BIRD that does not answer.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::control::{Control, ControlError};
use super::files::Files;
use super::process::Bird;
use super::reply::Reply;
use super::sessions::{Session, sessions};
use super::supervisor::{Order, Report, Told};
use super::text::{NEIGHBOR_PREFIX, text};

/// How often sessions are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// One that has just been started has its socket within this.
const STARTING: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(10);
/// BIRD answers within this, or whoever asks how it is hears that it does not.
const SLOW: Duration = Duration::from_secs(1);
/// BIRD answers within this, or is taken to hang, and killed.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between the withdrawal and the end of the sessions: routers have taken it by then, and what they had sent is here.
const LINGER: Duration = Duration::from_millis(200);
/// BIRD takes leave of its neighbors within this, or is killed.
const LEAVE: Duration = Duration::from_secs(3);

/// Whether BIRD has read what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    All,
    /// It has to read its file again.
    LessThanThat,
}

pub(super) struct Supervision {
    program: PathBuf,
    files: Files,
    order: Order,
    reports: watch::Sender<Report>,
    known: u64,
    bird: Option<Bird>,
    control: Option<Control>,
    knows: Knows,
    backoff: Backoff,
    starts_at: Option<Instant>,
    told: Told,
}

impl Supervision {
    pub(super) fn new(program: PathBuf, files: Files, order: Order, reports: watch::Sender<Report>) -> Self {
        Self {
            program,
            files,
            order,
            reports,
            known: 0,
            bird: None,
            control: None,
            knows: Knows::All,
            backoff: Backoff::default(),
            starts_at: None,
            told: Told::default(),
        }
    }

    /// Runs until nobody gives orders any more.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Order>) {
        self.start();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.report();
            tokio::select! {
                changed = orders.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let order = orders.borrow_and_update().clone();
                    self.set(order).await;
                }
                status = ended(self.bird.as_mut()) => self.on_end(&status),
                () = until(self.starts_at) => self.start(),
                _ = look.tick() => self.look().await,
            }
        }
        self.stop().await;
    }

    /// Says what there is to tell, where it is something else than before.
    fn report(&self) {
        let report = Report {
            told: self.told.clone(),
            known: self.known,
        };
        self.reports.send_if_modified(|before| {
            let is_other = *before != report;
            *before = report;
            is_other
        });
    }

    /// Writes what is wanted and runs BIRD on it.
    fn start(&mut self) {
        self.starts_at = None;
        self.control = None;
        let started = self
            .files
            .write(&text(&self.order.wanted))
            .and_then(|()| Bird::start(&self.program, &self.files));
        match started {
            Ok(bird) => {
                tracing::info!(process = bird.id(), program = %self.program.display(), "BIRD started");
                self.told.process = bird.id();
                self.bird = Some(bird);
                self.take_as_known();
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

    /// BIRD has read what is wanted, or will when it starts.
    fn take_as_known(&mut self) {
        self.knows = Knows::All;
        self.known = self.order.number;
    }

    async fn set(&mut self, order: Order) {
        let (was, is) = (&self.order.wanted.announced, &order.wanted.announced);
        for address in is.difference(was) {
            tracing::info!(%address, "BGP: the VIP is announced");
        }
        for address in was.difference(is) {
            tracing::info!(%address, "BGP: the VIP is withdrawn");
        }
        self.order = order;
        self.knows = Knows::LessThanThat;
        self.inform().await;
    }

    /// Has a running BIRD read what is wanted now.
    async fn inform(&mut self) {
        if self.bird.is_none() {
            // It is told when it starts.
            return;
        }
        if let Err(error) = self.files.write(&text(&self.order.wanted)) {
            self.trouble(format!("BIRD's configuration can't be written: {error}"));
            return;
        }
        let Some(reply) = self.ask("configure").await else {
            return;
        };
        self.take_as_known();
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
    async fn ask(&mut self, request: &str) -> Option<Reply> {
        if self.bird.as_ref().is_none_or(Bird::is_killed) {
            return None;
        }
        let answer = {
            let mut asking = pin!(timeout(
                PATIENCE,
                ask(
                    &mut self.control,
                    &self.files.control,
                    &mut self.told.version,
                    request
                )
            ));
            match timeout(SLOW, &mut asking).await {
                Ok(answer) => answer,
                Err(_) => {
                    let trouble =
                        format!("BIRD has not answered for {SLOW:?}; after {PATIENCE:?} it is killed");
                    tracing::warn!("BGP: {trouble}");
                    self.reports
                        .send_modify(|report| report.told.trouble = Some(trouble));
                    asking.await
                }
            }
        };
        let trouble = match answer {
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("BIRD has not answered for {PATIENCE:?}, and is killed and started again"),
        };
        self.control = None;
        self.trouble(trouble);
        if let Some(bird) = &mut self.bird {
            bird.kill();
        }
        None
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
        let found = sessions(&self.order.wanted.config.neighbors, &protocols, &bfd);
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
            self.order.wanted.announced.clear();
            self.inform().await;
            if self.bird.as_ref().is_some_and(|bird| !bird.is_killed()) {
                sleep(LINGER).await;
                self.ask("down").await;
            }
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

/// Asks by the connection that there is, or by another one.
async fn ask(
    control: &mut Option<Control>,
    socket: &Path,
    version: &mut Option<String>,
    request: &str,
) -> Result<Reply, ControlError> {
    let control = match control {
        Some(control) => control,
        none => {
            let control = connect(socket).await?;
            *version = Some(control.version.clone());
            none.insert(control)
        }
    };
    control.ask(request).await
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
