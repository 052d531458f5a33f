//! Who gets a packet of a service: the slot's phase, the flow's note, and what is written down.

use std::net::IpAddr;

use foobar_common::counters::Counter;
use foobar_common::slot::{Member, NONE, Phase, Slot};

use super::notes::{FlowId, Known};
use super::world::{Policy, Service, State, Table, Tracking, World};

/// What a packet says of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// A SYN.
    Open,
    /// TCP of a connection.
    Data,
    /// FIN or RST.
    End,
    /// UDP.
    Datagram,
    /// An ICMP error.
    Error,
}

/// Both ends of a flow but the VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) client: IpAddr,
    pub(super) client_port: u16,
    pub(super) port: u16,
}

/// Whom a packet goes to, and who else may have its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owners {
    /// Who gets it.
    pub first: Member,
    /// Who had the slot before, the latest first; of places without an owner [`NONE`].
    pub earlier: [Member; 2],
    /// Of a service with second chance: what the last of them does with a segment of nobody's.
    pub second_chance: Option<Policy>,
}

/// Whom a packet was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steered {
    /// Members.
    Member(Owners),
    /// Nobody: the service has no member.
    Nobody,
    /// Nobody: only flows with a note belong to somebody.
    Unknown,
}

impl Owners {
    /// One, and nobody else.
    pub(super) const fn alone(member: Member, second_chance: Option<Policy>) -> Self {
        Self {
            first: member,
            earlier: [NONE; 2],
            second_chance,
        }
    }
}

impl Steered {
    const fn to(member: Member) -> Self {
        Self::among(Owners::alone(member, None))
    }

    const fn among(owners: Owners) -> Self {
        if owners.first == NONE {
            Self::Nobody
        } else {
            Self::Member(owners)
        }
    }
}

