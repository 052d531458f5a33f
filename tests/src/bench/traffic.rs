//! The frames of a case, and where they vary from packet to packet.
//!
//! Where nothing leaves the kernel, addresses are those of RFC 2544 and RFC 5180, which are for benchmarks: there
//! are enough for all flows. On the segments of tests they are those of RFC 5737 and RFC 3849, for documentation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};
use foobar_common::bench::{Shape, TEMPLATE_WORDS, Traffic};
use foobar_common::gue;

use super::case::{Case, Family, Met, Packet, Way};
use crate::packets::frame::{OWN, ROUTER};

/// The services' port.
pub const PORT: u16 = 443;

/// Where the addresses of packets are from, each by its last four bytes as a number: of IPv4 that is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The first client.
    clients: u32,
    /// The first VIP.
    vips: u32,
    /// No VIP, but an address of the same kind.
    others: u32,
    /// The balancer, which the backends follow.
    backends: u32,
    router: u32,
    /// The first half of every IPv6 address; only the last four bytes vary.
    prefix: [u16; 4],
}

/// Clients in the lower half of 198.18.0.0/15, VIPs in the upper one; all of 2001:2::/48.
pub const BENCHMARK: Plan = Plan {
    clients: u32::from_be_bytes([198, 18, 0, 0]),
    vips: u32::from_be_bytes([198, 19, 0, 0]),
    others: u32::from_be_bytes([198, 19, 64, 0]),
    backends: u32::from_be_bytes([198, 19, 128, 0]),
    router: u32::from_be_bytes([198, 18, 255, 254]),
    prefix: [0x2001, 2, 0, 0xbe],
};

/// Clients are all of 203.0.113.0/24, and the VIP is in 192.0.2.0/24; all of 2001:db8::/32.
pub const DOCUMENTATION: Plan = Plan {
    clients: u32::from_be_bytes([203, 0, 113, 0]),
    vips: u32::from_be_bytes([192, 0, 2, 101]),
    others: u32::from_be_bytes([192, 0, 2, 201]),
    backends: u32::from_be_bytes([198, 51, 100, 11]),
    router: u32::from_be_bytes([192, 0, 2, 1]),
    prefix: [0x2001, 0xdb8, 0, 0xbe],
};

const CLIENT_PORT: u16 = 0x8000;
const HOPS: u8 = 57;
/// What an answer with RST leaves of a frame: Ethernet, IPv4 and TCP headers.
const RESET_LENGTH: u64 = 54;

