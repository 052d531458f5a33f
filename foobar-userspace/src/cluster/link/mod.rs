//! The link between balancers: TLS sessions that carry [`Envelope`]s, one with each peer. What the messages mean is
//! [`super::agreement`]'s.
//!
//! Of two peers, the one whose name sorts first calls the other. A session that is lost is called for again, after a
//! pause that grows from 0.2 to 2 s. [`Link`] is the daemon's side: what has happened comes out of [`Link::next`], and
//! messages go in by [`Link::send`], which never waits: a peer that takes nothing any more is cut off when 65,536
//! messages wait for it.

pub mod identity;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::identity::{Identity, Peer};
pub use self::session::Greeted;
use self::session::{GREETING, Hello, Receiver, Sender, Session};
pub use self::tls::expiry;
use self::tls::{Pins, Tls};
use super::agreement::Node;
use super::message::Envelope;

/// Between two calls of a peer that does not answer, or after the one before failed.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(2);
/// So many messages may wait to be sent to a peer.
const MOST_WAITING: usize = 1 << 16;
/// So many events may wait for the daemon; then peers wait.
const MOST_EVENTS: usize = 1 << 12;
/// So many callers at once may be without a session yet.
const MOST_CALLERS: usize = 32;
/// The name that is asked for in the handshake; nobody looks at it.
const SERVER_NAME: &str = "balancer.foobar.internal";

/// What has happened on the link.
#[derive(Debug)]
pub enum Event {
    /// A session with a peer has begun.
    Connected(Node, Greeted),
    /// It has said something.
    Received(Node, Envelope),
    /// The session with it is over, for this reason.
    Lost(Node, String),
}

/// How the link itself fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// By peer: why there is no session with it, at the last try.
    pub peers: BTreeMap<Node, String>,
    /// Callers that were refused.
    pub refused: u64,
    /// Why the last one was.
    pub last_refusal: Option<String>,
}

/// What sessions tell the daemon's side.
#[derive(Debug)]
enum Raw {
    Opened(Node, u64, mpsc::Sender<Envelope>, Greeted),
    Received(Node, u64, Envelope),
    Closed(Node, u64, String),
}

/// What all tasks of the link share.
struct Shared {
    pins: Arc<Pins>,
    identity: watch::Receiver<Arc<Own>>,
    events: mpsc::Sender<Raw>,
    /// Sessions that there have been, and those that there are.
    sessions: AtomicU64,
    live: AtomicU64,
    troubles: Mutex<Troubles>,
}

/// This balancer, as the link shows it.
struct Own {
    address: SocketAddr,
    tls: Tls,
    hello: Hello,
}

impl Own {
    fn new(identity: &Identity, pins: &Arc<Pins>) -> Result<Self> {
        Ok(Self {
            address: identity.address,
            tls: Tls::new(identity, pins)?,
            hello: Hello::new(identity, identity.seed()?),
        })
    }
}

/// The session with a peer that is in force.
struct Open {
    id: u64,
    outbox: mpsc::Sender<Envelope>,
}

/// The daemon's side of the link; it ends when this is dropped.
pub struct Link {
    shared: Arc<Shared>,
    own: watch::Sender<Arc<Own>>,
    raw: mpsc::Receiver<Raw>,
    open: BTreeMap<Node, Open>,
    /// Happened, and not told yet.
    told: std::collections::VecDeque<Event>,
    callers: BTreeMap<Node, (Peer, AbortHandle)>,
    tasks: JoinSet<()>,
    listening: (SocketAddr, AbortHandle),
}

