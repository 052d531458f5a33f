//! How balancers come to agree: who sees what, who has heard what of whom, and who may take VIPs over. Pure:
//! messages and times in, messages and changes out.
//!
//! A session with a peer begins with [`Message::Begin`]. Each side tells its reports, closed by [`Message::Told`];
//! only when it has the other side's, and so calls every member by the same name, it sends its tables and notes,
//! closed by [`Message::Complete`]. From then on each tells what changes. Who finds that a message is lost asks for
//! all of it again ([`Message::Pull`]).
//!
//! It does not know slots, notes and indices: [`Change`] hands them to those who do.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::health::{self, Judgement, View};
use super::inbox::{Inbox, Nonsense};
use super::message::{
    Digest, Drain, Envelope, Message, Notes, Observed, Pending, Pulse, Report, Seen, Starts, Table,
};
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

/// Whether this balancer may take VIPs over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It may.
    Ready,
    /// It may not, for this reason.
    Waiting(String),
}

/// A peer in the current session with it.
#[derive(Debug, Default)]
struct Session {
    inbox: Inbox,
    sent: u64,
    begun_ns: u64,
    heard_ns: u64,
    /// Messages were lost: nothing counts until the peer begins anew.
    is_broken: bool,
    pulled_ns: u64,
    reports: BTreeMap<Service, Report>,
    has_told: bool,
    is_complete: bool,
    /// This side's tables and notes have been asked for and not been sent yet.
    owes_all: bool,
    pulse: Option<Pulse>,
    said_bye: bool,
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

    /// What all go by, of what this balancer and its peers see of a service's members.
    ///
    /// No member is given up by a balancer that has not heard it be silent itself, nor while a peer may hear it that was
    /// lost a moment ago: what that one said last counts, and of one that has said nothing yet, that it might.
    #[must_use]
    pub fn judge(&self, service: Service, own: &View, now_ns: u64) -> BTreeMap<IpAddr, Judgement> {
        let views: Vec<View> = self
            .reports(service)
            .map(|report| {
                let seen = |seen: &Seen| (seen.name.address, seen.observed);
                report.members.iter().map(seen).collect()
            })
            .collect();
        let mut judged = health::merge(own, &views);
        let is_unheard = self.lately_lost(now_ns).any(|peer| peer.last_reports.is_empty());
        for (address, judgement) in &mut judged {
            let has_own = own.get(address).is_some_and(|seen| *seen != Observed::Unknown);
            let was_heard = || {
                self.lately_lost(now_ns)
                    .filter_map(|peer| peer.last_reports.get(&service))
                    .flat_map(|report| &report.members)
                    .any(|seen| {
                        seen.name.address == *address
                            && matches!(seen.observed, Observed::Up | Observed::SoftDown)
                    })
            };
            if judgement.state == Observed::HardDown && (!has_own || is_unheard || was_heard()) {
                judgement.state = Observed::SoftDown;
            }
        }
        judged
    }

    /// The peers that were lost a moment ago, or were not heard yet since the beginning.
    fn lately_lost(&self, now_ns: u64) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(move |peer| {
            let since = peer.lost_ns.map(|lost_ns| now_ns.saturating_sub(lost_ns));
            peer.session.as_ref().is_none_or(|session| !session.has_told)
                && since.is_some_and(|since| since < GRACE_NS)
        })
    }

    /// Whether the judgement may change by the mere passing of time: a peer was lost a moment ago.
    #[must_use]
    pub fn is_grace_over(&self, before_ns: u64, now_ns: u64) -> bool {
        self.peers.values().any(|peer| {
            peer.lost_ns.is_some_and(|lost_ns| {
                let end = lost_ns + GRACE_NS;
                before_ns < end && end <= now_ns
            })
        })
    }

    fn seen(&self, service: Service, address: IpAddr) -> impl Iterator<Item = &Seen> {
        self.reports(service)
            .filter_map(move |report| report.members.iter().find(|seen| seen.name.address == address))
    }

    /// The highest incarnation that a peer calls a member by.
    #[must_use]
    pub fn incarnation(&self, service: Service, address: IpAddr) -> u64 {
        let incarnations = self.seen(service, address).map(|seen| seen.name.incarnation);
        incarnations.max().unwrap_or(0)
    }

    /// The last word of operators on a member, of those that peers have heard.
    #[must_use]
    pub fn drain(&self, service: Service, address: IpAddr) -> Drain {
        let drains = self.seen(service, address).map(|seen| seen.drain);
        drains.max().unwrap_or_default()
    }

    /// Whether a peer has no room for the notes of a change that can wait.
    #[must_use]
    pub fn is_crowded(&self, service: Service) -> bool {
        self.reports(service).any(|report| report.crowded)
    }

    /// Whether a peer may live and serve that can't be heard: what is noted must stay noted until it can.
    #[must_use]
    pub fn is_held(&self, now_ns: u64) -> bool {
        self.peers.values().any(|peer| {
            let lost = |since: u64| now_ns.saturating_sub(since) < HOLD_NS;
            match &peer.session {
                Some(session) => !session.is_complete,
                None => peer.lost_ns.is_some_and(lost),
            }
        })
    }

    /// Whether this balancer may take VIPs over: it is alone, or agrees with its peers and has their notes. Once
    /// it may, it goes on to.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.has_joined {
            return Readiness::Ready;
        }
        let reasons = self.peers.iter().filter_map(|(node, peer)| {
            let session = peer.session.as_ref()?;
            self.lacks(session).map(|lack| format!("{node}: {lack}"))
        });
        let reasons: Vec<String> = reasons.collect();
        if reasons.is_empty() {
            Readiness::Waiting("no peer has answered yet".to_owned())
        } else {
            Readiness::Waiting(reasons.join("; "))
        }
    }

    /// What is still to come from a peer before this balancer may take VIPs over.
    fn lacks(&self, session: &Session) -> Option<&'static str> {
        if !session.has_told {
            Some("its reports are not here yet")
        } else if !session.is_complete {
            Some("its tables and notes are not here yet")
        } else if session
            .pulse
            .is_none_or(|pulse| pulse.configuration != self.configuration)
        {
            Some("its configuration is another")
        } else if !self.differing(session).is_empty() {
            Some("its tables differ")
        } else {
            None
        }
    }

    fn judge_readiness(&mut self, now_ns: u64) {
        if self.has_joined {
            return;
        }
        let is_alone = self.sessions().next().is_none();
        self.has_joined = if is_alone {
            self.peers.is_empty() || now_ns.saturating_sub(self.started_ns) >= ALONE_NS
        } else {
            self.sessions().all(|session| self.lacks(session).is_none())
        };
    }

    /// The services about which a peer in this session steers by something else.
    fn differing(&self, session: &Session) -> Vec<Service> {
        let own = self.own.iter();
        own.filter(|(service, own)| {
            session
                .reports
                .get(service)
                .is_none_or(|report| report.digest != own.digest)
        })
        .map(|(service, _)| *service)
        .collect()
    }

    /// How each peer stands to this balancer.
    pub fn standings(&self) -> impl Iterator<Item = (&Node, Standing)> {
        self.peers.iter().map(|(node, peer)| {
            let standing = match &peer.session {
                None => Standing::default(),
                Some(session) => Standing {
                    is_connected: true,
                    is_complete: session.is_complete,
                    is_ready: session.pulse.is_some_and(|pulse| pulse.ready),
                    has_equal_configuration: session
                        .pulse
                        .is_some_and(|pulse| pulse.configuration == self.configuration),
                    differing: self.differing(session),
                    sent: session.sent,
                    received: session.inbox.next(),
                },
            };
            (node, standing)
        })
    }
}

