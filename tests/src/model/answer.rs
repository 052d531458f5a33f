//! The frames that the balancer makes itself.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpHeaderSlice};

use super::ip::Packet;
use super::link::Link;
use crate::packets::frame::Mac;
use crate::packets::frame_v6::internet_checksum;

/// The TTL and hop limit of answers.
const HOP_LIMIT: u8 = 64;

/// The RST that answers a segment of a connection that does not exist (RFC 9293 section 3.10.7.1); `data` is
/// how many bytes the segment carries.
pub(super) fn reset(
    own: Mac,
    link: &Link<'_>,
    packet: &Packet<'_>,
    segment: &TcpHeaderSlice<'_>,
    data: usize,
) -> Vec<u8> {
    let mut tcp = TcpHeader::new(segment.destination_port(), segment.source_port(), 0, 0);
    tcp.rst = true;
    if segment.ack() {
        tcp.sequence_number = segment.acknowledgment_number();
    } else {
        let length = data as u32 + u32::from(segment.syn()) + u32::from(segment.fin());
        tcp.ack = true;
        tcp.acknowledgment_number = segment.sequence_number().wrapping_add(length);
    }
    const SHORT: &str = "no payload is too long for no payload";
    let header = match (packet.destination, packet.source) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            let mut ip =
                Ipv4Header::new(20, HOP_LIMIT, IpNumber::TCP, vip.octets(), client.octets()).expect(SHORT);
            ip.header_checksum = ip.calc_header_checksum();
            tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[]).expect(SHORT);
            ip.to_bytes().to_vec()
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            let ip = Ipv6Header {
                payload_length: 20,
                next_header: IpNumber::TCP,
                hop_limit: HOP_LIMIT,
                source: vip.octets(),
                destination: client.octets(),
                ..Ipv6Header::default()
            };
            tcp.checksum = tcp.calc_checksum_ipv6(&ip, &[]).expect(SHORT);
            ip.to_bytes().to_vec()
        }
        _ => unreachable!("both addresses of a packet are of one family"),
    };
    link.with(link.source, own, &[&header[..], &tcp.to_bytes()].concat())
}

/// The reply to a ping: the same packet turned round, with a TTL of its own.
pub(super) fn echo(own: Mac, link: &Link<'_>, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = link.payload.to_vec();
    // The message's place: padding is behind it.
    let message = packet.payload.as_ptr() as usize - link.payload.as_ptr() as usize;
    let reply = match packet.destination {
        IpAddr::V4(_) => {
            let header = &mut bytes[..message];
            let (source, destination) = header[12..20].split_at_mut(4);
            source.swap_with_slice(destination);
            header[8] = HOP_LIMIT;
            header[10..12].fill(0);
            let checksum = internet_checksum(header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            0
        }
        IpAddr::V6(_) => {
            let (source, destination) = (packet.source, packet.destination);
            let octets = |address| match address {
                IpAddr::V6(v6) => v6.octets(),
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            };
            bytes[7] = HOP_LIMIT;
            bytes[8..24].copy_from_slice(&octets(destination));
            bytes[24..40].copy_from_slice(&octets(source));
            129
        }
    };
    let before = u16::from_be_bytes([bytes[message], bytes[message + 1]]);
    bytes[message] = reply;
    let after = u16::from_be_bytes([bytes[message], bytes[message + 1]]);
    let checksum = u16::from_be_bytes([bytes[message + 2], bytes[message + 3]]);
    // RFC 1624, equation 3; what was wrong stays wrong by as much.
    let sum = u64::from(!checksum) + u64::from(!before) + u64::from(after);
    bytes[message + 2..message + 4].copy_from_slice(&(!fold(sum)).to_be_bytes());
    link.with(link.source, own, &bytes)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
