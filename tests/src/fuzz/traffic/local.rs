//! What is asked of the balancer itself: ping, ARP, neighbour discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Packet;
use super::flows::Flow;
use super::packet::{Header, packet};
use crate::fuzz::dice::Dice;
use crate::model::World;
use crate::packets::frame::{Arp, BROADCAST, HOST, OTHER_VIP, OWN, PEER, ROUTER, STRANGER, VIP};
use crate::packets::frame_v6::{
    CLIENT6, HOST6, OTHER_VIP6, ROUTER6, Solicitation, VIP6, group_mac, solicited_node, source_link_layer,
};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn icmp(dice: &mut Dice, flow: Flow, kind: u8, code: u8) -> Packet {
    let length = match dice.below(5) {
        0 => 0,
        1 => dice.below(8),
        _ => 4 + dice.below(60),
    };
    let checksum = match dice.below(4) {
        0 => dice.half(),
        1 => dice.pick(&[0xf7ff, 0xf7fe, 0xf800, 0x0100, 0x00ff, 0x0101]),
        _ => dice.word() as u16,
    };
    let mut message = vec![kind, code];
    message.extend(checksum.to_be_bytes());
    message.extend(dice.bytes(length));
    let protocol = match flow.vip {
        IpAddr::V4(_) => ICMP,
        IpAddr::V6(_) => ICMPV6,
    };
    packet(dice, flow.client, flow.vip, protocol, Header::default(), &message)
}

/// An echo request. Its checksum may be wrong: whoever asked will see.
pub(super) fn ping(dice: &mut Dice, flow: Flow) -> Packet {
    let kind = match flow.vip {
        IpAddr::V4(_) => 8,
        IpAddr::V6(_) => 128,
    };
    let code = if dice.percent(5) { dice.byte() } else { 0 };
    icmp(dice, flow, kind, code)
}

/// ICMP of any type.
pub(super) fn other_icmp(dice: &mut Dice, flow: Flow) -> Packet {
    let kind = if dice.percent(70) {
        dice.pick(&[
            0, 3, 5, 8, 11, 12, 13, 128, 129, 1, 2, 4, 133, 134, 135, 136, 137, 255,
        ])
    } else {
        dice.byte()
    };
    let code = dice.pick(&[0, 1, 4]);
    icmp(dice, flow, kind, code)
}

/// ARP about a VIP or another address.
pub(super) fn arp(dice: &mut Dice, world: &World) -> Packet {
    let router = Ipv4Addr::new(198, 51, 100, 1);
    let arp = Arp {
        operation: if dice.percent(90) { 1 } else { dice.half() },
        sender_mac: dice.pick(&[ROUTER, ROUTER, STRANGER, PEER, OWN]),
        sender: dice.pick(&[router, router, router, Ipv4Addr::UNSPECIFIED, VIP, OTHER_VIP]),
        target_mac: dice.pick(&[[0; 6], OWN, BROADCAST]),
        target: dice.pick(&[VIP, OTHER_VIP, VIP, HOST]),
    };
    let destination = dice.pick(&[BROADCAST, BROADCAST, world.own]);
    let mut bytes = arp.frame(destination, ROUTER).split_off(14);
    if dice.percent(30) {
        bytes.extend([0; 18]);
    }
    Packet {
        ether_type: 0x0806,
        destination: Some(destination),
        bytes,
    }
}

/// A neighbour solicitation, mostly one that is right.
pub(super) fn solicitation(dice: &mut Dice, world: &World) -> Packet {
    let target: Ipv6Addr = dice.pick(&[VIP6, VIP6, OTHER_VIP6, HOST6, VIP.to_ipv6_mapped()]);
    let group = solicited_node(target);
    let destination = match dice.below(10) {
        0..5 => group,
        5..8 => target,
        8 => solicited_node(HOST6),
        _ => dice.pick(&[VIP6, OTHER_VIP6, HOST6]),
    };
    let multicast = group_mac(if destination.is_multicast() {
        destination
    } else {
        group
    });
    let destination_mac = match (destination.is_multicast(), dice.below(10)) {
        (true, 0..=7) | (false, 8) => multicast,
        (_, 9) => dice.pick(&[
            BROADCAST,
            STRANGER,
            [0x33, 0x33, 0, 0, 0, 1],
            [0x33, 0x32, 0, 0, 0, 1],
        ]),
        _ => world.own,
    };
    let source = match dice.below(12) {
        0..6 => ROUTER6,
        6..8 => CLIENT6,
        8..10 => Ipv6Addr::UNSPECIFIED,
        10 => target,
        _ => dice.pick(&[
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2),
            Ipv4Addr::new(203, 0, 113, 9).to_ipv6_mapped(),
            VIP6,
            OTHER_VIP6,
        ]),
    };
    let options = match dice.below(10) {
        0..5 => source_link_layer(),
        5..7 => Vec::new(),
        7 => {
            let mut options = Vec::new();
            for _ in 0..dice.below(8) {
                options.extend([dice.pick(&[1, 14, 24]), 1]);
                options.extend(dice.bytes(6));
            }
            if dice.percent(30) {
                options.extend([14, 0, 0, 0, 0, 0, 0, 0]);
            }
            options
        }
        8 => vec![1, dice.pick(&[0, 1, 2, 255]), 0, 0, 0, 0, 0, 0],
        _ => {
            let length = dice.below(20);
            dice.bytes(length)
        }
    };
    let solicitation = Solicitation {
        destination_mac,
        source_mac: ROUTER,
        source,
        destination,
        target,
        hop_limit: if dice.percent(92) { 255 } else { dice.byte() },
        code: if dice.percent(95) { 0 } else { dice.byte() },
        options,
    };
    let bytes = solicitation.frame().split_off(14);
    Packet {
        ether_type: 0x86dd,
        destination: Some(destination_mac),
        bytes,
    }
}
