//! What the daemon knows of its VIPs, and how a change of it reaches the data plane. No socket, no task: the
//! loop calls it with a configuration (`apply`), with events (`events`), and to sweep the notes (`sweep`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use foobar_common::check::mark_of;
use foobar_common::note::{FlowKey, Note};
use foobar_common::slot::{ColdSlot, Member as Id};
use foobar_common::target::{TARGET_GONE, TARGET_USED};
use foobar_common::vip::Lanes;

use super::admission::Admission;
use super::canary;
use super::member::Member;
use super::peers::Peers;
use crate::balancer::members::MemberPool;
use crate::balancer::plan::{self, Serving};
use crate::balancer::sharing::SharedTables;
use crate::balancer::slots::{History, SlotTable};
use crate::balancer::table::TableKind;
use crate::cluster::message::Digest;
use crate::cluster::renewals::Renewals;
use crate::config::{self, Forward, Tracking};
use crate::dataplane::{DataPlane, OuterSource, ServerIds};
use crate::health::{CheckedTarget, State};
use crate::network::Resolution;

/// A VIP in force.
pub(super) struct Vip {
    /// Never used twice.
    pub(super) id: u32,
    /// What the configuration says.
    pub(super) config: config::Vip,
    /// The index of its first slot.
    pub(super) base: u32,
    /// Its slots.
    pub(super) table: SlotTable,
    /// Its members, those that are on their way out included.
    pub(super) members: Vec<Member>,
    /// The ids that are set aside for them.
    pub(super) block: Range<Id>,
    /// Where its hot slots are read.
    pub(super) lanes: Lanes,
    /// The pattern of its owners, and the revision of the table that it is of.
    pub(super) pattern: Option<(u64, u64)>,
    /// Who serves.
    pub(super) serving: Serving,
    /// A change that may wait does, because there is no room for the notes that it would make. (Single slots
    /// may wait besides: [`SlotTable::waiting`].)
    pub(super) waiting: bool,
    /// What the digest of what is steered by here was last, and of what.
    pub(super) digest: Option<(u64, String, Digest)>,
    /// When somebody was up again after nobody was, CLOCK_MONOTONIC in nanoseconds; 0: long ago.
    pub(super) recovered_ns: u64,
}

impl Vip {
    pub(super) fn idle_ns(&self) -> u64 {
        self.config.idle_timeout.as_nanos() as u64
    }

    /// When silence from before the last recovery is no excuse any more.
    ///
    /// If nobody could be reached, the balancer's own link may have been the cause: the first backend that
    /// answers again must not condemn the others before each has been checked anew.
    pub(super) fn grace_ends_ns(&self) -> u64 {
        let grace = self.config.check.as_ref().map_or(0, |check| {
            let timing = check.timing;
            (timing.hard_after + timing.down_interval * 2 + timing.timeout).as_nanos() as u64
        });
        if self.recovered_ns == 0 {
            0
        } else {
            self.recovered_ns + grace
        }
    }

    pub(super) fn member_mut(&mut self, id: Id) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }
}

/// Whether a change of the table can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody is down, or up again.
    Health,
    /// The operator or the configuration wants it.
    Discretion,
}

