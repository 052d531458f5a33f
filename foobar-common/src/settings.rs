//! What the data plane has to know besides its tables: one element, pinned with the other maps.

/// Peers whose MAC addresses can be named.
pub const MAX_PEERS: usize = 8;

/// A MAC address as the low 48 bits of a word whose bytes are in memory order.
pub const MAC_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

/// The only element of the settings array.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The secret seed of the flow hash, the same on every balancer of a cluster.
    pub flow_seed: [u64; 2],
    /// The seed of the half of the VIP table that is in force. Its lowest bit is the half's number, so that one store
    /// changes both.
    pub vip_seed: u64,
    /// The interface's own MAC address, as [`mac_word`] packs it.
    pub own_mac: u64,
    /// How many of `peer_macs` are set.
    pub peers: u32,
    /// Number of sets of pending notes, less one.
    pub pending_mask: u32,
    /// Number of SYN buckets, less one.
    pub syn_bucket_mask: u32,
    /// The source address of IPv4 outer headers, as the four bytes stand in a packet.
    pub tunnel_source_v4: u32,
    /// The bits of it that vary by flow, likewise.
    pub tunnel_vary_v4: u32,
    /// The destination port of GUE, network byte order.
    pub gue_port_be: u16,
    /// Not 0 while an operator drains this balancer: no packet depends on it, but it outlives the daemon.
    pub drained: u16,
    /// Number of sets of notes.
    pub note_sets: u32,
    /// 0, which the verifier does not know: what it is added to may be anything to it.
    pub nothing: u32,
    /// The source address of IPv6 outer headers, as [`crate::address::Address::words`].
    pub tunnel_source_v6: [u64; 2],
    /// The bits of it that vary by flow, likewise.
    pub tunnel_vary_v6: [u64; 2],
    /// MAC addresses of the other balancers: a VIP frame from one of them is a loop.
    pub peer_macs: [u64; MAX_PEERS],
    /// Elements of a CPU's row in the arrays of the targets' counters: a CPU's counter of a target is at its number
    /// times this, and the target's index.
    pub counter_row: u32,
    /// Unused.
    pub reserved: u32,
    /// Unused.
    pub reserved_words: [u64; 3],
    /// Bits of the addresses that entries of the VIP table have, by [`filter_bit`]: an address whose bit is not
    /// set is no VIP's.
    pub filter: [u64; FILTER_WORDS],
}

/// Words of [`Settings::filter`].
pub const FILTER_WORDS: usize = 32;

/// The word and the bit of an address ([`crate::address::Address::words`]) in [`Settings::filter`].
#[inline(always)]
pub const fn filter_bit(address: [u64; 2]) -> (usize, u64) {
    let mixed = (address[0] ^ address[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 59) as usize, 1 << (mixed >> 53 & 63))
}

/// A MAC address as [`Settings`] holds it.
pub const fn mac_word(mac: [u8; 6]) -> u64 {
    u64::from_ne_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
}
