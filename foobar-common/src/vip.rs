//! VIPs: the two-choice table that leads a packet to its service, and the leases of their addresses.
//!
//! The table has two halves of [`VIP_TABLE_ENTRIES`]. User space builds the idle half, in which each entry
//! stands at one of two positions that its key's hash names, then makes it the active one with a single
//! store: a packet sees the old table or the new one, never a mixture.

use crate::address::Address;

/// Entries of a half of the VIP table.
pub const VIP_TABLE_ENTRIES: u32 = 4096;

/// What an entry of the VIP table is about.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VipKind {
    /// Nothing.
    #[default]
    Empty = 0,
    /// A service: address, port and protocol.
    Service = 1,
    /// An address that some service has: ARP, neighbour discovery, ping, and packets that no service takes.
    Address = 2,
    /// A service of a range of ports. It is found by its place, which a [`PortRange`] of its address names.
    Range = 3,
}

/// The key of an entry of the VIP table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VipKey {
    /// The VIP's address.
    pub address: Address,
    /// The port, of a range the first one, network byte order; 0 for [`VipKind::Address`].
    pub port_be: u16,
    /// The IP protocol number (6 TCP, 17 UDP); 0 for [`VipKind::Address`].
    pub protocol: u8,
    /// A [`VipKind`] as its number.
    pub kind: u8,
    /// The last port of a [`VipKind::Range`], network byte order; else 0. Not part of what is looked up.
    pub last_port_be: u16,
    /// Unused.
    pub reserved: u16,
}

impl VipKey {
    /// The key of a service; `port_be` as it stands in the packet.
    pub const fn service(address: Address, port_be: u16, protocol: u8) -> Self {
        Self {
            address,
            port_be,
            protocol,
            kind: VipKind::Service as u8,
            last_port_be: 0,
            reserved: 0,
        }
    }

    /// The key of a service of all ports from `first_be` to `last_be`, both included.
    pub const fn range(address: Address, first_be: u16, last_be: u16, protocol: u8) -> Self {
        Self {
            address,
            port_be: first_be,
            protocol,
            kind: VipKind::Range as u8,
            last_port_be: last_be,
            reserved: 0,
        }
    }

    /// The key of an address.
    pub const fn address(address: Address) -> Self {
        Self {
            address,
            port_be: 0,
            protocol: 0,
            kind: VipKind::Address as u8,
            last_port_be: 0,
            reserved: 0,
        }
    }

    /// Port, protocol and kind in one word.
    #[inline(always)]
    pub const fn tail(&self) -> u32 {
        self.port_be as u32 | (self.protocol as u32) << 16 | (self.kind as u32) << 24
    }
}

/// Packets that nobody can own are answered with a TCP RST, instead of dropped.
pub const VIP_RESET: u32 = 1 << 0;
/// Only the source address counts for the slot: all of a client's flows go to one member.
pub const VIP_SOURCE_HASH: u32 = 1 << 1;
/// Every flow is noted, whatever its slot's phase: the classic flow table.
pub const VIP_TRACK_ALL: u32 = 1 << 2;
/// With [`VIP_TRACK_ALL`]: a TCP segment that opens nothing and has no note is nobody's.
pub const VIP_STRICT: u32 = 1 << 3;
/// No flow is ever noted, and no note looked up.
pub const VIP_TRACK_NONE: u32 = 1 << 4;
/// With GUE: the packet carries the slot's members as candidates ([`crate::gue`]).
pub const VIP_CANDIDATES: u32 = 1 << 5;
/// UDP packets of QUIC follow the server id in their connection id ([`crate::quic`]).
pub const VIP_QUIC: u32 = 1 << 6;
/// Sources are looked up in the list [`Vip::list`] ([`crate::admission`]).
pub const VIP_LIST: u32 = 1 << 7;
/// With [`VIP_LIST`]: a source that the list doesn't name is denied.
pub const VIP_LIST_ONLY: u32 = 1 << 8;
/// TCP SYNs are limited as [`Vip::limit`] says ([`crate::admission`]).
pub const VIP_SYN_LIMIT: u32 = 1 << 9;

