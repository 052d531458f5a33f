//! IP headers around a payload, of both families.

use std::net::{IpAddr, Ipv6Addr};

use super::Packet;
use crate::fuzz::dice::Dice;
use crate::packets::frame_v6::{Extension, IPV6, chained, internet_checksum};

const IPV4: u16 = 0x0800;

/// What an IP header says besides addresses and lengths.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header {
    /// Where in its datagram the payload belongs, in units of 8 bytes, and whether more follows.
    pub(super) fragment: Option<(u16, bool)>,
    /// The datagram.
    pub(super) identification: u32,
    /// Fixed time to live or hop limit.
    pub(super) hop_limit: Option<u8>,
}

/// A packet with a right header and perhaps options or extension headers. Both addresses are of one family.
pub(super) fn packet(
    dice: &mut Dice,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    header: Header,
    payload: &[u8],
) -> Packet {
    let (ether_type, bytes) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let ends = (source.octets(), destination.octets());
            (IPV4, v4(dice, ends, protocol, header, payload))
        }
        (source, destination) => {
            let ends = (v6_of(source), v6_of(destination));
            (IPV6, v6(dice, ends, protocol, header, payload))
        }
    };
    Packet {
        ether_type,
        destination: None,
        bytes,
    }
}

fn v6_of(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn v4(dice: &mut Dice, ends: ([u8; 4], [u8; 4]), protocol: u8, header: Header, payload: &[u8]) -> Vec<u8> {
    let options = if dice.percent(6) { dice.below(11) * 4 } else { 0 };
    let length = 20 + options;
    let flags = match header.fragment {
        Some((offset, more)) => (offset & 0x1fff) | if more { 0x2000 } else { 0 },
        None => dice.pick(&[0, 0x4000, 0x8000]),
    };
    let mut bytes = vec![0x40 | (length / 4) as u8, dice.pick(&[0, 0, 0xbb])];
    bytes.extend(((length + payload.len()) as u16).to_be_bytes());
    bytes.extend((header.identification as u16).to_be_bytes());
    bytes.extend(flags.to_be_bytes());
    bytes.extend([
        header.hop_limit.unwrap_or(dice.pick(&[0, 1, 57, 64, 255])),
        protocol,
        0,
        0,
    ]);
    bytes.extend(ends.0);
    bytes.extend(ends.1);
    bytes.extend(dice.bytes(options));
    let checksum = internet_checksum(&bytes);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn v6(dice: &mut Dice, ends: (Ipv6Addr, Ipv6Addr), protocol: u8, header: Header, payload: &[u8]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if dice.percent(20) {
        extensions = self::extensions(dice, 8);
    }
    if let Some((offset, more)) = header.fragment {
        let place = dice.below(extensions.len() + 1);
        extensions.insert(
            place,
            Extension::Fragment {
                offset,
                more,
                id: header.identification,
            },
        );
    }
    let (first, body) = chained(&extensions, protocol, payload);
    let mut bytes = vec![0x60 | dice.pick(&[0, 0, 0x0b]), dice.pick(&[0, 0xb0]), 0, 0];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend([first, header.hop_limit.unwrap_or(dice.pick(&[0, 1, 57, 64, 255]))]);
    bytes.extend(ends.0.octets());
    bytes.extend(ends.1.octets());
    bytes.extend(body);
    bytes
}

/// Up to so many extension headers, mostly in an order that the balancer takes.
pub(super) fn extensions(dice: &mut Dice, most: usize) -> Vec<Extension> {
    let count = 1 + dice.below(most);
    let mut extensions: Vec<_> = (0..count)
        .map(|place| {
            let units = match dice.below(100) {
                0..88 => 1,
                88..99 => 1 + dice.below(8) as u8,
                // All headers together fit the first buffer of a frame in several.
                _ => dice.pick(&[16, 48]),
            };
            match dice.below(12) {
                0 => Extension::HopByHop(units),
                1..6 => Extension::Destination(units),
                6..11 => Extension::Routing(units),
                // Atomic, as a rule (RFC 6946).
                _ => Extension::Fragment {
                    offset: if dice.percent(10) { dice.below(4) as u16 } else { 0 },
                    more: dice.percent(10),
                    id: place as u32,
                },
            }
        })
        .collect();
    if dice.percent(40) {
        extensions[0] = Extension::HopByHop(1);
    }
    extensions
}
