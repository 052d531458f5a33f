//! Frames of IPv6 (RFC 8200), its extension headers, ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861),
//! and VLAN tags for any frame.
//!
//! As in [`super::frame`]: whole, with right checksums, and by etherparse or by hand.

use std::net::Ipv6Addr;

use etherparse::{IpNumber, Ipv6Header, TcpHeader, UdpHeader};

use super::frame::{Mac, OWN, ROUTER, ethernet};

/// The IPv6 VIP that services listen on.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0xa1, 0x5010);
/// A second one.
pub const OTHER_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0xa2, 0x5020);
/// An address that is no VIP: the balancer's own.
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 2);
/// A client.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, 0x77, 0, 0, 0, 0x4d);
/// The router's link-local address.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5e, 0xfe10, 0x2030);
/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Length of an IPv6 header in bytes.
pub const IPV6_LENGTH: usize = 40;

/// The EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// ICMPv6's protocol number.
const ICMPV6: u8 = 58;

/// The Internet checksum (RFC 1071) of bytes whose checksum field is 0.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv6 packet from the router to the balancer, its header changed by `edit` at last.
pub fn ipv6(
    next_header: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: &[u8],
    edit: impl FnOnce(&mut Ipv6Header),
) -> Vec<u8> {
    let mut header = Ipv6Header {
        traffic_class: 0,
        payload_length: payload.len() as u16,
        next_header: IpNumber(next_header),
        hop_limit: 57,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    };
    edit(&mut header);
    ethernet(OWN, ROUTER, IPV6, &[&header.to_bytes()[..], payload].concat())
}

/// Both ends of a flow by IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Flow6 {
    /// The client's address.
    pub client: Ipv6Addr,
    /// The client's port.
    pub client_port: u16,
    /// The VIP.
    pub vip: Ipv6Addr,
    /// Its port.
    pub port: u16,
}

impl Flow6 {
    /// A TCP header and its payload, of one segment; `edit` sets flags, numbers and options.
    pub fn tcp(self, payload: &[u8], edit: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.client_port, self.port, 0xffff_fff0, 64_240);
        tcp.acknowledgment_number = 0x8765_4321;
        edit(&mut tcp);
        if !tcp.ack {
            tcp.acknowledgment_number = 0;
        }
        tcp.checksum = tcp
            .calc_checksum_ipv6_raw(self.client.octets(), self.vip.octets(), payload)
            .expect("tests send short packets");
        [&tcp.to_bytes()[..], payload].concat()
    }

    /// A UDP header and its payload.
    pub fn udp(self, payload: &[u8]) -> Vec<u8> {
        let mut udp = UdpHeader::without_ipv4_checksum(self.client_port, self.port, payload.len())
            .expect("tests send short packets");
        udp.checksum = udp
            .calc_checksum_ipv6_raw(self.client.octets(), self.vip.octets(), payload)
            .expect("tests send short packets");
        [&udp.to_bytes()[..], payload].concat()
    }
}

/// An extension header (RFC 8200 section 4), without the number of what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options: padding, of so many units of 8 bytes.
    HopByHop(u8),
    /// Destination options: padding, of so many units of 8 bytes.
    Destination(u8),
    /// A routing header of an unknown type with no segments left, of so many units of 8 bytes.
    Routing(u8),
    /// A fragment header.
    Fragment {
        /// The offset in units of 8 bytes.
        offset: u16,
        /// Whether more fragments follow.
        more: bool,
        /// The identification.
        id: u32,
    },
}

impl Extension {
    /// The header's protocol number.
    pub const fn number(&self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Destination(_) => 60,
            Self::Routing(_) => 43,
            Self::Fragment { .. } => 44,
        }
    }

    fn bytes(&self, next_header: u8) -> Vec<u8> {
        let padded = |units: u8, head: [u8; 4]| {
            let mut bytes = vec![next_header, units - 1];
            bytes.extend(head);
            bytes.resize(usize::from(units) * 8, 0);
            bytes
        };
        match *self {
            // PadN over the first unit's rest; what follows is Pad1.
            Self::HopByHop(units) | Self::Destination(units) => padded(units, [1, 4, 0, 0]),
            Self::Routing(units) => padded(units, [253, 0, 0, 0]),
            Self::Fragment { offset, more, id } => {
                let word = offset << 3 | u16::from(more);
                let mut bytes = vec![next_header, 0];
                bytes.extend(word.to_be_bytes());
                bytes.extend(id.to_be_bytes());
                bytes
            }
        }
    }
}

/// Extension headers in their order, then `payload`, whose protocol is `upper`; and the number of the first.
pub fn chained(extensions: &[Extension], upper: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut next_header = upper;
    let mut bytes = payload.to_vec();
    for extension in extensions.iter().rev() {
        bytes = [extension.bytes(next_header), bytes].concat();
        next_header = extension.number();
    }
    (next_header, bytes)
}

