//! Fragments: which member the first one of a datagram went to, so that the later ones, which bear no ports,
//! follow it.

use crate::address::Address;
use crate::slot::Slot;
use crate::time::Ticks;

/// The key of a fragmented datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// The source address.
    pub source: Address,
    /// The destination address: the VIP's.
    pub destination: Address,
    /// The identification as it stands in the packet; of IPv4 its two bytes, and two of zero.
    pub identification_be: u32,
    /// The IPv4 protocol number; 0 for IPv6, where it is no part of the identity.
    pub protocol: u32,
}

/// What a first fragment leaves behind: an element of the map of fragments.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentNote {
    /// `current` is the member that the first fragment went to; with candidates, the whole slot.
    pub slot: Slot,
    /// The `VIP_*` bits of its service.
    pub vip_flags: u32,
    /// When it came.
    pub seen: Ticks,
}

/// How long later fragments are waited for, in ticks: 60 s (RFC 8200 section 4.5).
pub const FRAGMENT_LIFETIME: Ticks = (60_000_000_000u64 >> crate::time::TICK_SHIFT) as Ticks;
