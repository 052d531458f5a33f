//! The steering state of one balancer of several: what it tells its peers, and what it makes of what they say. No
//! socket: messages come in, and those to be sent are in [`Peers::outbox`].
//!
//! What is agreed on, and when, is `cluster::agreement`'s; here it meets members, slots and plans. `names` is how peers
//! call what is here.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use foobar_common::slot::Member as Id;

pub(super) use self::names::{configuration_digest, service_of, table_of};
use self::names::{name, observed, roster, state};
use super::member::Member;
use super::steering::{Steering, Urgency, deadline, plan_of};
use crate::balancer::slots::{History, SlotTable};
use crate::cluster::agreement::{Agreement, Change, Node, Readiness};
use crate::cluster::differences::{Compared, Differences};
use crate::cluster::health::View;
use crate::cluster::message::{Drain, Envelope, Message, Report, Seen, Starts, Table};
use crate::cluster::name::Service;
use crate::cluster::replica::{self, Relation};
use crate::config;
use crate::health::State;

/// What is known of a cluster's other balancers.
pub(super) struct Peers {
    pub(super) agreement: Agreement,
    /// To be sent, in this order.
    pub(super) outbox: Vec<(Node, Envelope)>,
    /// Sessions to be ended, and why.
    pub(super) cuts: Vec<(Node, String)>,
    /// No flow has come by here yet: the first slots of a service that a peer tells are taken as they are.
    is_newcomer: bool,
    /// The services whose slots have been told since then: others are those of newcomers, maybe, and reconciled.
    joined: BTreeSet<Service>,
    is_held: bool,
    has_held_back: bool,
    ticked_ns: u64,
    /// The peers that steer by something else.
    differences: Differences,
    /// By peer and service: the slots whose owner was another one when its table came last.
    differing_slots: BTreeMap<(Node, Service), Vec<u32>>,
    /// Notes that were not taken in: of members or services that are none here, or for want of room.
    pub(super) refused_notes: u64,
}

impl Peers {
    /// `is_newcomer`: nothing was left here by an earlier daemon.
    pub(super) fn new(nodes: impl IntoIterator<Item = Node>, is_newcomer: bool, now_ns: u64) -> Self {
        let agreement = Agreement::new(nodes, now_ns);
        Self {
            is_held: false,
            agreement,
            outbox: Vec::new(),
            cuts: Vec::new(),
            is_newcomer,
            joined: BTreeSet::new(),
            has_held_back: false,
            ticked_ns: now_ns,
            differences: Differences::default(),
            differing_slots: BTreeMap::new(),
            refused_notes: 0,
        }
    }

    /// Whether there are others.
    fn is_shared(&self) -> bool {
        self.agreement.standings().next().is_some()
    }

    /// A table that has just been made is told of the peers, as the others were.
    pub(super) fn introduce(&self, table: &mut SlotTable) {
        table.set_held(self.is_held);
        table.set_shared(self.is_shared());
    }

    /// The slots of a service that a peer had given to somebody else when its table came last.
    pub(super) fn differing_slots(&self, node: &Node, service: Service) -> &[u32] {
        self.differing_slots
            .get(&(node.clone(), service))
            .map_or(&[], Vec::as_slice)
    }

    /// Takes what is to be sent out of `changes`.
    pub(super) fn post(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::Send(node, envelope) => self.outbox.push((node, envelope)),
                Change::Cut(node, why) => self.cuts.push((node, why)),
                other => debug_assert!(false, "{other:?} is for `Steering::perform`"),
            }
        }
    }

    pub(super) fn share(&mut self, message: Message) {
        let changes = self.agreement.share(message);
        self.post(changes);
    }

    pub(super) fn tell(&mut self, node: &str, message: Message) {
        let change = self.agreement.send(node, message);
        self.post(change);
    }

    /// Whether anybody listens.
    pub(super) fn has_session(&self) -> bool {
        self.agreement
            .standings()
            .any(|(_, standing)| standing.is_connected)
    }
}

impl Steering {
    /// A session with a peer has begun.
    pub(super) fn on_connected(&mut self, node: &str, now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        let changes = peers.agreement.connected(node, now_ns);
        peers.has_held_back = true;
        self.perform(changes, now_ns);
        self.hold(now_ns);
    }