/// An address as 16 bytes, IPv4 in its mapped form.
pub(super) const fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The hash of a flow: of the client's address and the four bytes of both ports, which are 0 where only the client
/// counts.
pub(super) fn hash(seed: [u64; 2], address: [u8; 16], ports: [u8; 4]) -> u64 {
    let word = |at: usize| {
        address[at..at + 8]
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte))
    };
    // As the four bytes stand in the packet, the first one lowest.
    let ports = u64::from(u32::from_le_bytes(ports));
    let mut h = (word(8) ^ seed[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^= h >> 32;
    h = h.wrapping_add(word(0));
    h = (h ^ seed[1] ^ ports << 16).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h ^= h >> 29;
    h = h.wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ h >> 32
}

/// Owns flows without a note while a slot moves.
fn oldest(slot: Slot) -> Member {
    [slot.older, slot.previous, slot.current]
        .into_iter()
        .find(|&member| member != NONE)
        .unwrap_or(NONE)
}

impl World {
    /// A flow's slot, and how its notes name it. A client's flows may share a slot, but never a note.
    pub fn flow_id(&self, service: &Service, client: IpAddr, client_port: u16, port: u16) -> FlowId {
        let whole = hash(self.seed, octets(client), both(client_port, port));
        let place = self.placing(service, client, client_port, port);
        FlowId {
            client,
            client_port,
            port,
            service: service.id,
            slot: service.base + (place % u64::from(service.slots)) as u32,
            hash: whole,
        }
    }

    /// What chooses a flow's slot, and in what its outer headers vary.
    pub(super) fn placing(&self, service: &Service, client: IpAddr, client_port: u16, port: u16) -> u64 {
        let ports = match service.table {
            Table::Flow => both(client_port, port),
            Table::Source => [0; 4],
        };
        hash(self.seed, octets(client), ports)
    }

    /// What a service with second chance tells the last candidate.
    pub(super) fn chance(&self, service: &Service) -> Option<Policy> {
        service
            .second_chance
            .then(|| self.addresses[&service.address].policy)
    }

    /// Gives a packet to a member, and writes down what is to be written.
    pub(super) fn steer(
        &mut self,
        service: &Service,
        flow: &Flow,
        segment: Segment,
        counted: &mut Vec<Counter>,
    ) -> Steered {
        let id = self.flow_id(service, flow.client, flow.client_port, flow.port);
        let slot = self.slots[id.slot as usize];
        let phase = slot.phase();
        match phase {
            Phase::Settled => (),
            Phase::Open => counted.push(Counter::SlotOpen),
            Phase::Moving => counted.push(Counter::SlotMoving),
            Phase::Fresh | Phase::Moved => counted.push(Counter::SlotMoved),
            Phase::Kept => counted.push(Counter::SlotKept),
        }
        match service.tracking {
            Tracking::None if service.second_chance => {
                return Steered::among(candidates(slot, segment, self.chance(service)));
            }
            Tracking::None => return Steered::to(slot.current),
            Tracking::Transitions if matches!(phase, Phase::Settled | Phase::Kept) => {
                return Steered::to(slot.current);
            }
            Tracking::Transitions | Tracking::All | Tracking::Strict => (),
        }
        let known = self.notes.look_up(&id, |member| self.state(member));
        let situation = Situation {
            slot,
            is_moving: phase == Phase::Moving,
            notes_all: matches!(service.tracking, Tracking::All | Tracking::Strict),
            is_strict: service.tracking == Tracking::Strict,
        };
        match segment {
            Segment::Open => self.open(&id, &situation, known, counted),
            Segment::Error => match known {
                Known::Live(note) => Steered::to(note.member),
                Known::Nothing | Known::Stale => situation.stray(),
            },
            Segment::Data | Segment::End | Segment::Datagram => {
                if let Known::Live(note) = known {
                    self.notes
                        .r#use(&id, note.member, segment == Segment::End, counted);
                    return Steered::to(note.member);
                }
                self.adopt(&id, &situation, segment, known, counted)
            }
        }
    }

    /// A SYN: follows a note, unless its flow is over or its member takes no new ones.
    fn open(
        &mut self,
        id: &FlowId,
        situation: &Situation,
        known: Known,
        counted: &mut Vec<Counter>,
    ) -> Steered {
        let current = situation.slot.current;
        if let Known::Live(note) = known {
            // A pending note is of no flow yet that could be over.
            let over = note.ended && !note.pending || matches!(self.state(note.member), State::Down);
            if !over {
                self.notes.renew(counted);
                return Steered::to(note.member);
            }
        }
        if current == NONE {
            return Steered::Nobody;
        }
        let notes_new = situation.notes_all
            || matches!(situation.slot.phase(), Phase::Open | Phase::Moving | Phase::Fresh);
        match known {
            Known::Live(_) | Known::Stale => self.notes.overwrite(id, current, counted),
            Known::Nothing if notes_new => self.notes.write(id, current, counted),
            Known::Nothing => (),
        }
        Steered::to(current)
    }

    /// A packet that opens nothing, of a flow of which nothing is known.
    fn adopt(
        &mut self,
        id: &FlowId,
        situation: &Situation,
        segment: Segment,
        known: Known,
        counted: &mut Vec<Counter>,
    ) -> Steered {
        let slot = situation.slot;
        let datagram = segment == Segment::Datagram;
        let (steered, noted) = if situation.is_moving {
            let owner = oldest(slot);
            let leaves = datagram && matches!(self.state(owner), State::Down | State::Gone);
            (Steered::to(if leaves { slot.current } else { owner }), true)
        } else if datagram {
            // It may open a flow as well as belong to one.
            let fresh = slot.phase() == Phase::Fresh;
            (Steered::to(slot.current), fresh || situation.notes_all)
        } else {
            (situation.stray(), situation.notes_all)
        };
        let Steered::Member(Owners { first: member, .. }) = steered else {
            return steered;
        };
        if noted && segment != Segment::End {
            match known {
                Known::Stale => self.notes.overwrite(id, member, counted),
                Known::Nothing | Known::Live(_) => self.notes.write(id, member, counted),
            }
        }
        steered
    }
}

/// Both ports as a packet has them.
fn both(client_port: u16, port: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (client_port.to_be_bytes(), port.to_be_bytes());
    [a, b, c, d]
}

/// Who may have a flow of a slot that notes nothing: its owners, from the latest to the oldest. Nobody but `current`
/// takes new ones.
fn candidates(slot: Slot, segment: Segment, second_chance: Option<Policy>) -> Owners {
    let earlier = match slot.phase() {
        Phase::Settled => [NONE; 2],
        Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved | Phase::Kept => {
            [slot.previous, slot.older]
        }
    };
    if slot.current == NONE && segment != Segment::Open {
        let [previous, older] = earlier;
        Owners {
            first: previous,
            earlier: [older, NONE],
            second_chance,
        }
    } else {
        Owners {
            first: slot.current,
            earlier,
            second_chance,
        }
    }
}

struct Situation {
    slot: Slot,
    is_moving: bool,
    notes_all: bool,
    is_strict: bool,
}

impl Situation {
    /// Who gets a packet that belongs to a flow which nobody knows.
    fn stray(&self) -> Steered {
        if self.is_moving {
            Steered::to(oldest(self.slot))
        } else if self.is_strict && self.slot.current != NONE {
            Steered::Unknown
        } else {
            Steered::to(self.slot.current)
        }
    }
}
