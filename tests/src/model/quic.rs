//! QUIC: the server id in a connection id (draft-ietf-quic-load-balancers, plaintext form), and whom it leads to.
//!
//! A connection id stands where RFC 8999 section 5 has it, in every version; which packets may begin a connection is
//! the version's (RFC 9000 section 17.2, RFC 9369 section 3.2).

use etherparse::{IpNumber, UdpHeaderSlice};
use foobar_common::slot::Member;

use super::ip::Packet;
use super::world::{Service, State, World};

/// How connection ids are made: 3 bits of configuration, 5 of any value, the server id, a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionIds {
    /// Bytes of the server id.
    pub length: usize,
    /// The configuration's number.
    pub config: u8,
}

/// What a packet says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It may be its first one.
    Early,
    /// It has one.
    Established,
}

const VERSION_1: u32 = 1;
const VERSION_2: u32 = 0x6b33_43cf;

/// The member that a datagram is for by its connection id, where it has one that counts.
pub(super) fn named(world: &World, service: &Service, packet: &Packet<'_>) -> Option<Member> {
    let ids = service.quic?;
    if packet.protocol != IpNumber::UDP {
        return None;
    }
    let udp = UdpHeaderSlice::from_slice(packet.payload).ok()?;
    // Of a first fragment the datagram's rest is elsewhere, and behind a datagram nothing is its own.
    let end = usize::from(udp.length()).min(packet.payload.len());
    let (id, stage) = connection_id(packet.payload.get(8..end)?)?;
    let server_id = id.get(1..1 + ids.length)?;
    if id[0] >> 5 != ids.config {
        return None;
    }
    let &member = world.server_ids.get(&(service.id, server_id.to_vec()))?;
    let counts = match (world.state(member), stage) {
        (state, Stage::Established) => state.lives(),
        (state, Stage::Early) => state == State::Up,
    };
    counts.then_some(member)
}

/// The destination connection id of a datagram's first packet, or what is there of a short header's, whose length
/// only the server knows.
fn connection_id(datagram: &[u8]) -> Option<(&[u8], Stage)> {
    let (&first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return Some((rest, Stage::Established));
    }
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (&length, rest) = rest.split_first()?;
    let kind = first >> 4 & 3;
    let is_early = match u32::from_be_bytes(*version) {
        // Initial, 0-RTT.
        VERSION_1 => kind == 0 || kind == 1,
        VERSION_2 => kind == 1 || kind == 2,
        _ => true,
    };
    let stage = if is_early {
        Stage::Early
    } else {
        Stage::Established
    };
    Some((rest.get(..usize::from(length))?, stage))
}
