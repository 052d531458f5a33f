//! A world in the terms of the program's maps.

use foobar::dataplane::{ListEntry, ServerIds};
use foobar_common::address::Address;
use foobar_common::admission::{LIST_ALLOW, LIST_DENY, SynLimit};
use foobar_common::quic::ServerIdKey;
use foobar_common::vip::{
    VIP_CANDIDATES, VIP_LIST, VIP_LIST_ONLY, VIP_QUIC, VIP_RESET, VIP_SOURCE_HASH, VIP_STRICT, VIP_SYN_LIMIT,
    VIP_TRACK_ALL, VIP_TRACK_NONE, Vip, VipKey,
};

use super::bench::NOTE_LIFETIME;
use crate::model::{Limit, Policy, Rate, Served, Service, SourceList, Table, Tracking, World};

/// The end of an address's lease.
pub(super) const fn until(owned: bool) -> u64 {
    if owned { u64::MAX } else { 0 }
}

/// The `VIP_*` bit of a policy.
pub(super) const fn policy(policy: Policy) -> u32 {
    match policy {
        Policy::Drop => 0,
        Policy::Reset => VIP_RESET,
    }
}

/// A service's entry in the VIP table.
pub(super) fn entry(world: &World, service: &Service) -> Vip {
    let (first, last) = (service.ports.start().to_be(), service.ports.end().to_be());
    let address = Address::from(service.address);
    let table = match service.table {
        Table::Flow => 0,
        Table::Source => VIP_SOURCE_HASH,
    };
    let tracking = match service.tracking {
        Tracking::Transitions => 0,
        Tracking::All => VIP_TRACK_ALL,
        Tracking::Strict => VIP_TRACK_ALL | VIP_STRICT,
        Tracking::None => VIP_TRACK_NONE,
    };
    let second_chance = if service.second_chance { VIP_CANDIDATES } else { 0 };
    let (quic, server_id_length, quic_config) = match service.quic {
        Some(ids) => (VIP_QUIC, ids.length as u8, ids.config),
        None => (0, 0, 0),
    };
    let (listed, list) = match service.list {
        Some(list) if world.lists[list].others == Served::No => (VIP_LIST | VIP_LIST_ONLY, list as u16),
        Some(list) => (VIP_LIST, list as u16),
        None => (0, 0),
    };
    let (limited, limit) = match service.limit {
        Some(limit) => (VIP_SYN_LIMIT, limit.index),
        None => (0, 0),
    };
    let admission = listed | limited;
    Vip {
        key: if first == last {
            VipKey::service(address, first, service.protocol)
        } else {
            VipKey::range(address, first, last, service.protocol)
        },
        id: service.id,
        flags: table
            | tracking
            | second_chance
            | quic
            | admission
            | policy(world.addresses[&service.address].policy),
        slot_base: service.base,
        slot_mask: service.slots - 1,
        note_lifetime: NOTE_LIFETIME,
        server_id_length,
        quic_config,
        list,
        limit,
        ..Vip::default()
    }
}

/// A list as the trie has it: IPv4 prefixes in their mapped form.
pub(super) fn entries(list: &SourceList) -> Vec<ListEntry> {
    list.prefixes
        .iter()
        .map(|&(address, length, served)| ListEntry {
            address: Address::from(address).bytes,
            length: u32::from(length) + if address.is_ipv4() { 96 } else { 0 },
            verdict: match served {
                Served::Yes => LIST_ALLOW,
                Served::No => LIST_DENY,
            },
        })
        .collect()
}

/// A service's limit, with a full bucket.
pub(super) fn limit_of(limit: Limit) -> SynLimit {
    let costs = |rate: Option<Rate>| rate.map_or((0, 0), |rate| (rate.cost_ns, rate.cost_ns * rate.burst));
    let mask = |bits: u8| {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        Address {
            bytes: mask.to_be_bytes(),
        }
        .words()
    };
    let ((cost_ns, depth_ns), (source_cost_ns, source_depth_ns)) = (costs(limit.all), costs(limit.source));
    SynLimit {
        bucket: 0,
        cost_ns,
        depth_ns,
        source_cost_ns,
        source_depth_ns,
        source_mask_v4: mask(96 + limit.bits_v4),
        source_mask_v6: mask(limit.bits_v6),
    }
}

/// The server ids of all services.
pub(super) fn server_ids(world: &World) -> ServerIds {
    world
        .server_ids
        .iter()
        .map(|((service, id), &member)| {
            let mut key = ServerIdKey {
                vip: *service,
                ..ServerIdKey::default()
            };
            key.id[..id.len()].copy_from_slice(id);
            (key, member)
        })
        .collect()
}
