//! What an earlier daemon left in the pinned maps: VIPs, slots in whatever phase, members with their health.
//! All of it is in the maps alone, so that a daemon that was killed is as good as one that stopped.

use std::net::IpAddr;

use foobar_common::slot::{ColdSlot, Member as Id};
use foobar_common::target::{
    TARGET_DOWN, TARGET_DRAINED, TARGET_GONE, TARGET_JUDGED, TARGET_REMOVED, TARGET_RESOLVED, TARGET_USED,
    Target,
};
use foobar_common::vip::VipKind;

use super::member::Member;
use super::steering::{Steering, Vip};
use crate::balancer::members::MemberPool;
use crate::balancer::plan::Serving;
use crate::balancer::slots::SlotTable;
use crate::config::{Config, Protocol, Service};
use crate::dataplane::DataPlane;
use crate::health::State;
use crate::network::NextHop;

/// Takes over what is there; of a VIP that the configuration does not have any more, nothing is kept.
pub(super) fn adopt(plane: DataPlane, ingress: u32, config: &Config, now_ns: u64) -> Steering {
    let targets: Vec<(Id, Target)> = (1..=plane.highest_target())
        .map(|id| (id, plane.target(id)))
        .filter(|(_, target)| target.flags != 0)
        .collect();
    let mut vips = Vec::new();
    let mut next_vip = targets
        .iter()
        .map(|(_, target)| target.vip + 1)
        .max()
        .unwrap_or(1)
        .max(1);
    for entry in plane.services() {
        if entry.key.kind != VipKind::Service as u8 {
            continue;
        }
        next_vip = next_vip.max(entry.id + 1);
        let service = Service {
            address: IpAddr::from(entry.key.address),
            port: u16::from_be(entry.key.port_be),
            protocol: if entry.key.protocol == 17 {
                Protocol::Udp
            } else {
                Protocol::Tcp
            },
        };
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
        let table = SlotTable::adopt(
            (entry.slot_base..entry.slot_base + slots).map(|index| held(&plane, index, now_ns)),
        );
        let mut config = wanted.clone();
        config.slots = slots;
        vips.push(Vip {
            id: entry.id,
            base: entry.slot_base,
            table,
            members: targets
                .iter()
                .filter(|(_, target)| {
                    target.vip == entry.id
                        && target.flags & TARGET_USED != 0
                        && target.flags & TARGET_GONE == 0
                })
                .map(|(id, target)| member(*id, target, ingress, config.check.is_some()))
                .collect(),
            config,
            serving: Serving::Healthy,
            waiting: false,
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
    let leases = plane
        .services()
        .iter()
        .filter(|entry| entry.key.kind == VipKind::Address as u8)
        .map(|entry| (IpAddr::from(entry.key.address), entry.id))
        .collect();
    let mut steering = Steering::new(plane, ingress, vips, pool, next_vip, now_ns);
    steering.leases = leases;
    steering
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
        founding: health == State::Unknown,
        left: false,
        drained: target.flags & TARGET_DRAINED != 0,
        removed: target.flags & TARGET_REMOVED != 0,
        deadline_ns: target.deadline_ns,
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
    }
}
