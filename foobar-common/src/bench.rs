//! What `cargo xtask bench` and its own eBPF programs share. The product knows nothing of it, and no map of
//! the product has it.
//!
//! Every field is a word, so that user space can hand [`Traffic`] over as an array of them.

/// Words of a template: 128 bytes, the longest frame that is restored.
pub const TEMPLATE_WORDS: usize = 16;

/// Packets between two readings of the clock.
pub const BLOCK: u64 = 1024;

/// Readings of the clock that there is room for, a power of two.
pub const STAMPS: u32 = 4096;

/// Flows that can be told apart.
pub const MAX_FLOWS: u64 = 1 << 24;

/// Counts of packets that can go on side by side: of the program that is measured, and of the others.
pub const LANES: u32 = 2;

/// Where a frame has the fields that tell its flow.
#[repr(u64)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// TCP or UDP in IPv4 without options.
    #[default]
    V4 = 0,
    /// TCP or UDP in IPv6 without extension headers.
    V6 = 1,
    /// An ICMP error that quotes a packet of the VIP to the client, neither with options.
    ErrorV4 = 2,
    /// An ICMPv6 error that quotes a packet of the VIP to the client, neither with extension headers.
    ErrorV6 = 3,
}

/// What the wrapper sends: a frame, and how it varies from packet to packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The frame, as it stands in memory.
    pub template: [u64; TEMPLATE_WORDS],
    /// The bits of it that are the same in every packet: they are restored where a program changed them. The
    /// others tell the flow, or are beyond the frame's end.
    pub fixed: [u64; TEMPLATE_WORDS],
    /// Length of the frame in bytes: 64, 80 or 128.
    pub length: u64,
    /// A [`Shape`] as its number.
    pub shape: u64,
    /// Number of flows, 1 to [`MAX_FLOWS`].
    pub flows: u64,
    /// Packets that a flow sends before it is the next one's turn.
    pub dwell: u64,
    /// Number of VIP addresses, which follow one another.
    pub vips: u64,
    /// The first client's address, its last four bytes (of IPv4: all), as a number.
    pub client: u64,
    /// The first VIP's address, likewise.
    pub vip: u64,
    /// The VIP's port, network byte order.
    pub port_be: u64,
    /// The ones' complement sum of source, destination and identification of the template's IPv4 header,
    /// 16-bit words as they stand in memory: a packet's identification makes it the same again, and the
    /// checksum stays right.
    pub sum: u64,
    /// Which count of packets goes on, below [`LANES`].
    pub lane: u64,
    /// The length that the program under test leaves the frame with; the same as `length` where it keeps it.
    pub left: u64,
}

/// [`Traffic`] in words.
pub const TRAFFIC_WORDS: usize = 2 * TEMPLATE_WORDS + 11;

impl Traffic {
    /// The words of it, in their order.
    pub fn words(&self) -> [u64; TRAFFIC_WORDS] {
        let mut words = [0; TRAFFIC_WORDS];
        let (template, rest) = words.split_at_mut(TEMPLATE_WORDS);
        let (fixed, rest) = rest.split_at_mut(TEMPLATE_WORDS);
        template.copy_from_slice(&self.template);
        fixed.copy_from_slice(&self.fixed);
        rest.copy_from_slice(&[
            self.length,
            self.shape,
            self.flows,
            self.dwell,
            self.vips,
            self.client,
            self.vip,
            self.port_be,
            self.sum,
            self.lane,
            self.left,
        ]);
        words
    }
}

/// How far the packets of a lane have come.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packets sent.
    pub packets: u64,
    /// The flow whose turn it is.
    pub flow: u64,
    /// Packets that it has sent in this turn.
    pub dwelt: u64,
}

/// What tells a flow, of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// How far its client's address is from the first one, below 2^16.
    pub client: u32,
    /// Its client's port, host byte order, 32,768 and up.
    pub port: u16,
    /// How far its VIP's address is from the first one.
    pub vip: u32,
}

impl Flow {
    /// The flow with this number: a permutation of the numbers below [`MAX_FLOWS`], so that any first few
    /// are spread over all VIPs, addresses and ports.
    #[inline(always)]
    pub const fn of(number: u64, vips: u64) -> Self {
        let mixed = number.wrapping_mul(0x9e_3779b1) & (MAX_FLOWS - 1);
        Self {
            client: (mixed >> 8) as u32,
            port: 0x8000 | (mixed as u16 & 0xff) << 6,
            vip: (mixed.wrapping_mul(vips) >> 24) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_flows_are_the_same() {
        let count = 1 << 20;
        let flows: HashSet<_> = (0..count)
            .map(|number| Flow::of(number, 1))
            .map(|flow| (flow.client, flow.port))
            .collect();
        assert_eq!(flows.len() as u64, count);
    }

    #[test]
    fn a_few_flows_reach_all_vips() {
        let vips: HashSet<_> = (0..4_000).map(|number| Flow::of(number, 1_000).vip).collect();
        assert_eq!(vips.len(), 1_000);
    }

    #[test]
    fn the_words_are_the_fields() {
        let traffic = Traffic {
            template: [1; TEMPLATE_WORDS],
            fixed: [2; TEMPLATE_WORDS],
            length: 3,
            left: 4,
            ..Traffic::default()
        };
        // SAFETY: both are the same number of plain words.
        let words: [u64; TRAFFIC_WORDS] = unsafe { core::mem::transmute(traffic) };
        assert_eq!(traffic.words(), words);
    }
}
