//! Flows of clients to VIPs, and their segments and datagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Packet;
use super::packet::{Header, packet};
use crate::fuzz::admission;
use crate::fuzz::dice::Dice;
use crate::fuzz::quic::Named;
use crate::model::{Forward, Service, World};
use crate::packets::rig::{TCP, UDP};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Both ends of a flow.
#[derive(Clone, Copy, Debug)]
pub(in crate::fuzz) struct Flow {
    /// The client's address.
    pub(in crate::fuzz) client: IpAddr,
    /// Its port.
    pub(in crate::fuzz) client_port: u16,
    /// The VIP, of the client's family.
    pub(in crate::fuzz) vip: IpAddr,
    /// Its port.
    pub(in crate::fuzz) port: u16,
    /// TCP or UDP.
    pub(in crate::fuzz) protocol: u8,
    /// What a tunnel takes that some of its packets nearly fill.
    pub(in crate::fuzz) mtu: Option<u16>,
    /// The QUIC server id that it names.
    pub(in crate::fuzz) quic: Option<Named>,
}

impl Flow {
    /// Any flow, mostly to a service.
    pub(in crate::fuzz) fn of(dice: &mut Dice, world: &World) -> Self {
        let vips: Vec<_> = world.addresses.keys().copied().collect();
        let mut flow = Self {
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            client_port: dice.pick(&[0, 1, 53, 1024, 40_000, 40_001, 40_002, 65_535]),
            vip: dice.pick(&vips),
            port: dice.half(),
            protocol: dice.pick(&[TCP, UDP]),
            mtu: mtu(dice, world),
            quic: None,
        };
        let mut of = None;
        if !world.services.is_empty() && dice.percent(93) {
            let service = &world.services[dice.below(world.services.len())];
            let (first, last) = (*service.ports.start(), *service.ports.end());
            flow.vip = service.address;
            flow.port = match dice.below(3) {
                0 => first,
                1 => last,
                _ => first + dice.below(usize::from(last - first) + 1) as u16,
            };
            flow.protocol = service.protocol;
            flow.quic = Named::of(dice, world, service);
            of = Some(service);
        }
        flow.client = client(dice, world, of, flow.vip);
        flow
    }

    /// A packet of the flow, without a transport checksum: that is the backend's business.
    pub(in crate::fuzz) fn packet(self, dice: &mut Dice) -> Packet {
        let payload = self.payload(dice);
        packet(
            dice,
            self.client,
            self.vip,
            self.protocol,
            Header::default(),
            &payload,
        )
    }

    /// A packet between the same hosts that no port is in.
    pub(in crate::fuzz) fn empty_handed(self, dice: &mut Dice) -> Packet {
        let protocol = dice.pick(&[0, 1, 2, 4, 6, 17, 41, 47, 50, 51, 58, 59, 132, 255]);
        let length = dice.below(30);
        let payload = dice.bytes(length);
        packet(dice, self.client, self.vip, protocol, Header::default(), &payload)
    }

    /// Transport header and data.
    pub(in crate::fuzz) fn payload(self, dice: &mut Dice) -> Vec<u8> {
        let length = match (dice.below(100), self.mtu) {
            (0..8, Some(mtu)) => self.near(dice, mtu),
            (0..50, _) => 0,
            (50..90, _) => dice.below(48),
            (90..99, _) => dice.below(1400),
            // More than one buffer's.
            _ => dice.below(8000),
        };
        match (self.protocol, self.quic) {
            (UDP, Some(named)) if dice.percent(85) => {
                let data = named.datagram(dice, length);
                self.datagram(&data)
            }
            (UDP, _) => self.datagram(&dice.bytes(length)),
            _ => {
                let data = dice.bytes(length);
                self.segment(dice, &data)
            }
        }
    }

    /// The length of data with which a packet just fits into a tunnel, or just doesn't.
    pub(in crate::fuzz) fn near(self, dice: &mut Dice, mtu: u16) -> usize {
        let network = if self.vip.is_ipv4() { 20 } else { 40 };
        let transport = if self.protocol == UDP { 8 } else { 20 };
        let outer = dice.pick(&[20, 40, 32, 52, 44, 88]);
        let fits = usize::from(mtu) - network - transport - outer;
        fits + dice.below(5) - 2
    }

