//! The IPv6 header and its extension headers (RFC 8200).

use foobar_common::address::Address;
use foobar_common::counters::Counter;

use super::{Frame, Payload, Piece, View, ecn};

/// Length in bytes of the fixed header.
pub const LENGTH: usize = 40;

/// The protocol number of ICMPv6.
pub const ICMP: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// The protocol number of the fragment header.
pub const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Extension headers that are walked before the transport header.
const MAX_EXTENSIONS: usize = 6;

/// The fixed header.
#[derive(Clone, Copy, Debug)]
pub struct Header(View<[u8; LENGTH]>);

/// What the extension headers lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The protocol number behind them.
    pub protocol: u8,
    /// What they leave of the payload.
    pub payload: Payload,
    /// Which piece of its datagram the packet is.
    pub piece: Piece,
    /// The fragment header's identification as it stands in the packet, else 0.
    pub identification_be: u32,
}

impl Header {
    /// The header that begins `offset` bytes into the frame, if the frame has all of it.
    #[inline(always)]
    pub fn at(frame: &Frame, offset: usize) -> Option<Self> {
        frame.at(offset).map(Self)
    }

    /// The version.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.0.get::<u8, 0>() >> 4
    }

    /// What comes behind the header.
    #[inline(always)]
    pub fn next_header(&self) -> u8 {
        self.0.get::<u8, 6>()
    }

    /// The hop limit.
    #[inline(always)]
    pub fn hop_limit(&self) -> u8 {
        self.0.get::<u8, 7>()
    }

    /// The payload's length in bytes, extension headers included.
    #[inline(always)]
    pub fn payload_length(&self) -> usize {
        u16::from_be(self.0.get::<u16, 4>()) as usize
    }

    /// The source address as [`Address::words`].
    #[inline(always)]
    pub fn source(&self) -> [u64; 2] {
        [self.0.get::<u64, 8>(), self.0.get::<u64, 16>()]
    }

    /// The destination address as [`Address::words`].
    #[inline(always)]
    pub fn destination(&self) -> [u64; 2] {
        [self.0.get::<u64, 24>(), self.0.get::<u64, 32>()]
    }

    /// Whether no host on the way can have sent the packet: unspecified, loopback, multicast, IPv4-mapped
    /// (RFC 4291 section 2), or its own destination.
    #[inline(always)]
    pub fn is_martian(&self) -> bool {
        let source = self.source();
        let low = source[1];
        let special = low == 0 || low == 1u64.to_be() || is_mapped(source);
        (source[0] == 0 && special) || is_multicast(source) || source == self.destination()
    }

    /// Turns the packet around with a hop limit of its own.
    #[inline(always)]
    pub fn answer(&self, hop_limit: u8) {
        let (source, destination) = (self.source(), self.destination());
        self.set_addresses(destination, source);
        self.0.set::<u8, 7>(hop_limit);
    }

    /// Writes version, lengths and hop limit; no traffic class, no flow label.
    #[inline(always)]
    pub fn write(&self, payload_length: u16, next_header: u8, hop_limit: u8) {
        let [high, low] = payload_length.to_be_bytes();
        self.0.set::<u32, 0>(u32::from_be_bytes([0x60, 0, 0, 0]).to_be());
        self.0
            .set::<u32, 4>(u32::from_be_bytes([high, low, next_header, hop_limit]).to_be());
    }

    /// Writes traffic class and flow label (RFC 6437), of which the lowest 20 bits count, into a header that
    /// [`Self::write`] wrote.
    #[inline(always)]
    pub fn set_flow(&self, traffic_class: u8, label: u32) {
        let word = 6 << 28 | (traffic_class as u32) << 20 | label & 0x000f_ffff;
        self.0.set::<u32, 0>(word.to_be());
    }

    /// Writes both addresses, as [`Address::words`].
    #[inline(always)]
    pub fn set_addresses(&self, source: [u64; 2], destination: [u64; 2]) {
        self.0.set::<u64, 8>(source[0]);
        self.0.set::<u64, 16>(source[1]);
        self.0.set::<u64, 24>(destination[0]);
        self.0.set::<u64, 32>(destination[1]);
    }
}

impl Header {
    /// The traffic class: DSCP and, its lowest two bits, ECN.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        self.0.get::<u8, 0>() << 4 | self.0.get::<u8, 1>() >> 4
    }

    /// Writes ECN.
    #[inline(always)]
    pub fn set_ecn(&self, ecn: u8) {
        let byte = self.0.get::<u8, 1>();
        self.0
            .set::<u8, 1>(byte & !(ecn::MASK << 4) | (ecn & ecn::MASK) << 4);
    }

    /// Takes one from the hop limit; `None`, and nothing changed, where nothing would be left of it.
    #[inline(always)]
    pub fn hop(&self) -> Option<()> {
        let limit = self.hop_limit();
        if limit <= 1 {
            return None;
        }
        self.0.set::<u8, 7>(limit - 1);
        Some(())
    }
}

