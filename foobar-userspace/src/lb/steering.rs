//! What the daemon knows of its VIPs, and how a change of it reaches the data plane. No socket, no task: the
//! loop calls it with events, and with the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use foobar_common::address::Address;
use foobar_common::check::mark_of;
use foobar_common::slot::{ColdSlot, Member as Id};
use foobar_common::target::{TARGET_GONE, TARGET_USED};
use foobar_common::time::note_lifetime;
use foobar_common::vip::{VIP_RESET, Vip as Entry, VipKey};

use super::member::{Member, egress};
use crate::balancer::members::MemberPool;
use crate::balancer::plan::{self, Serving};
use crate::balancer::slots::SlotTable;
use crate::balancer::table::TableKind;
use crate::config::{self, Config, Protocol, Service, Unserved};
use crate::dataplane::DataPlane;
use crate::health::{CheckedTarget, State};
use crate::network::Resolution;

/// Why something that an operator asked for can't be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such VIP.
    #[error("there is no VIP named {0:?}")]
    NoVip(String),
    /// The VIP has no such backend.
    #[error("VIP {vip:?} has no backend {backend}")]
    NoBackend {
        /// The VIP.
        vip: String,
        /// The backend.
        backend: IpAddr,
    },
}

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
    /// Who serves.
    pub(super) serving: Serving,
    /// A change that may wait does, because there is no room for the notes that it would make.
    pub(super) waiting: bool,
}

impl Vip {
    pub(super) fn idle_ns(&self) -> u64 {
        self.config.idle_timeout.as_nanos() as u64
    }

    pub(super) fn member_mut(&mut self, id: Id) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }
}

/// Whether a change of the table can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
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
    /// What the network says of each backend.
    pub(super) resolutions: BTreeMap<IpAddr, Resolution>,
    next_vip: u32,
    incarnation: u64,
    /// The index of each VIP address's lease.
    leases: BTreeMap<IpAddr, u32>,
}

impl Steering {
    pub(super) fn new(
        plane: DataPlane,
        ingress: u32,
        vips: Vec<Vip>,
        pool: MemberPool,
        next_vip: u32,
        now_ns: u64,
    ) -> Self {
        let seed = plane.flow_seed();
        Self {
            plane,
            vips,
            pool,
            ingress,
            seed,
            notes: 0,
            resolutions: BTreeMap::new(),
            next_vip,
            incarnation: now_ns,
            leases: BTreeMap::new(),
        }
    }

    /// Brings everything to what the configuration says.
    pub(super) fn apply(&mut self, config: &Config, now_ns: u64) -> anyhow::Result<()> {
        let wanted: BTreeSet<Service> = config.vips.iter().map(config::Vip::service).collect();
        let (kept, gone): (Vec<Vip>, Vec<Vip>) = std::mem::take(&mut self.vips)
            .into_iter()
            .partition(|vip| wanted.contains(&vip.config.service()));
        self.vips = kept;
        for vip in &config.vips {
            match self
                .vips
                .iter()
                .position(|have| have.config.service() == vip.service())
            {
                Some(place) => self.update(place, vip, now_ns),
                None => self.add(vip, now_ns),
            }
        }
        self.vips.sort_by_key(|vip| {
            config
                .vips
                .iter()
                .position(|c| c.service() == vip.config.service())
        });
        for place in 0..self.vips.len() {
            self.replan(place, Urgency::Discretion, now_ns);
        }
        self.publish()?;
        for vip in gone {
            tracing::warn!(vip = vip.config.name, service = %vip.config.service(), "VIP removed: its packets are no longer taken, its flows end");
            for member in vip.members {
                self.retire(&member);
            }
        }
        Ok(())
    }

    fn add(&mut self, config: &config::Vip, now_ns: u64) {
        let Some(base) = self.free_slots(config.slots) else {
            tracing::error!(
                vip = config.name,
                slots = config.slots,
                "no room for the VIP's slots: restart after raising limits.slots; the VIP is left out"
            );
            return;
        };
        let id = self.next_vip;
        self.next_vip += 1;
        let mut table = SlotTable::adopt(std::iter::repeat_n(ColdSlot::default(), config.slots as usize));
        for slot in 0..config.slots {
            let ColdSlot {
                slot: value,
                since_ns,
            } = table.slots()[slot as usize];
            self.plane.set_slot(base + slot, value, since_ns);
        }
        drop(table.take_changed());
        let mut vip = Vip {
            id,
            config: config.clone(),
            base,
            table,
            members: Vec::new(),
            serving: Serving::Nobody,
            waiting: false,
        };
        for backend in &config.backends {
            self.enlist(&mut vip, backend.address, backend.weight, true, now_ns);
        }
        tracing::info!(vip = config.name, service = %config.service(), backends = vip.members.len(), "VIP added");
        self.vips.push(vip);
    }

