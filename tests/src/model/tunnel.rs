//! Packets inside of others: IP in IP (RFC 2003, RFC 2473, RFC 4213), and Generic UDP Encapsulation
//! (draft-ietf-intarea-gue) with the slot's earlier owners in its private data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, UdpHeader};
use foobar_common::slot::{Member, NONE};

use super::ip;
use super::link::{Link, Network};
use super::verdict::Delivery;
use super::world::{Backend, Policy, State, World};

/// What packets go to a backend in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Their own frame.
    Frame,
    /// Another IP packet.
    IpInIp,
    /// GUE.
    Gue,
}

/// Where outer headers come from: of each family an address and the bits of it that are every flow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterSource {
    /// Of IPv4.
    pub v4: (Ipv4Addr, u8),
    /// Of IPv6.
    pub v6: (Ipv6Addr, u8),
    /// GUE's destination port.
    pub gue_port: u16,
}

/// The TTL and hop limit of outer headers.
const HOP_LIMIT: u8 = 64;
/// Length of a UDP header and GUE's own in bytes.
const UDP_GUE: usize = 8 + 4;
/// Begins private data.
const MAGIC: [u8; 2] = [0xf0, 0xb1];
/// The option by which the last candidate drops what is nobody's.
const DROP: u8 = 1;
/// The first of the dynamic ports (RFC 6335), and how many there are.
const DYNAMIC: (u16, u64) = (49_152, 16_384);

/// How long a packet may be for a backend; any, where it is in no tunnel. It depends on the most that may be added,
/// not on what this packet's slot adds.
pub(super) fn room(backend: &Backend, second_chance: bool) -> Option<u16> {
    let header = if backend.address.is_ipv4() { 20 } else { 40 };
    let added = match backend.forward {
        Forward::Frame => return None,
        Forward::IpInIp => header,
        Forward::Gue if second_chance => header + UDP_GUE + 4 + 2 * length_of(backend.address),
        Forward::Gue => header + UDP_GUE,
    };
    Some(backend.mtu.saturating_sub(added as u16))
}

const fn length_of(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 16,
    }
}

/// The frame for a backend behind a tunnel: tags as they were, an outer header of the backend's family, the packet, and
/// the padding that was behind it.
pub(super) fn encapsulated(
    world: &World,
    backend: &Backend,
    link: &Link<'_>,
    delivery: &Delivery,
) -> Vec<u8> {
    let inner = match link.network {
        Network::Ipv4 => IpNumber::IPV4,
        Network::Ipv6 | Network::Arp => IpNumber::IPV6,
    };
    let (protocol, between) = match backend.forward {
        Forward::Frame | Forward::IpInIp => (inner, Vec::new()),
        Forward::Gue => {
            let private = private_data(world, backend, delivery);
            (
                IpNumber::UDP,
                gue(world, delivery.varies, inner, &private, ip::length(link)),
            )
        }
    };
    let outer = Outer {
        payload: between.len() + ip::length(link),
        protocol,
        traffic_class: ip::traffic_class(link),
    };
    let (ether_type, header) = outer.header(world, backend.address, delivery.varies);
    let tags = &link.types[..link.types.len() - 2];
    [
        &backend.destination[..],
        &backend.source,
        tags,
        &ether_type,
        &header,
        &between,
        link.payload,
    ]
    .concat()
}

struct Outer {
    /// Bytes behind the header.
    payload: usize,
    protocol: IpNumber,
    traffic_class: u8,
}

impl Outer {
    /// EtherType and header.
    fn header(&self, world: &World, destination: IpAddr, varies: u64) -> ([u8; 2], Vec<u8>) {
        const LONG: &str = "whoever is too long was refused";
        match destination {
            IpAddr::V4(destination) => {
                let (source, bits) = world.outer.v4;
                // Bits 24 to 55 of the hash, the lowest first.
                let free = ((varies >> 24) as u32).to_le_bytes();
                let source = vary(source.octets(), bits, free);
                let mut header = Ipv4Header::new(
                    self.payload.try_into().expect(LONG),
                    HOP_LIMIT,
                    self.protocol,
                    source,
                    destination.octets(),
                )
                .expect(LONG);
                header.dscp = (self.traffic_class >> 2).try_into().expect("six bits");
                header.ecn = (self.traffic_class & 3).try_into().expect("two bits");
                header.identification = 0;
                header.dont_fragment = true;
                header.fragment_offset = IpFragOffset::ZERO;
                header.header_checksum = header.calc_header_checksum();
                ([0x08, 0x00], header.to_bytes().to_vec())
            }
            IpAddr::V6(destination) => {
                let (source, bits) = world.outer.v6;
                // The hash twice, its lowest bits first.
                let half = varies.to_le_bytes();
                let free: [u8; 16] = std::array::from_fn(|at| half[at % 8]);
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: ((varies >> 20) as u32 & 0xf_ffff)
                        .try_into()
                        .expect("twenty bits"),
                    payload_length: self.payload.try_into().expect(LONG),
                    next_header: self.protocol,
                    hop_limit: HOP_LIMIT,
                    source: vary(source.octets(), bits, free),
                    destination: destination.octets(),
                };
                ([0x86, 0xdd], header.to_bytes().to_vec())
            }
        }
    }
}

/// An address whose first `bits` bits are its own, and the others of `free`.
fn vary<const N: usize>(address: [u8; N], bits: u8, free: [u8; N]) -> [u8; N] {
    std::array::from_fn(|at| {
        let own = usize::from(bits).saturating_sub(at * 8).min(8) as u32;
        let mask = !(0xff_u8.checked_shr(own).unwrap_or(0));
        address[at] & mask | free[at] & !mask
    })
}

/// UDP's header without a checksum (RFC 6935), GUE's of version 0, and private data.
fn gue(world: &World, varies: u64, inner: IpNumber, private: &[u8], length: usize) -> Vec<u8> {
    let (first, count) = DYNAMIC;
    let udp = UdpHeader {
        source_port: first + ((varies >> 34) % count) as u16,
        destination_port: world.outer.gue_port,
        length: (UDP_GUE + private.len() + length) as u16,
        checksum: 0,
    };
    let words = (private.len() / 4) as u8;
    [&udp.to_bytes()[..], &[words, inner.0, 0, 0], private].concat()
}

/// Who else may have the flow, for those who don't: addresses of the outer header's family. Nothing, where nobody else
/// may have it and the backend's kernel may answer.
fn private_data(world: &World, backend: &Backend, delivery: &Delivery) -> Vec<u8> {
    let owners = delivery.owners;
    let Some(policy) = owners.second_chance else {
        return Vec::new();
    };
    let mut named: Vec<Member> = vec![owners.first];
    let mut addresses = Vec::new();
    for member in owners.earlier {
        if member == NONE || named.contains(&member) {
            continue;
        }
        named.push(member);
        let reachable = world.members.get(&member).filter(|other| {
            other.state != State::Gone
                && other.forward == Forward::Gue
                && other.address.is_ipv4() == backend.address.is_ipv4()
        });
        addresses.extend(reachable.map(|other| other.address));
    }
    let options = match policy {
        Policy::Drop => DROP,
        Policy::Reset => 0,
    };
    if addresses.is_empty() && options == 0 {
        return Vec::new();
    }
    let mut private = [&MAGIC[..], &[addresses.len() as u8, options]].concat();
    for address in addresses {
        match address {
            IpAddr::V4(v4) => private.extend(v4.octets()),
            IpAddr::V6(v6) => private.extend(v6.octets()),
        }
    }
    private
}
