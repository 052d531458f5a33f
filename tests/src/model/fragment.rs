//! Fragments: the first one of a datagram leads, the others follow.

use std::net::IpAddr;

use etherparse::IpNumber;
use foobar_common::counters::Counter;

use super::ip::Packet;
use super::steering::{hash, octets};
use super::verdict::{Delivery, Fate, Kind};
use super::world::{State, World};

/// What tells a fragmented datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Who sent it.
    pub source: IpAddr,
    /// To which VIP.
    pub destination: IpAddr,
    /// Its identification.
    pub identification: u32,
    /// IPv4: the protocol.
    pub protocol: Option<IpNumber>,
}

impl Datagram {
    /// The identification as it stands in the packet, IPv4's two bytes before two of zero: what the outer headers of
    /// fragments without ports vary in.
    fn bytes(self) -> [u8; 4] {
        match self.protocol {
            Some(_) => {
                let [high, low] = (self.identification as u16).to_be_bytes();
                [high, low, 0, 0]
            }
            None => self.identification.to_be_bytes(),
        }
    }
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// All of it; also where it bears a fragment header that divides nothing (RFC 6946).
    Whole,
    /// The first part, with the transport header.
    First(Datagram),
    /// Another part.
    Later(Datagram),
}

impl Piece {
    /// The part at an offset, in units of 8 bytes.
    pub(super) fn of(datagram: Datagram, offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First(datagram),
            _ => Self::Later(datagram),
        }
    }
}

impl World {
    /// A fragment that bears no ports.
    pub(super) fn follow(&self, packet: &Packet<'_>, datagram: Datagram, counted: &mut Vec<Counter>) -> Fate {
        debug_assert_eq!(packet.destination, datagram.destination);
        match self.fragments.get(&datagram) {
            Some(&owners) if self.state(owners.first) != State::Gone => {
                counted.push(Counter::FragmentFollowed);
                Fate::Forward(Delivery {
                    owners,
                    kind: Kind::Later,
                    varies: hash(self.seed, octets(packet.source), datagram.bytes()),
                })
            }
            _ => Fate::Drop(Counter::DropFragment),
        }
    }
}