    /// The first index of a gap that `count` slots fit into.
    fn free_slots(&self, count: u32) -> Option<u32> {
        let mut used: Vec<(u32, u32)> = self
            .vips
            .iter()
            .map(|vip| (vip.base, vip.base + vip.config.slots))
            .collect();
        used.sort_unstable();
        let mut base = 0;
        for (start, end) in used {
            if start >= base + count {
                break;
            }
            base = base.max(end);
        }
        (base + count <= self.plane.slot_capacity()).then_some(base)
    }

    fn update(&mut self, place: usize, config: &config::Vip, now_ns: u64) {
        let mut vip = self.vips.remove(place);
        let slots = vip.config.slots;
        vip.config = config::Vip {
            slots,
            ..config.clone()
        };
        for backend in &config.backends {
            match vip
                .members
                .iter_mut()
                .find(|member| member.address == backend.address)
            {
                Some(member) => {
                    if member.removed {
                        tracing::info!(vip = config.name, backend = %backend.address, "backend is back in the configuration");
                        member.removed = false;
                        member.deadline_ns = 0;
                    }
                    member.weight = backend.weight;
                }
                None => {
                    tracing::info!(vip = config.name, backend = %backend.address, weight = backend.weight, "backend added");
                    self.enlist(&mut vip, backend.address, backend.weight, false, now_ns);
                }
            }
        }
        let deadline_ns = deadline(config, now_ns);
        for member in &mut vip.members {
            if !member.removed
                && config
                    .backends
                    .iter()
                    .all(|backend| backend.address != member.address)
            {
                tracing::info!(vip = config.name, backend = %member.address, "backend removed: it drains");
                member.removed = true;
                if member.deadline_ns == 0 {
                    member.deadline_ns = deadline_ns;
                }
            }
        }
        self.vips.insert(place, vip);
    }

    fn enlist(&mut self, vip: &mut Vip, address: IpAddr, weight: u16, founding: bool, now_ns: u64) {
        let Some(id) = self.pool.allocate() else {
            tracing::error!(vip = vip.config.name, backend = %address, "no free target: restart after raising limits.targets; the backend is left out");
            return;
        };
        self.incarnation = self.incarnation.max(now_ns) + 1;
        let mut member = Member {
            id,
            address,
            weight,
            health: if vip.config.check.is_some() {
                State::Unknown
            } else {
                State::Up
            },
            founding,
            left: false,
            drained: false,
            removed: false,
            deadline_ns: 0,
            next_hop: None,
            trouble: None,
            incarnation: self.incarnation,
        };
        if let Some(&state) = self.resolutions.get(&address) {
            member.resolve(state);
        }
        self.install(vip.id, &member);
        vip.members.push(member);
    }

    /// Fills the target of an index that begins a new life.
    fn install(&mut self, vip: u32, member: &Member) {
        self.allow_egress(member);
        self.plane
            .set_target(member.id, &member.target(vip, self.ingress));
        if let Err(error) = self.plane.clear_target_counters(member.id) {
            tracing::warn!(%error, backend = %member.address, "counters could not be reset");
        }
    }

    fn allow_egress(&mut self, member: &Member) {
        if let Some(hop) = member.next_hop
            && hop.ifindex != self.ingress
            && let Err(error) = self.plane.add_tx_port(hop.ifindex)
        {
            tracing::error!(%error, backend = %member.address, ifindex = hop.ifindex, "the backend's interface can't be used by XDP");
        }
    }

    /// A member is gone: its notes stop counting, and its index waits until nothing names it.
    fn retire(&mut self, member: &Member) {
        self.plane
            .set_target_state(member.id, TARGET_USED | TARGET_GONE, 0, 0);
        self.pool.release(member.id);
    }

    /// Puts the VIPs and the ownership of their addresses in force.
    fn publish(&mut self) -> anyhow::Result<()> {
        let addresses: BTreeMap<IpAddr, bool> = self
            .vips
            .iter()
            .map(|vip| (vip.config.address, vip.config.owned))
            .collect();
        let before = self.leases.clone();
        self.leases.retain(|address, _| addresses.contains_key(address));
        for address in addresses.keys() {
            if !self.leases.contains_key(address) {
                let taken: BTreeSet<u32> = self.leases.values().chain(before.values()).copied().collect();
                let free = (0..).find(|index| !taken.contains(index)).unwrap_or_default();
                self.leases.insert(*address, free);
            }
        }
        let mut entries = Vec::new();
        for (address, owned) in &addresses {
            let lease = self.leases[address];
            self.plane.set_lease(lease, if *owned { u64::MAX } else { 0 });
            // Packets that no service takes get what the address's services agree on.
            let reset = self
                .vips
                .iter()
                .filter(|vip| vip.config.address == *address)
                .all(|vip| vip.config.unserved == Unserved::Reset);
            entries.push(Entry {
                key: VipKey::address(Address::from(*address)),
                id: lease,
                flags: if reset { VIP_RESET } else { 0 },
                ..Entry::default()
            });
        }
        entries.extend(self.vips.iter().map(entry));
        self.plane.set_services(&entries)?;
        Ok(())
    }