/// An element of the VIP table.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vip {
    /// What it is about.
    pub key: VipKey,
    /// The VIP's id, never used twice; for an address: the index of its lease.
    pub id: u32,
    /// `VIP_*` bits.
    pub flags: u32,
    /// Index of the VIP's first slot.
    pub slot_base: u32,
    /// Number of its slots, less one.
    pub slot_mask: u32,
    /// How long a note counts without being used, in ticks: 5/4 of the idle time.
    pub note_lifetime: u32,
    /// With [`VIP_LIST`]: the index of its source list.
    pub list: u16,
    /// With [`VIP_SYN_LIMIT`]: the index of its limit.
    pub limit: u16,
    /// For an address: the index of its first [`PortRange`] in the array of ranges.
    pub ranges: u16,
    /// For an address: how many of its services are ranges of ports, at most [`MAX_RANGES`].
    pub range_count: u16,
    /// With [`VIP_QUIC`]: length of the server id in bytes, 1 to [`crate::quic::MAX_SERVER_ID`].
    pub server_id_length: u8,
    /// With [`VIP_QUIC`]: the configuration that its connection ids name, 0 to 6.
    pub quic_config: u8,
    /// Unused.
    pub reserved: u16,
    /// Where its hot slots are read. All else of an entry changes only with the half that it stands in; this, which is
    /// read as one word, also while the entry is in force.
    pub lanes: Lanes,
}

/// Where the hot slots of a VIP are read, in one word: its own by default, or a table that it shares with other VIPs
/// whose slots name members in the same pattern. So what packets look at stays small where many VIPs have one pool of
/// backends.
///
/// The cold slots are always the VIP's own, and its own hot ones always say what is in force, whoever reads them.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// What is added to the index of a slot, modulo 2^32, for the one whose hot entry is read.
    pub distance: u32,
    /// What is added to that hot entry, modulo 2^16, for the one of the VIP's slot.
    pub members: u16,
    /// Unused.
    pub reserved: u16,
}

impl Lanes {
    /// The VIP's own hot slots.
    pub const OWN: Self = Self::new(0, 0);

    /// Lanes of these fields.
    #[inline(always)]
    pub const fn new(distance: u32, members: u16) -> Self {
        Self {
            distance,
            members,
            reserved: 0,
        }
    }

    /// The lanes as the word that the map holds.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.distance as u64 | (self.members as u64) << 32
    }

    /// The lanes that a word stands for.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self::new(word as u32, (word >> 32) as u16)
    }

    /// The index of the slot whose hot entry is read for that of slot `index`.
    #[inline(always)]
    pub const fn index(self, index: u32) -> u32 {
        index.wrapping_add(self.distance)
    }

    /// The hot entry that a lane stands for.
    #[inline(always)]
    pub const fn hot(self, lane: u16) -> u16 {
        lane.wrapping_add(self.members)
    }

    /// The lane that stands for a hot entry.
    #[inline(always)]
    pub const fn lane(self, hot: u16) -> u16 {
        hot.wrapping_sub(self.members)
    }
}

/// The VIP table: two halves. It is one element of its map, so that the place of an entry, which is known only when
/// a packet's address has been hashed, is an offset in it and not a key that has to go through memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipTable {
    /// The entries, those of the second half behind those of the first.
    pub entries: [Vip; 2 * VIP_TABLE_ENTRIES as usize],
}

/// Port ranges that an address can have.
pub const MAX_RANGES: usize = 16;

/// Elements of a half of the array of port ranges.
pub const PORT_RANGE_ENTRIES: u32 = 2048;

/// A range of ports of an address. Ranges of an address and a protocol don't overlap; a service of a single
/// port comes before them. The array has two halves, as the VIP table; [`Vip::ranges`] names the place in
/// the whole array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRange {
    /// The first port, host byte order.
    pub first: u16,
    /// The last port, host byte order.
    pub last: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// Unused.
    pub reserved: [u8; 3],
    /// The place of its [`VipKind::Range`] entry in the whole VIP array.
    pub position: u32,
}

/// Leases, and with it the most addresses that VIPs can have.
pub const MAX_LEASES: u32 = 4096;

/// Ownership of a VIP's address: while it lasts, the data plane answers ARP and ping for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// When it ends, CLOCK_MONOTONIC in nanoseconds; 0: not owned, `u64::MAX`: without an end.
    pub until_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_the_bytes_of_their_word() {
        let lanes = Lanes::new(0x8765_4321, 0xfedc);
        assert_eq!(Lanes::from_word(lanes.to_word()), lanes);
        // SAFETY: both are 8 plain bytes.
        let bytes: u64 = unsafe { core::mem::transmute(lanes) };
        assert_eq!(bytes, lanes.to_word());
        assert_eq!(Lanes::from_word(0), Lanes::OWN);
    }

    #[test]
    fn a_shared_lane_stands_for_any_hot_entry() {
        let lanes = Lanes::new(0u32.wrapping_sub(12), 0xff00);
        assert_eq!(lanes.index(20), 8);
        for hot in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            assert_eq!(lanes.hot(lanes.lane(hot)), hot);
            assert_eq!(Lanes::OWN.hot(hot), hot);
        }
    }
}
