//! Neighbour solicitations for VIPs (RFC 4861 section 7.2).

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{Icmpv6Slice, IpNumber, Ipv6Header, Ipv6HeaderSlice};
use foobar_common::counters::Counter;

use super::ip::is_martian_v6;
use super::link::Link;
use super::verdict::Fate;
use super::world::World;
use crate::packets::frame::Mac;
use crate::packets::frame_v6::{ALL_NODES, group_mac, icmpv6, solicited_node};

/// The length of a solicitation without options.
const LENGTH: usize = 24;
/// Bytes of options that are looked at.
const MAX_OPTIONS: usize = 256;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// What the hop limit of neighbour discovery has to be: no router has had its hands on it.
const HOP_LIMIT: u8 = 255;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// The option of the target's link-layer address, of one unit of 8 bytes.
const TARGET_LINK_LAYER: [u8; 2] = [2, 1];

/// A solicitation in a frame, sound or not; none where the frame holds something else.
pub(super) fn solicitation<'a>(link: &Link<'a>) -> Option<Solicitation<'a>> {
    let header = Ipv6HeaderSlice::from_slice(link.payload).ok()?;
    let length = usize::from(header.payload_length());
    let begins = link.payload.get(40..40 + LENGTH)?;
    if header.next_header() != IpNumber::IPV6_ICMP || length < LENGTH || begins[0] != SOLICITATION {
        return None;
    }
    let target: [u8; 16] = begins[8..].try_into().ok()?;
    Some(Solicitation {
        source: header.source_addr(),
        destination: header.destination_addr(),
        hop_limit: header.hop_limit(),
        target: target.into(),
        message: link.payload.get(40..40 + length),
    })
}

/// What becomes of a solicitation. One that is sent to a VIP itself is judged as any packet for a VIP first.
pub(super) fn judge(world: &World, link: &Link<'_>, solicitation: &Solicitation<'_>) -> Fate {
    let is_for_vip = world
        .addresses
        .contains_key(&IpAddr::V6(solicitation.destination));
    if !is_for_vip {
        let is_heard = link.destination == world.own || link.destination[..2] == [0x33, 0x33];
        return if is_heard && solicitation.is_valid() {
            solicitation.answer(world, link)
        } else {
            Fate::Pass
        };
    }
    match world.refuses(link) {
        Some(Counter::DropLoop) if link.source == world.own => return Fate::Pass,
        Some(reason) => return Fate::Drop(reason),
        None => (),
    }
    let source = solicitation.source;
    if solicitation.message.is_none() {
        Fate::Drop(Counter::DropTruncated)
    } else if is_martian_v6(source) || source == solicitation.destination {
        Fate::Drop(Counter::DropMartian)
    } else if !solicitation.is_valid() {
        Fate::Drop(Counter::DropIcmp)
    } else {
        solicitation.answer(world, link)
    }
}

/// A solicitation.
pub(super) struct Solicitation<'a> {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    target: Ipv6Addr,
    /// None where it says that it is longer than the frame.
    message: Option<&'a [u8]>,
}

impl Solicitation<'_> {
    /// Whether a host has to heed it (RFC 4861 section 7.1.1).
    fn is_valid(&self) -> bool {
        let Some(message) = self.message else {
            return false;
        };
        let is_asked = self.destination == solicited_node(self.target)
            || (self.destination == self.target && !self.source.is_unspecified());
        is_asked
            && !self.source.is_multicast()
            && self.hop_limit == HOP_LIMIT
            && message[1] == 0
            && options_are_right(&message[LENGTH..])
            && Icmpv6Slice::from_slice(message)
                .is_ok_and(|icmp| icmp.is_checksum_valid(self.source.octets(), self.destination.octets()))
    }

    fn answer(&self, world: &World, link: &Link<'_>) -> Fate {
        let Some(vip) = world.addresses.get(&IpAddr::V6(self.target)) else {
            return Fate::Pass;
        };
        if link.source == world.own {
            return Fate::Pass;
        }
        if !vip.owned {
            return Fate::Drop(Counter::DropNotOwner);
        }
        let (mac, destination, flags) = if self.source.is_unspecified() {
            (group_mac(ALL_NODES), ALL_NODES, OVERRIDE)
        } else {
            (link.source, self.source, SOLICITED | OVERRIDE)
        };
        Fate::Answer(
            Counter::AnswerNeighbour,
            self.advertisement(world.own, link, mac, destination, flags),
        )
    }

    fn advertisement(
        &self,
        own: Mac,
        link: &Link<'_>,
        mac: Mac,
        destination: Ipv6Addr,
        flags: u8,
    ) -> Vec<u8> {
        let body = [
            &[flags, 0, 0, 0][..],
            &self.target.octets(),
            &TARGET_LINK_LAYER,
            &own,
        ]
        .concat();
        let message = icmpv6(ADVERTISEMENT, 0, self.target, destination, &body);
        let header = Ipv6Header {
            payload_length: message.len() as u16,
            next_header: IpNumber::IPV6_ICMP,
            hop_limit: HOP_LIMIT,
            source: self.target.octets(),
            destination: destination.octets(),
            ..Ipv6Header::default()
        };
        link.with(mac, own, &[&header.to_bytes()[..], &message].concat())
    }
}

/// Options fill the message, and none is of length 0 (RFC 4861 section 4.6: lengths are in units of 8 bytes).
fn options_are_right(mut options: &[u8]) -> bool {
    if options.len() > MAX_OPTIONS {
        return false;
    }
    while !options.is_empty() {
        let units = options.get(1).copied().unwrap_or_default();
        match options.get(usize::from(units) * 8..) {
            Some(rest) if units != 0 => options = rest,
            _ => return false,
        }
    }
    true
}
