//! What an earlier daemon left in the pinned maps: VIPs, slots in whatever phase, members with their health.
//! All of it is in the maps alone, so that a daemon that was killed is as good as one that stopped.

use std::net::IpAddr;

use foobar_common::quic::MAX_SERVER_ID;
use foobar_common::slot::{ColdSlot, Member as Id, NONE};
use foobar_common::target::{
    TARGET_CUT, TARGET_DOWN, TARGET_DRAINED, TARGET_GONE, TARGET_GUE, TARGET_IPIP, TARGET_JUDGED,
    TARGET_REMOVED, TARGET_RESOLVED, TARGET_USED, Target,
};
use foobar_common::vip::{Lanes, VipKind};

use super::admission::Admission;
use super::apply::block_length;
use super::entry;
use super::member::Member;
use super::steering::{Steering, Vip};
use crate::balancer::members::MemberPool;
use crate::balancer::plan::Serving;
use crate::balancer::slots::SlotTable;
use crate::config::{Config, Forward, ServerId};
use crate::dataplane::{DataPlane, ServerIds};
use crate::health::State;
use crate::network::NextHop;

/// Takes over what is there; of a VIP that the configuration does not have any more, nothing is kept.
pub(super) fn adopt(plane: DataPlane, ingress: u32, config: &Config, now_ns: u64) -> Steering {
    let targets: Vec<(Id, Target)> = (1..=plane.highest_target())
        .map(|id| (id, plane.target(id)))
        .filter(|(_, target)| target.flags != 0)
        .collect();
    let named = plane.server_ids().unwrap_or_else(|error| {
        tracing::warn!(%error, "QUIC server ids can't be read: those of removed backends are forgotten");
        ServerIds::new()
    });
    let mut vips = Vec::new();
    let mut next_vip = targets
        .iter()
        .map(|(_, target)| target.vip + 1)
        .max()
        .unwrap_or(1)
        .max(1);
    for entry in plane.services() {
        let Some(service) = entry::service(&entry.key) else {
            continue;
        };
        next_vip = next_vip.max(entry.id + 1);
        // Nobody knows any more whose table it shares. Its own slots say the same.
        plane.set_lanes(&entry.key, Lanes::OWN);
        let Some(wanted) = config.vips.iter().find(|vip| vip.service() == service) else {
            continue;
        };
        let slots = entry.slot_mask + 1;
        if slots != wanted.slots {
            tracing::warn!(
                vip = wanted.name,
                slots,
                wanted = wanted.slots,
                "the number of a VIP's slots can't change while it is in force: the old one stays"
            );
        }
        let hash = entry::hash(entry.flags);
        if hash != wanted.hash {
            tracing::warn!(
                vip = wanted.name,
                %hash,
                wanted = %wanted.hash,
                "a VIP's hash can't change while it is in force: the old one stays"
            );
        }
        // What the configuration says now is for `apply`, which knows what has to come before.
        let in_force = entry::history(entry.flags);
        let mut table = SlotTable::adopt(
            in_force,
            (entry.slot_base..entry.slot_base + slots).map(|index| held(&plane, index, now_ns)),
        );
        let mut config = wanted.clone();
        (config.slots, config.hash) = (slots, hash);
        let mut members = members_of(entry.id, &targets, ingress, config.check.is_some());
        for member in &mut members {
            // Of one that the configuration has it is said there; a removed one has nothing else.
            member.server_id = named
                .iter()
                .find(|(key, of)| key.vip == entry.id && **of == member.id)
                .map(|(key, _)| ServerId::new(key.id, entry.server_id_length.min(MAX_SERVER_ID as u8)));
        }
        expel_strangers(&mut table, &members, now_ns);
        for index in table.take_changed() {
            let held = table.slots()[index as usize];
            plane.set_slot(entry.slot_base + index, held.slot, held.since_ns);
        }
        vips.push(Vip {
            id: entry.id,
            base: entry.slot_base,
            table,
            members,
            block: 0..0,
            lanes: Lanes::OWN,
            pattern: None,
            config,
            serving: Serving::Healthy,
            waiting: false,
            digest: None,
            recovered_ns: 0,
        });
    }
    let members: Vec<Id> = vips
        .iter()
        .flat_map(|vip| vip.members.iter().map(|member| member.id))
        .collect();
    let others = targets
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| !members.contains(id))
        .collect::<Vec<_>>();
    for &id in &others {
        plane.set_target_state(id, TARGET_USED | TARGET_GONE, 0, 0);
    }
    if !vips.is_empty() {
        tracing::info!(
            vips = vips.len(),
            targets = members.len(),
            "adopted what an earlier daemon left"
        );
    }
    let pool = MemberPool::adopt(plane.highest_target(), members, others);
    set_blocks_aside(&mut vips, config, pool.capacity());
    let leases = plane
        .services()
        .iter()
        .filter(|entry| entry.key.kind == VipKind::Address as u8)
        .map(|entry| (IpAddr::from(entry.key.address), entry.id))
        .collect();
    let admission = Admission::adopt(&plane);
    let mut steering = Steering::new(plane, ingress, vips, pool, next_vip);
    steering.leases = leases;
    steering.admission = admission;
    steering
}