    /// The session with a peer is over.
    pub(super) fn on_lost(&mut self, node: &str, now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        let changes = peers.agreement.lost(node, now_ns);
        peers.differences.forget(node);
        self.hold(now_ns);
        self.perform(changes, now_ns);
        self.converse(now_ns);
    }

    /// A peer has said something.
    pub(super) fn on_message(&mut self, node: &str, envelope: Envelope, now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        let changes = peers.agreement.receive(node, envelope, now_ns);
        self.perform(changes, now_ns);
        self.let_go(now_ns);
    }

    /// Plans what was held back, as soon as it need not be any more.
    fn let_go(&mut self, now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        if peers.has_held_back && !peers.agreement.holds_back(now_ns) {
            peers.has_held_back = false;
            self.replan_all(now_ns);
        }
    }

    /// The cluster has these peers now.
    pub(super) fn set_peers(&mut self, nodes: impl IntoIterator<Item = Node>, now_ns: u64) {
        if let Some(peers) = &mut self.peers {
            peers.agreement.set_peers(nodes);
            self.hold(now_ns);
        }
    }

    /// Whether the peers' tables and notes are not here yet, or others than this balancer's.
    pub(super) fn is_joining(&self) -> bool {
        self.peers
            .as_ref()
            .is_some_and(|peers| peers.agreement.readiness() != Readiness::Ready)
    }

    /// Whether a peer has steered by other tables for long.
    pub(super) fn is_differing(&self) -> bool {
        self.peers
            .as_ref()
            .is_some_and(|peers| peers.differences.is_lasting())
    }

    /// This is the configuration to be in force: the peers hear of it before anything changes by it.
    pub(super) fn set_configuration(&mut self, vips: &[config::Vip], now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        if peers
            .agreement
            .set_configuration(configuration_digest(vips), now_ns)
        {
            let pulse = peers.agreement.pulse();
            peers.post(pulse);
            peers.has_held_back = true;
        }
    }

    /// Lets time pass for what is between this balancer and its peers.
    pub(super) fn tick_peers(&mut self, now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        let changes = peers.agreement.tick(now_ns);
        let replan = peers.agreement.is_grace_over(peers.ticked_ns, now_ns);
        peers.ticked_ns = now_ns;
        if peers.agreement.readiness() == Readiness::Ready {
            // Alone for long enough, or in agreement: whatever a peer has from now on is reconciled.
            peers.is_newcomer = false;
        }
        self.perform(changes, now_ns);
        self.hold(now_ns);
        self.let_go(now_ns);
        if replan {
            self.replan_all(now_ns);
        }
        self.converse(now_ns);
        self.look_at_differences(now_ns);
    }

    fn replan_all(&mut self, now_ns: u64) {
        for place in 0..self.vips.len() {
            self.replan(place, Urgency::Health, now_ns);
        }
    }

    /// Slots are held while a peer may live that can't be heard.
    fn hold(&mut self, now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        let is_held = peers.agreement.is_held(now_ns);
        if is_held && !peers.is_held {
            tracing::info!("a peer that may live can't be heard: flows stay noted, and no slot settles");
        } else if peers.is_held && !is_held {
            tracing::info!("no peer is missed any more: slots settle again");
        }
        peers.is_held = is_held;
        let is_shared = peers.is_shared();
        for vip in &mut self.vips {
            vip.table.set_held(is_held);
            vip.table.set_shared(is_shared);
        }
    }

    /// Says a difference that lasts, and asks for what the peer has.
    fn look_at_differences(&mut self, now_ns: u64) {
        let Some(peers) = &mut self.peers else { return };
        let Compared { over, lasting } = peers.differences.look(&peers.agreement, now_ns);
        peers.differing_slots.retain(|(of, _), _| !over.contains(of));
        for (node, services) in lasting {
            let services: Vec<String> = services.iter().map(Service::to_string).collect();
            tracing::warn!(
                peer = node,
                services = services.join(", "),
                "a peer steers by other tables (`foobar cluster status` shows which slots): are the configurations the same?"
            );
            let ask = peers.agreement.ask(&node);
            peers.post(ask);
        }
    }