impl Plan {
    fn address(&self, family: Family, number: u32) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::from(number).into(),
            Family::V6 => self.v6(number).into(),
        }
    }

    fn v6(&self, number: u32) -> Ipv6Addr {
        let [a, b, c, d] = self.prefix;
        Ipv6Addr::new(a, b, c, d, 0, 0, (number >> 16) as u16, number as u16)
    }

    /// A backend's address.
    pub fn backend(&self, family: Family, member: u16) -> IpAddr {
        self.address(family, self.backends + u32::from(member))
    }

    /// The balancer's address, in outer headers.
    pub fn own(&self, family: Family) -> IpAddr {
        self.address(family, self.backends)
    }

    /// The VIPs' addresses.
    pub fn vips(self, family: Family, count: u32) -> impl Iterator<Item = IpAddr> {
        (0..count).map(move |nth| self.address(family, self.vips + nth))
    }

    /// The packets of a case: `flows` that take turns, over so many VIPs.
    pub fn traffic(&self, case: &Case, flows: u64, vips: u32) -> Result<Traffic> {
        let vip = match case.met {
            Met::Nothing => self.others,
            Met::NoMember | Met::Denied | Met::Slots(_) | Met::Noted(_) => self.vips,
        };
        let least = self.frame(case, vip, 0)?.len();
        let length = [64, 80, TEMPLATE_WORDS * 8]
            .into_iter()
            .find(|&length| length >= least)
            .context("the frame is longer than a template")?;
        // No padding: that of more than Ethernet's least length is not on the common way.
        let mut frame = self.frame(case, vip, length - least)?;
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
            client: u64::from(self.clients),
            vip: u64::from(vip),
            port_be: u64::from(PORT.to_be()),
            sum,
            lane: 0,
            left: match case.met {
                Met::NoMember => RESET_LENGTH,
                Met::Nothing | Met::Denied => length as u64,
                Met::Slots(_) | Met::Noted(_) => (length + outer_length(case)) as u64,
            },
        })
    }

    /// A frame with so many bytes of payload more than it needs.
    fn frame(&self, case: &Case, vip: u32, more: usize) -> Result<Vec<u8>> {
        let client = self.clients;
        Ok(match case.packet {
            Packet::Data => self.packet(case.family, client, vip, Payload::Data(&FILL[..4 + more]))?,
            Packet::Syn => self.packet(case.family, client, vip, Payload::Syn(&FILL[..more]))?,
            Packet::Datagram | Packet::Quic => {
                self.packet(case.family, client, vip, Payload::Datagram(&FILL[..16 + more]))?
            }
            Packet::Error => {
                let sent = self.packet(case.family, vip, client, Payload::Sent(&FILL))?;
                // The IP header and 8 bytes more, which is the least that a router quotes.
                let quoted = match case.family {
                    Family::V4 => &sent[14..14 + 28 + more],
                    Family::V6 => &sent[14..14 + 48 + more],
                };
                self.packet(case.family, self.router, vip, Payload::Error(quoted))?
            }
        })
    }

    fn packet(&self, family: Family, source: u32, destination: u32, payload: Payload<'_>) -> Result<Vec<u8>> {
        const SEQUENCE: u32 = 0xffff_fff0;
        const WINDOW: u16 = 64_240;
        let ethernet = PacketBuilder::ethernet2(ROUTER, OWN);
        let ip = match family {
            Family::V4 => ethernet.ipv4(source.to_be_bytes(), destination.to_be_bytes(), HOPS),
            Family::V6 => ethernet.ipv6(self.v6(source).octets(), self.v6(destination).octets(), HOPS),
        };
        let mut frame = Vec::new();
        match payload {
            Payload::Data(data) => ip
                .tcp(CLIENT_PORT, PORT, SEQUENCE, WINDOW)
                .ack(1)
                .psh()
                .write(&mut frame, data)?,
            Payload::Syn(data) => ip
                .tcp(CLIENT_PORT, PORT, SEQUENCE, WINDOW)
                .syn()
                .options_raw(&[2, 4, 5, 0xb4])?
                .write(&mut frame, data)?,
            Payload::Datagram(data) => ip.udp(CLIENT_PORT, PORT).write(&mut frame, data)?,
            Payload::Sent(data) => ip
                .tcp(PORT, CLIENT_PORT, SEQUENCE, WINDOW)
                .ack(1)
                .write(&mut frame, data)?,
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
}

/// The packets of a case from addresses for benchmarks.
pub fn traffic(case: &Case, flows: u64, vips: u32) -> Result<Traffic> {
    BENCHMARK.traffic(case, flows, vips)
}

/// Length in bytes of the headers that a packet gets on its way.
pub const fn outer_length(case: &Case) -> usize {
    let (ip, address) = match case.outer() {
        Family::V4 => (20, 4),
        Family::V6 => (40, 16),
    };
    let gue = ip + 8 + gue::LENGTH;
    match case.way {
        Way::L2 => 0,
        Way::Ipip | Way::CrossIpip => ip,
        Way::Gue => gue,
        Way::Candidates => gue + gue::PRIVATE_LENGTH + gue::MAX_LISTED * address,
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

/// The shape of a case's frames.
pub const fn shape(case: &Case) -> Shape {
    match (case.family, case.packet) {
        (Family::V4, Packet::Error) => Shape::ErrorV4,
        (Family::V6, Packet::Error) => Shape::ErrorV6,
        (Family::V4, _) => Shape::V4,
        (Family::V6, _) => Shape::V6,
    }
}

/// Offsets of the client's address (of IPv6 its last four bytes) and port.
pub const fn client(shape: Shape) -> (usize, usize) {
    match shape {
        Shape::V4 => (26, 34),
        Shape::V6 => (34, 54),
        // In the quote it is the destination.
        Shape::ErrorV4 => (58, 64),
        Shape::ErrorV6 => (98, 104),
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

/// What payloads are filled with. Read as a QUIC packet it has a short header, whose connection id names
/// configuration 1.
const FILL: [u8; 64] = [0x2e; 64];

/// The server id in connection ids: of so many bytes, all of which are this one.
pub const SERVER_ID: (u8, u8) = (4, FILL[0]);
/// The configuration that connection ids name.
pub const QUIC_CONFIG: u8 = 1;

#[derive(Clone, Copy)]
enum Payload<'a> {
    Data(&'a [u8]),
    Syn(&'a [u8]),
    Datagram(&'a [u8]),
    Sent(&'a [u8]),
    Error(&'a [u8]),
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
    fn every_frame_ends_with_its_packet() -> Result<()> {
        for case in CASES {
            let bytes = bytes(&traffic(case, 1, 1)?);
            let packet = match case.family {
                Family::V4 => u16::from_be_bytes([bytes[16], bytes[17]]),
                Family::V6 => 40 + u16::from_be_bytes([bytes[18], bytes[19]]),
            };
            assert_eq!(bytes.len(), 14 + usize::from(packet), "{}", case.name);
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