/// The address of two words that were loaded as they stand in a packet.
#[inline(always)]
pub const fn address(words: [u64; 2]) -> Address {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<[u64; 2], Address>(words) }
}

/// Whether an address is an IPv4-mapped one (RFC 4291 section 2.5.5.2): none of those is on any wire.
#[inline(always)]
pub const fn is_mapped(address: [u64; 2]) -> bool {
    address[0] == 0 && address[1] as u32 == u32::from_le_bytes([0, 0, 0xff, 0xff])
}

/// Whether an address is a multicast one (RFC 4291 section 2.7).
#[inline(always)]
pub const fn is_multicast(address: [u64; 2]) -> bool {
    address[0] as u8 == 0xff
}

/// Whether a protocol number is an extension header's that is looked behind.
#[inline(always)]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// Walks the extension headers of a packet (RFC 8200 section 4) whose payload is the `length` bytes from
/// `offset` on. Of a later fragment only those up to the fragment header are there.
#[inline(always)]
pub fn upper(frame: &Frame, next_header: u8, offset: usize, length: usize) -> Result<Upper, Counter> {
    let mut protocol = next_header;
    let mut walked = 0usize;
    let mut piece = Piece::Whole;
    let mut identification_be = 0;
    let mut fragmented = false;
    for nth in 0..=MAX_EXTENSIONS {
        if !is_extension(protocol) {
            break;
        }
        if nth == MAX_EXTENSIONS || (protocol == HOP_BY_HOP && nth != 0) {
            return Err(Counter::DropExtension);
        }
        let Some(header) = frame.at::<u64>(offset + walked) else {
            return Err(Counter::DropTruncated);
        };
        let size = if protocol == FRAGMENT {
            8
        } else {
            (header.get::<u8, 1>() as usize + 1) * 8
        };
        if walked + size > length {
            return Err(Counter::DropTruncated);
        }
        walked += size;
        if protocol == FRAGMENT {
            if fragmented {
                return Err(Counter::DropMalformed);
            }
            fragmented = true;
            let word = u16::from_be(header.get::<u16, 2>());
            if word & !7 != 0 || word & 1 != 0 {
                identification_be = header.get::<u32, 4>();
                piece = Piece::First;
            }
            if word & !7 != 0 {
                piece = Piece::Later;
            }
        }
        protocol = header.get::<u8, 0>();
        if matches!(piece, Piece::Later) {
            break;
        }
    }
    Ok(Upper {
        protocol,
        payload: Payload {
            offset: offset + walked,
            length: length - walked,
        },
        piece,
        identification_be,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame_of;

    fn upper_of(next_header: u8, bytes: &[u8]) -> Result<Upper, Counter> {
        let mut bytes = bytes.to_vec();
        let length = bytes.len();
        upper(&frame_of(&mut bytes), next_header, 0, length)
    }

    fn options(next_header: u8) -> [u8; 8] {
        [next_header, 0, 1, 4, 0, 0, 0, 0]
    }

    #[test]
    fn extension_headers_are_walked_up_to_six() {
        for count in 0..=7usize {
            let mut bytes = Vec::new();
            for nth in 1..=count {
                bytes.extend(options(if nth == count { 6 } else { DESTINATION }));
            }
            let first = if count == 0 { 6 } else { DESTINATION };
            match upper_of(first, &bytes) {
                Ok(upper) => {
                    assert!(count <= 6);
                    assert_eq!((upper.protocol, upper.payload.offset), (6, count * 8));
                }
                Err(reason) => assert_eq!((count, reason), (7, Counter::DropExtension)),
            }
        }
    }

    #[test]
    fn ecn_is_the_end_of_the_traffic_class() {
        let mut bytes = [0u8; LENGTH];
        bytes[..2].copy_from_slice(&[0x6b, 0x92]);
        let ip = Header::at(&frame_of(&mut bytes), 0).expect("long enough");
        assert_eq!(ip.traffic_class(), 0xb9);
        ip.set_ecn(3);
        assert_eq!(ip.traffic_class(), 0xbb);
        assert_eq!(bytes[..2], [0x6b, 0xb2], "version and flow label stay");
    }

    #[test]
    fn fragments_are_told_apart() {
        let piece = |low: u8| upper_of(FRAGMENT, &[17, 0, 0, low, 1, 2, 3, 4]).map(|upper| upper.piece);
        assert_eq!(piece(0), Ok(Piece::Whole), "atomic");
        assert_eq!(piece(1), Ok(Piece::First));
        assert_eq!(piece(8), Ok(Piece::Later));
        assert_eq!(piece(9), Ok(Piece::Later));
    }

    #[test]
    fn what_runs_beyond_the_packet_is_truncated() {
        assert_eq!(upper_of(DESTINATION, &[6, 0, 0]), Err(Counter::DropTruncated));
        assert_eq!(
            upper_of(ROUTING, &[6, 1, 0, 0, 0, 0, 0, 0]),
            Err(Counter::DropTruncated)
        );
        let late = [options(HOP_BY_HOP), options(6)].concat();
        assert_eq!(upper_of(DESTINATION, &late), Err(Counter::DropExtension));
    }
}
