//! Frames as clients and neighbours send them, whole and with right checksums; a test spoils them itself.
//!
//! Offsets named here are those of an Ethernet frame with an IPv4 header without options.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, TcpHeader, UdpHeader};
use foobar_common::address::Address;
use foobar_common::flow::{flow_hash, ports_be};

/// A MAC address.
pub type Mac = [u8; 6];

/// The balancer's own.
pub const OWN: Mac = [0x02, 0xba, 0x1a, 0x00, 0x00, 0x01];
/// Another balancer's.
pub const PEER: Mac = [0x02, 0xba, 0x1a, 0x00, 0x00, 0x02];
/// The router's, by which clients' packets come.
pub const ROUTER: Mac = [0x02, 0x00, 0x5e, 0x10, 0x20, 0x30];
/// Somebody's on the segment.
pub const STRANGER: Mac = [0x02, 0x77, 0x66, 0x55, 0x44, 0x33];
/// The broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// The VIP that services listen on.
pub const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// A second VIP.
pub const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// An address that is no VIP: the balancer's own.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// A client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

/// Where the IPv4 header begins.
pub const IP: usize = 14;
/// Where the transport header begins, without IP options.
pub const L4: usize = 34;

const IPV4: u16 = 0x0800;

/// An Ethernet frame.
pub fn ethernet(destination: Mac, source: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ether_type.to_be_bytes(), payload].concat()
}

/// An IPv4 packet from the router to the balancer, its header changed by `edit` before the checksum is made.
pub fn ipv4(
    protocol: IpNumber,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload: &[u8],
    edit: impl FnOnce(&mut Ipv4Header),
) -> Vec<u8> {
    let mut header = Ipv4Header::new(0, 57, protocol, source.octets(), destination.octets())
        .expect("no payload is too long for no payload");
    header.identification = 0x4242;
    edit(&mut header);
    header
        .set_payload_len(payload.len())
        .expect("tests send short packets");
    header.header_checksum = header.calc_header_checksum();
    ethernet(OWN, ROUTER, IPV4, &[&header.to_bytes()[..], payload].concat())
}

/// Both ends of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The client's address.
    pub client: Ipv4Addr,
    /// The client's port.
    pub client_port: u16,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

impl Flow {
    /// The flow of [`CLIENT`] from `client_port` to a port of [`VIP`].
    pub const fn new(client_port: u16, port: u16) -> Self {
        Self {
            client: CLIENT,
            client_port,
            vip: VIP,
            port,
        }
    }

    /// The same flow to another address.
    pub const fn to(self, vip: Ipv4Addr) -> Self {
        Self { vip, ..self }
    }

    /// The same flow from another address.
    pub const fn from(self, client: Ipv4Addr) -> Self {
        Self { client, ..self }
    }

    /// Its hash, which its slot follows from.
    pub fn hash(self, seed: [u64; 2]) -> u64 {
        let ports = ports_be(self.client_port.to_be(), self.port.to_be());
        flow_hash(seed, Address::from(self.client).words(), ports)
    }

    /// A TCP segment; `edit` sets flags, numbers and options, of both headers.
    pub fn segment(self, payload: &[u8], edit: impl FnOnce(&mut TcpHeader, &mut Ipv4Header)) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.client_port, self.port, 0xfffffff0, 64_240);
        tcp.acknowledgment_number = 0x8765_4321;
        let (source, destination) = (self.client.octets(), self.vip.octets());
        let mut options = Ipv4Header::default();
        edit(&mut tcp, &mut options);
        if !tcp.ack {
            tcp.acknowledgment_number = 0;
        }
        tcp.checksum = tcp
            .calc_checksum_ipv4_raw(source, destination, payload)
            .expect("tests send short packets");
        let whole = [&tcp.to_bytes()[..], payload].concat();
        ipv4(IpNumber::TCP, self.client, self.vip, &whole, |ip| {
            ip.options = options.options;
        })
    }

    /// A SYN, with the options that clients send.
    pub fn syn(self) -> Vec<u8> {
        self.segment(&[], |tcp, _| {
            tcp.syn = true;
            tcp.set_options_raw(&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 0, 0])
                .expect("options fit");
        })
    }

    /// An ACK without data.
    pub fn ack(self) -> Vec<u8> {
        self.segment(&[], |tcp, _| tcp.ack = true)
    }

    /// A segment with data.
    pub fn data(self) -> Vec<u8> {
        self.segment(b"GET / HTTP/1.1\r\n\r\n", |tcp, _| {
            (tcp.ack, tcp.psh) = (true, true);
        })
    }

    /// A FIN with ACK.
    pub fn fin(self) -> Vec<u8> {
        self.segment(&[], |tcp, _| (tcp.fin, tcp.ack) = (true, true))
    }

    /// A RST.
    pub fn rst(self) -> Vec<u8> {
        self.segment(&[], |tcp, _| tcp.rst = true)
    }

    /// A UDP datagram.
    pub fn datagram(self) -> Vec<u8> {
        self.datagram_of(b"a question")
    }

    /// A UDP datagram with this payload.
    pub fn datagram_of(self, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = (self.client.octets(), self.vip.octets());
        let mut udp = UdpHeader::without_ipv4_checksum(self.client_port, self.port, payload.len())
            .expect("tests send short packets");
        udp.checksum = udp
            .calc_checksum_ipv4_raw(source, destination, payload)
            .expect("tests send short packets");
        let whole = [&udp.to_bytes()[..], payload].concat();
        ipv4(IpNumber::UDP, self.client, self.vip, &whole, |_| ())
    }
}

/// An ICMP message from [`CLIENT`].
pub fn icmp(destination: Ipv4Addr, kind: Icmpv4Type, edit: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let payload = b"abcdefghijklmnopqrstuvwabcdefghi";
    let header = Icmpv4Header::with_checksum(kind, payload);
    let whole = [&header.to_bytes()[..], payload].concat();
    ipv4(IpNumber::ICMP, CLIENT, destination, &whole, edit)
}

/// Makes the IPv4 header's checksum right again (RFC 1071), as far as the frame has the header.
pub fn seal(frame: &mut [u8]) {
    let end = frame.len().min(IP + usize::from(frame[IP] & 0x0f) * 4);
    if end < L4 {
        return;
    }
    frame[IP + 10..IP + 12].fill(0);
    let sum: u32 = frame[IP..end]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender's MAC address.
    pub sender_mac: Mac,
    /// Sender's address.
    pub sender: Ipv4Addr,
    /// Target's MAC address.
    pub target_mac: Mac,
    /// Target's address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// The packet in a frame.
    pub fn frame(&self, destination: Mac, source: Mac) -> Vec<u8> {
        let payload = [
            &[0, 1, 8, 0, 6, 4][..],
            &self.operation.to_be_bytes(),
            &self.sender_mac,
            &self.sender.octets(),
            &self.target_mac,
            &self.target.octets(),
        ]
        .concat();
        ethernet(destination, source, 0x0806, &payload)
    }
}

/// What the router asks to learn the MAC address of `target`.
pub const fn who_has(target: Ipv4Addr) -> Arp {
    Arp {
        operation: 1,
        sender_mac: ROUTER,
        sender: Ipv4Addr::new(198, 51, 100, 1),
        target_mac: [0; 6],
        target,
    }
}