impl Link {
    /// Listens, and calls peers.
    ///
    /// # Errors
    /// Where the directory's keys can't be read, or the address is not to be had.
    pub async fn start(identity: &Identity) -> Result<Self> {
        let pins = Arc::new(Pins::default());
        let (own, watched) = watch::channel(Arc::new(Own::new(identity, &pins)?));
        let (events, raw) = mpsc::channel(MOST_EVENTS);
        let shared = Arc::new(Shared {
            pins,
            identity: watched,
            events,
            sessions: AtomicU64::new(0),
            live: AtomicU64::new(0),
            troubles: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let listener = listen(identity.address).await?;
        let accepting = tasks.spawn(accept(Arc::clone(&shared), listener));
        let mut link = Self {
            shared,
            own,
            raw,
            open: BTreeMap::new(),
            told: std::collections::VecDeque::new(),
            callers: BTreeMap::new(),
            tasks,
            listening: (identity.address, accepting),
        };
        link.follow(identity);
        Ok(link)
    }

    /// Goes by what the directory says now: sessions go on, but for those with peers that are no longer there or
    /// whose certificates are others, and new ones show the new certificate.
    ///
    /// # Errors
    /// As [`Self::start`]: everything stays as it was.
    pub async fn set(&mut self, identity: &Identity) -> Result<()> {
        let own = Own::new(identity, &self.shared.pins)?;
        if identity.address != self.listening.0 {
            let listener = listen(identity.address).await?;
            self.listening.1.abort();
            let accepting = self.tasks.spawn(accept(Arc::clone(&self.shared), listener));
            self.listening = (identity.address, accepting);
        }
        self.own.send_replace(Arc::new(own));
        self.follow(identity);
        Ok(())
    }

    fn follow(&mut self, identity: &Identity) {
        self.shared.pins.set(identity);
        let is_same =
            |node: &Node, peer: &Peer| identity.peers.iter().any(|now| now == peer && now.name == *node);
        self.callers.retain(|node, (peer, task)| {
            let stays = is_same(node, peer);
            if !stays {
                task.abort();
            }
            stays
        });
        let gone: Vec<Node> = self
            .open
            .keys()
            .filter(|node| identity.peers.iter().all(|peer| peer.name != **node))
            .cloned()
            .collect();
        for node in gone {
            self.cut(&node, "it is no longer a peer");
        }
        self.shared.with_troubles(|troubles| {
            troubles
                .peers
                .retain(|node, _| identity.peers.iter().any(|peer| peer.name == *node))
        });
        for peer in &identity.peers {
            if identity.name < peer.name && !self.callers.contains_key(&peer.name) {
                let task = self.tasks.spawn(call(Arc::clone(&self.shared), peer.clone()));
                self.callers.insert(peer.name.clone(), (peer.clone(), task));
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// What happens next. May be dropped on the way and called again.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.told.pop_front() {
                return event;
            }
            let Some(raw) = self.raw.recv().await else {
                // The senders are in `shared`, which lives as long as this does.
                std::future::pending::<()>().await;
                continue;
            };
            match raw {
                Raw::Opened(node, id, outbox, greeted) => {
                    if self.open.insert(node.clone(), Open { id, outbox }).is_some() {
                        self.told.push_back(Event::Lost(
                            node.clone(),
                            "it has begun another session".to_owned(),
                        ));
                    }
                    self.told.push_back(Event::Connected(node, greeted));
                }
                Raw::Received(node, id, envelope) if self.is_open(&node, id) => {
                    return Event::Received(node, envelope);
                }
                Raw::Closed(node, id, why) if self.is_open(&node, id) => {
                    self.open.remove(&node);
                    return Event::Lost(node, why);
                }
                // Of a session that is over.
                Raw::Received(..) | Raw::Closed(..) => (),
            }
        }
    }

    fn is_open(&self, node: &str, id: u64) -> bool {
        self.open.get(node).is_some_and(|open| open.id == id)
    }

    /// Sends a message, where there is a session with the peer.
    pub fn send(&mut self, node: &str, envelope: Envelope) {
        if let Some(open) = self.open.get(node)
            && let Err(mpsc::error::TrySendError::Full(_)) = open.outbox.try_send(envelope)
        {
            self.cut(node, "it takes nothing any more");
        }
    }

    /// Ends the session with a peer; [`Event::Lost`] follows.
    pub fn cut(&mut self, node: &str, why: &str) {
        // The session's task sees that nothing will come any more.
        if self.open.remove(node).is_some() {
            self.told.push_back(Event::Lost(node.to_owned(), why.to_owned()));
        }
    }

    /// Sends what waits, and ends all sessions; gives up after a moment.
    pub async fn stop(mut self) {
        self.open.clear();
        let shared = Arc::clone(&self.shared);
        let ended = async {
            while shared.live.load(Ordering::Acquire) > 0 {
                // What peers still say is taken, or their sessions would not end.
                while self.raw.try_recv().is_ok() {}
                sleep(Duration::from_millis(5)).await;
            }
        };
        // A peer that does not take it learns it by the silence.
        drop(timeout(Duration::from_millis(500), ended).await);
        self.tasks.shutdown().await;
    }

    /// How the link itself fares.
    #[must_use]
    pub fn troubles(&self) -> Troubles {
        self.shared.with_troubles(|troubles| troubles.clone())
    }
}

impl Shared {
    fn with_troubles<T>(&self, what: impl FnOnce(&mut Troubles) -> T) -> T {
        what(&mut self.troubles.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn own(&self) -> Arc<Own> {
        Arc::clone(&self.identity.borrow())
    }

    /// Runs a session to its end.
    async fn converse<S>(&self, session: Session<S>, node: &Node, greeted: Greeted) -> String
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let id = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (outbox, waiting) = mpsc::channel(MOST_WAITING);
        self.with_troubles(|troubles| troubles.peers.remove(node));
        let opened = Raw::Opened(node.clone(), id, outbox, greeted);
        if self.events.send(opened).await.is_err() {
            return "the daemon stops".to_owned();
        }
        let _live = Live::new(&self.live);
        let (sender, receiver) = session.split();
        let ended = tokio::select! {
            ended = send_all(sender, waiting) => ended,
            ended = self.receive_all(receiver, node, id) => ended,
        };
        let why = ended.unwrap_or_else(|error| format!("{error:#}"));
        // Nobody listens where the daemon stops.
        _ = self.events.send(Raw::Closed(node.clone(), id, why.clone())).await;
        why
    }

    async fn receive_all<S>(&self, mut receiver: Receiver<S>, node: &Node, id: u64) -> Result<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(envelope) = receiver.receive().await? {
            let received = Raw::Received(node.clone(), id, envelope);
            if self.events.send(received).await.is_err() {
                return Ok("the daemon stops".to_owned());
            }
        }
        Ok("it hung up".to_owned())
    }
}

/// Sends what comes until nothing will come any more.
async fn send_all<S>(mut sender: Sender<S>, mut waiting: mpsc::Receiver<Envelope>) -> Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const AT_ONCE: usize = 256;
    let mut batch = Vec::with_capacity(AT_ONCE);
    while waiting.recv_many(&mut batch, AT_ONCE).await > 0 {
        for envelope in batch.drain(..) {
            sender.feed(&envelope).await?;
        }
        sender.flush().await?;
    }
    sender.close().await?;
    Ok("it was ended here".to_owned())
}

/// Counts a session for as long as it is there.
struct Live<'a>(&'a AtomicU64);

