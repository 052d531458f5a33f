//! What doesn't fit into the tunnel to its member: fragmentation needed (RFC 792, RFC 1191) or packet too big (RFC
//! 4443), in the VIP's name and at a bounded rate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header};
use foobar_common::counters::Counter;

use super::admission::Rate;
use super::ip::{destination_v4, destination_v6};
use super::link::{Link, Network};
use super::verdict::{Fate, Kind};
use super::world::World;
use crate::packets::frame::Mac;

/// 1,000 answers a second, 100 at once.
const RATE: Rate = Rate {
    cost_ns: 1_000_000,
    burst: 100,
};
/// Bytes of the packet that the answer quotes.
const QUOTED: usize = 512;
const HOP_LIMIT: u8 = 64;

/// What becomes of a packet that is longer than `room`.
pub(super) fn judge(world: &mut World, link: &Link<'_>, kind: Kind, room: u16) -> Fate {
    let is_to_be_told = match (kind, link.network) {
        // RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e): nobody is told of an error.
        (Kind::Error, _) => false,
        // The same section of RFC 1812; RFC 4443 knows no such rule.
        (Kind::Later, Network::Ipv4) => false,
        _ => true,
    };
    let moment = world.moment;
    if !is_to_be_told || !world.answers.take(&moment, Counter::DropTooBig, RATE) {
        return Fate::Drop(Counter::DropTooBig);
    }
    Fate::Answer(Counter::AnswerTooBig, answer(world.own, link, room))
}

fn answer(own: Mac, link: &Link<'_>, room: u16) -> Vec<u8> {
    const LONG: &str = "the quote is short";
    let quote = &link.payload[..QUOTED.min(link.payload.len())];
    let message = match link.network {
        Network::Ipv4 => {
            let (client, vip) = ends_v4(link.payload);
            let needed = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: room };
            let icmp = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(needed), quote);
            let length = icmp.header_len() + quote.len();
            let mut header = Ipv4Header::new(
                length as u16,
                HOP_LIMIT,
                IpNumber::ICMP,
                vip.octets(),
                client.octets(),
            )
            .expect(LONG);
            header.identification = 0;
            header.dont_fragment = true;
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes()[..], &icmp.to_bytes(), quote].concat()
        }
        Network::Ipv6 | Network::Arp => {
            let (client, vip) = ends_v6(link.payload);
            let kind = Icmpv6Type::PacketTooBig { mtu: room.into() };
            let icmp = Icmpv6Header::with_checksum(kind, vip.octets(), client.octets(), quote).expect(LONG);
            let header = Ipv6Header {
                payload_length: (icmp.header_len() + quote.len()) as u16,
                next_header: IpNumber::IPV6_ICMP,
                hop_limit: HOP_LIMIT,
                source: vip.octets(),
                destination: client.octets(),
                ..Ipv6Header::default()
            };
            [&header.to_bytes()[..], &icmp.to_bytes(), quote].concat()
        }
    };
    link.with(link.source, own, &message)
}

/// Source and destination of a packet whose header is right.
fn ends_v4(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr) {
    let source = [packet[12], packet[13], packet[14], packet[15]];
    match destination_v4(packet) {
        Some(IpAddr::V4(destination)) => (source.into(), destination),
        _ => unreachable!("its header was read before"),
    }
}

fn ends_v6(packet: &[u8]) -> (Ipv6Addr, Ipv6Addr) {
    let source: [u8; 16] = std::array::from_fn(|at| packet[8 + at]);
    match destination_v6(packet) {
        Some(IpAddr::V6(destination)) => (source.into(), destination),
        _ => unreachable!("its header was read before"),
    }
}
