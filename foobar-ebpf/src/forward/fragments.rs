//! Fragments: the first one of a datagram leaves behind where it went, the later ones follow.

use foobar_common::counters::Counter;
use foobar_common::fragment::{FRAGMENT_LIFETIME, FragmentKey, FragmentNote};
use foobar_common::slot::Slot;
use foobar_common::target::TARGET_GONE;
use foobar_common::time::{age, ticks};

use super::count;
use crate::maps::FRAGMENTS;
use crate::packet::datagram::{Packet, Version};
use crate::steer::{now_ns, target_flags};

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        identification_be: packet.identification_be,
        protocol: match packet.version() {
            Version::V4 => u32::from(packet.protocol),
            Version::V6 => 0,
        },
    }
}

/// Where the first fragment of a later one's datagram went, if that is known and still holds.
#[inline(always)]
pub fn followed(packet: &Packet) -> Option<(Slot, u32)> {
    let note = FRAGMENTS.get_ptr(key(packet))?;
    // SAFETY: a pointer to a live element; another CPU may reuse it for another datagram, and a word of that
    // costs one fragment, which would have been lost to the eviction as well.
    let (slot, flags, seen) = unsafe { ((*note).slot, (*note).vip_flags, (*note).seen) };
    if age(ticks(now_ns()), seen) > FRAGMENT_LIFETIME || target_flags(slot.current) & TARGET_GONE != 0 {
        return None;
    }
    count(Counter::FragmentFollowed);
    Some((slot, flags))
}

/// Notes where the first fragment of a datagram goes.
#[inline(always)]
pub fn note(packet: &Packet, slot: Slot, vip_flags: u32) {
    let note = FragmentNote {
        slot,
        vip_flags,
        seen: ticks(now_ns()),
    };
    if FRAGMENTS.insert(key(packet), note, 0).is_ok() {
        count(Counter::FragmentNoted);
    }
}
