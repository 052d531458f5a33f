//! Which of the zone's addresses serve, by checks that do what a client would: an address that answers is owned by a
//! balancer that is alive and has a backend that serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::zone::Checked;
use crate::health::{CheckedTarget, HealthEvent, Scheduler, State};

/// So many checks run at a time.
const AT_ONCE: usize = 64;
/// So many judgements wait to be taken down.
const EVENTS: usize = 64;

const UNCHECKED: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// What is known of the checked addresses, by their places in the zone.
#[derive(Debug, Clone)]
pub struct Knowledge {
    states: Arc<[AtomicU8]>,
}

impl Knowledge {
    fn new(count: usize) -> Self {
        Self {
            states: (0..count).map(|_| AtomicU8::new(UNCHECKED)).collect(),
        }
    }

    /// Whether the address with this place serves, as far as is known: one that was not checked yet is taken to.
    #[must_use]
    pub fn serves(&self, place: usize) -> bool {
        self.state(place) != DOWN
    }

    /// `up`, `down` or `unchecked`.
    #[must_use]
    pub fn word(&self, place: usize) -> &'static str {
        match self.state(place) {
            UP => "up",
            DOWN => "down",
            _ => "unchecked",
        }
    }

    fn state(&self, place: usize) -> u8 {
        self.states
            .get(place)
            .map_or(UNCHECKED, |state| state.load(Ordering::Relaxed))
    }

    fn set(&self, place: usize, state: State) {
        let state = match state {
            State::Up => UP,
            State::SoftDown | State::HardDown => DOWN,
            State::Unknown => UNCHECKED,
        };
        if let Some(held) = self.states.get(place) {
            held.store(state, Ordering::Relaxed);
        }
    }
}

/// The running checks. Dropping it ends them.
#[derive(Debug)]
pub struct Checks {
    _scheduler: Scheduler,
    listener: JoinHandle<()>,
    knowledge: Knowledge,
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Checks {
    /// Begins to check.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(checked: &[Checked]) -> Self {
        let knowledge = Knowledge::new(checked.len());
        let (events, judgements) = mpsc::channel(EVENTS);
        let mut scheduler = Scheduler::new(events, AT_ONCE);
        let targets = checked.iter().enumerate().map(|(place, checked)| CheckedTarget {
            id: place as u32,
            mark: 0,
            address: SocketAddr::new(checked.address, checked.check.port),
            check: checked.check.clone(),
            initial: State::Unknown,
        });
        scheduler.set(targets.collect());
        let listener = tokio::spawn(listen(judgements, checked.to_vec(), knowledge.clone()));
        Self {
            _scheduler: scheduler,
            listener,
            knowledge,
        }
    }

    /// What they have found, now and later.
    #[must_use]
    pub fn knowledge(&self) -> Knowledge {
        self.knowledge.clone()
    }
}

async fn listen(mut judgements: mpsc::Receiver<HealthEvent>, checked: Vec<Checked>, knowledge: Knowledge) {
    while let Some(event) = judgements.recv().await {
        let place = event.id as usize;
        let Some(of) = checked.get(place) else { continue };
        knowledge.set(place, event.state);
        let (name, address, reason) = (&of.name, of.address, event.reason);
        if event.state == State::Up {
            tracing::info!(%name, %address, reason, "the address serves: it is answered");
        } else {
            tracing::warn!(%name, %address, reason, "the address does not serve: it is left out of answers");
        }
        let is_alike =
            |other: &Checked| other.name == of.name && other.address.is_ipv4() == address.is_ipv4();
        let mut alike = checked.iter().enumerate().filter(|(_, other)| is_alike(other));
        if alike.all(|(place, _)| !knowledge.serves(place)) {
            tracing::error!(%name, "NO ADDRESS SERVES: all of them are answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use hickory_proto::rr::Name;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Check, Probe, Timing};

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < end, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn an_address_serves_while_its_check_passes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let timing = Timing {
            interval: Duration::from_millis(50),
            doubt_interval: Duration::from_millis(50),
            down_interval: Duration::from_millis(50),
            ..Timing::default()
        };
        let checked = |address| Checked {
            name: Name::from_ascii("wwwfoobar.com.").unwrap(),
            address: IpAddr::from(address),
            check: Check {
                port,
                probe: Probe::Tcp,
                timing,
            },
        };
        let checks = Checks::start(&[checked([127, 0, 0, 1]), checked([127, 0, 0, 2])]);
        let known = checks.knowledge();
        assert!(known.serves(0) && known.serves(1), "nothing is known yet");
        until("one up, one down", || {
            (known.word(0), known.word(1)) == ("up", "down")
        })
        .await;
        assert!(known.serves(0) && !known.serves(1));
        drop(listener);
        until("both down", || !known.serves(0)).await;
        let _listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        until("up again", || known.serves(0)).await;
    }
}
