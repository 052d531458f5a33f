//! The destination connection id of a QUIC packet, as far as steering needs it.
//!
//! Where it stands is the same in every version (RFC 8999 section 5); which long headers a client sends before it
//! has seen a connection id of the server's depends on it (RFC 9000 section 17.2, RFC 9369 section 3.2).

use core::hint::black_box;

use foobar_common::quic::{config_of, server_id};

use super::{Frame, Payload};

/// Length of a UDP header in bytes.
const UDP_LENGTH: usize = 8;
/// The first byte's bit that says that the header is a long one.
const LONG: u8 = 0x80;
/// The first byte's bits that say the type of a long header.
const TYPE: u8 = 0x30;
/// QUIC version 1, and the types of its Initial and 0-RTT packets.
const V1: u32 = 1;
const V1_INITIAL: u8 = 0x00;
const V1_ZERO_RTT: u8 = 0x10;
/// QUIC version 2, likewise.
const V2: u32 = 0x6b33_43cf;
const V2_INITIAL: u8 = 0x10;
const V2_ZERO_RTT: u8 = 0x20;

/// What a connection id may be followed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Any member that lives: the packet belongs to a connection.
    Living,
    /// Only a member that takes new flows: the packet may open a connection.
    TakingNew,
}

/// What a packet's destination connection id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The number of the configuration that it was made by.
    pub config: u8,
    /// The server id, as [`foobar_common::quic::ServerIdKey::id`] has it, in one word.
    pub server_id: u64,
    /// What it may be followed to.
    pub follows: Follows,
}

/// Reads the destination connection id of the first packet in a UDP datagram, which is in `payload`, with a server
/// id of `length` bytes; `None` where there is no room for one.
#[inline(always)]
pub fn connection_id(frame: &Frame, payload: Payload, length: u8) -> Option<ConnectionId> {
    let length = (length & 15) as usize;
    let udp = frame.at::<[u8; UDP_LENGTH]>(payload.offset)?;
    // Of a first fragment the rest is elsewhere.
    let here = (u16::from_be(udp.get::<u16, 4>()) as usize).min(payload.length);
    let (begin, end) = (payload.offset + UDP_LENGTH, payload.offset + here);
    let first = frame.at::<u8>(begin)?.get::<u8, 0>();
    let (id, follows) = if first & LONG == 0 {
        (begin + 1, Follows::Living)
    } else {
        let header = frame.at::<[u8; 6]>(begin)?;
        let id_length = header.get::<u8, 5>() as usize;
        if id_length <= length || begin + 6 + id_length > end {
            return None;
        }
        let version = u32::from_be(header.get::<u32, 1>());
        (begin + 6, follows(version, first & TYPE))
    };
    if id + 1 + length > end {
        return None;
    }
    // The 9 bytes that end with the server id, whatever they begin with: one check, by constant sizes. The byte
    // before the id is where the id begins in the word before.
    // Its place is hidden from the compiler, which would subtract the 8 from a pointer into the packet: that the
    // verifier refuses.
    let window = frame.at::<[u8; 9]>(black_box(id + length - 8))?;
    let length = length as u8;
    Some(ConnectionId {
        config: config_of(server_id(window.get::<u64, 0>(), length) as u8),
        server_id: server_id(window.get::<u64, 1>(), length),
        follows,
    })
}

#[inline(always)]
const fn follows(version: u32, kind: u8) -> Follows {
    let is_early = match version {
        V1 => kind == V1_INITIAL || kind == V1_ZERO_RTT,
        V2 => kind == V2_INITIAL || kind == V2_ZERO_RTT,
        // Whatever it is, it may be the first of its connection.
        _ => true,
    };
    if is_early {
        Follows::TakingNew
    } else {
        Follows::Living
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame_of;
    use foobar_common::quic::ServerIdKey;

    /// In a UDP datagram of its own.
    fn read(quic: &[u8], length: u8) -> Option<ConnectionId> {
        let whole = (UDP_LENGTH + quic.len()) as u16;
        datagram(whole, usize::from(whole), quic, length)
    }

    /// In a datagram of `whole` bytes, of which `here` are in the packet.
    fn datagram(whole: u16, here: usize, quic: &[u8], length: u8) -> Option<ConnectionId> {
        let [high, low] = whole.to_be_bytes();
        let mut bytes = [&[0xee, 0xee, 0xee, 0xee, high, low, 0xee, 0xee][..], quic].concat();
        let payload = Payload {
            offset: 0,
            length: here,
        };
        connection_id(&frame_of(&mut bytes), payload, length)
    }

    fn id(bytes: &[u8]) -> u64 {
        let mut id = ServerIdKey::default().id;
        id[..bytes.len()].copy_from_slice(bytes);
        u64::from_ne_bytes(id)
    }

    #[test]
    fn a_short_headers_id_begins_behind_its_first_byte() {
        let packet = [0x40, 0b0100_0000, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        for length in 1..=8 {
            let found = read(&packet, length).expect("room enough");
            assert_eq!(found.config, 2);
            assert_eq!(found.server_id, id(&packet[2..2 + usize::from(length)]));
            assert_eq!(found.follows, Follows::Living);
            assert_eq!(read(&packet[..1 + usize::from(length)], length), None);
            assert!(read(&packet[..2 + usize::from(length)], length).is_some());
        }
        assert_eq!(read(&[], 1), None);
        assert_eq!(read(&[0x40], 1), None);
    }

    #[test]
    fn a_long_headers_id_has_its_length_before_it() {
        let packet = [0xc0, 0, 0, 0, 1, 5, 0x20, 1, 2, 3, 4, 0];
        let found = read(&packet, 4).expect("room enough");
        assert_eq!((found.config, found.server_id), (1, id(&[1, 2, 3, 4])));
        assert_eq!(
            read(&packet, 5),
            None,
            "an id of five bytes has four behind its first"
        );
        assert_eq!(read(&packet[..10], 3), None, "the packet ends inside the id");
        assert_eq!(read(&packet[..5], 3), None);
    }

    #[test]
    fn what_stands_behind_the_datagram_or_the_packet_is_not_part_of_it() {
        let quic = [0u8; 40];
        for (whole, here) in [(12, 48), (48, 12), (12, 12)] {
            assert!(datagram(whole, here, &quic, 2).is_some());
            assert_eq!(datagram(whole, here, &quic, 3), None);
        }
    }

    #[test]
    fn types_are_those_of_the_version() {
        let of = |first: u8, version: u32| {
            let mut packet = [first, 0, 0, 0, 0, 2, 0, 1];
            packet[1..5].copy_from_slice(&version.to_be_bytes());
            read(&packet, 1).expect("room enough").follows
        };
        use Follows::{Living, TakingNew};
        for (first, v1, v2) in [
            (0xc0, TakingNew, Living),
            (0xd0, TakingNew, TakingNew),
            (0xe0, Living, TakingNew),
            (0xf0, Living, Living),
        ] {
            assert_eq!((of(first, V1), of(first, V2)), (v1, v2), "{first:x}");
            assert_eq!(of(first, 0x1a2a_3a4a), TakingNew);
        }
    }
}
