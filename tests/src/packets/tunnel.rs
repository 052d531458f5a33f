//! Outer headers as the balancer ought to make them, by etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header};
use foobar::dataplane::OuterSource;
use foobar_common::address::Address;
use foobar_common::slot::{Member, Slot};
use foobar_common::target::{TARGET_RESOLVED, TARGET_USED, Target};

use super::frame::{Mac, OWN, VIP};
use super::frame_v6::VIP6;
use super::rig::{Rig, TCP, WEB, WEB_ID, WEB_SLOT, backend_mac};

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

/// The slot of the web service of [`VIP6`] in a rig by [`rig`].
pub const IPV6_SLOT: u32 = 9;

/// A rig whose web services of both families have `flags`, and outer headers the sources of this module.
pub fn rig(flags: u32) -> Result<Rig> {
    let mut rig = Rig::new()?;
    rig.plane.set_outer_source(&OuterSource {
        v4: (SOURCE_V4, 32),
        v6: (SOURCE_V6, 128),
        gue_port: GUE_PORT,
    });
    rig.set(IPV6_SLOT, Slot::settled(1));
    let mut services = vec![
        rig.service(VIP, WEB, TCP, WEB_ID, WEB_SLOT, 1),
        rig.address(VIP, 3),
        rig.service(IpAddr::from(VIP6), WEB, TCP, 91, IPV6_SLOT, 1),
        rig.address(IpAddr::from(VIP6), 5),
    ];
    for service in &mut services {
        service.flags |= flags;
    }
    rig.plane.set_services(&services)?;
    Ok(rig)
}

/// Leads a member's packets to `backend` through a tunnel of the kind `how`, a bit of
/// [`foobar_common::target::Target::flags`], on a way that takes packets of `mtu` bytes.
pub fn lead(rig: &Rig, member: Member, backend: IpAddr, how: u16, mtu: u16) {
    rig.plane.set_target(
        member,
        &Target {
            destination_mac: backend_mac(member),
            source_mac: OWN,
            flags: TARGET_USED | TARGET_RESOLVED | how,
            weight: 1,
            vip: WEB_ID,
            address: Address::from(backend),
            mtu,
            ..Target::default()
        },
    );
}
