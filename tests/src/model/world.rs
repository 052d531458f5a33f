//! The world that the model decides by: VIPs, services, slots, members, and what flows left behind.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use foobar_common::slot::{Member, NONE, Slot};

use super::admission::{Bucket, Limit, Moment, SourceList};
use super::fragment::Datagram;
use super::notes::Notes;
use super::quic::ConnectionIds;
use super::steering::Owners;
use super::tunnel::{Forward, OuterSource};
use crate::packets::frame::Mac;

/// What is done with TCP segments that nobody can own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Dropped.
    Drop,
    /// Answered with RST.
    Reset,
}

/// The address of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipAddress {
    /// Whether this balancer answers for it.
    pub owned: bool,
    /// What nobody can own.
    pub policy: Policy,
}

/// Which flows of a service are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Those in slots with a history.
    Transitions,
    /// All.
    All,
    /// All, and nobody owns one without a note.
    Strict,
    /// None.
    None,
}

/// How a service's slots are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// By the client's address and both ports.
    Flow,
    /// By the client's address.
    Source,
}

/// A service of a VIP.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its id, which no other one has.
    pub id: u32,
    /// The VIP's address.
    pub address: IpAddr,
    /// Its ports: a single one comes before ranges.
    pub ports: RangeInclusive<u16>,
    /// The IP protocol number.
    pub protocol: u8,
    /// The index of its first slot.
    pub base: u32,
    /// How many slots it has, a power of two.
    pub slots: u32,
    /// What chooses among them.
    pub table: Table,
    /// What is noted.
    pub tracking: Tracking,
    /// Whether packets carry their slot's earlier owners; nothing is noted then.
    pub second_chance: bool,
    /// How connection ids of QUIC name members, where they do.
    pub quic: Option<ConnectionIds>,
    /// The place of its source list among [`World::lists`].
    pub list: Option<usize>,
    /// Its limit of new connections.
    pub limit: Option<Limit>,
}

impl Service {
    /// Whether a slot is one of its.
    pub const fn has(&self, slot: u32) -> bool {
        self.base <= slot && slot < self.base + self.slots
    }
}

/// The state of a member, as health checks and the operator leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes flows.
    Up,
    /// Its check fails.
    Down,
    /// It is silent: its notes don't count.
    Gone,
    /// An operator drains it.
    Drained,
    /// It is in the configuration no more.
    Removed,
    /// The time that its drain had is over. Notes of it there are none: what it had before are another's.
    Cut,
}

impl State {
    /// Whether it lives: what is its own may go on going there.
    pub(super) const fn lives(self) -> bool {
        matches!(self, Self::Up | Self::Drained | Self::Removed)
    }
}

/// A member's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its MAC address, or the next hop's.
    pub destination: Mac,
    /// The MAC address its frames come from.
    pub source: Mac,
    /// Whether the next hop is known.
    pub resolved: bool,
    /// The interface it is behind; 0: the one that packets come in by.
    pub interface: u32,
    /// Its state.
    pub state: State,
    /// What packets go to it in.
    pub forward: Forward,
    /// Its address, where tunnels end.
    pub address: IpAddr,
    /// The longest packet that the way to it takes, outer headers included.
    pub mtu: u16,
}

/// All that decides what becomes of a packet.
#[derive(Clone, Debug)]
pub struct World {
    /// The balancer's MAC address.
    pub own: Mac,
    /// Those of the others.
    pub peers: Vec<Mac>,
    /// The seed of the flow hash.
    pub seed: [u64; 2],
    /// The interfaces that frames can be redirected to.
    pub ports: Vec<u32>,
    /// The VIPs' addresses.
    pub addresses: BTreeMap<IpAddr, VipAddress>,
    /// Their services.
    pub services: Vec<Service>,
    /// All slots.
    pub slots: Vec<Slot>,
    /// The members, by their numbers.
    pub members: BTreeMap<Member, Backend>,
    /// The notes.
    pub notes: Notes,
    /// Where first fragments went.
    pub fragments: HashMap<Datagram, Owners>,
    /// What outer headers are made with.
    pub outer: OuterSource,
    /// Whose the server ids of services are; of each the service's id, and the bytes.
    pub server_ids: HashMap<(u32, Vec<u8>), Member>,
    /// Source lists.
    pub lists: Vec<SourceList>,
    /// The buckets of services' limits, by their index.
    pub limits: BTreeMap<u16, Bucket>,
    /// The buckets that sources share, as many as a power of two.
    pub source_buckets: Vec<Bucket>,
    /// The bucket of answers to what is too big.
    pub answers: Bucket,
    /// When the next packet comes.
    pub moment: Moment,
}

impl World {
    /// The service that takes a port of an address.
    pub fn service(&self, address: IpAddr, port: u16, protocol: u8) -> Option<&Service> {
        let mut candidates: Vec<_> = self
            .services
            .iter()
            .filter(|service| {
                service.address == address && service.protocol == protocol && service.ports.contains(&port)
            })
            .collect();
        candidates.sort_by_key(|service| service.ports.end() - service.ports.start());
        candidates.first().copied()
    }

    /// The state of a member; nobody and unknown ones are gone.
    pub fn state(&self, member: Member) -> State {
        match self.members.get(&member) {
            Some(backend) if member != NONE => backend.state,
            _ => State::Gone,
        }
    }
}
