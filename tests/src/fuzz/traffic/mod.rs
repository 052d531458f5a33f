//! The frames of an episode: of every kind that the balancer knows, and of kinds that it should not fall for.
//!
//! Flows and fragmented datagrams come from small stocks, so that packets meet what earlier ones left behind.

mod errors;
mod flows;
mod fragments;
mod local;
mod packet;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dice::Dice;
use super::mutation;
use crate::model::World;
use crate::packets::frame::{BROADCAST, HOST, Mac, OWN, PEER, ROUTER, STRANGER};
use crate::packets::frame_v6::{HOST6, Tag, tagged};

pub(super) use flows::Flow;
use fragments::Fragmented;

/// Earlier frames that are kept to make others of.
const KEPT: usize = 32;

/// A packet by IP or ARP, before it gets an Ethernet header.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// The EtherType.
    pub(super) ether_type: u16,
    /// The frame's destination, where the packet needs a certain one.
    pub(super) destination: Option<Mac>,
    /// From the IP header on.
    pub(super) bytes: Vec<u8>,
}

/// A frame, and where its IP header begins.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// Ethernet header and tags.
    pub(super) network: usize,
}

/// The source of an episode's frames.
pub(super) struct Traffic {
    flows: Vec<Flow>,
    fragmented: Vec<Fragmented>,
    kept: Vec<Vec<u8>>,
}

impl Traffic {
    /// The traffic to a world.
    pub(super) fn new(dice: &mut Dice, world: &World) -> Self {
        let most = dice.pick(&[8, 40, 200, 800]);
        let flows = (0..1 + dice.below(most)).map(|_| Flow::of(dice, world)).collect();
        Self {
            flows,
            fragmented: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// The stock of flows.
    pub(super) fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The next frame.
    pub(super) fn next(&mut self, dice: &mut Dice, world: &World) -> Vec<u8> {
        let packet = self.packet(dice, world);
        let mut frame = dress(dice, packet);
        if dice.percent(30) {
            mutation::mutate(dice, &mut frame, &self.kept);
        }
        // The kernel runs no program on less than an Ethernet header.
        if frame.bytes.len() < 14 {
            frame.bytes.resize(14, 0);
        }
        if self.kept.len() < KEPT {
            self.kept.push(frame.bytes.clone());
        } else {
            self.kept[dice.below(KEPT)].clone_from(&frame.bytes);
        }
        frame.bytes
    }

    fn packet(&mut self, dice: &mut Dice, world: &World) -> Packet {
        // Now and then somebody new.
        let flow = if dice.percent(5) {
            let flow = Flow::of(dice, world);
            let place = dice.below(self.flows.len());
            self.flows[place] = flow;
            flow
        } else {
            dice.pick(&self.flows)
        };
        match dice.below(100) {
            0..38 => flow.packet(dice),
            38..43 => flow.empty_handed(dice),
            43..58 => fragments::piece(dice, flow, &mut self.fragmented),
            58..64 => local::ping(dice, flow),
            64..78 => errors::error(dice, flow),
            78..82 => local::arp(dice, world),
            82..90 => local::solicitation(dice, world),
            90..93 => local::other_icmp(dice, flow),
            93..97 => elsewhere(dice, flow),
            _ => garbage(dice, flow),
        }
    }
}

/// A packet to an address that is no VIP, or nearly one.
fn elsewhere(dice: &mut Dice, flow: Flow) -> Packet {
    let vip = match flow.vip {
        IpAddr::V4(v4) => match dice.below(4) {
            0 => HOST.into(),
            1 => Ipv4Addr::from(dice.word() as u32).into(),
            // An IPv6 packet to the IPv4 VIP in its mapped form is not to the VIP.
            2 => IpAddr::V6(v4.to_ipv6_mapped()),
            _ => Ipv4Addr::from(u32::from(v4) ^ 1 << dice.below(32)).into(),
        },
        IpAddr::V6(v6) => match dice.below(3) {
            0 => HOST6.into(),
            1 => Ipv6Addr::from(u128::from(dice.word()) << 64 | u128::from(dice.word())).into(),
            _ => Ipv6Addr::from(u128::from(v6) ^ 1 << dice.below(128)).into(),
        },
    };
    let client = match (vip, flow.client) {
        (IpAddr::V6(_), IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
        (_, client) => client,
    };
    Flow { vip, client, ..flow }.packet(dice)
}

/// Something that only begins like a packet.
fn garbage(dice: &mut Dice, flow: Flow) -> Packet {
    let mut packet = flow.packet(dice);
    let keep = dice.pick(&[0, 1, 20, 24, 34, 40, 48, 60]).min(packet.bytes.len());
    let more = dice.below(80);
    packet.bytes.truncate(keep);
    packet.bytes.extend(dice.bytes(more));
    if dice.percent(20) {
        packet.ether_type = dice.word() as u16;
    }
    packet
}

/// Ethernet around a packet: mostly from the router to the balancer.
fn dress(dice: &mut Dice, packet: Packet) -> Frame {
    let destination = match (dice.percent(3), packet.destination) {
        (true, _) => dice.pick(&[
            STRANGER,
            BROADCAST,
            PEER,
            [0x33, 0x33, 0xff, 0xa1, 0x50, 0x10],
            [0x02, 0xba, 0x1a, 0x00, 0x00, 0x00],
        ]),
        (false, Some(destination)) => destination,
        (false, None) => OWN,
    };
    let source = match dice.below(70) {
        0 => OWN,
        1 => PEER,
        2 => STRANGER,
        3 => [0x02, 0xba, 0x1a, 0, 0, 3],
        4 => [0; 6],
        _ => ROUTER,
    };
    let mut bytes = [
        &destination[..],
        &source,
        &packet.ether_type.to_be_bytes(),
        &packet.bytes,
    ]
    .concat();
    let mut tags: Vec<Tag> = Vec::new();
    if dice.percent(12) {
        for _ in 0..1 + dice.below(3) {
            let ether_type = dice.pick(&[0x8100, 0x8100, 0x88a8, 0x9100]);
            tags.push((ether_type, dice.word() as u16));
        }
        bytes = tagged(&bytes, &tags);
    }
    if dice.percent(10) {
        let padding = dice.below(40);
        bytes.extend(dice.bytes(padding));
    }
    Frame {
        bytes,
        network: 14 + 4 * tags.len(),
    }
}
