//! What becomes of a frame, from its first byte to its last.

use std::net::IpAddr;

use foobar_common::counters::Counter;
use foobar_common::slot::Member;

use super::link::{Link, Network};
use super::steering::Steered;
use super::world::{Policy, World};
use super::{arp, ip, neighbour};

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
    Forward(Member, Opening),
}

/// Whether a packet asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A SYN.
    Connection,
    /// Anything else.
    Nothing,
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
        let fate = self.judge(frame, &mut counted);
        self.conclude(frame, fate, counted)
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
            Fate::Forward(member, opening) => {
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
                Expected {
                    action,
                    frame: [&backend.destination[..], &backend.source, &frame[12..]].concat(),
                    counters,
                    sent: Some(Sent {
                        member,
                        bytes: frame.len() as u64,
                        connections: u64::from(opening == Opening::Connection),
                    }),
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
