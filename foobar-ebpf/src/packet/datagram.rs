//! A packet of either family, described alike: what comes after its IP headers is the same for both.

use foobar_common::address::Address;
use foobar_common::counters::Counter;

use super::{Frame, Payload, Piece, checksum, ethernet, ipv4, ipv6};

/// The family of a packet.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// Whether IPv4's total length is not checked: a fault that is planted for the tests of the packet fuzzer.
#[inline(always)]
fn is_unchecked() -> bool {
    #[cfg(all(feature = "balancer", feature = "planted-fault"))]
    return crate::steer::features::planted(foobar_common::admission::PLANTED_LENGTH_CHECK);
    #[cfg(not(all(feature = "balancer", feature = "planted-fault")))]
    false
}

/// A packet whose IP headers are sound.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Where it comes from.
    pub source: Address,
    /// Where it goes to: a VIP address.
    pub destination: Address,
    /// A fragment's identification, as [`foobar_common::fragment::FragmentKey`] has it.
    pub identification_be: u32,
    /// Length in bytes of what comes after all IP headers.
    length: u32,
    /// The offset of the IP header in the frame.
    offset: u16,
    /// The offset of what comes after all IP headers.
    payload: u16,
    version: u8,
    /// The protocol of the payload.
    pub protocol: u8,
    piece: u8,
    plain: u8,
}

/// All offsets of sound headers are below it: two tags, a header, six extension headers of 2,048 bytes each.
const OFFSET_MASK: u16 = 0x3fff;

impl Packet {
    /// A whole packet without options or extension headers, behind an Ethernet header without tags.
    #[inline(always)]
    pub const fn plain(
        version: Version,
        protocol: u8,
        source: Address,
        destination: Address,
        payload: Payload,
    ) -> Self {
        Self {
            source,
            destination,
            identification_be: 0,
            length: payload.length as u32,
            offset: ethernet::LENGTH as u16,
            payload: payload.offset as u16,
            version: version as u8,
            protocol,
            piece: Piece::Whole as u8,
            plain: 1,
        }
    }

    /// The IPv4 packet at `offset` of a frame with `room` bytes, or what is wrong with it.
    #[inline(always)]
    pub fn v4(frame: &Frame, ip: ipv4::Header, offset: usize, room: usize) -> Result<Self, Counter> {
        let (header, total) = ip.lengths()?;
        if offset + total > room && !is_unchecked() {
            return Err(Counter::DropTruncated);
        }
        if !checksum::is_right(ip.whole_sum(frame, offset, header)?) {
            return Err(Counter::DropChecksum);
        }
        if ip.is_martian() {
            return Err(Counter::DropMartian);
        }
        let piece = ip.piece();
        Ok(Self {
            source: Address::from_ipv4_raw(ip.source()),
            destination: Address::from_ipv4_raw(ip.destination()),
            identification_be: u32::from(ip.identification_be()),
            length: (total - header) as u32,
            offset: offset as u16,
            payload: (offset + header) as u16,
            version: Version::V4 as u8,
            protocol: ip.protocol(),
            piece: piece as u8,
            plain: u8::from(header == ipv4::LENGTH && matches!(piece, Piece::Whole)),
        })
    }

    /// The IPv6 packet at `offset` of a frame with `room` bytes, or what is wrong with it.
    #[inline(always)]
    pub fn v6(frame: &Frame, ip: ipv6::Header, offset: usize, room: usize) -> Result<Self, Counter> {
        let length = ip.payload_length();
        if ip.version() != 6 {
            return Err(Counter::DropMalformed);
        }
        if offset + ipv6::LENGTH + length > room {
            return Err(Counter::DropTruncated);
        }
        if ip.is_martian() {
            return Err(Counter::DropMartian);
        }
        let begin = offset + ipv6::LENGTH;
        let upper = ipv6::upper(frame, ip.next_header(), begin, length)?;
        Ok(Self {
            source: ipv6::address(ip.source()),
            destination: ipv6::address(ip.destination()),
            identification_be: upper.identification_be,
            length: upper.payload.length as u32,
            offset: offset as u16,
            payload: upper.payload.offset as u16,
            version: Version::V6 as u8,
            protocol: upper.protocol,
            piece: upper.piece as u8,
            plain: u8::from(upper.payload.offset == begin),
        })
    }

    /// Takes over another one's offset.
    #[inline(always)]
    pub const fn set_offset(&mut self, other: &Self) {
        self.offset = other.offset;
    }

    /// The offset of the IP header in the frame.
    #[inline(always)]
    pub const fn offset(&self) -> usize {
        (self.offset & OFFSET_MASK) as usize
    }

    /// What comes after all IP headers.
    #[inline(always)]
    pub const fn payload(&self) -> Payload {
        Payload {
            offset: (self.payload & OFFSET_MASK) as usize,
            length: self.length as usize,
        }
    }

    /// The family.
    #[inline(always)]
    pub const fn version(&self) -> Version {
        if self.version == Version::V4 as u8 {
            Version::V4
        } else {
            Version::V6
        }
    }

    /// Which piece of its datagram it is.
    #[inline(always)]
    pub const fn piece(&self) -> Piece {
        if self.piece == Piece::Whole as u8 {
            Piece::Whole
        } else if self.piece == Piece::First as u8 {
            Piece::First
        } else {
            Piece::Later
        }
    }

    /// Whether it is whole and has neither options nor extension headers.
    #[inline(always)]
    pub const fn is_plain(&self) -> bool {
        self.plain != 0
    }
}