/// The daemon's knowledge, and the data plane.
pub(super) struct Steering {
    pub(super) plane: DataPlane,
    pub(super) vips: Vec<Vip>,
    pub(super) pool: MemberPool,
    /// The interface that packets come in by.
    pub(super) ingress: u32,
    pub(super) seed: [u64; 2],
    /// Notes at the last sweep.
    pub(super) notes: usize,
    /// The longest packet that the way through a tunnel takes.
    pub(super) tunnel_mtu: u16,
    /// What the network says of each backend, and of each gateway on the way to one.
    pub(super) resolutions: BTreeMap<IpAddr, Resolution>,
    pub(super) next_vip: u32,
    /// The index of each VIP address's lease.
    pub(super) leases: BTreeMap<IpAddr, u32>,
    /// Addresses that routers are told of.
    pub(super) announced: BTreeSet<IpAddr>,
    /// Source lists and SYN limits.
    pub(super) admission: Admission,
    /// What of the configuration found no room, in words.
    pub(super) left_out: Vec<String>,
    /// Indices of no member that the last sweep found unnamed: free if the next one finds them so as well.
    pub(super) unnamed: HashSet<Id>,
    /// The QUIC server ids that were written last.
    pub(super) server_ids: Option<ServerIds>,
    /// The other balancers of the cluster, if there is one.
    pub(super) peers: Option<Peers>,
    /// A member has got another index, and with it another check.
    pub(super) has_new_checks: bool,
    /// There is something to be told to peers.
    pub(super) has_news: bool,
    /// What is known of the services' canaries; none where there is no canary.
    pub(super) canaries: canary::Known,
    /// Tables of hot slots that VIPs share.
    pub(super) shared: SharedTables,
    /// What peers know of the notes, where there are peers.
    pub(super) renewals: Option<Renewals>,
    /// Notes that were used well after the last use that peers know of, found by sweeps: to be told.
    pub(super) renewed: Vec<(FlowKey, Note)>,
}

impl Steering {
    pub(super) fn new(
        plane: DataPlane,
        ingress: u32,
        vips: Vec<Vip>,
        pool: MemberPool,
        next_vip: u32,
    ) -> Self {
        let seed = plane.flow_seed();
        let shared = SharedTables::adopt(plane.shared_slots());
        Self {
            shared,
            plane,
            vips,
            pool,
            ingress,
            seed,
            notes: 0,
            tunnel_mtu: config::Tunnel::default().mtu,
            resolutions: BTreeMap::new(),
            next_vip,
            leases: BTreeMap::new(),
            admission: Admission::default(),
            left_out: Vec::new(),
            unnamed: HashSet::new(),
            server_ids: None,
            peers: None,
            has_new_checks: false,
            has_news: false,
            canaries: canary::Known::new(),
            announced: BTreeSet::new(),
            renewals: None,
            renewed: Vec::new(),
        }
    }

    /// Fills the target of an index that begins a new life.
    pub(super) fn install(&mut self, vip: u32, member: &Member) {
        self.allow_egress(member);
        self.plane
            .set_target(member.id, &member.target(vip, self.ingress));
        self.plane.clear_target_counters(member.id);
    }

    pub(super) fn allow_egress(&mut self, member: &Member) {
        if let Some(hop) = member.next_hop
            && hop.ifindex != self.ingress
            && let Err(error) = self.plane.add_tx_port(hop.ifindex)
        {
            tracing::error!(%error, backend = %member.address, ifindex = hop.ifindex, "the backend's interface can't be used by XDP");
        }
    }

    /// A member is gone: its notes stop counting, and its index waits until nothing names it.
    pub(super) fn retire(&mut self, member: &Member) {
        self.plane
            .set_target_state(member.id, TARGET_USED | TARGET_GONE, 0, 0);
        self.pool.release(member.id);
    }

    /// The seed of the tables: derived from the cluster's, so that all balancers fill them alike.
    pub(super) const fn table_seed(&self) -> u64 {
        self.seed[0] ^ self.seed[1].rotate_left(32)
    }

