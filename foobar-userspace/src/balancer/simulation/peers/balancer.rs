//! One simulated balancer: the daemon, which does with members, slots and notes what the real one does (`lb::peers`,
//! `lb::note_exchange`, `lb::sweep`), on the product's automaton and agreement; and the steering of its packets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use foobar_common::address::Address;
use foobar_common::note::FlowKey;
use foobar_common::slot::{Member as Id, NONE, Phase};
use foobar_common::steering::{Known, Segment, Tracking, decide};
use foobar_common::time::{note_lifetime, ticks};

use super::super::super::plan::{Health, Serving};
use super::super::super::slots::{History, SlotTable};
use super::notes::NoteStore;
use super::{CLIENTS, SLOTS, T, Without};
use crate::cluster::agreement::{Agreement, Change, Node, Readiness};
use crate::cluster::differences::Differences;
use crate::cluster::health::View;
use crate::cluster::message::{Digest, Drain, Envelope, Message, Observed, Report, Seen};
use crate::cluster::name::{MemberName, Service};
use crate::cluster::renewals::Renewals;
use crate::cluster::replica::{self, Relation, Roster};

const SECOND: u64 = 1_000_000_000;
/// After nobody was up, so long nobody is given up.
const RECOVERY_NS: u64 = 6 * SECOND;

pub(super) fn service() -> Service {
    Service {
        address: IpAddr::from([192, 0, 2, 101]),
        first_port: 443,
        last_port: 443,
        protocol: 6,
    }
}

pub(super) fn address(backend: usize) -> IpAddr {
    IpAddr::from([198, 51, 100, backend as u8 + 1])
}

pub(super) fn backend_of(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => usize::from(address.octets()[3]) - 1,
        IpAddr::V6(_) => unreachable!("backends have IPv4 addresses here"),
    }
}

/// A backend, as a balancer has it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: Id,
    pub(super) weight: u16,
    pub(super) observed: Observed,
    common: Option<Observed>,
    founding: bool,
    left: bool,
    pub(super) drain: Drain,
    pub(super) incarnation: u64,
    born: u64,
}

impl Member {
    fn state(&self) -> Observed {
        self.common.unwrap_or(self.observed)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state() == Observed::Up
    }

    fn planned(&self) -> (u16, Health) {
        let health = match self.state() {
            Observed::Up => Health::Up,
            Observed::SoftDown => Health::SoftDown,
            Observed::HardDown => Health::HardDown,
            Observed::Unknown if self.founding => Health::Up,
            Observed::Unknown => Health::Unknown,
        };
        match health {
            Health::Up | Health::Unknown if self.drain.drained => (0, Health::Draining),
            health if self.drain.drained => (0, health),
            health => (self.weight, health),
        }
    }
}

/// What a balancer did that the world has to know of.
#[derive(Debug)]
pub(super) enum Outcome {
    Send(Node, Envelope),
    Cut(Node),
    /// A peer's note of this client, used so many milliseconds ago.
    Heard(Node, usize, u32),
    /// Peers were told of this client's note, used so many ticks ago.
    Told(usize, u32),
    /// A backend was given up: by what is seen here, or because a peer has.
    GivenUp(usize),
    Followed(usize),
}

/// What a digest is made of: the table's revision; weights and drains; each member's name, first name and id.
type DigestedState = (u64, Vec<u8>, Vec<(u64, u64, Id)>);

#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) agreement: Agreement,
    pub(super) table: SlotTable,
    pub(super) notes: NoteStore,
    pub(super) members: Vec<Member>,
    /// By id: the backend, whether that life of it is over, whether it is down.
    targets: Vec<(usize, bool, bool)>,
    renewals: Renewals,
    is_newcomer: bool,
    has_held_back: bool,
    serving: Serving,
    recovered_ns: u64,
    ticked_ns: u64,
    swept_ns: u64,
    differences: Differences,
    /// The digest that was told last, and what it was made of.
    digest: Option<(DigestedState, Digest)>,
    without: Option<Without>,
    pub(super) outcomes: Vec<Outcome>,
}

impl Balancer {
    /// An empty balancer with these peers, for backends of these weights.
    pub(super) fn new(peers: Vec<Node>, weights: &[u16], without: Option<Without>, now_ns: u64) -> Self {
        let members = (1..).zip(weights).map(|(id, &weight)| Member {
            id,
            weight,
            observed: Observed::Unknown,
            common: None,
            founding: true,
            left: false,
            drain: Drain::default(),
            incarnation: 0,
            born: 0,
        });
        let mut targets = vec![(usize::MAX, true, false)];
        targets.extend((0..weights.len()).map(|backend| (backend, false, false)));
        let mut balancer = Self {
            agreement: Agreement::new(peers, now_ns),
            table: SlotTable::new(History::Noted, SLOTS),
            notes: NoteStore::new(CLIENTS, note_lifetime(T), ticks(T)),
            members: members.collect(),
            targets,
            renewals: Renewals::new(CLIENTS as u32, ticks(now_ns)),
            is_newcomer: true,
            has_held_back: false,
            serving: Serving::Nobody,
            recovered_ns: 0,
            ticked_ns: now_ns,
            swept_ns: now_ns,
            differences: Differences::default(),
            digest: None,
            without,
            outcomes: Vec::new(),
        };
        // What it begins with has been in force for long.
        balancer.agreement.set_configuration(configuration(weights), 0);
        balancer.table.set_shared(!balancer.is_without(Without::Sharing));
        balancer.hold(now_ns);
        balancer.replan(now_ns);
        balancer
    }