/// Gives VIPs the ids from their members' first on, as [`block_length`] says, and no further than the next VIP's first.
fn set_blocks_aside(vips: &mut [Vip], config: &Config, capacity: usize) {
    let end = Id::try_from(capacity + 1).unwrap_or(Id::MAX);
    let first = |vip: &Vip| vip.members.iter().map(|member| member.id).min().unwrap_or(end);
    let mut firsts: Vec<Id> = vips.iter().map(first).collect();
    firsts.sort_unstable();
    for vip in vips {
        let start = first(vip);
        let next = firsts.iter().find(|&&next| next > start).unwrap_or(&end);
        let length = block_length(config, &vip.config, capacity);
        vip.block = start..start.saturating_add(length).min(*next);
    }
}

/// The members of a VIP. An address that is there twice (its index was being changed when the daemon was
/// killed) is the member of the later life.
fn members_of(vip: u32, targets: &[(Id, Target)], ingress: u32, checked: bool) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for (id, target) in targets {
        if target.vip != vip || target.flags & (TARGET_USED | TARGET_GONE) != TARGET_USED {
            continue;
        }
        let found = member(*id, target, ingress, checked);
        match members.iter_mut().find(|member| member.address == found.address) {
            Some(twin) if twin.incarnation < found.incarnation => *twin = found,
            Some(_) => (),
            None => members.push(found),
        }
    }
    members
}

/// Owners that are no members leave their slots to the first member, until the slots are planned.
fn expel_strangers(table: &mut SlotTable, members: &[Member], now_ns: u64) {
    let heir = members.first().map_or(NONE, |member| member.id);
    for stranger in table.usage().into_keys() {
        if members.iter().any(|member| member.id == stranger) {
            continue;
        }
        let heirs: Vec<Id> = table
            .slots()
            .iter()
            .map(|held| {
                if held.slot.current == stranger {
                    heir
                } else {
                    held.slot.current
                }
            })
            .collect();
        table.leave(stranger, &heirs, now_ns);
    }
}

/// A slot as the maps hold it. One that was half written is whole afterwards: until now packets were steered
/// by its old hot entry, so that its phase begins anew.
fn held(plane: &DataPlane, index: u32, now_ns: u64) -> ColdSlot {
    let (slot, since_ns) = plane.slot(index);
    if plane.is_slot_whole(index) {
        return ColdSlot { slot, since_ns };
    }
    plane.set_slot(index, slot, now_ns);
    ColdSlot {
        slot,
        since_ns: now_ns,
    }
}

fn member(id: Id, target: &Target, ingress: u32, checked: bool) -> Member {
    let health = match target.flags {
        _ if !checked => State::Up,
        flags if flags & TARGET_JUDGED == 0 => State::Unknown,
        flags if flags & TARGET_DOWN != 0 => State::SoftDown,
        _ => State::Up,
    };
    Member {
        id,
        address: IpAddr::from(target.address),
        weight: target.weight,
        health,
        common: None,
        founding: health == State::Unknown,
        left: false,
        drained: target.flags & TARGET_DRAINED != 0,
        drains: target.drains,
        removed: target.flags & TARGET_REMOVED != 0,
        cut: target.flags & TARGET_CUT != 0,
        server_id: None,
        sent: (0, 0),
        deadline_ns: target.deadline_ns,
        forward: match target.flags {
            flags if flags & TARGET_IPIP != 0 => Forward::Ipip,
            flags if flags & TARGET_GUE != 0 => Forward::Gue,
            _ => Forward::L2,
        },
        mtu: target.mtu,
        next_hop: (target.flags & TARGET_RESOLVED != 0).then_some(NextHop {
            destination_mac: target.destination_mac,
            source_mac: target.source_mac,
            ifindex: if target.ifindex == 0 {
                ingress
            } else {
                target.ifindex
            },
        }),
        trouble: None,
        incarnation: target.incarnation,
        born: target.incarnation,
    }
}
