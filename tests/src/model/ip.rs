//! IPv4 and IPv6 headers, as far as a packet for a VIP has to have them right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
};
use foobar_common::counters::Counter;

use super::fragment::{Datagram, Piece};
use super::link::{Link, Network};

/// Extension headers that are walked.
const MAX_EXTENSIONS: usize = 6;

/// A packet for a VIP.
#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
    /// Who sent it.
    pub(super) source: IpAddr,
    /// The VIP.
    pub(super) destination: IpAddr,
    /// The protocol of its payload.
    pub(super) protocol: IpNumber,
    /// What is behind its headers, without padding.
    pub(super) payload: &'a [u8],
    /// Which part of its datagram it is.
    pub(super) piece: Piece,
    /// Whether there is anything between the fixed header and the payload.
    pub(super) shape: Shape,
}

/// Whether a packet has IP options or extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// It has none.
    Plain,
    /// It has.
    Extended,
}

/// The destination of what may be an IPv4 packet; none where the header is not all there.
pub(super) fn destination_v4(packet: &[u8]) -> Option<IpAddr> {
    let header = packet.get(..20)?;
    let address: [u8; 4] = header[16..].try_into().ok()?;
    Some(Ipv4Addr::from(address).into())
}

/// The destination of what may be an IPv6 packet; none where the header is not all there.
pub(super) fn destination_v6(packet: &[u8]) -> Option<IpAddr> {
    let header = packet.get(..40)?;
    let address: [u8; 16] = header[24..].try_into().ok()?;
    Some(Ipv6Addr::from(address).into())
}

/// The length in bytes of a packet whose header is right: padding is behind it.
pub(super) fn length(link: &Link<'_>) -> usize {
    let field = |at: usize| usize::from(u16::from_be_bytes([link.payload[at], link.payload[at + 1]]));
    match link.network {
        Network::Ipv4 => field(2),
        Network::Ipv6 => 40 + field(4),
        Network::Arp => link.payload.len(),
    }
}

/// TOS or traffic class of a packet whose header is right.
pub(super) fn traffic_class(link: &Link<'_>) -> u8 {
    match link.network {
        Network::Ipv4 => link.payload[1],
        Network::Ipv6 => Ipv6HeaderSlice::from_slice(link.payload).map_or(0, |header| header.traffic_class()),
        Network::Arp => 0,
    }
}

/// The packet in a frame for a VIP, or what it is dropped for.
pub(super) fn parse<'a>(link: &Link<'a>, destination: IpAddr) -> Result<Packet<'a>, Counter> {
    let packet = match link.network {
        Network::Ipv4 => v4(link.payload)?,
        Network::Ipv6 | Network::Arp => v6(link.payload)?,
    };
    debug_assert_eq!(packet.destination, destination);
    Ok(packet)
}

fn v4(bytes: &[u8]) -> Result<Packet<'_>, Counter> {
    let (version, words) = (bytes[0] >> 4, usize::from(bytes[0] & 0xf));
    let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    if version != 4 || words < 5 || total < words * 4 {
        return Err(Counter::DropMalformed);
    }
    let whole = bytes.get(..total).ok_or(Counter::DropTruncated)?;
    let header = Ipv4HeaderSlice::from_slice(whole).map_err(|_| Counter::DropMalformed)?;
    // RFC 1071: all of a right header adds up to minus zero.
    if etherparse::checksum::Sum16BitWords::new()
        .add_slice(header.slice())
        .ones_complement()
        != 0
    {
        return Err(Counter::DropChecksum);
    }
    let (source, destination) = (header.source_addr(), header.destination_addr());
    if is_martian_v4(source) || source == destination {
        return Err(Counter::DropMartian);
    }
    let datagram = Datagram {
        source: source.into(),
        destination: destination.into(),
        identification: header.identification().into(),
        protocol: Some(header.protocol()),
    };
    Ok(Packet {
        source: source.into(),
        destination: destination.into(),
        protocol: header.protocol(),
        payload: &whole[header.slice().len()..],
        piece: Piece::of(
            datagram,
            header.fragments_offset().value(),
            header.more_fragments(),
        ),
        shape: if header.options().is_empty() {
            Shape::Plain
        } else {
            Shape::Extended
        },
    })
}

fn is_martian_v4(source: Ipv4Addr) -> bool {
    let first = source.octets()[0];
    first == 0 || source.is_loopback() || first >= 224
}

fn v6(bytes: &[u8]) -> Result<Packet<'_>, Counter> {
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| Counter::DropMalformed)?;
    let payload = bytes
        .get(40..40 + usize::from(header.payload_length()))
        .ok_or(Counter::DropTruncated)?;
    let (source, destination) = (header.source_addr(), header.destination_addr());
    if is_martian_v6(source) || source == destination {
        return Err(Counter::DropMartian);
    }
    let mut packet = Packet {
        source: source.into(),
        destination: destination.into(),
        protocol: header.next_header(),
        payload,
        piece: Piece::Whole,
        shape: Shape::Plain,
    };
    walk(&mut packet)?;
    Ok(packet)
}

pub(super) fn is_martian_v6(source: Ipv6Addr) -> bool {
    source.is_unspecified()
        || source.is_loopback()
        || source.is_multicast()
        || source.to_ipv4_mapped().is_some()
}

/// Takes extension headers off a packet (RFC 8200 section 4). Behind a later fragment's header there is none:
/// what follows is the middle of something.
fn walk(packet: &mut Packet<'_>) -> Result<(), Counter> {
    let mut seen = 0;
    let mut fragmented = false;
    while is_extension(packet.protocol) {
        if seen == MAX_EXTENSIONS || (packet.protocol == IpNumber::IPV6_HEADER_HOP_BY_HOP && seen != 0) {
            return Err(Counter::DropExtension);
        }
        seen += 1;
        packet.shape = Shape::Extended;
        if packet.protocol != IpNumber::IPV6_FRAGMENTATION_HEADER {
            let header =
                Ipv6RawExtHeaderSlice::from_slice(packet.payload).map_err(|_| Counter::DropTruncated)?;
            packet.protocol = header.next_header();
            packet.payload = &packet.payload[header.slice().len()..];
            continue;
        }
        let header =
            Ipv6FragmentHeaderSlice::from_slice(packet.payload).map_err(|_| Counter::DropTruncated)?;
        if fragmented {
            return Err(Counter::DropMalformed);
        }
        fragmented = true;
        let datagram = Datagram {
            source: packet.source,
            destination: packet.destination,
            identification: header.identification(),
            protocol: None,
        };
        packet.piece = Piece::of(
            datagram,
            header.fragment_offset().value(),
            header.more_fragments(),
        );
        packet.protocol = header.next_header();
        packet.payload = &packet.payload[header.slice().len()..];
        if matches!(packet.piece, Piece::Later(_)) {
            break;
        }
    }
    Ok(())
}

fn is_extension(protocol: IpNumber) -> bool {
    matches!(
        protocol,
        IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_DESTINATION_OPTIONS
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_FRAGMENTATION_HEADER
    )
}
