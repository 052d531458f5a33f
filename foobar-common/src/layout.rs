//! The layout of everything that is pinned: asserted, and hashed into the pin directory's name.

use core::mem::{align_of, offset_of, size_of};

use crate::address::Address;
use crate::admission::{MAX_LIMITS, MAX_LISTS, SynLimit};
use crate::agent::{AgentCounters, AgentSettings, MAX_ADDRESSES, MAX_TRUSTED, NextHop, Prefix};
use crate::counters::Counters;
use crate::fragment::{FragmentKey, FragmentNote};
use crate::note::{FlowKey, NOTE_WAYS, Note, NoteEntry, NoteSet, PENDING_WAYS, PendingSet};
use crate::note_event::{NOTE_EVENT_RING_BYTES, NoteEvent};
use crate::quic::{ServerId, ServerIdKey};
use crate::settings::Settings;
use crate::slot::{ColdSlot, HotSlots, Slot};
use crate::target::{HotTargets, HotTunnel, HotTunnels, Target, TargetTraffic};
use crate::vip::{Lanes, Lease, PORT_RANGE_ENTRIES, PortRange, VIP_TABLE_ENTRIES, Vip, VipKey, VipTable};

/// Raised by hand where the meaning of a field changes and its place doesn't.
pub const VERSION: u64 = 3;

const fn mix(hash: u64, value: usize) -> u64 {
    (hash ^ value as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

const fn fold(values: &[usize]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ VERSION;
    let mut i = 0;
    while i < values.len() {
        hash = mix(hash, values[i]);
        i += 1;
    }
    hash
}

/// A number that differs between any two layouts.
pub const HASH: u64 = fold(&[
    size_of::<Address>(),
    size_of::<VipKey>(),
    size_of::<Vip>(),
    offset_of!(Vip, id),
    offset_of!(Vip, flags),
    offset_of!(Vip, slot_base),
    offset_of!(Vip, slot_mask),
    offset_of!(Vip, note_lifetime),
    offset_of!(Vip, list),
    offset_of!(Vip, ranges),
    offset_of!(Vip, server_id_length),
    offset_of!(Vip, lanes),
    offset_of!(Lanes, members),
    size_of::<PortRange>(),
    PORT_RANGE_ENTRIES as usize,
    size_of::<VipTable>(),
    VIP_TABLE_ENTRIES as usize,
    size_of::<Lease>(),
    size_of::<Slot>(),
    size_of::<ColdSlot>(),
    offset_of!(ColdSlot, since_ns),
    size_of::<HotSlots>(),
    size_of::<Target>(),
    offset_of!(Target, ifindex),
    offset_of!(Target, flags),
    offset_of!(Target, weight),
    offset_of!(Target, vip),
    offset_of!(Target, address),
    offset_of!(Target, incarnation),
    offset_of!(Target, deadline_ns),
    offset_of!(Target, mtu),
    size_of::<HotTargets>(),
    size_of::<HotTunnels>(),
    offset_of!(HotTunnel, state),
    offset_of!(HotTunnel, address),
    size_of::<TargetTraffic>(),
    size_of::<FlowKey>(),
    size_of::<Note>(),
    offset_of!(Note, used),
    size_of::<NoteEntry>(),
    offset_of!(NoteEntry, note),
    size_of::<NoteSet>(),
    NOTE_WAYS,
    size_of::<PendingSet>(),
    PENDING_WAYS,
    size_of::<NoteEvent>(),
    offset_of!(NoteEvent, used),
    NOTE_EVENT_RING_BYTES as usize,
    size_of::<Settings>(),
    offset_of!(Settings, own_mac),
    offset_of!(Settings, peer_macs),
    offset_of!(Settings, tunnel_source_v4),
    offset_of!(Settings, gue_port_be),
    offset_of!(Settings, counter_row),
    offset_of!(Settings, filter),
    size_of::<FragmentKey>(),
    size_of::<FragmentNote>(),
    size_of::<ServerIdKey>(),
    size_of::<ServerId>(),
    size_of::<SynLimit>(),
    MAX_LISTS as usize,
    MAX_LIMITS as usize,
    size_of::<Counters>(),
    size_of::<AgentSettings>(),
    offset_of!(AgentSettings, trusted),
    offset_of!(AgentSettings, addresses),
    offset_of!(AgentSettings, gue_port_be),
    MAX_TRUSTED,
    MAX_ADDRESSES,
    size_of::<NextHop>(),
    size_of::<AgentCounters>(),
]);

const _: () = assert!(
    cfg!(target_endian = "little"),
    "packed words are little endian: the BPF target is bpfel"
);

const _: () = {
    assert!(size_of::<Address>() == 16 && align_of::<Address>() == 8);
    assert!(size_of::<VipKey>() == 24);
    assert!(size_of::<Vip>() == 64 && offset_of!(Vip, id) == 24 && offset_of!(Vip, lanes) == 56);
    assert!(size_of::<Lanes>() == 8);
    assert!(size_of::<Lease>() == 8);
    assert!(size_of::<Slot>() == 8 && size_of::<ColdSlot>() == 16 && size_of::<HotSlots>() == 8);
    assert!(
        size_of::<Target>() == 64 && offset_of!(Target, ifindex) == 12 && offset_of!(Target, address) == 24
    );
    assert!(size_of::<HotTunnel>() == 32 && offset_of!(HotTunnel, address) == 16);
    assert!(size_of::<TargetTraffic>() == 16);
    assert!(size_of::<FlowKey>() == 24 && size_of::<Note>() == 8);
    assert!(size_of::<NoteEntry>() == 32 && size_of::<NoteSet>() == 256);
    assert!(size_of::<PendingSet>() == 64);
    assert!(size_of::<NoteEvent>() == 40 && offset_of!(NoteEvent, slot) == 24);
    assert!(offset_of!(NoteEvent, stage) == 30 && offset_of!(NoteEvent, used) == 32);
    assert!(size_of::<Settings>() == 448 && offset_of!(Settings, own_mac) == 24);
    assert!(offset_of!(Settings, tunnel_source_v6) == 64 && offset_of!(Settings, filter) == 192);
    assert!(size_of::<PortRange>() == 12 && offset_of!(PortRange, position) == 8);
    assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentNote>() == 16);
    assert!(size_of::<ServerIdKey>() == 16 && size_of::<ServerId>() == 4);
    assert!(size_of::<Prefix>() == 32 && size_of::<NextHop>() == 16 && align_of::<NextHop>() == 8);
    assert!(size_of::<AgentSettings>() == 664 && offset_of!(AgentSettings, gue_port_be) == 656);
    assert!(size_of::<SynLimit>() == 72 && offset_of!(SynLimit, source_mask_v4) == 40);
};
