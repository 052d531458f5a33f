//! The IPv4 header (RFC 791).

use foobar_common::counters::Counter;

use super::{Frame, View, checksum, ethernet};

/// Length in bytes of a header without options.
pub const LENGTH: usize = 20;

/// IP protocol numbers.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

/// The first 20 bytes of an IPv4 header behind an Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct Header(View<[u8; LENGTH]>);

/// Where an IPv4 packet's payload is, all of it inside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its offset in the frame.
    pub offset: usize,
    /// Its length in bytes, by the header's total length.
    pub length: usize,
}

impl Header {
    /// The frame's IPv4 header, if the frame has its first 20 bytes.
    #[inline(always)]
    pub fn of(frame: &Frame) -> Option<Self> {
        frame.at(ethernet::LENGTH).map(Self)
    }

    /// The source address as it stands in the packet.
    #[inline(always)]
    pub fn source(&self) -> u32 {
        self.0.get::<u32, 12>()
    }

    /// The destination address as it stands in the packet.
    #[inline(always)]
    pub fn destination(&self) -> u32 {
        self.0.get::<u32, 16>()
    }

    /// The protocol number.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.0.get::<u8, 9>()
    }

    /// The packet's payload, or what is wrong with the packet: no version 4, a length that contradicts
    /// another, or a fragment.
    #[inline(always)]
    pub fn payload(&self, frame: &Frame) -> Result<Payload, Counter> {
        let first = self.0.get::<u8, 0>();
        let header = (first & 0x0f) as usize * 4;
        let total = u16::from_be(self.0.get::<u16, 2>()) as usize;
        if first >> 4 != 4 || header < LENGTH || total < header {
            return Err(Counter::DropMalformed);
        }
        if ethernet::LENGTH + total > frame.len() {
            return Err(Counter::DropTruncated);
        }
        // More fragments to come, or an offset: everything but "don't fragment" and the reserved bit.
        if u16::from_be(self.0.get::<u16, 6>()) & 0x3fff != 0 {
            return Err(Counter::DropFragment);
        }
        Ok(Payload {
            offset: ethernet::LENGTH + header,
            length: total - header,
        })
    }

    /// Turns the packet around with a TTL of its own; the checksum stays right.
    #[inline(always)]
    pub fn answer(&self, ttl: u8) {
        let (source, destination) = (self.source(), self.destination());
        self.0.set::<u32, 12>(destination);
        self.0.set::<u32, 16>(source);
        let old = self.0.get::<u16, 8>();
        self.0.set::<u8, 8>(ttl);
        let new = self.0.get::<u16, 8>();
        self.0
            .set::<u16, 10>(checksum::update(self.0.get::<u16, 10>(), old, new));
    }

    /// Writes a whole header without options for an answer to this packet: addresses swapped, don't
    /// fragment, identification 0 (RFC 6864: an atomic datagram's has no meaning).
    #[inline(always)]
    pub fn write_answer(&self, total: u16, protocol: u8, ttl: u8) {
        let (source, destination) = (self.source(), self.destination());
        let words = [
            u32::from_be_bytes([0x45, 0, (total >> 8) as u8, total as u8]).to_be(),
            u32::from_be_bytes([0, 0, 0x40, 0]).to_be(),
            u32::from_be_bytes([ttl, protocol, 0, 0]).to_be(),
            destination,
            source,
        ];
        let mut sum = 0;
        sum = checksum::add(sum, words[0]);
        sum = checksum::add(sum, words[1]);
        sum = checksum::add(sum, words[2]);
        sum = checksum::add(sum, words[3]);
        sum = checksum::add(sum, words[4]);
        self.0.set::<u32, 0>(words[0]);
        self.0.set::<u32, 4>(words[1]);
        self.0.set::<u32, 8>(words[2]);
        self.0.set::<u32, 12>(words[3]);
        self.0.set::<u32, 16>(words[4]);
        self.0.set::<u16, 10>(!checksum::fold(sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame_of;

    fn packet(change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut bytes = vec![0u8; 14];
        bytes.extend([
            0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ]);
        bytes.extend([0u8; 8]);
        change(&mut bytes);
        bytes
    }

    fn payload_of(change: impl Fn(&mut [u8])) -> Result<Payload, Counter> {
        let mut bytes = packet(change);
        let frame = frame_of(&mut bytes);
        Header::of(&frame).expect("long enough").payload(&frame)
    }

    #[test]
    fn the_payload_is_what_the_total_length_says() {
        assert_eq!(
            payload_of(|_| ()),
            Ok(Payload {
                offset: 34,
                length: 8
            })
        );
        assert_eq!(
            payload_of(|b| b[14] = 0x46),
            Ok(Payload {
                offset: 38,
                length: 4
            })
        );
    }

    #[test]
    fn contradictions_are_told_apart() {
        assert_eq!(payload_of(|b| b[14] = 0x65), Err(Counter::DropMalformed));
        assert_eq!(payload_of(|b| b[14] = 0x44), Err(Counter::DropMalformed));
        assert_eq!(payload_of(|b| b[17] = 19), Err(Counter::DropMalformed));
        assert_eq!(payload_of(|b| b[17] = 29), Err(Counter::DropTruncated));
        assert_eq!(payload_of(|b| b[20] = 0x20), Err(Counter::DropFragment));
        assert_eq!(payload_of(|b| b[21] = 1), Err(Counter::DropFragment));
    }
}
