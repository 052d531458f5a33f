//! How balancers come to agree: who sees what, who has heard what of whom, and who may take VIPs over. Pure:
//! messages and times in, messages and changes out.
//!
//! A session with a peer begins with [`Message::Begin`]. Each side tells its reports, closed by [`Message::Told`];
//! only when it has the other side's, and so calls every member by the same name, it sends its tables and notes,
//! closed by [`Message::Complete`]. From then on each tells what changes. Who finds that a message is lost asks for
//! all of it again ([`Message::Pull`]).
//!
//! `session` is what was said in one, `together` what is held to be true by what all see, `readiness` how the peers stand
//! to this balancer. It does not know slots, notes and indices: [`Change`] hands them to those who do.

mod readiness;
mod session;
#[cfg(test)]
mod tests;
mod together;

use std::collections::{BTreeMap, BTreeSet};

pub use self::readiness::{Readiness, Standing};
use self::session::Session;
use super::inbox::Nonsense;
use super::message::{Digest, Envelope, Message, Notes, Pending, Pulse, Report, Starts, Table};
use super::name::Service;

/// A balancer's name in its cluster.
pub type Node = String;

const MS: u64 = 1_000_000;
/// How often a balancer gives a sign of life.
pub const PULSE_NS: u64 = 200 * MS;
/// A peer that was not heard for so long is cut off, to be called again.
pub const SILENCE_NS: u64 = 1_500 * MS;
/// A balancer that can't reach any of its peers waits for so long before it holds itself to be alone.
pub const ALONE_NS: u64 = 3_000 * MS;
/// An exchange of tables that takes longer is not waited for.
pub const EXCHANGE_NS: u64 = 3_000 * MS;
/// For so long after a peer was lost, no flows are given up that it would have kept: it may have heard of their
/// member what nobody else hears.
pub const GRACE_NS: u64 = 10_000 * MS;
/// A change of the configuration waits for so long for the peers to have it too: a flow that is opened by it must be one
/// that a peer would steer alike, should this balancer die in the next moment.
const PATIENCE_NS: u64 = 1_000 * MS;
/// For so long what is noted stays noted while a peer can't be heard, for it may live and serve.
pub const HOLD_NS: u64 = 3_600_000 * MS;

/// What the owner of tables and sockets has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Send this to the peer.
    Send(Node, Envelope),
    /// The peer has told all that it sees, for the first time in this session: names that it gives to later lives of
    /// members are this balancer's as well. Whatever name comes later is that of a life that began after the last one
    /// was given up.
    Met(Node),
    /// Somebody's report about the service changed: judge, name and plan anew.
    Reported(Service),
    /// Send the peer all tables and all notes, then call [`Agreement::all_told`].
    TellAll(Node),
    /// The peer's slots have begun to move.
    Starts(Node, Starts),
    /// The peer's slots.
    Table(Node, Table),
    /// Notes that a peer has just made or renewed: all its peers hear of them.
    Notes(Node, Notes),
    /// Notes that a peer has, told to this balancer alone: others may know of an earlier use, so that the next one
    /// is to be told.
    KnownNotes(Node, Notes),
    /// The peer's pending notes.
    Pending(Node, Pending),
    /// The peer speaks nonsense, or is silent: close the session, then call [`Agreement::lost`].
    Cut(Node, String),
}

#[derive(Debug, Default)]
struct Peer {
    session: Option<Session>,
    /// When the last session ended without a farewell; for one that there was none with, the beginning.
    lost_ns: Option<u64>,
    /// What it said last before it was lost.
    last_reports: BTreeMap<Service, Report>,
}

/// What one balancer knows of its peers.
#[derive(Debug)]
pub struct Agreement {
    peers: BTreeMap<Node, Peer>,
    own: BTreeMap<Service, Report>,
    configuration: Digest,
    /// When it came into force.
    configured_ns: u64,
    started_ns: u64,
    pulsed_ns: u64,
    has_joined: bool,
}

impl Agreement {
    /// The beginning: nothing was heard of any of `peers`.
    pub fn new(peers: impl IntoIterator<Item = Node>, now_ns: u64) -> Self {
        let unheard = || Peer {
            session: None,
            lost_ns: Some(now_ns),
            last_reports: BTreeMap::new(),
        };
        Self {
            peers: peers.into_iter().map(|node| (node, unheard())).collect(),
            own: BTreeMap::new(),
            configuration: Digest::from([0; 16]),
            configured_ns: 0,
            started_ns: now_ns,
            pulsed_ns: now_ns,
            has_joined: false,
        }
    }

    /// The digest of the part of the configuration that all balancers share.
    /// True where that is another one.
    pub fn set_configuration(&mut self, digest: Digest, now_ns: u64) -> bool {
        let is_new = std::mem::replace(&mut self.configuration, digest) != digest;
        if is_new {
            self.configured_ns = now_ns;
        }
        is_new
    }

    /// No slot may get another owner now: tables are being exchanged, and the peer's slots are reconciled with what
    /// these were; or a peer does not have the newest configuration yet.
    #[must_use]
    pub fn holds_back(&self, now_ns: u64) -> bool {
        let is_new = now_ns.saturating_sub(self.configured_ns) < PATIENCE_NS;
        let mut standings = self.standings();
        self.is_exchanging(now_ns)
            || is_new
                && standings.any(|(_, standing)| standing.is_complete && !standing.has_equal_configuration)
    }

    /// Tells every peer which configuration is in force here, at once.
    pub fn pulse(&mut self) -> Vec<Change> {
        self.share(Message::Pulse(Pulse {
            configuration: self.configuration,
            ready: self.has_joined,
        }))
    }