    /// Lets a VIP's slots become what members and health ask for.
    pub(super) fn replan(&mut self, place: usize, urgency: Urgency, now_ns: u64) {
        self.judge_together(place, now_ns);
        self.has_news = true;
        let is_held_back = self
            .peers
            .as_ref()
            .is_some_and(|peers| peers.agreement.holds_back(now_ns));
        let crowded = self.is_crowded() || self.has_crowded_peer(place);
        let seed = self.table_seed();
        let vip = &mut self.vips[place];
        // Also of a change that waits: what an operator asked for outlives the daemon.
        for member in &vip.members {
            self.plane
                .set_target_state(member.id, member.flags(), member.weight, member.deadline_ns);
            self.plane.set_target_drains(member.id, member.drains);
        }
        // All is planned when it is over. A VIP without owners has nothing that could be kept.
        if is_held_back && vip.serving != Serving::Nobody {
            return;
        }
        let crowded = crowded && vip.table.history() == History::Noted;
        if urgency == Urgency::Discretion && crowded && vip.serving == Serving::Healthy {
            if !vip.waiting {
                tracing::warn!(
                    vip = vip.config.name,
                    notes = self.notes,
                    "the change waits: there is no room for its notes (limits.notes)"
                );
            }
            vip.waiting = true;
            return;
        }
        vip.waiting = false;
        for member in &mut vip.members {
            member.left &= member.state() == State::HardDown;
        }
        let mut plan = plan_of(vip, seed);
        // Who has left once has nothing left to leave, until it serves again because nobody else can.
        plan.leaving
            .retain(|&id| vip.members.iter().all(|member| member.id != id || !member.left));
        if plan.serving != Serving::Healthy {
            vip.members.iter_mut().for_each(|member| member.left = false);
        }
        if plan.serving == Serving::Healthy && vip.serving == Serving::NoneUp {
            vip.recovered_ns = now_ns;
        }
        if plan.serving != vip.serving {
            match plan.serving {
                Serving::Healthy => tracing::info!(vip = vip.config.name, "healthy backends serve"),
                Serving::NoneUp => tracing::error!(
                    vip = vip.config.name,
                    "ALL BACKENDS ARE DOWN: all of them go on being used"
                ),
                Serving::Nobody => {
                    tracing::error!(vip = vip.config.name, "no backend at all: packets are refused")
                }
            }
            vip.serving = plan.serving;
        }
        if now_ns < vip.grace_ends_ns() {
            plan.leaving.clear();
        }
        for &id in &plan.leaving {
            vip.table.leave(id, &plan.desired, now_ns);
        }
        vip.table.retarget(&plan.desired, &plan.failing, now_ns);
        self.flush(place);
        for id in plan.leaving {
            self.reincarnate(place, id);
        }
    }

    /// Whether there is no room for the notes of a change that can wait.
    pub(super) fn is_crowded(&self) -> bool {
        self.notes as u64 * 10 > u64::from(self.plane.note_capacity()) * 9
    }

    /// Writes the slots that changed.
    pub(super) fn flush(&mut self, place: usize) {
        let changed = self.vips[place].table.take_changed();
        if !changed.is_empty() {
            self.unshare(place);
        }
        let vip = &mut self.vips[place];
        for index in changed {
            let ColdSlot { slot, since_ns } = vip.table.slots()[index as usize];
            self.plane.set_slot(vip.base + index, slot, since_ns);
        }
        let displaced = vip.table.take_displaced();
        if displaced > 0 {
            tracing::warn!(
                vip = vip.config.name,
                slots = displaced,
                "slots needed a fourth owner: flows that their oldest one still has are lost"
            );
        }
    }

    /// A member that left its slots for good gets another index: notes of its old life never count again.
    pub(super) fn reincarnate(&mut self, place: usize, id: Id) {
        let Some(member) = self.vips[place].member_mut(id) else {
            return;
        };
        let next = member.incarnation + 1;
        if let Some(old) = self.begin_life(place, id, next) {
            self.retire(&old);
        }
    }

