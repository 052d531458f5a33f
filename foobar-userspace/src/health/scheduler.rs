//! Runs the checks of all targets, a task each, and tells transitions. It knows the clock and chance; the
//! judgement is the machine's, the asking the probe's.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::machine::{Machine, State};
use super::probe::probe;
use crate::config::Check;

/// Over how long the first checks of new targets are spread; longer where there are many, so that no more than
/// 10,000 begin in a second.
const SPREAD: Duration = Duration::from_millis(200);
const APART: Duration = Duration::from_micros(100);

/// A target and how it is to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTarget {
    /// The target's index.
    pub id: u32,
    /// The SO_MARK that leads a connection to this target; 0: none.
    pub mark: u32,
    /// The VIP's address and the check's port.
    pub address: SocketAddr,
    /// The check.
    pub check: Check,
    /// The state to start from, whenever its task is started or started anew.
    pub initial: State,
}

/// A target changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthEvent {
    /// The target's index.
    pub id: u32,
    /// Its new state.
    pub state: State,
    /// The result that made the change, in words.
    pub reason: String,
    /// When.
    pub at: Instant,
}

/// What is known of a target, for `foobar status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStatus {
    /// The state in force.
    pub state: State,
    /// Since when, as far as this process knows.
    pub since: Instant,
    /// The last result in words; empty before the first.
    pub last: String,
    /// When the last check ended.
    pub checked: Option<Instant>,
    /// How long the last check took.
    pub latency: Option<Duration>,
}

#[derive(Debug)]
struct Running {
    target: CheckedTarget,
    status: Arc<Mutex<CheckStatus>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The running checks. Dropping it ends them.
#[derive(Debug)]
pub struct Scheduler {
    events: mpsc::Sender<HealthEvent>,
    turns: Arc<Semaphore>,
    running: HashMap<u32, Running>,
}

impl Scheduler {
    /// Without targets yet. At most `at_once` checks run at a time, the others wait for their turn, and their
    /// timeouts with them. A task whose event does not fit the channel waits for room; when the receiver
    /// is gone, checks end.
    #[must_use]
    pub fn new(events: mpsc::Sender<HealthEvent>, at_once: usize) -> Self {
        Self {
            events,
            turns: Arc::new(Semaphore::new(at_once)),
            running: HashMap::new(),
        }
    }

    /// Makes these the checked targets: others end, new ones start, changed ones start anew from their
    /// `initial` state, the rest run on undisturbed (whatever their `initial` says).
    ///
    /// An index that now means another backend must be left out of one call in between, else its old state
    /// lives on. Events of a target that has ended may still be in the channel.
    ///
    /// Must be called within a tokio runtime.
    pub fn set(&mut self, targets: Vec<CheckedTarget>) {
        let mut wanted: BTreeMap<u32, CheckedTarget> =
            targets.into_iter().map(|target| (target.id, target)).collect();
        self.running.retain(|id, running| {
            let same = wanted
                .get(id)
                .is_some_and(|target| is_same(target, &running.target));
            if same {
                wanted.remove(id);
            }
            same
        });
        let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX).max(1);
        let spread = SPREAD.max(APART * count);
        for (place, (id, target)) in (0..).zip(wanted) {
            self.running
                .insert(id, self.start(target, spread * place / count));
        }
    }

    /// What is known of each target.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<u32, CheckStatus> {
        self.running
            .iter()
            .map(|(id, running)| (*id, lock(&running.status).clone()))
            .collect()
    }

    fn start(&self, target: CheckedTarget, after: Duration) -> Running {
        let status = Arc::new(Mutex::new(CheckStatus {
            state: target.initial,
            since: Instant::now(),
            last: String::new(),
            checked: None,
            latency: None,
        }));
        let work = run(
            target.clone(),
            Arc::clone(&status),
            self.events.clone(),
            Arc::clone(&self.turns),
            after,
        );
        let task = tokio::spawn(work).abort_handle();
        Running { target, status, task }
    }
}

fn is_same(new: &CheckedTarget, old: &CheckedTarget) -> bool {
    (new.mark, new.address, &new.check) == (old.mark, old.address, &old.check)
}

async fn run(
    target: CheckedTarget,
    status: Arc<Mutex<CheckStatus>>,
    events: mpsc::Sender<HealthEvent>,
    turns: Arc<Semaphore>,
    after: Duration,
) {
    let origin = Instant::now();
    let mut machine = Machine::new(target.check.timing, target.initial);
    tokio::time::sleep(after).await;
    loop {
        let turn = turns.acquire().await;
        let start = tokio::time::Instant::now();
        let result = probe(target.address, target.mark, &target.check).await;
        drop(turn);
        let (transition, text, latency) = match result {
            Ok(outcome) => {
                let transition = machine.on(origin.elapsed(), outcome.verdict());
                let text = outcome
                    .result
                    .map_or_else(|failure| failure.to_string(), |()| "passed".to_owned());
                (transition, text, Some(outcome.latency))
            }
            Err(error) => {
                tracing::warn!(target_index = target.id, vip = %target.address, %error, "cannot check");
                (None, format!("cannot check: {error}"), None)
            }
        };
        let at = Instant::now();
        let state = machine.state();
        {
            let mut status = lock(&status);
            if transition.is_some() {
                (status.state, status.since) = (state, at);
            }
            status.last.clone_from(&text);
            (status.checked, status.latency) = (Some(at), latency);
        }
        if transition.is_some() {
            let event = HealthEvent {
                id: target.id,
                state,
                reason: text,
                at,
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
        let delay = machine.delay(origin.elapsed(), rand::random_range(-1.0..=1.0));
        tokio::time::sleep_until(start + delay).await;
    }
}

/// A status is whole after each assignment: one left by a panic is as good as any.
fn lock(status: &Mutex<CheckStatus>) -> MutexGuard<'_, CheckStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
