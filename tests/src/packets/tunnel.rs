//! Outer headers as the balancer ought to make them, by etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header};

use super::frame::{Mac, OWN};

/// What IPv4 outer headers come from.
pub const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// What IPv6 outer headers come from.
pub const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x7f, 0, 0, 0, 0, 0x77);
/// The port of GUE.
pub const GUE_PORT: u16 = 6080;

/// What an encapsulated packet consists of, the Ethernet header apart.
#[derive(Clone, Debug)]
pub struct Outer {
    /// The outer source.
    pub source: IpAddr,
    /// The outer destination: the backend.
    pub destination: IpAddr,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// The flow label, of IPv6.
    pub flow_label: u32,
    /// What is inside, from the byte behind the outer IP header.
    pub payload: Vec<u8>,
    /// Its protocol number.
    pub protocol: u8,
}

impl Outer {
    /// The frame: the MAC addresses of the way, what stands between them and the EtherType, and the packet.
    pub fn frame(&self, destination: Mac, tags: &[u8]) -> Vec<u8> {
        let (header, ether_type) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(
                    self.payload.len() as u16,
                    64,
                    IpNumber(self.protocol),
                    source.octets(),
                    destination.octets(),
                )
                .expect("tests send short packets");
                header.dscp = (self.traffic_class >> 2).try_into().expect("six bits");
                header.ecn = (self.traffic_class & 3).try_into().expect("two bits");
                header.identification = 0;
                header.dont_fragment = true;
                header.fragment_offset = IpFragOffset::ZERO;
                header.header_checksum = header.calc_header_checksum();
                (header.to_bytes().to_vec(), [8, 0])
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: self.flow_label.try_into().expect("twenty bits"),
                    payload_length: self.payload.len() as u16,
                    next_header: IpNumber(self.protocol),
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                (header.to_bytes().to_vec(), [0x86, 0xdd])
            }
            _ => panic!("outer addresses of two families"),
        };
        [&destination[..], &OWN, tags, &ether_type, &header, &self.payload].concat()
    }
}

/// GUE's headers in front of an IP packet: UDP from `source_port` with a checksum of 0, and the base header
/// with private data.
pub fn gue(source_port: u16, protocol: u8, private: &[u8], packet: &[u8]) -> Vec<u8> {
    let length = (12 + private.len() + packet.len()) as u16;
    [
        &source_port.to_be_bytes()[..],
        &GUE_PORT.to_be_bytes(),
        &length.to_be_bytes(),
        &[0, 0, (private.len() / 4) as u8, protocol, 0, 0],
        private,
        packet,
    ]
    .concat()
}