/// An ICMPv6 message with its checksum (RFC 4443 section 2.3); `body` is what follows the checksum.
pub fn icmpv6(kind: u8, code: u8, source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], body].concat();
    let length = message.len() as u32;
    let pseudo = [
        &source.octets()[..],
        &destination.octets(),
        &length.to_be_bytes(),
        &[0, 0, 0, ICMPV6],
        &message,
    ]
    .concat();
    message[2..4].copy_from_slice(&internet_checksum(&pseudo).to_be_bytes());
    message
}

/// The solicited-node group of an address (RFC 4291 section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}

/// The MAC address of an IPv6 multicast group (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A neighbour solicitation (RFC 4861 section 4.3).
#[derive(Clone, Debug)]
pub struct Solicitation {
    /// The frame's destination.
    pub destination_mac: Mac,
    /// The frame's source.
    pub source_mac: Mac,
    /// The packet's source; unspecified for a probe (RFC 4862 section 5.4.2).
    pub source: Ipv6Addr,
    /// The packet's destination.
    pub destination: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// The hop limit.
    pub hop_limit: u8,
    /// The code.
    pub code: u8,
    /// What follows the target.
    pub options: Vec<u8>,
}

/// The source link-layer address option of the router.
pub fn source_link_layer() -> Vec<u8> {
    [&[1, 1], &ROUTER[..]].concat()
}

impl Solicitation {
    /// What the router asks to learn the MAC address of `target`.
    pub fn of(target: Ipv6Addr) -> Self {
        let group = solicited_node(target);
        Self {
            destination_mac: group_mac(group),
            source_mac: ROUTER,
            source: ROUTER6,
            destination: group,
            target,
            hop_limit: 255,
            code: 0,
            options: source_link_layer(),
        }
    }

    /// The same to the target itself.
    pub fn unicast(target: Ipv6Addr) -> Self {
        Self {
            destination_mac: OWN,
            destination: target,
            ..Self::of(target)
        }
    }

    /// What a host asks before it takes `target` for itself.
    pub fn probe(target: Ipv6Addr) -> Self {
        Self {
            source: Ipv6Addr::UNSPECIFIED,
            options: Vec::new(),
            ..Self::of(target)
        }
    }

    /// The message, from its type on.
    pub fn message(&self) -> Vec<u8> {
        let body = [&[0; 4][..], &self.target.octets(), &self.options].concat();
        icmpv6(135, self.code, self.source, self.destination, &body)
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let packet = ipv6(ICMPV6, self.source, self.destination, &self.message(), |ip| {
            ip.hop_limit = self.hop_limit;
        });
        ethernet(self.destination_mac, self.source_mac, IPV6, &packet[14..])
    }
}

/// The advertisement (RFC 4861 section 4.4) that `target` is at the balancer's MAC address; `flags` is the
/// first byte of their word.
pub fn advertisement(destination_mac: Mac, destination: Ipv6Addr, target: Ipv6Addr, flags: u8) -> Vec<u8> {
    let body = [&[flags, 0, 0, 0][..], &target.octets(), &[2, 1], &OWN].concat();
    let message = icmpv6(136, 0, target, destination, &body);
    let packet = ipv6(ICMPV6, target, destination, &message, |ip| ip.hop_limit = 255);
    ethernet(destination_mac, OWN, IPV6, &packet[14..])
}

/// A VLAN tag (IEEE 802.1Q): its EtherType and its priority and identifier.
pub type Tag = (u16, u16);

/// A frame with tags behind its addresses, the outermost first.
pub fn tagged(frame: &[u8], tags: &[Tag]) -> Vec<u8> {
    let tags: Vec<u8> = tags
        .iter()
        .flat_map(|&(ether_type, control)| [ether_type.to_be_bytes(), control.to_be_bytes()].concat())
        .collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_rfc_1071s_example_is_right() {
        assert_eq!(
            internet_checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(internet_checksum(&[0xff]), 0x00ff);
    }

    #[test]
    fn a_group_bears_the_last_three_bytes() {
        let group = solicited_node(VIP6);
        assert_eq!(group.to_string(), "ff02::1:ffa1:5010");
        assert_eq!(group_mac(group), [0x33, 0x33, 0xff, 0xa1, 0x50, 0x10]);
    }

    #[test]
    fn a_chain_names_what_follows() {
        let (first, bytes) = chained(&[Extension::HopByHop(1), Extension::Destination(2)], 6, b"tcp");
        assert_eq!(first, 0);
        assert_eq!((bytes[0], bytes[1], bytes[8], bytes[9]), (60, 0, 6, 1));
        assert_eq!(bytes.len(), 8 + 16 + 3);
    }
}
