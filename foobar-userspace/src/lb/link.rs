//! The daemon's place in its cluster: the link to its peers and the program's notes, as events for the loop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use rustls::pki_types::CertificateDer;

use super::steering::Steering;
use crate::admin::{ClusterStatus, DifferenceStatus, PeerStatus};
use crate::cluster::agreement::{Node, Readiness};
use crate::cluster::link::identity::{Identity, short_fingerprint};
use crate::cluster::link::{Event, Greeted, Link, expiry};
use crate::dataplane::{NoteEvent, NoteEvents};

/// Slots that differ are told one by one up to so many.
const TOLD_SLOTS: usize = 16;
/// So long before a certificate's time is over one is told.
const SOON_DAYS: i64 = 30;

/// What the loop hears of.
#[derive(Debug)]
pub(super) enum Happened {
    /// On the link.
    Linked(Event),
    /// The program has noted flows.
    Noted,
}

/// The cluster, from the daemon's side.
pub(super) struct Cluster {
    directory: PathBuf,
    identity: Identity,
    link: Link,
    notes: NoteEvents,
    greeted: BTreeMap<Node, Greeted>,
    noted: Vec<NoteEvent>,
}

impl Cluster {
    /// Listens, and calls the peers that the directory names.
    pub(super) async fn start(directory: PathBuf, identity: Identity, notes: NoteEvents) -> Result<Self> {
        let link = Link::start(&identity).await.context("cluster")?;
        let cluster = Self {
            directory,
            identity,
            link,
            notes,
            greeted: BTreeMap::new(),
            noted: Vec::new(),
        };
        tracing::info!(
            cluster = cluster.identity.cluster,
            name = cluster.identity.name,
            address = %cluster.identity.address,
            peers = cluster.identity.peers.len(),
            "in a cluster"
        );
        cluster.warn_of_expiry();
        Ok(cluster)
    }

    /// Reads the directory again; gives the peers that it names.
    pub(super) async fn reload(&mut self) -> Result<Vec<Node>> {
        let identity = Identity::load(&self.directory)?;
        self.link.set(&identity).await?;
        self.identity = identity;
        self.warn_of_expiry();
        Ok(self.identity.peers.iter().map(|peer| peer.name.clone()).collect())
    }

    fn warn_of_expiry(&self) {
        let own = std::iter::once((&self.identity.name, &self.identity.certificate));
        let peers = &self.identity.peers;
        let theirs = peers
            .iter()
            .filter_map(|peer| Some((&peer.name, peer.certificates.last()?)));
        for (name, certificate) in own.chain(theirs) {
            let days = days_left(certificate);
            if days < SOON_DAYS {
                tracing::warn!(
                    balancer = name,
                    days,
                    "a certificate's time is over soon, and with it the link: `foobar cluster rotate` on that balancer renews it"
                );
            }
        }
    }

    /// What happens next. May be dropped on the way and called again.
    pub(super) async fn next(&mut self) -> Happened {
        tokio::select! {
            event = self.link.next() => Happened::Linked(event),
            ready = self.notes.ready() => {
                if let Err(error) = ready {
                    tracing::error!(%error, "the program's notes can't be read: peers don't hear of them");
                    // The link goes on.
                    return Happened::Linked(self.link.next().await);
                }
                Happened::Noted
            }
        }
    }

    /// Takes what has happened to the steering state.
    pub(super) fn take(&mut self, happened: Happened, steering: &mut Steering, now_ns: u64) {
        match happened {
            Happened::Noted => {
                self.notes.drain(&mut self.noted);
                steering.tell_events(&self.noted, now_ns);
                self.noted.clear();
            }
            Happened::Linked(Event::Received(node, envelope)) => steering.on_message(&node, envelope, now_ns),
            Happened::Linked(Event::Connected(node, greeted)) => {
                tracing::info!(
                    peer = node,
                    release = greeted.release,
                    protocol = greeted.protocol,
                    "a session with a peer has begun"
                );
                self.greeted.insert(node.clone(), greeted);
                steering.on_connected(&node, now_ns);
            }
            Happened::Linked(Event::Lost(node, why)) => {
                tracing::warn!(peer = node, why, "the session with a peer is over");
                self.greeted.remove(&node);
                steering.on_lost(&node, now_ns);
            }
        }
    }

    /// Sends what is to be sent, and ends what is to be ended.
    pub(super) fn post(&mut self, steering: &mut Steering) {
        let Some(peers) = &mut steering.peers else { return };
        for (node, envelope) in peers.outbox.drain(..) {
            self.link.send(&node, envelope);
        }
        for (node, why) in peers.cuts.drain(..) {
            self.link.cut(&node, &why);
        }
    }

    /// Says goodbye, and ends.
    pub(super) async fn stop(mut self, steering: &mut Steering) {
        if let Some(peers) = &mut steering.peers {
            let farewell = peers.agreement.farewell();
            peers.post(farewell);
        }
        self.post(steering);
        self.link.stop().await;
    }

    /// How the cluster looks from here.
    pub(super) fn status(&self, steering: &Steering) -> Option<ClusterStatus> {
        let peers = steering.peers.as_ref()?;
        let troubles = self.link.troubles();
        let standings: BTreeMap<_, _> = peers.agreement.standings().collect();
        let of_peer = |peer: &crate::cluster::link::identity::Peer| {
            let standing = standings.get(&peer.name).cloned().unwrap_or_default();
            let greeted = self.greeted.get(&peer.name);
            let differing = standing.differing.iter().map(|service| {
                let slots = peers.differing_slots(&peer.name, *service);
                DifferenceStatus {
                    service: service.to_string(),
                    slots: slots.len(),
                    first_slots: slots.iter().take(TOLD_SLOTS).copied().collect(),
                }
            });
            PeerStatus {
                name: peer.name.clone(),
                address: peer.address,
                connected: standing.is_connected,
                release: greeted.map(|greeted| greeted.release.clone()),
                protocol: greeted.map(|greeted| greeted.protocol),
                complete: standing.is_complete,
                ready: standing.is_ready,
                same_configuration: standing.is_connected.then_some(standing.has_equal_configuration),
                differing: differing.collect(),
                sent: standing.sent,
                received: standing.received,
                trouble: troubles.peers.get(&peer.name).cloned(),
                certificate: peer
                    .certificates
                    .last()
                    .map(short_fingerprint)
                    .unwrap_or_default(),
                certificate_days: peer.certificates.last().map_or(0, days_left),
            }
        };
        Some(ClusterStatus {
            cluster: self.identity.cluster.clone(),
            name: self.identity.name.clone(),
            address: self.identity.address,
            ready: peers.agreement.readiness() == Readiness::Ready,
            waits_for: match peers.agreement.readiness() {
                Readiness::Ready => None,
                Readiness::Waiting(reason) => Some(reason),
            },
            certificate: short_fingerprint(&self.identity.certificate),
            certificate_days: days_left(&self.identity.certificate),
            renewing: self.identity.next.is_some(),
            peers: self.identity.peers.iter().map(of_peer).collect(),
            refused_callers: troubles.refused,
            last_refusal: troubles.last_refusal,
            refused_notes: peers.refused_notes,
        })
    }
}

/// How many days a certificate is still good for; below 0: its time is over.
fn days_left(certificate: &CertificateDer<'_>) -> i64 {
    const DAY: u64 = 86_400;
    let Ok(expiry) = expiry(certificate) else { return 0 };
    match expiry.duration_since(SystemTime::now()) {
        Ok(left) => (left.as_secs() / DAY).cast_signed(),
        Err(over) => -1 - (over.duration().as_secs() / DAY).cast_signed(),
    }
}
