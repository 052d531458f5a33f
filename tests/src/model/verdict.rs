//! What becomes of a frame, from its first byte to its last.

use std::net::IpAddr;

use foobar_common::counters::Counter;
use foobar_common::slot::Member;

use super::link::{Link, Network};
use super::steering::{Owners, Steered};
use super::tunnel::Forward;
use super::world::{Policy, World};
use super::{arp, ip, neighbour, too_big, tunnel};

/// The number of XDP_DROP.
const XDP_DROP: u32 = 1;
/// The number of XDP_PASS.
const XDP_PASS: u32 = 2;
/// The number of XDP_TX.
const XDP_TX: u32 = 3;
/// The number of XDP_REDIRECT.
const XDP_REDIRECT: u32 = 4;

/// How a frame ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The kernel's, untouched.
    Pass,
    /// Dropped for a reason.
    Drop(Counter),
    /// Turned into these bytes, and sent back.
    Answer(Counter, Vec<u8>),
    /// Sent to a member.
    Forward(Delivery),
}

/// What is to be known of a packet that is sent to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// To whom.
    pub owners: Owners,
    /// What it is.
    pub kind: Kind,
    /// What its outer headers vary in, so that receivers spread flows over their queues.
    pub varies: u64,
}

/// What a packet is, as far as it makes a difference once its member is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A SYN.
    Opening,
    /// An ICMP error.
    Error,
    /// A fragment that is not its datagram's first.
    Later,
    /// Anything else.
    Other,
}

/// By how much a member's counters move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The member.
    pub member: Member,
    /// The frame's bytes.
    pub bytes: u64,
    /// SYNs: 0 or 1.
    pub connections: u64,
}

/// All that a frame leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The XDP action's number.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// The counters that move, by one each.
    pub counters: Vec<Counter>,
    /// The member that it is sent to.
    pub sent: Option<Sent>,
}

impl Expected {
    /// One word for what became of the frame.
    pub fn name(&self) -> &'static str {
        match (self.action, &self.sent) {
            (XDP_TX, Some(_)) => "forwarded",
            (XDP_REDIRECT, Some(_)) => "redirected",
            _ => self.counters.last().map_or("nothing", |counter| counter.name()),
        }
    }
}

impl World {
    /// What becomes of a frame, and with it of notes and fragments.
    pub fn receive(&mut self, frame: &[u8]) -> Expected {
        let mut counted = Vec::new();
        let fate = match self.judge(frame, &mut counted) {
            Fate::Forward(delivery) => self.fit(frame, delivery),
            fate => fate,
        };
        self.conclude(frame, fate, counted)
    }

    /// What becomes of a packet that may be too big for the way to its member.
    fn fit(&mut self, frame: &[u8], delivery: Delivery) -> Fate {
        let owners = delivery.owners;
        let (Some(backend), Some(link)) = (self.members.get(&owners.first), Link::of(frame)) else {
            return Fate::Forward(delivery);
        };
        match tunnel::room(backend, owners.second_chance.is_some()) {
            Some(room) if ip::length(&link) > usize::from(room) => {
                too_big::judge(self, &link, delivery.kind, room)
            }
            _ => Fate::Forward(delivery),
        }
    }

    fn judge(&mut self, frame: &[u8], counted: &mut Vec<Counter>) -> Fate {
        let Some(link) = Link::of(frame) else {
            return Fate::Pass;
        };
        let destination = match link.network {
            Network::Arp => return arp::judge(self, &link),
            Network::Ipv4 => ip::destination_v4(link.payload),
            Network::Ipv6 => ip::destination_v6(link.payload),
        };
        let Some(destination) = destination else {
            return Fate::Pass;
        };
        if let (Network::Ipv6, Some(solicitation)) = (link.network, neighbour::solicitation(&link)) {
            return neighbour::judge(self, &link, &solicitation);
        }
        if !self.addresses.contains_key(&destination) {
            return Fate::Pass;
        }
        if let Some(reason) = self.refuses(&link) {
            return Fate::Drop(reason);
        }
        let packet = match ip::parse(&link, destination) {
            Ok(packet) => packet,
            Err(reason) => return Fate::Drop(reason),
        };
        self.deliver(&link, &packet, counted)
    }

    /// Why a frame for a VIP is dropped for its MAC addresses.
    pub(super) fn refuses(&self, link: &Link<'_>) -> Option<Counter> {
        if link.destination != self.own {
            Some(Counter::DropForeignMac)
        } else if link.source == self.own || self.peers.contains(&link.source) {
            Some(Counter::DropLoop)
        } else {
            None
        }
    }

    fn conclude(&self, frame: &[u8], fate: Fate, mut counters: Vec<Counter>) -> Expected {
        let untouched = |action, counters| Expected {
            action,
            frame: frame.to_vec(),
            counters,
            sent: None,
        };
        match fate {
            Fate::Pass => {
                counters.push(Counter::PassNotVip);
                untouched(XDP_PASS, counters)
            }
            Fate::Drop(reason) => {
                counters.push(reason);
                untouched(XDP_DROP, counters)
            }
            Fate::Answer(counter, answer) => {
                counters.push(counter);
                Expected {
                    action: XDP_TX,
                    frame: answer,
                    counters,
                    sent: None,
                }
            }
            Fate::Forward(delivery) => {
                let member = delivery.owners.first;
                let backend = self.members.get(&member).filter(|backend| backend.resolved);
                let Some(backend) = backend else {
                    counters.push(Counter::DropNoNextHop);
                    return untouched(XDP_DROP, counters);
                };
                let action = match backend.interface {
                    0 => XDP_TX,
                    other if self.ports.contains(&other) => XDP_REDIRECT,
                    _ => {
                        counters.push(Counter::DropRedirect);
                        return untouched(XDP_DROP, counters);
                    }
                };
                let sent = match (backend.forward, Link::of(frame)) {
                    (Forward::Gue | Forward::IpInIp, Some(link)) => {
                        tunnel::encapsulated(self, backend, &link, &delivery)
                    }
                    _ => [&backend.destination[..], &backend.source, &frame[12..]].concat(),
                };
                Expected {
                    action,
                    sent: Some(Sent {
                        member,
                        bytes: sent.len() as u64,
                        connections: u64::from(delivery.kind == Kind::Opening),
                    }),
                    frame: sent,
                    counters,
                }
            }
        }
    }

    /// Whether nobody's segments to an address are answered.
    pub(super) fn resets(&self, address: IpAddr) -> bool {
        self.addresses
            .get(&address)
            .is_some_and(|vip| vip.policy == Policy::Reset)
    }
}

impl Steered {
    /// The reason that a packet of nobody is dropped for.
    pub(super) fn reason(self) -> Counter {
        match self {
            Self::Unknown => Counter::DropNoNote,
            Self::Member(_) | Self::Nobody => Counter::DropNoMember,
        }
    }
}
