//! From a configuration to the steering state: VIPs and members come, change and go, and the data plane's
//! table of VIPs follows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use foobar_common::address::Address;
use foobar_common::slot::ColdSlot;
use foobar_common::vip::{Lanes, VIP_RESET, Vip as Entry, VipKey};

use super::entry;
use super::member::Member;
use super::steering::{Steering, Urgency, Vip, deadline, history};
use crate::balancer::first_gap;
use crate::balancer::plan::Serving;
use crate::balancer::slots::SlotTable;
use crate::config::{self, Backend, Config, Forward, Ownership, Service, Unserved};
use crate::dataplane::GRACE;
use crate::health::State;

impl Steering {
    /// Brings everything to what the configuration says.
    ///
    /// # Errors
    /// Where the VIPs don't fit into the data plane's table: nothing is changed then. What finds no room
    /// otherwise is in `left_out` afterwards.
    pub(super) fn apply(&mut self, config: &Config, now_ns: u64) -> anyhow::Result<()> {
        self.plane.fits(&keys(config))?;
        self.gain_features(config)?;
        let admission = self.prepare_admission(config)?;
        self.set_tunnel(&config.tunnel);
        let wanted: BTreeSet<Service> = config.vips.iter().map(config::Vip::service).collect();
        let (kept, gone): (Vec<Vip>, Vec<Vip>) = std::mem::take(&mut self.vips)
            .into_iter()
            .partition(|vip| wanted.contains(&vip.config.service()));
        self.vips = kept;
        self.left_out.clear();
        let in_force = self.plane.services();
        let mut services = in_force
            .iter()
            .filter(|in_force| entry::service(&in_force.key).is_some());
        if services.any(|entry| self.vips.iter().all(|vip| vip.id != entry.id)) {
            // Out of force before anything of theirs can be given to others.
            self.publish()?;
            std::thread::sleep(GRACE);
        }
        for vip in &config.vips {
            match self
                .vips
                .iter()
                .position(|have| have.config.service() == vip.service())
            {
                Some(place) => self.update(place, vip, now_ns),
                None => self.add(vip, block_length(config, vip, self.pool.capacity())),
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
        // Who is noted is a candidate before notes stop counting, and no slot is kept before its VIP's packets
        // carry candidates.
        self.recall_notes(now_ns);
        self.publish()?;
        for place in 0..self.vips.len() {
            let vip = &mut self.vips[place];
            let wanted = history(&vip.config);
            if vip.table.history() != wanted {
                vip.table.set_history(wanted);
                self.flush(place);
            }
        }
        self.keep_admission(admission);
        for vip in gone {
            tracing::warn!(vip = vip.config.name, service = %vip.config.service(), "VIP removed: its packets are no longer taken, its flows end");
            self.shared.leave(vip.base, vip.lanes);
            for member in vip.members {
                self.retire(&member);
            }
        }
        self.shed_features();
        Ok(())
    }

    /// Adds a VIP, with so many ids set aside for its members.
    fn add(&mut self, config: &config::Vip, block: u16) {
        let Some(base) = self.free_slots(config.slots) else {
            self.leave_out(format!(
                "VIP {}: no room for its {} slots. Raise limits.slots, `foobar lb detach`, and start again",
                config.name, config.slots
            ));
            return;
        };
        let id = self.next_vip;
        self.next_vip += 1;
        let empty = std::iter::repeat_n(ColdSlot::default(), config.slots as usize);
        let mut table = SlotTable::adopt(history(config), empty);
        for slot in 0..config.slots {
            let ColdSlot {
                slot: value,
                since_ns,
            } = table.slots()[slot as usize];
            self.plane.set_slot(base + slot, value, since_ns);
        }
        drop(table.take_changed());
        if let Some(peers) = &self.peers {
            peers.introduce(&mut table);
        }
        let mut vip = Vip {
            id,
            config: config.clone(),
            base,
            table,
            members: Vec::new(),
            block: self
                .pool
                .free_block(block, self.vips.iter().map(|vip| &vip.block)),
            lanes: Lanes::OWN,
            pattern: None,
            serving: Serving::Nobody,
            waiting: false,
            digest: None,
            recovered_ns: 0,
        };
        for backend in by_address(config) {
            self.enlist(&mut vip, backend, true);
        }
        let place = |member: &Member| {
            let backends = &mut config.backends.iter();
            backends.position(|backend| backend.address == member.address)
        };
        vip.members.sort_by_key(place);
        tracing::info!(vip = config.name, service = %config.service(), backends = vip.members.len(), "VIP added");
        self.vips.push(vip);
    }

    fn leave_out(&mut self, what: String) {
        tracing::error!("left out: {what}");
        self.left_out.push(what);
    }

    /// The first index of a gap that `count` slots fit into.
    fn free_slots(&self, count: u32) -> Option<u32> {
        let used = self.vips.iter().map(|vip| vip.base..vip.base + vip.config.slots);
        first_gap(0..self.plane.slot_capacity(), used, count)
    }

    fn update(&mut self, place: usize, config: &config::Vip, now_ns: u64) {
        let mut vip = self.vips.remove(place);
        let (slots, hash) = (vip.config.slots, vip.config.hash);
        vip.config = config::Vip {
            slots,
            hash,
            ..config.clone()
        };
        self.reroute(&mut vip);
        for backend in by_address(config) {
            match vip
                .members
                .iter_mut()
                .find(|member| member.address == backend.address)
            {
                Some(member) => {
                    member.server_id = backend.server_id;
                    if member.removed {
                        tracing::info!(vip = config.name, backend = %backend.address, "backend is back in the configuration");
                        member.removed = false;
                        member.cut &= member.drained;
                        member.deadline_ns = 0;
                    }
                    member.weight = backend.weight;
                }
                None => {
                    tracing::info!(vip = config.name, backend = %backend.address, weight = backend.weight, "backend added");
                    self.enlist(&mut vip, backend, false);
                }
            }
        }
        if config.check.is_none() {
            // Nobody judges them any more.
            for member in &mut vip.members {
                member.health = State::Up;
                member.left = false;
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

    fn enlist(&mut self, vip: &mut Vip, backend: &Backend, founding: bool) {
        let address = backend.address;
        let Some(id) = self.pool.allocate_in(&vip.block) else {
            self.leave_out(format!(
                "backend {address} of VIP {}: no free target. Reload when drained backends are gone; or raise limits.targets, `foobar lb detach`, and start again",
                vip.config.name
            ));
            return;
        };
        let (incarnation, drain) = self.named_by_peers(&vip.config, address);
        let mut member = Member {
            id,
            address,
            weight: backend.weight,
            health: if vip.config.check.is_some() {
                State::Unknown
            } else {
                State::Up
            },
            common: None,
            founding,
            left: false,
            drained: drain.drained,
            drains: drain.count.try_into().unwrap_or(u16::MAX),
            removed: false,
            cut: false,
            server_id: backend.server_id,
            sent: (0, 0),
            deadline_ns: 0,
            forward: vip.config.forward,
            mtu: self.mtu(vip.config.forward),
            next_hop: None,
            trouble: None,
            incarnation,
            born: incarnation,
        };
        if let Some(state) = self.resolution(address, member.forward) {
            member.resolve(state);
        }
        self.install(vip.id, &member);
        vip.members.push(member);
    }

    /// Lets a VIP's members be reached as its configuration says.
    fn reroute(&self, vip: &mut Vip) {
        for member in &mut vip.members {
            let mtu = self.mtu(vip.config.forward);
            if (member.forward, member.mtu) == (vip.config.forward, mtu) {
                continue;
            }
            if mtu != 0 {
                // Before the flags that let it count.
                self.plane.set_target_mtu(member.id, mtu);
            }
            (member.forward, member.mtu) = (vip.config.forward, mtu);
            if let Some(state) = self.resolution(member.address, member.forward) {
                member.resolve(state);
            }
        }
    }

    /// The longest packet that the way to a target takes; 0 without a tunnel.
    const fn mtu(&self, forward: Forward) -> u16 {
        match forward {
            Forward::L2 => 0,
            Forward::Ipip | Forward::Gue => self.tunnel_mtu,
        }
    }

    /// Puts the ownership of the addresses whose owner is not elected in force.
    pub(super) fn settle_leases(&self) {
        for vip in &self.vips {
            let until_ns = match vip.config.ownership {
                Ownership::Always => u64::MAX,
                Ownership::Never => 0,
                Ownership::Bgp(_) if self.announced.contains(&vip.config.address) => u64::MAX,
                Ownership::Bgp(_) => 0,
                // Written by the thread that elects.
                Ownership::Vrrp(_) => continue,
            };
            if let Some(&lease) = self.leases.get(&vip.config.address) {
                self.plane.set_lease(lease, until_ns);
            }
        }
    }

    /// Takes down which addresses routers are told of, and answers for them and no others of theirs.
    pub(super) fn set_announced(&mut self, announced: BTreeSet<IpAddr>) {
        if announced != self.announced {
            self.announced = announced;
            self.settle_leases();
        }
    }

    /// Whether this balancer answers for an address.
    pub(super) fn owns(&self, address: IpAddr, now_ns: u64) -> bool {
        let lease = self.leases.get(&address);
        lease.is_some_and(|&lease| self.plane.lease(lease) > now_ns)
    }

    /// Puts the VIPs and the ownership of their addresses in force.
    fn publish(&mut self) -> anyhow::Result<()> {
        self.name_members();
        let addresses: BTreeSet<IpAddr> = self.vips.iter().map(|vip| vip.config.address).collect();
        let before = self.leases.clone();
        self.leases.retain(|address, _| addresses.contains(address));
        for address in &addresses {
            if !self.leases.contains_key(address) {
                let taken: BTreeSet<u32> = self.leases.values().chain(before.values()).copied().collect();
                let free = (0..).find(|index| !taken.contains(index)).unwrap_or_default();
                // Whose it was before does not count.
                self.plane.set_lease(free, 0);
                self.leases.insert(*address, free);
            }
        }
        self.settle_leases();
        let mut entries = Vec::new();
        for address in &addresses {
            let lease = self.leases[address];
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
        entries.extend(self.vips.iter().map(|vip| {
            let mut entry = entry_of(vip);
            self.admission.complete(&vip.config, &mut entry);
            entry
        }));
        self.plane.set_services(&entries)?;
        Ok(())
    }
}

/// A VIP's backends in an order that other VIPs of theirs have too, whatever the configuration's is.
fn by_address(vip: &config::Vip) -> Vec<&Backend> {
    let mut backends: Vec<&Backend> = vip.backends.iter().collect();
    backends.sort_unstable_by_key(|backend| backend.address);
    backends
}

/// How many ids are set aside for a VIP's members: for as many again as it has, and some, as far as there is room for
/// that in all VIPs.
pub(super) fn block_length(config: &Config, vip: &config::Vip, capacity: usize) -> u16 {
    const MORE: usize = 8;
    let all: usize = config.vips.iter().map(|vip| vip.backends.len()).sum();
    let own = vip.backends.len();
    let length = (own * capacity / all.max(1)).clamp(own, 2 * own + MORE);
    length.try_into().unwrap_or(u16::MAX)
}

/// The keys of a configuration's entries in the data plane's table.
fn keys(config: &Config) -> Vec<Entry> {
    let addresses: BTreeSet<IpAddr> = config.vips.iter().map(|vip| vip.address).collect();
    let keys = addresses
        .into_iter()
        .map(|address| VipKey::address(Address::from(address)));
    keys.chain(config.vips.iter().map(|vip| entry::of(vip).key))
        .map(|key| Entry {
            key,
            ..Entry::default()
        })
        .collect()
}

/// A VIP's entry in the data plane's table.
fn entry_of(vip: &Vip) -> Entry {
    Entry {
        id: vip.id,
        slot_base: vip.base,
        lanes: vip.lanes,
        ..entry::of(&vip.config)
    }
}