    /// The cluster has these peers from now on. One that is new has had no flows; of one that is gone nothing counts any
    /// more, once its session is over.
    pub fn set_peers(&mut self, peers: impl IntoIterator<Item = Node>) {
        let mut before = std::mem::take(&mut self.peers);
        self.peers = peers
            .into_iter()
            .map(|node| {
                let peer = before.remove(&node).unwrap_or_default();
                (node, peer)
            })
            .collect();
    }

    /// Asks a peer for all that it has, though nothing was lost: what it steers by differs for long.
    pub fn ask(&mut self, node: &str) -> Option<Change> {
        self.send(node, Message::Pull)
    }

    /// This balancer sees services so, and no others; the reports' versions are given here. Peers hear of what
    /// is new.
    pub fn set_reports(&mut self, reports: impl IntoIterator<Item = Report>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut services = BTreeSet::new();
        for mut report in reports {
            services.insert(report.service);
            report.version = match self.own.get(&report.service) {
                Some(have) => {
                    report.version = have.version;
                    if *have == report {
                        continue;
                    }
                    have.version + 1
                }
                None => 0,
            };
            self.own.insert(report.service, report.clone());
            self.tell(Message::Report(report), &mut changes);
        }
        self.own.retain(|service, _| services.contains(service));
        changes
    }

    /// Tells every peer that listens.
    pub fn share(&mut self, message: Message) -> Vec<Change> {
        let mut changes = Vec::new();
        self.tell(message, &mut changes);
        changes
    }

    fn tell(&mut self, message: Message, changes: &mut Vec<Change>) {
        for (node, peer) in &mut self.peers {
            if let Some(session) = &mut peer.session {
                changes.push(session.send(node, message.clone()));
            }
        }
    }

    /// Tells one peer; nothing where there is no session with it.
    pub fn send(&mut self, node: &str, message: Message) -> Option<Change> {
        let session = self.peers.get_mut(node)?.session.as_mut()?;
        Some(session.send(node, message))
    }

    /// A session with a peer begins.
    pub fn connected(&mut self, node: &str, now_ns: u64) -> Vec<Change> {
        let Some(peer) = self.peers.get_mut(node) else {
            return Vec::new();
        };
        let mut session = Session {
            begun_ns: now_ns,
            heard_ns: now_ns,
            ..Session::default()
        };
        let changes = session.begin(node, &self.own);
        peer.session = Some(session);
        changes
    }

    /// The session with a peer is over.
    pub fn lost(&mut self, node: &str, now_ns: u64) -> Vec<Change> {
        let Some(peer) = self.peers.get_mut(node) else {
            return Vec::new();
        };
        let Some(session) = peer.session.take() else {
            return Vec::new();
        };
        peer.lost_ns = (!session.said_bye).then_some(now_ns);
        let changes = session.reports.keys().copied().map(Change::Reported).collect();
        if session.has_told {
            peer.last_reports = session.reports;
        }
        changes
    }

    /// A message has come.
    pub fn receive(&mut self, node: &str, envelope: Envelope, now_ns: u64) -> Vec<Change> {
        let Some(session) = self.peers.get_mut(node).and_then(|peer| peer.session.as_mut()) else {
            return Vec::new();
        };
        session.heard_ns = now_ns;
        if let Err(nonsense @ Nonsense { .. }) = session.inbox.put(envelope) {
            return vec![Change::Cut(node.to_owned(), nonsense.to_string())];
        }
        let mut changes = Vec::new();
        while let Some(message) = session.inbox.take() {
            session.take(node, message, &self.own, &mut changes);
        }
        if session.inbox.give_up() {
            session.is_broken = true;
            session.pull(node, now_ns, &mut changes);
        }
        self.judge_readiness(now_ns);
        changes
    }

    /// The tables and notes that [`Change::TellAll`] asked for have been sent.
    pub fn all_told(&mut self, node: &str) -> Option<Change> {
        self.send(node, Message::Complete)
    }

    /// Lets time pass.
    pub fn tick(&mut self, now_ns: u64) -> Vec<Change> {
        self.judge_readiness(now_ns);
        let mut changes = Vec::new();
        if now_ns.saturating_sub(self.pulsed_ns) >= PULSE_NS {
            self.pulsed_ns = now_ns;
            changes.extend(self.pulse());
        }
        for (node, peer) in &mut self.peers {
            let Some(session) = &mut peer.session else {
                continue;
            };
            if now_ns.saturating_sub(session.heard_ns) > SILENCE_NS {
                changes.push(Change::Cut(node.clone(), "nothing was heard of it".to_owned()));
            } else if session.is_broken && now_ns.saturating_sub(session.pulled_ns) > 2 * PULSE_NS {
                session.pull(node, now_ns, &mut changes);
            }
        }
        changes
    }

    /// This balancer stops.
    pub fn farewell(&mut self) -> Vec<Change> {
        self.share(Message::Bye)
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.peers.values().filter_map(|peer| peer.session.as_ref())
    }

    /// The reports of the peers that have told all that they see.
    fn reports(&self, service: Service) -> impl Iterator<Item = &Report> {
        self.sessions()
            .filter(|session| session.has_told)
            .filter_map(move |session| session.reports.get(&service))
    }

    /// Tables are being exchanged: no slot may get another owner before the peer's is known, for it would be
    /// reconciled with what it was.
    #[must_use]
    pub fn is_exchanging(&self, now_ns: u64) -> bool {
        self.sessions()
            .any(|session| !session.is_complete && now_ns.saturating_sub(session.begun_ns) < EXCHANGE_NS)
    }
}