    /// Does what messages and times ask for.
    fn perform(&mut self, changes: Vec<Change>, now_ns: u64) {
        let mut concerned: BTreeSet<Service> = BTreeSet::new();
        for change in changes {
            if !matches!(change, Change::Reported(_)) {
                self.reported(std::mem::take(&mut concerned), now_ns);
            }
            match change {
                Change::Send(..) | Change::Cut(..) => {
                    if let Some(peers) = &mut self.peers {
                        peers.post([change]);
                    }
                }
                Change::Reported(service) => {
                    concerned.insert(service);
                }
                Change::Met(_) => self.take_names(),
                Change::TellAll(node) => self.tell_all(&node, now_ns),
                Change::Starts(_, starts) => self.take_starts(&starts, now_ns),
                Change::Table(node, table) => self.take_table(&node, &table, now_ns),
                Change::Notes(_, notes) | Change::KnownNotes(_, notes) => self.take_notes(&notes, now_ns),
                Change::Pending(_, pending) => self.take_pending(&pending, now_ns),
            }
        }
        self.reported(concerned, now_ns);
    }

    pub(super) fn place_of(&self, service: Service) -> Option<usize> {
        self.vips
            .iter()
            .position(|vip| service_of(&vip.config) == service)
    }

    /// What is said of these services has changed.
    fn reported(&mut self, services: BTreeSet<Service>, now_ns: u64) {
        let mut has_news = false;
        for service in services {
            if let Some(place) = self.place_of(service) {
                self.give_up_with_peers(place, service, now_ns);
                self.take_drains(place, service, now_ns);
                self.replan(place, Urgency::Health, now_ns);
                has_news = true;
            }
        }
        if has_news {
            self.converse(now_ns);
        }
    }

    /// A peer has been met: the later names of members are this balancer's as well.
    fn take_names(&mut self) {
        let Some(peers) = &self.peers else { return };
        let mut renamed: Vec<(Id, u64)> = Vec::new();
        for vip in &mut self.vips {
            let service = service_of(&vip.config);
            for member in &mut vip.members {
                let theirs = peers.agreement.incarnation(service, member.address);
                if theirs > member.incarnation {
                    member.incarnation = theirs;
                    renamed.push((member.id, theirs));
                }
            }
        }
        for (id, incarnation) in renamed {
            self.plane.set_target_incarnation(id, incarnation);
        }
    }

    /// A member that a peer has given up is given up here too, if nothing is heard of it here either. Whoever hears it
    /// has flows of it that live: the name of its new life is taken for the one that it leads here.
    fn give_up_with_peers(&mut self, place: usize, service: Service, now_ns: u64) {
        self.judge_together(place, now_ns);
        let Some(peers) = &self.peers else { return };
        let (mut over, mut renamed) = (Vec::new(), Vec::new());
        for member in &mut self.vips[place].members {
            let theirs = peers.agreement.incarnation(service, member.address);
            if theirs <= member.incarnation {
                continue;
            }
            if matches!(member.observed(), State::Up | State::SoftDown) {
                member.incarnation = theirs;
                renamed.push((member.id, theirs));
            } else {
                over.push((member.id, theirs));
            }
        }
        for (id, incarnation) in renamed {
            self.plane.set_target_incarnation(id, incarnation);
        }
        let seed = self.table_seed();
        for (id, incarnation) in over {
            let Some(old) = self.begin_life(place, id, incarnation) else {
                continue;
            };
            let vip = &mut self.vips[place];
            tracing::warn!(vip = vip.config.name, backend = %old.address, "a peer has given the backend's flows up");
            let heirs = plan_of(vip, seed).desired;
            vip.table.leave(id, &heirs, now_ns);
            self.flush(place);
            self.retire(&old);
        }
    }

    /// The last word of operators counts, whichever balancer they said it to.
    fn take_drains(&mut self, place: usize, service: Service, now_ns: u64) {
        let Some(peers) = &self.peers else { return };
        let vip = &mut self.vips[place];
        let deadline_ns = deadline(&vip.config, now_ns);
        let mut has_changed = false;
        for member in vip.members.iter_mut().filter(|member| !member.removed) {
            let said = peers.agreement.drain(service, member.address);
            let own = Drain {
                count: member.drains.into(),
                drained: member.drained,
            };
            if said <= own {
                continue;
            }
            member.drains = said.count.try_into().unwrap_or(u16::MAX);
            if member.drained != said.drained {
                tracing::info!(vip = vip.config.name, backend = %member.address, drained = said.drained, "an operator changed the backend, at a peer");
                member.drained = said.drained;
                member.cut = false;
                member.deadline_ns = if said.drained { deadline_ns } else { 0 };
            }
            has_changed = true;
        }
        if has_changed {
            self.replan(place, Urgency::Discretion, now_ns);
            self.name_members();
        }
    }

