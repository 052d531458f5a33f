//! The frames of a case, and where they vary from packet to packet.
//!
//! Addresses are those of RFC 2544 and RFC 5180, which are for benchmarks: clients in the lower half of
//! 198.18.0.0/15, VIPs in the upper one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};
use foobar_common::bench::{Shape, TEMPLATE_WORDS, Traffic};
use foobar_common::gue;

use super::case::{Case, Family, Met, Packet, Way};
use crate::packets::frame::{OWN, ROUTER};

/// The services' port.
pub const PORT: u16 = 443;

const CLIENTS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const VIPS: u32 = u32::from_be_bytes([198, 19, 0, 0]);
/// No VIP, but an address of the same kind.
const OTHERS: u32 = u32::from_be_bytes([198, 19, 64, 0]);
/// The balancer's address, which the backends' follow.
const BACKENDS: u32 = u32::from_be_bytes([198, 19, 128, 0]);
const ROUTER_ADDRESS: u32 = u32::from_be_bytes([198, 18, 255, 254]);

const CLIENT_PORT: u16 = 0x8000;
const HOPS: u8 = 57;
/// What an answer with RST leaves of a frame: Ethernet, IPv4 and TCP headers.
const RESET_LENGTH: u64 = 54;

/// The address with this number: of IPv4 the number itself.
fn address(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(number).into(),
        Family::V6 => v6(number).into(),
    }
}

/// A backend's address.
pub fn backend(family: Family, member: u16) -> IpAddr {
    address(family, BACKENDS + u32::from(member))
}

/// The balancer's address, in outer headers.
pub fn own(family: Family) -> IpAddr {
    address(family, BACKENDS)
}

/// An address in 2001:2::/48. The VIPs' and the clients' prefix is the same: only the last four bytes vary.
fn v6(number: u32) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 2, 0, 0xbe, 0, 0, (number >> 16) as u16, number as u16)
}

/// The VIPs' addresses.
pub fn vips(family: Family, count: u32) -> impl Iterator<Item = IpAddr> {
    (0..count).map(move |nth| address(family, VIPS + nth))
}

/// The packets of a case: `flows` that take turns, over so many VIPs.
pub fn traffic(case: &Case, flows: u64, vips: u32) -> Result<Traffic> {
    let vip = match case.met {
        Met::Nothing => OTHERS,
        Met::NoMember | Met::Slots(_) | Met::Noted(_) => VIPS,
    };
    let mut frame = frame(case, vip)?;
    let length = [64, 80, TEMPLATE_WORDS * 8]
        .into_iter()
        .find(|&length| length >= frame.len())
        .context("the frame is longer than a template")?;
    // Padding, as Ethernet has it behind short packets.
    frame.resize(length, 0);
    let shape = shape(case);
    let mut fixed = [0u8; TEMPLATE_WORDS * 8];
    fixed[..length].fill(0xff);
    for &(offset, bytes) in varying(shape) {
        fixed[offset..offset + bytes].fill(0);
    }
    frame.resize(TEMPLATE_WORDS * 8, 0);
    let sum = [18, 26, 28, 30, 32]
        .map(|offset| u64::from(u16::from_ne_bytes([frame[offset], frame[offset + 1]])))
        .iter()
        .sum();
    Ok(Traffic {
        template: words(&frame),
        fixed: words(&fixed),
        length: length as u64,
        shape: shape as u64,
        flows,
        dwell: 1,
        vips: u64::from(vips),
        client: u64::from(CLIENTS),
        vip: u64::from(vip),
        port_be: u64::from(PORT.to_be()),
        sum,
        lane: 0,
        left: match case.met {
            Met::NoMember => RESET_LENGTH,
            Met::Nothing | Met::Slots(_) | Met::Noted(_) => (length + outer_length(case)) as u64,
        },
    })
}

/// Length in bytes of the headers that a packet gets on its way.
const fn outer_length(case: &Case) -> usize {
    let ip = match case.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    match case.way {
        Way::L2 => 0,
        Way::Ipip => ip,
        Way::Gue => ip + 8 + gue::LENGTH,
    }
}

/// The frame as it is handed to the kernel.
pub fn bytes(traffic: &Traffic) -> Vec<u8> {
    let mut bytes: Vec<u8> = traffic
        .template
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    bytes.truncate(traffic.length as usize);
    bytes
}

fn words(bytes: &[u8]) -> [u64; TEMPLATE_WORDS] {
    let mut words = [0; TEMPLATE_WORDS];
    for (word, &eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(eight);
    }
    words
}