    /// As [`Self::near`], where the flow has a tunnel that it nearly fills, as it may be.
    pub(in crate::fuzz) fn nearly(self, dice: &mut Dice) -> Option<usize> {
        Some(self.near(dice, self.mtu?))
    }

    /// A UDP datagram.
    pub(in crate::fuzz) fn datagram(self, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(self.ports());
        bytes.extend((8 + data.len() as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(data);
        bytes
    }

    fn segment(self, dice: &mut Dice, data: &[u8]) -> Vec<u8> {
        let options = if dice.percent(20) { dice.below(11) * 4 } else { 0 };
        let flags = match dice.below(20) {
            0..5 => SYN,
            5..13 => ACK,
            13 => ACK | PSH,
            14 => FIN | ACK,
            15 => RST,
            16 => SYN | ACK,
            _ => dice.byte(),
        };
        let sequence = dice.pick(&[0, 1, u32::MAX, u32::MAX - 20, 0x8000_0000]) ^ u32::from(dice.byte());
        let mut bytes = Vec::from(self.ports());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend((dice.word() as u32).to_be_bytes());
        bytes.extend([
            (((20 + options) / 4) << 4) as u8 | dice.pick(&[0, 0, 0x0f]),
            flags,
        ]);
        bytes.extend(dice.bytes(6));
        bytes.extend(dice.bytes(options));
        bytes.extend(data);
        bytes
    }

    fn ports(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.client_port.to_be_bytes(), self.port.to_be_bytes());
        [a, b, c, d]
    }

    /// What the member answers.
    pub(in crate::fuzz) const fn back(self) -> Self {
        Self {
            client: self.vip,
            client_port: self.port,
            vip: self.client,
            port: self.client_port,
            protocol: self.protocol,
            mtu: self.mtu,
            quic: None,
        }
    }
}

/// What the way to some member behind a tunnel takes.
fn mtu(dice: &mut Dice, world: &World) -> Option<u16> {
    let mtus: Vec<u16> = world
        .members
        .values()
        .filter(|backend| backend.forward != Forward::Frame)
        .map(|backend| backend.mtu)
        .collect();
    (!mtus.is_empty()).then(|| dice.pick(&mtus))
}

/// A client of a VIP: one of a few, one at the edge of a prefix of the service's source list, or one that can't be.
fn client(dice: &mut Dice, world: &World, service: Option<&Service>, vip: IpAddr) -> IpAddr {
    let list = service.and_then(|service| service.list);
    if let Some(list) = list.filter(|_| dice.percent(60))
        && let Some(source) = admission::source(dice, &world.lists[list], vip.is_ipv4())
    {
        return source;
    }
    let near = dice.below(6) as u8;
    let martian = dice.percent(3);
    match vip {
        IpAddr::V4(vip) if martian => dice
            .pick(&[
                vip,
                Ipv4Addr::new(0, 0, 0, 0),
                Ipv4Addr::new(0, 255, 255, 255),
                Ipv4Addr::new(127, 0, 0, 1),
                Ipv4Addr::new(126, 255, 255, 255),
                Ipv4Addr::new(128, 0, 0, 1),
                Ipv4Addr::new(223, 255, 255, 255),
                Ipv4Addr::new(224, 0, 0, 1),
                Ipv4Addr::new(240, 0, 0, 1),
                Ipv4Addr::new(255, 255, 255, 255),
                Ipv4Addr::new(1, 0, 0, 0),
            ])
            .into(),
        IpAddr::V6(vip) if martian => dice
            .pick(&[
                vip,
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 2),
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
                Ipv4Addr::new(203, 0, 113, 1).to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xfffe, 0xcb00, 0x7101),
                Ipv6Addr::new(0, 0, 0, 1, 0, 0xffff, 0xcb00, 0x7101),
                Ipv6Addr::new(0xfeff, 0, 0, 0, 0, 0, 0, 1),
            ])
            .into(),
        IpAddr::V4(_) => Ipv4Addr::new(203, 0, 113, 70 + near).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, near.into(), 0, 0, 0, 0x4d).into(),
    }
}