    /// What peers call a backend, and what operators have said of it.
    pub(super) fn named_by_peers(&self, config: &config::Vip, address: IpAddr) -> (u64, Drain) {
        let service = service_of(config);
        self.peers.as_ref().map_or((0, Drain::default()), |peers| {
            (
                peers.agreement.incarnation(service, address),
                peers.agreement.drain(service, address),
            )
        })
    }

    /// Takes down what all balancers together hold to be true of a VIP's members.
    pub(super) fn judge_together(&mut self, place: usize, now_ns: u64) {
        let Some(peers) = &self.peers else { return };
        let vip = &mut self.vips[place];
        let own: View = vip
            .members
            .iter()
            .map(|member| (member.address, observed(member.observed())))
            .collect();
        let judged = peers.agreement.judge(service_of(&vip.config), &own, now_ns);
        for member in &mut vip.members {
            let common = judged
                .get(&member.address)
                .map(|judgement| state(judgement.state));
            if member.common != common && common.is_some_and(|common| common != member.observed()) {
                tracing::info!(
                    vip = vip.config.name,
                    backend = %member.address,
                    own = ?member.observed(),
                    all = ?common,
                    "the balancers together hold something else to be true of the backend than this one's checks"
                );
            }
            member.common = common;
        }
    }

    /// Whether a peer has no room for the notes of a change that can wait.
    pub(super) fn has_crowded_peer(&self, place: usize) -> bool {
        let service = service_of(&self.vips[place].config);
        self.peers
            .as_ref()
            .is_some_and(|peers| peers.agreement.is_crowded(service))
    }

    /// Tells the peers what is new, if anything may be.
    pub(super) fn converse_if_changed(&mut self, now_ns: u64) {
        if self.has_news {
            self.converse(now_ns);
        }
    }

    /// Tells the peers what is new: reports, and slots that have begun to move.
    pub(super) fn converse(&mut self, now_ns: u64) {
        if self.peers.is_none() {
            return;
        }
        self.has_news = false;
        let is_crowded = self.is_crowded();
        let mut reports = Vec::new();
        let mut started = Vec::new();
        for vip in &mut self.vips {
            let service = service_of(&vip.config);
            let slots = vip.table.take_started();
            started.extend(replica::starts(service, &slots));
            let seen = |member: &Member| Seen {
                name: name(member),
                observed: observed(member.observed()),
                drain: Drain {
                    count: member.drains.into(),
                    drained: member.drained,
                },
            };
            reports.push(Report {
                service,
                version: 0,
                members: vip.members.iter().map(seen).collect(),
                crowded: is_crowded && vip.table.history() == History::Noted,
                digest: vip.digest(),
            });
        }
        let Some(peers) = &mut self.peers else { return };
        for starts in started {
            peers.share(Message::Starts(starts));
        }
        let changes = peers.agreement.set_reports(reports);
        self.perform(changes, now_ns);
    }

    fn take_starts(&mut self, starts: &Starts, now_ns: u64) {
        if let Some(place) = self.place_of(starts.service) {
            let vip = &mut self.vips[place];
            let idle_ns = vip.idle_ns();
            replica::take_starts(starts, &mut vip.table, now_ns, idle_ns);
            self.flush(place);
        }
    }

    fn take_table(&mut self, node: &Node, table: &Table, now_ns: u64) {
        let Some(place) = self.place_of(table.service) else {
            return;
        };
        let Some(peers) = &mut self.peers else { return };
        let relation = if peers.is_newcomer && peers.joined.insert(table.service) {
            Relation::Newcomer
        } else {
            Relation::Equal
        };
        let vip = &mut self.vips[place];
        let roster = roster(&vip.members);
        let before = table_of(vip, now_ns);
        peers
            .differing_slots
            .insert((node.clone(), table.service), replica::differing(&before, table));
        let idle_ns = vip.idle_ns();
        match replica::take_table(table, &mut vip.table, &roster, relation, now_ns, idle_ns) {
            Ok(()) => self.flush(place),
            Err(error) => {
                tracing::warn!(peer = node, %error, "a peer's table is not taken in");
            }
        }
    }
}
