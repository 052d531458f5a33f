//! ICMP to a VIP: pings, errors about flows, and what is neither.

use std::net::IpAddr;

use etherparse::IpNumber;
use foobar_common::counters::Counter;

use super::answer;
use super::ip::Packet;
use super::link::Link;
use super::quote;
use super::steering::{Segment, Steered};
use super::verdict::{Delivery, Fate, Kind as Sort};
use super::world::World;

/// The length of an ICMP header in bytes, of both families.
const HEADER: usize = 8;

/// Whether a packet is ICMP of its family.
pub(super) fn is_icmp(packet: &Packet<'_>) -> bool {
    match packet.destination {
        IpAddr::V4(_) => packet.protocol == IpNumber::ICMP,
        IpAddr::V6(_) => packet.protocol == IpNumber::IPV6_ICMP,
    }
}

enum Kind {
    Echo,
    Error,
    Other,
}

fn kind(packet: &Packet<'_>) -> Kind {
    if packet.payload.len() < HEADER {
        return Kind::Other;
    }
    let (kind, code) = (packet.payload[0], packet.payload[1]);
    match (packet.destination, kind, code) {
        (IpAddr::V4(_), 8, 0) | (IpAddr::V6(_), 128, 0) => Kind::Echo,
        (IpAddr::V4(_), 3 | 11 | 12, _) | (IpAddr::V6(_), 1..=4, _) => Kind::Error,
        _ => Kind::Other,
    }
}

/// What becomes of an ICMP message.
pub(super) fn judge(
    world: &mut World,
    link: &Link<'_>,
    packet: &Packet<'_>,
    counted: &mut Vec<Counter>,
) -> Fate {
    match kind(packet) {
        Kind::Echo => {
            if world.addresses[&packet.destination].owned {
                Fate::Answer(Counter::AnswerEcho, answer::echo(world.own, link, packet))
            } else {
                Fate::Drop(Counter::DropNotOwner)
            }
        }
        Kind::Error => error(world, packet, counted),
        Kind::Other => Fate::Drop(Counter::DropIcmp),
    }
}

/// An error goes where the flow goes that it is about.
fn error(world: &mut World, packet: &Packet<'_>, counted: &mut Vec<Counter>) -> Fate {
    let Some(quoted) = quote::parse(&packet.payload[HEADER..], packet.destination) else {
        return Fate::Drop(Counter::DropIcmp);
    };
    let Some(service) = world
        .service(packet.destination, quoted.flow.port, quoted.protocol.0)
        .cloned()
    else {
        return Fate::Drop(Counter::DropNoService);
    };
    match world.steer(&service, &quoted.flow, Segment::Error, counted) {
        Steered::Member(owners) => {
            counted.push(Counter::IcmpSteered);
            let flow = &quoted.flow;
            Fate::Forward(Delivery {
                owners,
                kind: Sort::Error,
                varies: world.placing(&service, flow.client, flow.client_port, flow.port),
            })
        }
        steered => Fate::Drop(steered.reason()),
    }
}
