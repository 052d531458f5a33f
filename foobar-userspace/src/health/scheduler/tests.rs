//! The scheduler against small servers on the loopback interface, with a quick rhythm.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::{Probe, Request, Timing};

/// More than there are targets.
const MANY: usize = 64;

/// A server whose status can be turned, and that counts requests.
struct Server {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let (status, requests) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let server = Self {
            address,
            status: Arc::clone(&status),
            requests: Arc::clone(&requests),
        };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let response = format!(
                    "HTTP/1.1 {} X\r\ncontent-length: 0\r\n\r\n",
                    status.load(Ordering::SeqCst)
                );
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut request = [0; 1_024];
                    if stream.read(&mut request).await.is_ok() {
                        drop(stream.write_all(response.as_bytes()).await);
                        // Until the check's reset.
                        drop(stream.read(&mut request).await);
                    }
                });
            }
        });
        server
    }

    fn turn(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn target(&self, id: u32, initial: State) -> CheckedTarget {
        let tick = Duration::from_millis(20);
        let timing = Timing {
            interval: tick,
            doubt_interval: tick,
            down_interval: tick,
            timeout: Duration::from_secs(5),
            ..Timing::default()
        };
        let request = Request {
            host: "www.example.com".into(),
            path: "/".into(),
            status: 200,
        };
        let check = Check {
            port: self.address.port(),
            probe: Probe::Http(request),
            timing,
        };
        CheckedTarget {
            id,
            mark: 0,
            address: self.address,
            check,
            initial,
        }
    }
}

async fn next(events: &mut mpsc::Receiver<HealthEvent>) -> (u32, State, String) {
    let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
    let event = event.expect("an event in time").expect("the scheduler lives");
    (event.id, event.state, event.reason)
}

#[tokio::test]
async fn transitions_are_told_and_remembered() {
    let server = Server::start().await;
    let (sender, mut events) = mpsc::channel(8);
    let mut scheduler = Scheduler::new(sender, MANY);
    scheduler.set(vec![server.target(3, State::Unknown)]);
    assert_eq!(next(&mut events).await, (3, State::Up, "passed".into()));
    server.turn(503);
    assert_eq!(
        next(&mut events).await,
        (3, State::SoftDown, "status 503, expected 200".into())
    );
    let status = &scheduler.snapshot()[&3];
    assert_eq!(
        (status.state, status.last.as_str()),
        (State::SoftDown, "status 503, expected 200")
    );
    assert!(status.latency.is_some() && status.checked.is_some());
    server.turn(200);
    assert_eq!(next(&mut events).await, (3, State::Up, "passed".into()));
    assert_eq!(scheduler.snapshot()[&3].state, State::Up);
}

#[tokio::test]
async fn an_adopted_state_is_no_transition() {
    let server = Server::start().await;
    let (sender, mut events) = mpsc::channel(8);
    let mut scheduler = Scheduler::new(sender, MANY);
    scheduler.set(vec![server.target(1, State::Up)]);
    while server.requests() < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(events.try_recv().is_err(), "it was up and is up");
    assert_eq!(scheduler.snapshot()[&1].state, State::Up);
}

#[tokio::test]
async fn set_ends_starts_and_changes_only_what_differs() {
    let (kept, ended, changed) = (
        Server::start().await,
        Server::start().await,
        Server::start().await,
    );
    let (sender, mut events) = mpsc::channel(8);
    let mut scheduler = Scheduler::new(sender, MANY);
    let first = |server: &Server, id| server.target(id, State::Unknown);
    scheduler.set(vec![first(&kept, 1), first(&ended, 2), first(&changed, 3)]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (id, state, _) = next(&mut events).await;
        seen.push((id, state));
    }
    seen.sort_by_key(|(id, _)| *id);
    assert_eq!(seen, [(1, State::Up), (2, State::Up), (3, State::Up)]);

    let mut other = changed.target(3, State::SoftDown);
    other.check.timing.rise = 4;
    scheduler.set(vec![first(&kept, 1), other]);
    assert_eq!(
        next(&mut events).await,
        (3, State::Up, "passed".into()),
        "started anew from soft down"
    );
    assert_eq!(scheduler.snapshot().keys().copied().collect::<Vec<_>>(), [1, 3]);

    let (kept_before, ended_before) = (kept.requests(), ended.requests());
    while kept.requests() < kept_before + 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        ended.requests() <= ended_before + 1,
        "at most the check that was under way"
    );
    assert!(
        events.try_recv().is_err(),
        "the kept target ran on, without a second `Up`"
    );
}

#[tokio::test]
async fn first_checks_are_spread_but_soon() {
    let server = Server::start().await;
    let (sender, mut events) = mpsc::channel(64);
    let mut scheduler = Scheduler::new(sender, MANY);
    let start = Instant::now();
    scheduler.set((0..20).map(|id| server.target(id, State::Unknown)).collect());
    let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
    for _ in 0..20 {
        let event = events.recv().await.expect("the scheduler lives");
        first = first.min(event.at.duration_since(start));
        last = last.max(event.at.duration_since(start));
    }
    assert!(
        last - first >= Duration::from_millis(100),
        "{first:?} to {last:?}"
    );
    assert!(last < Duration::from_secs(5), "{last:?}, also on a busy machine");
}

#[tokio::test]
async fn no_more_checks_run_at_once_than_are_allowed() {
    const AT_ONCE: usize = 3;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    let (sender, _events) = mpsc::channel(64);
    let mut scheduler = Scheduler::new(sender, AT_ONCE);
    let server = Server::start().await;
    let target = |id| CheckedTarget {
        address,
        ..server.target(id, State::Unknown)
    };
    scheduler.set((0..10).map(target).collect());
    // Nobody is answered: each holds its turn.
    let mut held = Vec::new();
    while held.len() < AT_ONCE {
        held.push(listener.accept().await.expect("a check"));
    }
    // Twice what first checks are spread over.
    let further = tokio::time::timeout(SPREAD * 2, listener.accept()).await;
    assert!(further.is_err(), "a fourth check has begun");
    held.pop();
    tokio::time::timeout(Duration::from_secs(20), listener.accept())
        .await
        .expect("the next one's turn comes when a check ends")
        .expect("a check");
}
