//! ARP for VIPs (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpOperation, ArpPacketSlice, EtherType};
use foobar_common::counters::Counter;

use super::link::Link;
use super::verdict::Fate;
use super::world::World;
use crate::packets::frame::{Arp, BROADCAST, Mac};

/// The length of an ARP packet for IPv4 over Ethernet.
const LENGTH: usize = 28;

struct Request {
    sender_mac: Mac,
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let packet = ArpPacketSlice::from_slice(bytes.get(..LENGTH)?).ok()?;
    let is_request = packet.hw_addr_type().0 == 1
        && packet.proto_addr_type() == EtherType::IPV4
        && packet.hw_addr_size() == 6
        && packet.proto_addr_size() == 4
        && packet.operation() == ArpOperation::REQUEST;
    let address = |bytes: &[u8]| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = bytes.try_into().ok()?;
        Some(octets.into())
    };
    is_request.then_some(())?;
    Some(Request {
        sender_mac: packet.sender_hw_addr().try_into().ok()?,
        sender: address(packet.sender_protocol_addr())?,
        target: address(packet.target_protocol_addr())?,
    })
}

/// What becomes of an ARP packet.
pub(super) fn judge(world: &World, link: &Link<'_>) -> Fate {
    let Some(request) = parse(link.payload) else {
        return Fate::Pass;
    };
    let Some(vip) = world.addresses.get(&IpAddr::V4(request.target)) else {
        return Fate::Pass;
    };
    if link.destination != world.own && link.destination != BROADCAST {
        return Fate::Pass;
    }
    if !vip.owned {
        return Fate::Drop(Counter::DropNotOwner);
    }
    if request.sender == request.target {
        return Fate::Drop(Counter::DropConflict);
    }
    let reply = Arp {
        operation: 2,
        sender_mac: world.own,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    let payload = &reply.frame(link.source, world.own)[14..];
    Fate::Answer(
        Counter::AnswerArp,
        link.with(
            link.source,
            world.own,
            &[payload, &link.payload[LENGTH..]].concat(),
        ),
    )
}