    fn is_without(&self, rule: Without) -> bool {
        self.without == Some(rule)
    }

    /// Whether clients' packets may be led here.
    pub(super) fn is_ready(&self) -> bool {
        self.is_without(Without::Readiness) || self.agreement.readiness() == Readiness::Ready
    }

    // --- packets ---

    /// Steers a client's packet: the backend that gets it, and whether peers are told of its note.
    pub(super) fn steer(&mut self, client: usize, segment: Segment, now_ns: u64) -> (Option<usize>, bool) {
        let slot = self.table.slot(client % SLOTS);
        if slot.phase() == Phase::Settled {
            return (self.backend(slot.current), false);
        }
        let now = ticks(now_ns);
        let known = self.notes.find(client, now, |id| {
            let (_, is_gone, is_down) = self.targets[usize::from(id)];
            (is_gone, is_down)
        });
        let known = match known {
            Known::Pending(_) if self.is_without(Without::Pending) => Known::Stale,
            known => known,
        };
        let is_down = |id: Id| self.targets[usize::from(id)].2;
        let decision = decide(slot, segment, known, Tracking::Transitions, is_down);
        let told = self.notes.record(client, decision, now);
        let told = told.filter(|_| !self.is_without(Without::Notes));
        if let Some(stage) = told {
            self.tell(&[(client, decision.member, 0, stage)]);
        }
        (self.backend(decision.member), told.is_some())
    }

    fn backend(&self, id: Id) -> Option<usize> {
        (id != NONE).then(|| self.targets[usize::from(id)].0)
    }

    // --- time ---

    pub(super) fn tick(&mut self, now_ns: u64) {
        self.table.advance(now_ns, T);
        if self.recovered_ns != 0 && now_ns >= self.recovered_ns + RECOVERY_NS {
            self.recovered_ns = 0;
            self.replan(now_ns);
        }
        if now_ns.saturating_sub(self.swept_ns) >= SECOND {
            self.swept_ns = now_ns;
            self.sweep(now_ns);
        }
        let changes = self.agreement.tick(now_ns);
        let replan = self.agreement.is_grace_over(self.ticked_ns, now_ns);
        self.ticked_ns = now_ns;
        if self.agreement.readiness() == Readiness::Ready {
            self.is_newcomer = false;
        }
        self.perform(changes, now_ns);
        self.hold(now_ns);
        self.let_go(now_ns);
        if replan {
            self.replan(now_ns);
        }
        self.converse(now_ns);
        self.look_at_differences(now_ns);
    }

    /// Settles the slots in which no note names anybody but the current owner, and tells of late uses.
    fn sweep(&mut self, now_ns: u64) {
        let now = ticks(now_ns);
        self.renewals.begin(now);
        let mut foreign = BTreeSet::new();
        let mut renewed = Vec::new();
        for client in 0..CLIENTS {
            let Some(note) = self.notes.notes[client] else {
                continue;
            };
            let slot = self.table.slot(client % SLOTS);
            let idle = foobar_common::time::age(now, note.used);
            if slot.phase() == Phase::Settled || self.targets[usize::from(note.member)].1 {
                self.notes.notes[client] = None;
                continue;
            }
            // An expired one may count for another T/4 at a peer.
            let lifetime = if self.is_without(Without::Lateness) {
                note_lifetime(T)
            } else {
                note_lifetime(T) / 5 * 6
            };
            if idle > lifetime {
                continue;
            }
            if note.member != slot.current {
                foreign.insert(client % SLOTS);
            }
            if self
                .renewals
                .due(client as u32, &key(client), note.used, ticks(T))
            {
                renewed.push((client, note.member, idle, note.stage));
            }
        }
        if !self.is_without(Without::Renewals) {
            self.tell(&renewed);
        }
        for slot in self.table.may_settle(now_ns) {
            if !foreign.contains(&(slot as usize)) || self.is_without(Without::Sweep) {
                self.table.settle(slot as usize, now_ns);
            }
        }
    }
}

pub(super) fn key(client: usize) -> FlowKey {
    FlowKey {
        source: Address::from(std::net::Ipv4Addr::new(203, 0, 113, 7)),
        source_port_be: (1024 + client as u16).to_be(),
        destination_port_be: 443u16.to_be(),
        vip: 1,
    }
}

/// The digest of a configuration with these weights.
fn configuration(weights: &[u16]) -> Digest {
    let mut digest = [0; 16];
    for (bytes, weight) in digest.chunks_exact_mut(2).zip(weights) {
        bytes.copy_from_slice(&weight.to_le_bytes());
    }
    Digest::from(digest)
}

mod link;
mod plans;
