//! The IPv4 header (RFC 791).

use foobar_common::counters::Counter;

use super::{Frame, Piece, View, checksum, ecn};

/// Length in bytes of a header without options.
pub const LENGTH: usize = 20;

/// The most options that a header can have, in words of 4 bytes.
const MAX_OPTION_WORDS: usize = 10;

/// IP protocol numbers.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

/// The first 20 bytes of an IPv4 header.
#[derive(Clone, Copy, Debug)]
pub struct Header(View<[u8; LENGTH]>);

impl Header {
    /// The header that begins `offset` bytes into the frame, if the frame has its first 20 bytes.
    #[inline(always)]
    pub fn at(frame: &Frame, offset: usize) -> Option<Self> {
        frame.at(offset).map(Self)
    }

    /// Whether it is of version 4 and has no options.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.0.get::<u8, 0>() == 0x45
    }

    /// The packet's length in bytes, header included, whatever it says.
    #[inline(always)]
    pub fn total(&self) -> usize {
        u16::from_be(self.0.get::<u16, 2>()) as usize
    }

    /// The lengths in bytes of the header and of the whole packet, if version and lengths are sound.
    #[inline(always)]
    pub fn lengths(&self) -> Result<(usize, usize), Counter> {
        let first = self.0.get::<u8, 0>();
        let header = (first & 0x0f) as usize * 4;
        let total = self.total();
        if first >> 4 != 4 || header < LENGTH || total < header {
            return Err(Counter::DropMalformed);
        }
        Ok((header, total))
    }

    /// The sum of the first 20 bytes.
    #[inline(always)]
    pub fn sum(&self) -> u64 {
        // Two halves of what the header begins with, as they are read for version and length.
        let mut sum = u64::from(self.0.get::<u16, 0>()) + u64::from(self.0.get::<u16, 2>());
        sum = checksum::add(sum, self.0.get::<u32, 4>());
        sum = checksum::add(sum, self.0.get::<u32, 8>());
        sum = checksum::add(sum, self.0.get::<u32, 12>());
        checksum::add(sum, self.0.get::<u32, 16>())
    }

    /// The sum of a whole header of `length` bytes at `offset`, options included (RFC 791 section 3.1).
    #[inline(always)]
    pub fn whole_sum(&self, frame: &Frame, offset: usize, length: usize) -> Result<u64, Counter> {
        let mut sum = self.sum();
        for word in 0..MAX_OPTION_WORDS {
            if LENGTH + word * 4 >= length {
                break;
            }
            let Some(view) = frame.at::<u32>(offset + LENGTH + word * 4) else {
                return Err(Counter::DropTruncated);
            };
            sum = checksum::add(sum, view.get::<u32, 0>());
        }
        Ok(sum)
    }

    /// Whether no host on the way can have sent the packet: "this network", loopback, multicast, reserved,
    /// broadcast (RFC 1122 section 3.2.1.3, RFC 6890), or its own destination.
    #[inline(always)]
    pub fn is_martian(&self) -> bool {
        let first = self.0.get::<u8, 12>();
        first == 0 || first == 127 || first >= 224 || self.source() == self.destination()
    }

    /// Which piece of its datagram the packet is.
    #[inline(always)]
    pub fn piece(&self) -> Piece {
        let word = u16::from_be(self.0.get::<u16, 6>());
        if word & 0x1fff != 0 {
            Piece::Later
        } else if word & 0x2000 != 0 {
            Piece::First
        } else {
            Piece::Whole
        }
    }

    /// The identification, as it stands in the packet.
    #[inline(always)]
    pub fn identification_be(&self) -> u16 {
        self.0.get::<u16, 4>()
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
        self.write(words);
    }

    /// Writes a whole header without options: its five words as they stand in a packet, with a checksum of 0,
    /// which is then filled in.
    #[inline(always)]
    pub fn write(&self, words: [u32; 5]) {
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

impl Header {
    /// The TOS: DSCP and, its lowest two bits, ECN.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        self.0.get::<u8, 1>()
    }

    /// Writes ECN; the checksum stays right.
    #[inline(always)]
    pub fn set_ecn(&self, ecn: u8) {
        let old = self.0.get::<u16, 0>();
        self.0
            .set::<u8, 1>(self.traffic_class() & !ecn::MASK | ecn & ecn::MASK);
        self.cover(old, self.0.get::<u16, 0>());
    }

    /// Takes one from the TTL; `None`, and nothing changed, where nothing would be left of it. The checksum
    /// stays right.
    #[inline(always)]
    pub fn hop(&self) -> Option<()> {
        let old = self.0.get::<u16, 8>();
        let ttl = self.0.get::<u8, 8>();
        if ttl <= 1 {
            return None;
        }
        self.0.set::<u8, 8>(ttl - 1);
        self.cover(old, self.0.get::<u16, 8>());
        Some(())
    }

    /// Writes the destination, as it stands in the packet; the checksum stays right.
    #[inline(always)]
    pub fn set_destination(&self, destination: u32) {
        let old = self.destination();
        self.0.set::<u32, 16>(destination);
        self.cover(old as u16, destination as u16);
        self.cover((old >> 16) as u16, (destination >> 16) as u16);
    }

    /// Keeps the checksum right after one of the words that it covers has changed.
    #[inline(always)]
    fn cover(&self, old: u16, new: u16) {
        self.0
            .set::<u16, 10>(checksum::update(self.0.get::<u16, 10>(), old, new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame_of;

    fn header_of<T>(change: impl Fn(&mut [u8]), ask: impl Fn(Header) -> T) -> T {
        let mut bytes = [
            0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ];
        change(&mut bytes);
        ask(Header::at(&frame_of(&mut bytes), 0).expect("long enough"))
    }

    #[test]
    fn contradictions_are_told_apart() {
        let lengths = |place: usize, byte: u8| header_of(|b| b[place] = byte, |ip| ip.lengths());
        assert_eq!(lengths(0, 0x45), Ok((20, 28)));
        assert_eq!(lengths(0, 0x46), Ok((24, 28)));
        assert_eq!(lengths(0, 0x65), Err(Counter::DropMalformed));
        assert_eq!(lengths(0, 0x44), Err(Counter::DropMalformed));
        assert_eq!(lengths(3, 19), Err(Counter::DropMalformed));
    }

    #[test]
    fn pieces_are_told_apart() {
        let piece = |place: usize, byte: u8| header_of(|b| b[place] = byte, |ip| ip.piece());
        assert_eq!(piece(6, 0x40), Piece::Whole);
        assert_eq!(piece(6, 0x20), Piece::First);
        assert_eq!(piece(7, 1), Piece::Later);
        assert_eq!(piece(6, 0x21), Piece::Later);
    }

    #[test]
    fn what_is_rewritten_keeps_its_checksum() {
        let mut bytes = [
            0x45, 0x02, 0, 28, 0, 1, 0x40, 0, 2, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ];
        let sum = checksum::fold(Header::at(&frame_of(&mut bytes), 0).expect("long enough").sum());
        bytes[10..12].copy_from_slice(&(!sum).to_ne_bytes());
        let ip = Header::at(&frame_of(&mut bytes), 0).expect("long enough");
        assert!(checksum::is_right(ip.sum()));
        ip.set_ecn(3);
        assert_eq!(ip.traffic_class(), 3);
        ip.set_destination(u32::from_ne_bytes([198, 51, 100, 255]));
        assert_eq!(ip.hop(), Some(()));
        assert!(checksum::is_right(ip.sum()));
        assert_eq!(ip.hop(), None, "the last one");
        assert!(checksum::is_right(ip.sum()));
    }

    #[test]
    fn martians_are_those_of_the_rfc() {
        for (first, martian) in [
            (0, true),
            (127, true),
            (224, true),
            (255, true),
            (223, false),
            (10, false),
        ] {
            assert_eq!(
                header_of(|b| b[12] = first, |ip| ip.is_martian()),
                martian,
                "{first}"
            );
        }
        assert!(
            header_of(|b| b[15] = 2, |ip| ip.is_martian()),
            "its own destination"
        );
    }
}
