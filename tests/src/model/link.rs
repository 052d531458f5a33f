//! Ethernet and up to two VLAN tags.

use etherparse::{EtherType, Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use crate::packets::frame::Mac;

/// Tags that are looked behind.
const MAX_TAGS: usize = 2;

/// What a frame carries, of what the balancer looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// A frame's outermost headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<'a> {
    /// Where it goes.
    pub(super) destination: Mac,
    /// Where it comes from.
    pub(super) source: Mac,
    /// Tags and EtherType, as they stand in the frame.
    pub(super) types: &'a [u8],
    /// What it carries.
    pub(super) network: Network,
    /// All behind the EtherType, with padding.
    pub(super) payload: &'a [u8],
}

impl<'a> Link<'a> {
    /// The headers of a frame that carries what the balancer looks at.
    pub(super) fn of(frame: &'a [u8]) -> Option<Self> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        let mut length = ethernet.slice().len();
        let mut ether_type = ethernet.ether_type();
        for _ in 0..MAX_TAGS {
            if !is_tag(ether_type) {
                break;
            }
            let tag = SingleVlanHeaderSlice::from_slice(&frame[length..]).ok()?;
            length += tag.slice().len();
            ether_type = tag.ether_type();
        }
        let network = match ether_type {
            EtherType::ARP => Network::Arp,
            EtherType::IPV4 => Network::Ipv4,
            EtherType::IPV6 => Network::Ipv6,
            _ => return None,
        };
        Some(Self {
            destination: ethernet.destination(),
            source: ethernet.source(),
            types: &frame[12..length],
            network,
            payload: &frame[length..],
        })
    }

    /// A frame with this one's tags and EtherType.
    pub(super) fn with(&self, destination: Mac, source: Mac, payload: &[u8]) -> Vec<u8> {
        [&destination[..], &source, self.types, payload].concat()
    }
}

fn is_tag(ether_type: EtherType) -> bool {
    ether_type == EtherType::VLAN_TAGGED_FRAME || ether_type == EtherType::PROVIDER_BRIDGING
}
