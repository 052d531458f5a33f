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
    /// An address that some service has: ARP, ping, and packets that no service takes.
    Address = 2,
}

/// The key of an entry of the VIP table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VipKey {
    /// The VIP's address.
    pub address: Address,
    /// The port, network byte order; 0 for [`VipKind::Address`].
    pub port_be: u16,
    /// The IP protocol number (6 TCP, 17 UDP); 0 for [`VipKind::Address`].
    pub protocol: u8,
    /// A [`VipKind`] as its number.
    pub kind: u8,
    /// Unused.
    pub reserved: u32,
}

impl VipKey {
    /// The key of a service; `port_be` as it stands in the packet.
    pub const fn service(address: Address, port_be: u16, protocol: u8) -> Self {
        Self {
            address,
            port_be,
            protocol,
            kind: VipKind::Service as u8,
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
    /// Unused.
    pub reserved: [u32; 5],
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