const fn shape(case: &Case) -> Shape {
    match (case.family, case.packet) {
        (Family::V4, Packet::Error) => Shape::ErrorV4,
        (Family::V6, Packet::Error) => Shape::ErrorV6,
        (Family::V4, _) => Shape::V4,
        (Family::V6, _) => Shape::V6,
    }
}

/// Offsets and lengths of the fields that vary by flow.
const fn varying(shape: Shape) -> &'static [(usize, usize)] {
    match shape {
        // Identification, both addresses, both ports.
        Shape::V4 => &[(18, 2), (26, 12)],
        // The second halves of both addresses, both ports.
        Shape::V6 => &[(30, 8), (46, 12)],
        // Identification and destination; in the quote both addresses and both ports.
        Shape::ErrorV4 => &[(18, 2), (30, 4), (54, 12)],
        // The destination's second half; in the quote those of both addresses, and both ports.
        Shape::ErrorV6 => &[(46, 8), (78, 8), (94, 12)],
    }
}

fn frame(case: &Case, vip: u32) -> Result<Vec<u8>> {
    let (client, router) = (CLIENTS, ROUTER_ADDRESS);
    Ok(match case.packet {
        Packet::Data => packet(case.family, client, vip, Payload::Data)?,
        Packet::Syn => packet(case.family, client, vip, Payload::Syn)?,
        Packet::Datagram => packet(case.family, client, vip, Payload::Datagram)?,
        Packet::Error => {
            let sent = packet(case.family, vip, client, Payload::Sent)?;
            // The IP header and 8 bytes more, which is the least that a router quotes.
            let quoted = match case.family {
                Family::V4 => &sent[14..14 + 28],
                Family::V6 => &sent[14..14 + 48],
            };
            packet(case.family, router, vip, Payload::Error(quoted))?
        }
    })
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    Data,
    Syn,
    Datagram,
    Sent,
    Error(&'a [u8]),
}

fn packet(family: Family, source: u32, destination: u32, payload: Payload<'_>) -> Result<Vec<u8>> {
    const SEQUENCE: u32 = 0xffff_fff0;
    const WINDOW: u16 = 64_240;
    let ethernet = PacketBuilder::ethernet2(ROUTER, OWN);
    let ip = match family {
        Family::V4 => ethernet.ipv4(source.to_be_bytes(), destination.to_be_bytes(), HOPS),
        Family::V6 => ethernet.ipv6(v6(source).octets(), v6(destination).octets(), HOPS),
    };
    let mut frame = Vec::new();
    match payload {
        Payload::Data => ip
            .tcp(CLIENT_PORT, PORT, SEQUENCE, WINDOW)
            .ack(1)
            .psh()
            .write(&mut frame, b"data")?,
        Payload::Syn => ip
            .tcp(CLIENT_PORT, PORT, SEQUENCE, WINDOW)
            .syn()
            .options_raw(&[2, 4, 5, 0xb4])?
            .write(&mut frame, &[])?,
        Payload::Datagram => ip.udp(CLIENT_PORT, PORT).write(&mut frame, b"sixteen bytes ..")?,
        Payload::Sent => ip
            .tcp(PORT, CLIENT_PORT, SEQUENCE, WINDOW)
            .ack(1)
            .write(&mut frame, &[])?,
        Payload::Error(quoted) => match family {
            Family::V4 => ip
                .icmpv4(Icmpv4Type::TimeExceeded(
                    icmpv4::TimeExceededCode::TtlExceededInTransit,
                ))
                .write(&mut frame, quoted)?,
            Family::V6 => ip
                .icmpv6(Icmpv6Type::TimeExceeded(
                    icmpv6::TimeExceededCode::HopLimitExceeded,
                ))
                .write(&mut frame, quoted)?,
        },
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::super::case::CASES;
    use super::*;
    use etherparse::SlicedPacket;

    #[test]
    fn every_case_has_a_frame_that_others_can_read() -> Result<()> {
        for case in CASES {
            let traffic = traffic(case, 1, 1)?;
            let bytes = bytes(&traffic);
            assert_eq!(bytes.len() as u64, traffic.length);
            let sliced = SlicedPacket::from_ethernet(&bytes)?;
            assert!(
                sliced.net.is_some() && sliced.transport.is_some(),
                "{}",
                case.name
            );
        }
        Ok(())
    }

    #[test]
    fn what_varies_is_the_flows_fields_alone() -> Result<()> {
        let case = CASES.iter().find(|case| case.packet == Packet::Error);
        let traffic = traffic(case.context("a case of an error")?, 1, 1)?;
        let varying = (0..traffic.length as usize)
            .filter(|&offset| traffic.fixed[offset / 8].to_ne_bytes()[offset % 8] == 0)
            .count();
        assert_eq!(varying, 2 + 4 + 12);
        Ok(())
    }
}
