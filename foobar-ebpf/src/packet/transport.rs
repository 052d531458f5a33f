//! TCP (RFC 9293) and UDP (RFC 768) headers: what steering needs of them.

use foobar_common::counters::Counter;
use foobar_common::steering::Segment;

use super::{Frame, Payload, Piece};

/// Ports and segment of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source and destination port, the four bytes as they stand in the packet.
    pub ports_be: u32,
    /// What the packet says about its flow.
    pub segment: Segment,
}

impl Transport {
    /// The source port, network byte order.
    #[inline(always)]
    pub const fn source_port_be(&self) -> u16 {
        let b = self.ports_be.to_ne_bytes();
        u16::from_ne_bytes([b[0], b[1]])
    }

    /// The destination port, network byte order.
    #[inline(always)]
    pub const fn destination_port_be(&self) -> u16 {
        let b = self.ports_be.to_ne_bytes();
        u16::from_ne_bytes([b[2], b[3]])
    }
}

/// Reads the TCP header of an IP payload; of a first fragment all of it has to be there.
#[inline(always)]
pub fn tcp(frame: &Frame, payload: Payload, piece: Piece) -> Result<Transport, Counter> {
    let Some(header) = frame.at::<[u8; 20]>(payload.offset) else {
        return Err(Counter::DropTruncated);
    };
    if payload.length < 20 {
        return Err(Counter::DropTruncated);
    }
    let length = (header.get::<u8, 12>() >> 4) as usize * 4;
    if length < 20 {
        return Err(Counter::DropMalformed);
    }
    if length > payload.length {
        // Of a datagram in pieces the rest may come later, but too late for us.
        return Err(match piece {
            Piece::Whole => Counter::DropMalformed,
            Piece::First | Piece::Later => Counter::DropTruncated,
        });
    }
    Ok(Transport {
        ports_be: header.get::<u32, 0>(),
        segment: Segment::of_tcp_flags(header.get::<u8, 13>()),
    })
}

/// Reads the UDP header of an IP payload; a first fragment's length may reach beyond it.
#[inline(always)]
pub fn udp(frame: &Frame, payload: Payload, piece: Piece) -> Result<Transport, Counter> {
    let Some(header) = frame.at::<[u8; 8]>(payload.offset) else {
        return Err(Counter::DropTruncated);
    };
    if payload.length < 8 {
        return Err(Counter::DropTruncated);
    }
    let length = u16::from_be(header.get::<u16, 4>()) as usize;
    if length < 8 || (length > payload.length && matches!(piece, Piece::Whole)) {
        return Err(Counter::DropMalformed);
    }
    Ok(Transport {
        ports_be: header.get::<u32, 0>(),
        segment: Segment::Datagram,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame_of;

    fn tcp_of(offset: u8, length: usize) -> Result<Transport, Counter> {
        let mut bytes = [0u8; 20];
        bytes[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
        bytes[12] = offset << 4;
        bytes[13] = 0x02;
        tcp(&frame_of(&mut bytes), Payload { offset: 0, length }, Piece::Whole)
    }

    #[test]
    fn a_tcp_header_gives_ports_and_segment() {
        let transport = tcp_of(5, 20).expect("sound");
        assert_eq!(u16::from_be(transport.source_port_be()), 40_000);
        assert_eq!(u16::from_be(transport.destination_port_be()), 443);
        assert_eq!(transport.segment, Segment::Open);
    }

    #[test]
    fn a_tcp_header_longer_than_its_packet_is_refused() {
        assert_eq!(tcp_of(6, 20), Err(Counter::DropMalformed));
        assert_eq!(tcp_of(4, 20), Err(Counter::DropMalformed));
        assert_eq!(tcp_of(5, 19), Err(Counter::DropTruncated));
    }

    #[test]
    fn a_udp_length_has_to_fit() {
        let mut bytes = [0x9c, 0x40, 0, 53, 0, 9, 0, 0];
        let whole = Payload { offset: 0, length: 8 };
        assert_eq!(
            udp(&frame_of(&mut bytes), whole, Piece::Whole),
            Err(Counter::DropMalformed)
        );
        bytes[5] = 7;
        assert_eq!(
            udp(&frame_of(&mut bytes), whole, Piece::Whole),
            Err(Counter::DropMalformed)
        );
        bytes[5] = 8;
        assert!(udp(&frame_of(&mut bytes), whole, Piece::Whole).is_ok());
    }
}
