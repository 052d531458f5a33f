//! What `cargo xtask bench` and `cargo xtask pktgen` share with their own eBPF programs. The product knows
//! nothing of it, and no map of the product has it.
//!
//! Every field is a word, so that user space can hand structures over as arrays of them.

/// Words of a template: 128 bytes, the longest frame that is restored.
pub const TEMPLATE_WORDS: usize = 16;

/// Packets between two readings of the clock.
pub const BLOCK: u64 = 1024;

/// Readings of the clock that there is room for, a power of two.
pub const STAMPS: u32 = 4096;

/// Words of what the balancer writes down about a packet that is not on its common way.
pub const JOB_WORDS: usize = 15;

/// Flows that can be told apart.
pub const MAX_FLOWS: u64 = 1 << 24;

/// Flows that can be told apart where clients have 256 addresses, as a documentation network has.
pub const MAX_LIVE_FLOWS: u64 = 1 << 23;

/// Backends that live frames can be sent to.
pub const MAX_LIVE_BACKENDS: u32 = 32;

/// What a backend's number is added to for the index of its interface, in its own namespace.
pub const LIVE_INTERFACES: u32 = 100;

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

impl Progress {
    /// Counts a packet, and says which flow's it is.
    #[inline(always)]
    pub const fn turn(&mut self, flows: u64, dwell: u64) -> u64 {
        self.packets += 1;
        self.dwelt += 1;
        if self.dwelt >= dwell {
            self.dwelt = 0;
            self.flow += 1;
            if self.flow >= flows {
                self.flow = 0;
            }
        }
        self.flow
    }
}

/// How live frames find their way through the segment, and how they are read where they arrive.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Index of the interface that the generator sends out of.
    pub interface: u64,
    /// The first four bytes of every target's MAC address, as they stand in memory; the other two are its
    /// member's number, network byte order.
    pub targets: u64,
    /// The router's MAC address, likewise, the last two bytes zero.
    pub router: u64,
    /// Where a frame that arrives has its client's address (of IPv6 the last four bytes), below 256.
    pub client_at: u64,
    /// Where it has its client's port, below 256.
    pub port_at: u64,
}

/// [`Live`] in words.
pub const LIVE_WORDS: usize = 5;

impl Live {
    /// The words of it, in their order.
    pub const fn words(&self) -> [u64; LIVE_WORDS] {
        [
            self.interface,
            self.targets,
            self.router,
            self.client_at,
            self.port_at,
        ]
    }
}

/// What the segment's switch has counted: each place is a number of packets.
pub mod switched {
    /// Answers to the router. Members' places are their numbers.
    pub const ROUTER: u32 = 0;
    /// Frames for nobody on the segment.
    pub const NOBODY: u32 = super::MAX_LIVE_BACKENDS + 1;
    /// Places.
    pub const PLACES: u32 = NOBODY + 1;
}

/// Longer than what the generator sends is what it is given: it cuts off so many bytes of each frame, by which
/// the kernel knows that it has to bring the length of a frame that was used before up to date.
pub const LIVE_SURPLUS: u64 = 4;

/// Places of what a backend's receiver has counted.
pub mod received {
    /// Packets of a flow that the generator has.
    pub const FLOWS: usize = 0;
    /// Frames for another host's MAC address.
    pub const FOREIGN: usize = 1;
    /// Packets of no such flow.
    pub const UNKNOWN: usize = 2;
    /// Places.
    pub const PLACES: usize = 3;
}

/// Flows in an element of the receivers' map: it is read much faster than flow by flow.
pub const SEEN_TOGETHER: u32 = 64;

/// What the receivers, or the witness, have seen of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its packets.
    pub packets: u32,
    /// The backend that got the last one; 0 for none.
    pub backend: u16,
    /// How often that was another one than before.
    pub moves: u16,
}

impl Seen {
    /// From the map's word.
    pub const fn of_word(word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        Self {
            packets: u32::from_ne_bytes([a, b, c, d]),
            backend: u16::from_ne_bytes([e, f]),
            moves: u16::from_ne_bytes([g, h]),
        }
    }
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

    /// The live flow with this number: a permutation of the numbers below [`MAX_LIVE_FLOWS`], over 256 clients
    /// of one VIP.
    #[inline(always)]
    pub const fn live(number: u64) -> Self {
        let mixed = number.wrapping_mul(LIVE_FACTOR) & (MAX_LIVE_FLOWS - 1);
        Self {
            client: (mixed >> 15) as u32,
            port: 0x8000 | mixed as u16 & 0x7fff,
            vip: 0,
        }
    }

    /// The number of the live flow of this client and port, where there is one.
    #[inline(always)]
    pub const fn live_number(client: u32, port: u16) -> Option<u64> {
        if client >= 256 || port & 0x8000 == 0 {
            return None;
        }
        let mixed = (client as u64) << 15 | port as u64 & 0x7fff;
        Some(mixed.wrapping_mul(LIVE_INVERSE) & (MAX_LIVE_FLOWS - 1))
    }
}

/// Odd, so that multiplying by it is a permutation of the numbers below any power of two.
const LIVE_FACTOR: u64 = 0x9e_3779b1;

/// The inverse of [`LIVE_FACTOR`] modulo 2^64. Each step of Newton's method doubles the bits that are right,
/// of which an odd number has three to begin with.
const LIVE_INVERSE: u64 = {
    let mut inverse = LIVE_FACTOR;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(LIVE_FACTOR.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
};

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
    fn a_live_flow_is_told_by_client_and_port() {
        for number in 0..MAX_LIVE_FLOWS {
            let flow = Flow::live(number);
            assert_eq!(Flow::live_number(flow.client, flow.port), Some(number));
        }
        assert_eq!(Flow::live_number(256, 0x8000), None);
        assert_eq!(Flow::live_number(0, 443), None);
    }

    #[test]
    fn flows_take_turns() {
        let turns = |flows, dwell| {
            let mut progress = Progress::default();
            [(); 6].map(|()| progress.turn(flows, dwell))
        };
        assert_eq!(turns(1, 1), [0; 6]);
        assert_eq!(turns(3, 1), [1, 2, 0, 1, 2, 0]);
        assert_eq!(turns(2, 2), [0, 1, 1, 0, 0, 1]);
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
        let live = Live {
            interface: 1,
            port_at: 2,
            ..Live::default()
        };
        // SAFETY: as above.
        let words: [u64; LIVE_WORDS] = unsafe { core::mem::transmute(live) };
        assert_eq!(live.words(), words);
    }
}