    /// The seed of the tables: derived from the cluster's, so that all balancers fill them alike.
    const fn table_seed(&self) -> u64 {
        self.seed[0] ^ self.seed[1].rotate_left(32)
    }

    /// Lets a VIP's slots become what members and health ask for.
    fn replan(&mut self, place: usize, urgency: Urgency, now_ns: u64) {
        let crowded = self.notes as u64 * 10 > u64::from(self.plane.note_capacity()) * 9;
        let seed = self.table_seed();
        let vip = &mut self.vips[place];
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
        let mut plan = plan_of(vip, seed);
        // Who has left once has nothing left to leave, until it serves again because nobody else can.
        plan.leaving
            .retain(|&id| vip.members.iter().all(|member| member.id != id || !member.left));
        if plan.serving != Serving::Healthy {
            vip.members.iter_mut().for_each(|member| member.left = false);
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
        for member in &vip.members {
            self.plane
                .set_target_state(member.id, member.flags(), member.weight, member.deadline_ns);
        }
        for &id in &plan.leaving {
            vip.table.leave(id, &plan.desired, now_ns);
        }
        vip.table.retarget(&plan.desired, now_ns);
        self.flush(place);
        for id in plan.leaving {
            self.reincarnate(place, id, now_ns);
        }
    }

    /// Writes the slots that changed.
    pub(super) fn flush(&mut self, place: usize) {
        let vip = &mut self.vips[place];
        for index in vip.table.take_changed() {
            let ColdSlot { slot, since_ns } = vip.table.slots()[index as usize];
            self.plane.set_slot(vip.base + index, slot, since_ns);
        }
    }

    /// A member that left its slots for good gets another index: notes of its old life never count again.
    fn reincarnate(&mut self, place: usize, id: Id, now_ns: u64) {
        let Some(fresh) = self.pool.allocate() else {
            tracing::error!("no free target for a backend that went silent: raise limits.targets");
            return;
        };
        self.incarnation = self.incarnation.max(now_ns) + 1;
        let incarnation = self.incarnation;
        let vip = &mut self.vips[place];
        let vip_id = vip.id;
        let Some(member) = vip.member_mut(id) else {
            return;
        };
        let old = member.clone();
        member.id = fresh;
        member.incarnation = incarnation;
        member.founding = false;
        member.left = true;
        let new = member.clone();
        self.install(vip_id, &new);
        self.retire(&old);
    }

    /// A check's judgement.
    pub(super) fn on_health(&mut self, id: Id, state: State, reason: &str, now_ns: u64) {
        let Some(place) = self
            .vips
            .iter()
            .position(|vip| vip.members.iter().any(|member| member.id == id))
        else {
            return;
        };
        let vip = &mut self.vips[place];
        let name = vip.config.name.clone();
        let Some(member) = vip.member_mut(id) else {
            return;
        };
        match state {
            State::Up => tracing::info!(vip = name, backend = %member.address, reason, "backend is up"),
            State::SoftDown => {
                tracing::warn!(vip = name, backend = %member.address, reason, "backend is down: new flows go elsewhere, established ones stay")
            }
            State::HardDown => {
                tracing::warn!(vip = name, backend = %member.address, reason, "backend is silent: its flows are given up")
            }
            State::Unknown => (),
        }
        member.health = state;
        member.left &= state == State::HardDown;
        self.replan(place, Urgency::Health, now_ns);
    }

    /// What the network says of a backend's next hop.
    pub(super) fn on_next_hop(&mut self, address: IpAddr, state: Resolution, now_ns: u64) {
        self.resolutions.insert(address, state);
        for place in 0..self.vips.len() {
            let name = self.vips[place].config.name.clone();
            let ingress = self.ingress;
            let Some(member) = self.vips[place]
                .members
                .iter_mut()
                .find(|member| member.address == address)
            else {
                continue;
            };
            if !member.resolve(state) {
                continue;
            }
            let member = member.clone();
            match (&member.next_hop, &member.trouble) {
                (Some(hop), _) => {
                    tracing::info!(vip = name, backend = %address, next_hop = ?hop, "next hop");
                    self.allow_egress(&member);
                    self.plane.set_next_hop(
                        member.id,
                        hop.destination_mac,
                        hop.source_mac,
                        egress(*hop, ingress),
                    );
                }
                (None, trouble) => {
                    tracing::warn!(vip = name, backend = %address, trouble, "no next hop");
                    self.plane.clear_next_hop(member.id);
                }
            }
            self.replan(place, Urgency::Health, now_ns);
        }
    }

    /// Drains a backend of a VIP, or ends that.
    pub(super) fn drain(
        &mut self,
        vip: &str,
        backend: IpAddr,
        drained: bool,
        now_ns: u64,
    ) -> Result<(), Refusal> {
        let place = self
            .vips
            .iter()
            .position(|have| have.config.name == vip)
            .ok_or_else(|| Refusal::NoVip(vip.to_owned()))?;
        let deadline_ns = deadline(&self.vips[place].config, now_ns);
        let member = self.vips[place]
            .members
            .iter_mut()
            .find(|member| member.address == backend && !member.removed)
            .ok_or_else(|| Refusal::NoBackend {
                vip: vip.to_owned(),
                backend,
            })?;
        if member.drained != drained {
            tracing::info!(vip, %backend, drained, "an operator changed the backend");
            member.drained = drained;
            member.deadline_ns = if drained { deadline_ns } else { 0 };
            self.replan(place, Urgency::Discretion, now_ns);
        }
        Ok(())
    }

    /// Lets time pass: phases end, and what waited or is overdue is done.
    ///
    /// True where a member got another index, and with it another check.
    pub(super) fn tick(&mut self, now_ns: u64) -> bool {
        let mut renamed = false;
        for place in 0..self.vips.len() {
            let idle_ns = self.vips[place].idle_ns();
            self.vips[place].table.advance(now_ns, idle_ns);
            self.flush(place);
            let overdue: Vec<Id> = self.vips[place]
                .members
                .iter()
                .filter(|member| {
                    member.deadline_ns != 0 && member.deadline_ns <= now_ns && !member.is_wanted()
                })
                .map(|member| member.id)
                .collect();
            for id in overdue {
                self.cut(place, id, now_ns);
                renamed = true;
            }
            if self.vips[place].waiting {
                self.replan(place, Urgency::Discretion, now_ns);
            }
        }
        renamed
    }

    /// A drained member's time is over: the flows that it still has are cut off.
    fn cut(&mut self, place: usize, id: Id, now_ns: u64) {
        let seed = self.table_seed();
        let vip = &mut self.vips[place];
        let heirs = plan_of(vip, seed).desired;
        vip.table.leave(id, &heirs, now_ns);
        let name = vip.config.name.clone();
        if let Some(member) = vip.member_mut(id) {
            member.deadline_ns = 0;
            tracing::warn!(vip = name, backend = %member.address, "drain deadline: flows that are left are cut");
        }
        self.flush(place);
        self.reincarnate(place, id, now_ns);
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

    /// All backends' addresses.
    pub(super) fn backends(&self) -> BTreeSet<IpAddr> {
        self.vips
            .iter()
            .flat_map(|vip| vip.members.iter().map(|member| member.address))
            .collect()
    }
}

/// Which slots a VIP's members should have.
fn plan_of(vip: &Vip, seed: u64) -> plan::Plan {
    let members: Vec<_> = vip.members.iter().map(Member::planned).collect();
    let kind = match vip.config.table {
        config::TableKind::Maglev => TableKind::Maglev,
        config::TableKind::Rendezvous => TableKind::Rendezvous,
    };
    plan::desired(kind, seed, vip.config.slots as usize, &members)
}

/// When a drain that begins now ends by force.
fn deadline(config: &config::Vip, now_ns: u64) -> u64 {
    config.drain_timeout.map_or(0, |timeout| {
        now_ns.saturating_add(timeout.as_nanos() as u64).max(1)
    })
}

/// A VIP's entry in the data plane's table.
fn entry(vip: &Vip) -> Entry {
    let protocol = match vip.config.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    Entry {
        key: VipKey::service(
            Address::from(vip.config.address),
            vip.config.port.to_be(),
            protocol,
        ),
        id: vip.id,
        flags: if vip.config.unserved == Unserved::Reset {
            VIP_RESET
        } else {
            0
        },
        slot_base: vip.base,
        slot_mask: vip.config.slots - 1,
        note_lifetime: note_lifetime(vip.idle_ns()),
        ..Entry::default()
    }
}
