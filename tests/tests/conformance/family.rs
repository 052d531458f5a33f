//! What IPv4 and IPv6 have in common: VIPs, services, flows, and packets of either family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, TcpHeader};
use foobar_common::slot::Slot;
use foobar_common::vip::Vip;
use foobar_tests::packets::frame::{CLIENT, Flow, HOST, L4, OTHER_VIP, OWN, VIP, ipv4};
use foobar_tests::packets::frame_v6::{
    CLIENT6, Flow6, HOST6, IPV6_LENGTH, OTHER_VIP6, VIP6, icmpv6, internet_checksum, ipv6,
};
use foobar_tests::packets::rig::{DNS, DNS_SLOT, LEASE, Rig, TCP, UDP, WEB, WEB_SLOT};

use crate::case::Step;

/// The index of [`VIP6`]'s lease.
pub(crate) const LEASE6: u32 = 5;
/// The index of [`OTHER_VIP6`]'s lease.
pub(crate) const OTHER_LEASE6: u32 = 6;
const WEB6_SLOT: u32 = 7;
const DNS6_SLOT: u32 = 8;
const WEB6_ID: u32 = 81;
const DNS6_ID: u32 = 82;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Those that the data plane balances.
    pub(crate) const BOTH: &[Self] = &[Self::V4, Self::V6];

    /// As names of cases begin.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The VIP that has services.
    pub(crate) const fn vip(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(VIP),
            Self::V6 => IpAddr::V6(VIP6),
        }
    }

    /// The VIP that has none.
    pub(crate) const fn other_vip(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(OTHER_VIP),
            Self::V6 => IpAddr::V6(OTHER_VIP6),
        }
    }

    /// The balancer's own address.
    pub(crate) const fn host(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(HOST),
            Self::V6 => IpAddr::V6(HOST6),
        }
    }

    /// The client's address.
    pub(crate) const fn client(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(CLIENT),
            Self::V6 => IpAddr::V6(CLIENT6),
        }
    }

    /// Another client's.
    pub(crate) const fn other_client(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 78)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, 0x78, 0, 0, 0, 0x4d)),
        }
    }

    /// A router's on the way to the client.
    pub(crate) const fn distant_router(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9)),
        }
    }

    /// The slot of the TCP service.
    pub(crate) const fn web_slot(self) -> u32 {
        match self {
            Self::V4 => WEB_SLOT,
            Self::V6 => WEB6_SLOT,
        }
    }

    /// The slot of the UDP service.
    pub(crate) const fn dns_slot(self) -> u32 {
        match self {
            Self::V4 => DNS_SLOT,
            Self::V6 => DNS6_SLOT,
        }
    }

    /// The lease of [`Self::vip`].
    pub(crate) const fn lease(self) -> u32 {
        match self {
            Self::V4 => LEASE,
            Self::V6 => LEASE6,
        }
    }

    /// Where the header behind the IP header begins in an untagged frame.
    pub(crate) const fn transport(self) -> usize {
        match self {
            Self::V4 => L4,
            Self::V6 => 14 + IPV6_LENGTH,
        }
    }

    /// The protocol number of its ICMP.
    pub(crate) const fn icmp(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
        }
    }

    /// [`Self::vip`]'s services and both VIPs' addresses.
    pub(crate) fn services(self, rig: &Rig) -> Vec<Vip> {
        match self {
            Self::V4 => rig.services(),
            Self::V6 => vec![
                rig.service(self.vip(), WEB, TCP, WEB6_ID, WEB6_SLOT, 1),
                rig.service(self.vip(), DNS, UDP, DNS6_ID, DNS6_SLOT, 1),
                rig.address(self.vip(), LEASE6),
                rig.address(self.other_vip(), OTHER_LEASE6),
            ],
        }
    }

    /// A flow of the client's to the TCP service.
    pub(crate) const fn flow(self) -> Ends {
        self.flow_to(WEB)
    }

    /// A flow of the client's to the UDP service.
    pub(crate) const fn question(self) -> Ends {
        self.flow_to(DNS)
    }

    /// A flow of the client's to a port of the VIP.
    pub(crate) const fn flow_to(self, port: u16) -> Ends {
        Ends {
            client: self.client(),
            client_port: 40_001,
            vip: self.vip(),
            port,
        }
    }

    /// An ICMP message of this family, from its type on; `body` is what follows the checksum.
    pub(crate) fn icmp_message(self, kind: u8, code: u8, ends: (IpAddr, IpAddr), body: &[u8]) -> Vec<u8> {
        match ends {
            (IpAddr::V6(source), IpAddr::V6(destination)) => icmpv6(kind, code, source, destination, body),
            _ => {
                let mut message = [&[kind, code, 0, 0], body].concat();
                let checksum = internet_checksum(&message).to_be_bytes();
                message[2..4].copy_from_slice(&checksum);
                message
            }
        }
    }

    /// An ICMP message to the VIP.
    pub(crate) fn icmp_to(
        self,
        source: IpAddr,
        destination: IpAddr,
        kind: u8,
        code: u8,
        body: &[u8],
    ) -> Vec<u8> {
        let message = self.icmp_message(kind, code, (source, destination), body);
        packet(source, destination, self.icmp(), &message)
    }

    /// A ping of a client's to an address, and the answer.
    pub(crate) fn ping(self, destination: IpAddr, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (request, reply) = match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        };
        let body = [&[0x12, 0x34, 0, 9], data].concat();
        let asked = self.icmp_to(self.client(), destination, request, 0, &body);
        let answer = self.icmp_to(destination, self.client(), reply, 0, &body);
        (asked, self.sent_back(answer))
    }

    /// A frame that is built like one from the router, as one that the balancer itself sends there.
    pub(crate) fn sent_back(self, frame: Vec<u8>) -> Vec<u8> {
        let mut frame = [&frame[6..12], &OWN, &frame[12..]].concat();
        match self {
            Self::V4 => {
                frame[22] = 64;
                with_header_checksum(frame)
            }
            Self::V6 => {
                frame[21] = 64;
                frame
            }
        }
    }

    /// A slot of the TCP service is settled at a member.
    pub(crate) const fn web_at(self, member: u16) -> Step {
        Step::Slot(self.web_slot(), Slot::settled(member))
    }

    /// A slot of the UDP service is settled at a member.
    pub(crate) const fn dns_at(self, member: u16) -> Step {
        Step::Slot(self.dns_slot(), Slot::settled(member))
    }
}