/// How a peer stands to this balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// There is a session with it.
    pub is_connected: bool,
    /// Its tables and notes are here.
    pub is_complete: bool,
    /// It may take VIPs over.
    pub is_ready: bool,
    /// Its configuration is the same, as far as it has to be.
    pub has_equal_configuration: bool,
    /// The services for which it steers by something else.
    pub differing: Vec<Service>,
    /// Messages sent to it in this session.
    pub sent: u64,
    /// Its messages that were taken in, in order.
    pub received: u64,
}

impl Session {
    fn send(&mut self, node: &str, message: Message) -> Change {
        let envelope = Envelope {
            sequence: self.sent,
            message,
        };
        self.sent += 1;
        Change::Send(node.to_owned(), envelope)
    }

    fn begin(&mut self, node: &str, own: &BTreeMap<Service, Report>) -> Vec<Change> {
        let reports = own.values().cloned().map(Message::Report);
        std::iter::once(Message::Begin)
            .chain(reports)
            .chain([Message::Told])
            .map(|message| self.send(node, message))
            .collect()
    }

    fn pull(&mut self, node: &str, now_ns: u64, changes: &mut Vec<Change>) {
        self.pulled_ns = now_ns;
        changes.push(self.send(node, Message::Pull));
    }

    fn take(
        &mut self,
        node: &str,
        message: Message,
        own: &BTreeMap<Service, Report>,
        changes: &mut Vec<Change>,
    ) {
        match message {
            Message::Pulse(pulse) => self.pulse = Some(pulse),
            Message::Bye => self.said_bye = true,
            Message::Pull => {
                changes.extend(self.begin(node, own));
                self.owes_all = true;
                self.pay(node, changes);
            }
            Message::Begin => {
                self.is_broken = false;
                // What it told before goes on counting until it has told anew.
                self.is_complete = false;
            }
            // What follows a loss may rest on what was lost.
            Message::Report(_)
            | Message::Told
            | Message::Starts(_)
            | Message::Notes(_)
            | Message::Pending(_)
            | Message::Table(_)
            | Message::Complete
                if self.is_broken => {}
            Message::Report(report) => {
                let service = report.service;
                let is_news = self
                    .reports
                    .get(&service)
                    .is_none_or(|have| have.version <= report.version);
                if is_news {
                    self.reports.insert(service, report);
                    if self.has_told {
                        changes.push(Change::Reported(service));
                    }
                }
            }
            Message::Told => {
                if !self.has_told {
                    self.has_told = true;
                    self.owes_all = true;
                    changes.push(Change::Met(node.to_owned()));
                }
                changes.extend(self.reports.keys().copied().map(Change::Reported));
                self.pay(node, changes);
            }
            Message::Starts(starts) => changes.push(Change::Starts(node.to_owned(), starts)),
            Message::Table(table) => changes.push(Change::Table(node.to_owned(), table)),
            Message::Notes(notes) if self.is_complete => {
                changes.push(Change::Notes(node.to_owned(), notes));
            }
            Message::Notes(notes) => changes.push(Change::KnownNotes(node.to_owned(), notes)),
            Message::Pending(pending) => changes.push(Change::Pending(node.to_owned(), pending)),
            Message::Complete => {
                self.is_complete = true;
                changes.extend(own.keys().copied().map(Change::Reported));
            }
        }
    }

    /// Tables and notes go out once the other side has told how it names members.
    fn pay(&mut self, node: &str, changes: &mut Vec<Change>) {
        if self.owes_all && self.has_told {
            self.owes_all = false;
            changes.push(Change::TellAll(node.to_owned()));
        }
    }
}