impl<'a> Live<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("the cluster's link can't listen on {address}: is it an address of this machine?")
    })
}

/// Takes peers' calls.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let callers = Arc::new(Semaphore::new(MOST_CALLERS));
    let mut sessions = JoinSet::new();
    loop {
        // Strangers that hold their places end after GREETING.
        let Ok(place) = Arc::clone(&callers).acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a caller could not be taken on the cluster's link");
                sleep(*PAUSES.start()).await;
                continue;
            }
        };
        while sessions.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            let greeted = within(GREETING, answer(&shared, stream)).await;
            drop(place);
            match greeted {
                Ok((session, node, greeted)) => {
                    shared.converse(session, &node, greeted).await;
                }
                Err(error) => {
                    let why = format!("{}: {error:#}", from.ip());
                    tracing::warn!(%from, why = format!("{error:#}"), "a caller on the cluster's link was refused");
                    shared.with_troubles(|troubles| {
                        troubles.refused += 1;
                        troubles.last_refusal = Some(why);
                    });
                }
            }
        });
    }
}

type Secured<S> = (Session<S>, Node, Greeted);

async fn answer(
    shared: &Shared,
    stream: TcpStream,
) -> Result<Secured<tokio_rustls::server::TlsStream<TcpStream>>> {
    stream.set_nodelay(true)?;
    let own = shared.own();
    let stream = TlsAcceptor::from(Arc::clone(&own.tls.server))
        .accept(stream)
        .await?;
    let node = owner(shared, stream.get_ref().1.peer_certificates())?;
    let (session, greeted) = Session::greet(stream, &own.hello, &node).await?;
    Ok((session, node, greeted))
}

/// Whose the certificate is that was shown.
fn owner(shared: &Shared, chain: Option<&[CertificateDer<'_>]>) -> Result<Node> {
    chain
        .and_then(<[_]>::first)
        .and_then(|certificate| shared.pins.owner(certificate))
        .context("its certificate is no peer's")
}

/// Calls a peer, for ever.
async fn call(shared: Arc<Shared>, peer: Peer) {
    let mut pause = *PAUSES.start();
    loop {
        let why = match within(GREETING, dial(&shared, &peer)).await {
            Ok((session, node, greeted)) => {
                pause = *PAUSES.start();
                shared.converse(session, &node, greeted).await
            }
            Err(error) => format!("{error:#}"),
        };
        let is_news = shared.with_troubles(|troubles| {
            troubles.peers.insert(peer.name.clone(), why.clone()).as_ref() != Some(&why)
        });
        if is_news {
            tracing::info!(peer = peer.name, address = %peer.address, why, "no session with a peer");
        }
        sleep(pause).await;
        pause = (pause * 2).min(*PAUSES.end());
    }
}

async fn dial(shared: &Shared, peer: &Peer) -> Result<Secured<tokio_rustls::client::TlsStream<TcpStream>>> {
    let own = shared.own();
    let socket = if peer.address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if own.address.is_ipv4() == peer.address.is_ipv4() {
        // Peers and firewalls see the address that they know.
        socket.bind(SocketAddr::new(own.address.ip(), 0))?;
    }
    let stream = socket.connect(peer.address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    let stream = TlsConnector::from(Arc::clone(&own.tls.client))
        .connect(name, stream)
        .await?;
    let node = owner(shared, stream.get_ref().1.peer_certificates())?;
    anyhow::ensure!(
        node == peer.name,
        "{node} answers at the address of {}",
        peer.name
    );
    let (session, greeted) = Session::greet(stream, &own.hello, &node).await?;
    Ok((session, node, greeted))
}

async fn within<T>(limit: Duration, what: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, what).await.context("it did not answer in time")?
}