/// A frame with the checksum that its IPv4 header (whatever its length) has to have.
pub(crate) fn with_header_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let end = 14 + usize::from(frame[14] & 0x0f) * 4;
    frame[24..26].fill(0);
    let checksum = internet_checksum(&frame[14..end.min(frame.len())]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// A frame that something is done to; an IPv4 header's checksum is not made right again.
pub(crate) fn spoilt(mut frame: Vec<u8>, spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    spoil(&mut frame);
    frame
}

/// A packet from the router to the balancer; both addresses are of one family.
pub(crate) fn packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4(IpNumber(protocol), source, destination, payload, |_| ())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6(protocol, source, destination, payload, |_| ()),
        _ => unreachable!("a packet is of one family"),
    }
}

/// Both ends of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The client's address.
    pub(crate) client: IpAddr,
    /// The client's port.
    pub(crate) client_port: u16,
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// Its port.
    pub(crate) port: u16,
}

impl Ends {
    /// The same flow to another address.
    pub(crate) const fn to(self, vip: IpAddr) -> Self {
        Self { vip, ..self }
    }

    /// The same flow from another address.
    pub(crate) const fn from(self, client: IpAddr) -> Self {
        Self { client, ..self }
    }

    /// The other direction: what the VIP's backend sends.
    pub(crate) const fn reversed(self) -> Self {
        Self {
            client: self.vip,
            client_port: self.port,
            vip: self.client,
            port: self.client_port,
        }
    }

    /// A TCP header and its payload, of one segment; `edit` sets flags, numbers and options.
    pub(crate) fn tcp(self, payload: &[u8], edit: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
        match (self.client, self.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                let flow = Flow::new(self.client_port, self.port).from(client).to(vip);
                flow.segment(payload, |tcp, _| edit(tcp))[L4..].to_vec()
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => self.flow6(client, vip).tcp(payload, edit),
            _ => unreachable!("a flow is of one family"),
        }
    }

    /// A UDP header and its payload.
    pub(crate) fn udp(self, payload: &[u8]) -> Vec<u8> {
        match (self.client, self.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                let header = etherparse::UdpHeader::with_ipv4_checksum(
                    self.client_port,
                    self.port,
                    &ip4(client, vip),
                    payload,
                )
                .expect("tests send short packets");
                [&header.to_bytes()[..], payload].concat()
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => self.flow6(client, vip).udp(payload),
            _ => unreachable!("a flow is of one family"),
        }
    }

    const fn flow6(self, client: Ipv6Addr, vip: Ipv6Addr) -> Flow6 {
        Flow6 {
            client,
            client_port: self.client_port,
            vip,
            port: self.port,
        }
    }

    /// A packet of this flow.
    pub(crate) fn packet(self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        packet(self.client, self.vip, protocol, transport)
    }

    /// A TCP segment.
    pub(crate) fn segment(self, payload: &[u8], edit: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
        self.packet(TCP, &self.tcp(payload, edit))
    }

    /// A SYN, with the options that clients send.
    pub(crate) fn syn(self) -> Vec<u8> {
        self.segment(&[], |tcp| {
            tcp.syn = true;
            tcp.set_options_raw(&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 0, 0])
                .expect("options fit");
        })
    }

    /// An ACK without data.
    pub(crate) fn ack(self) -> Vec<u8> {
        self.segment(&[], |tcp| tcp.ack = true)
    }

    /// A segment with data.
    pub(crate) fn data(self) -> Vec<u8> {
        self.segment(b"GET / HTTP/1.1\r\n\r\n", |tcp| (tcp.ack, tcp.psh) = (true, true))
    }

    /// A FIN with ACK.
    pub(crate) fn fin(self) -> Vec<u8> {
        self.segment(&[], |tcp| (tcp.fin, tcp.ack) = (true, true))
    }

    /// A RST.
    pub(crate) fn rst(self) -> Vec<u8> {
        self.segment(&[], |tcp| tcp.rst = true)
    }

    /// A UDP datagram.
    pub(crate) fn datagram(self) -> Vec<u8> {
        self.packet(UDP, &self.udp(b"a question"))
    }
}

fn ip4(source: Ipv4Addr, destination: Ipv4Addr) -> etherparse::Ipv4Header {
    etherparse::Ipv4Header::new(0, 64, IpNumber::UDP, source.octets(), destination.octets())
        .expect("no payload is too long for no payload")
}