    /// A member begins the life of this name, under another index; gives what it was until now, whose index is to be
    /// retired when no slot names it any more.
    pub(super) fn begin_life(&mut self, place: usize, id: Id, incarnation: u64) -> Option<Member> {
        let Some(fresh) = self.pool.allocate_in(&self.vips[place].block) else {
            tracing::error!("no free target for a backend that was given up: raise limits.targets");
            return None;
        };
        let vip = &mut self.vips[place];
        let vip_id = vip.id;
        let Some(member) = vip.member_mut(id) else {
            self.pool.release(fresh);
            return None;
        };
        let old = member.clone();
        member.id = fresh;
        (member.incarnation, member.born) = (incarnation, incarnation);
        member.founding = false;
        member.left = member.state() == State::HardDown;
        let new = member.clone();
        self.install(vip_id, &new);
        self.name_members();
        self.has_new_checks = true;
        Some(old)
    }

    /// What is to be checked, and how.
    pub(super) fn checks(&self) -> Vec<CheckedTarget> {
        let mut targets = Vec::new();
        for vip in &self.vips {
            let Some(check) = &vip.config.check else {
                continue;
            };
            for member in &vip.members {
                targets.push(CheckedTarget {
                    id: u32::from(member.id),
                    mark: mark_of(member.id),
                    address: SocketAddr::new(vip.config.address, check.port),
                    check: check.clone(),
                    initial: member.health,
                });
            }
        }
        targets
    }

    /// The addresses whose next hops are to be known: all backends', and those of the gateways that tunnels
    /// go by.
    pub(super) fn neighbours(&self) -> BTreeSet<IpAddr> {
        let members = self.vips.iter().flat_map(|vip| &vip.members);
        let gateways = members.clone().filter_map(|member| {
            let resolution = self.resolutions.get(&member.address)?;
            gateway(*resolution, member.forward)
        });
        members
            .clone()
            .map(|member| member.address)
            .chain(gateways)
            .collect()
    }

    /// What the network says of the way to a backend: for a tunnel, of the way to the gateway that leads there.
    pub(super) fn resolution(&self, backend: IpAddr, forward: Forward) -> Option<Resolution> {
        let resolution = self.resolutions.get(&backend)?;
        match gateway(*resolution, forward) {
            None => Some(*resolution),
            Some(gateway) => self.resolutions.get(&gateway).copied(),
        }
    }

    /// Puts in force what outer headers are made with.
    pub(super) fn set_tunnel(&mut self, tunnel: &config::Tunnel) {
        self.tunnel_mtu = tunnel.mtu;
        let default = OuterSource::default();
        self.plane.set_outer_source(&OuterSource {
            v4: tunnel
                .source_v4
                .map_or(default.v4, |source| (source.address, source.prefix_length)),
            v6: tunnel
                .source_v6
                .map_or(default.v6, |source| (source.address, source.prefix_length)),
            gue_port: tunnel.gue_port,
        });
    }
}

/// The gateway of the way to a backend that is reached through a tunnel.
pub(super) fn gateway(resolution: Resolution, forward: Forward) -> Option<IpAddr> {
    match (resolution, forward) {
        (Resolution::NotOnLink { gateway }, Forward::Ipip | Forward::Gue) => Some(gateway),
        _ => None,
    }
}

/// Which slots a VIP's members should have.
pub(super) fn plan_of(vip: &Vip, seed: u64) -> plan::Plan {
    let members: Vec<_> = vip.members.iter().map(Member::planned).collect();
    let kind = match vip.config.table {
        config::TableKind::Maglev => TableKind::Maglev,
        config::TableKind::Rendezvous => TableKind::Rendezvous,
    };
    plan::desired(kind, seed, vip.config.slots as usize, &members)
}

/// What a VIP's slots do with their earlier owners.
pub(super) const fn history(config: &config::Vip) -> History {
    match config.tracking {
        _ if config.second_chance => History::Kept,
        Tracking::Transitions | Tracking::All | Tracking::AllStrict => History::Noted,
        Tracking::None => History::Forgotten,
    }
}

/// When a drain that begins now ends by force.
pub(super) fn deadline(config: &config::Vip, now_ns: u64) -> u64 {
    config.drain_timeout.map_or(0, |timeout| {
        now_ns.saturating_add(timeout.as_nanos() as u64).max(1)
    })
}
