//! One balancer, one VIP, backends that come and go, and clients that notice when a flow is moved.
//!
//! The balancer is the product's code: tables, plan, slots, member ids, and the rule of the data plane. Only
//! the notes' maps, the clock and the traffic are simulated.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use foobar_common::slot::{Member as Id, NONE, Phase, Slot};
use foobar_common::steering::{Decision, Known, Record, Segment, Tracking, decide};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_common::time::note_lifetime;

use super::super::members::MemberPool;
use super::super::plan::Health;
use super::super::slots::{History, SlotTable};
use super::super::table::Member;
use super::notes::{Flow, NoteStore};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1000 * MS;
/// The idle time T.
pub(super) const T: u64 = 30 * SECOND;
pub(super) const SLOTS: usize = 256;
pub(super) const IDS: u16 = 40;
/// Few clients' ports, so that tuples are reused.
pub(super) const TUPLES: u64 = 4000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// A rule that a crippled balancer leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Without {
    /// A changed slot is written as settled.
    History,
    /// A flow of the un-noted owner isn't noted while moving.
    Adoption,
    /// A new connection isn't noted.
    NewNotes,
    /// A note that its flow has not confirmed isn't followed.
    Pending,
    /// Notes expire after a tenth of T.
    NoteLifetime,
    /// Moving ends after a tenth of T.
    IdleTime,
    /// A change while moving makes the last owner the un-noted one.
    UnnotedOwner,
    /// Slots settle without a look at their notes.
    Sweep,
    /// An id is free as soon as its member is gone.
    Names,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Operator,
    Flood,
    Tick,
    Arrival,
    Retransmission { tuple: u32, flow: u64 },
    Packet { tuple: u32, flow: u64 },
}

/// A life of a member: ids are reused.
pub(super) type Owner = (Id, u64);

pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) owner: Owner,
    pub(super) used: u64,
    /// Packets that it still sends, 0 after its FIN.
    pub(super) left: u32,
    /// Whether its packets follow by themselves, and not only once a SYN is answered.
    pub(super) answered: bool,
}

pub(super) struct Backend {
    pub(super) member: Member,
    pub(super) health: Health,
    pub(super) configured: bool,
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) packets: u64,
    /// Packets that missed a living owner.
    pub(super) moved: u64,
    /// Packets that got no member from a slot that has one.
    pub(super) refused: u64,
    /// The like of `moved`, after their flow's FIN, which the rules don't promise to keep together with it.
    pub(super) moved_after_end: u64,
    pub(super) flows: u64,
    pub(super) retransmissions: u64,
    pub(super) slot_changes: u64,
    pub(super) reused_ids: u64,
    /// Packets by the phase of their slot.
    pub(super) phases: [u64; 5],
    pub(super) evicted: u64,
    /// The like of `moved`, of flows whose pending note had to give way to a flood.
    pub(super) moved_without_note: u64,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) protocol: Protocol,
    pub(super) without: Option<Without>,
    /// Mean time between an operator's or a health checker's events.
    pub(super) pace: u64,
    pub(super) now: u64,
    pub(super) events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub(super) scheduled: u64,
    pub(super) table: SlotTable,
    /// What the maps hold.
    pub(super) plane: Vec<Slot>,
    pub(super) notes: NoteStore,
    pub(super) pool: MemberPool,
    pub(super) backends: Vec<Backend>,
    pub(super) flags: Vec<u16>,
    /// How often an id was given out, and whether its holder lives.
    pub(super) lives: Vec<(u64, bool)>,
    pub(super) flows: HashMap<u32, Connection>,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new(seed: u64, protocol: Protocol, pace: u64, without: Option<Without>) -> Self {
        // Two are all down or drained often enough to see what becomes of the flows then.
        let backends = if seed.is_multiple_of(2) { 6 } else { 2 };
        let lifetime = if without == Some(Without::NoteLifetime) {
            T / 10
        } else {
            T
        };
        let mut world = Self {
            random: Random(seed << 8 | pace >> 30),
            protocol,
            without,
            pace,
            now: SECOND,
            events: BinaryHeap::new(),
            scheduled: 0,
            table: SlotTable::new(History::Noted, SLOTS),
            plane: vec![Slot::default(); SLOTS],
            notes: NoteStore::new(1024, note_lifetime(lifetime), SLOTS as u32),
            pool: MemberPool::new(IDS),
            backends: Vec::new(),
            flags: vec![TARGET_GONE; usize::from(IDS) + 1],
            lives: vec![(0, false); usize::from(IDS) + 1],
            flows: HashMap::new(),
            tally: Tally::default(),
        };
        for i in 0..backends {
            let member = Member {
                name: [i as u8 + 1; 16],
                weight: 100,
                id: NONE,
            };
            world.backends.push(Backend {
                member,
                health: Health::Unknown,
                configured: false,
            });
            world.join(i);
        }
        // Target 0 is never written.
        world.flags[usize::from(NONE)] = 0;
        world.replan();
        for event in [Event::Operator, Event::Tick, Event::Arrival] {
            world.after(SECOND, event);
        }
        world
    }

    /// A flood of SYNs besides, and places for the pending notes of about a second of it.
    pub(super) fn flooded(mut self) -> Self {
        self.notes = NoteStore::new(128, note_lifetime(T), SLOTS as u32);
        self.after(SECOND, Event::Flood);
        self
    }

    /// Runs for so long, or until so many packets were moved or refused.
    pub(super) fn run(mut self, seconds: u64, harm: u64) -> Tally {
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if time > seconds * SECOND || self.tally.moved + self.tally.refused >= harm {
                break;
            }
            self.now = time;
            match event {
                Event::Operator => self.operate(),
                Event::Flood => self.flood(),
                Event::Tick => self.tick(),
                Event::Arrival => self.arrive(),
                Event::Retransmission { tuple, flow } => self.retransmit(tuple, flow),
                Event::Packet { tuple, flow } => self.send(tuple, flow),
            }
        }
        self.tally.evicted = self.notes.evicted;
        self.tally
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.scheduled += 1;
        self.events
            .push(Reverse((self.now + delay, self.scheduled, event)));
    }

    /// The member that a packet goes to, and whether its flow has a note now.
    pub(super) fn steer(&mut self, tuple: u32, segment: Segment) -> (Id, bool) {
        let flow = Flow::new(tuple, SLOTS as u32);
        let slot = self.plane[flow.slot as usize];
        self.tally.phases[slot.phase() as usize] += 1;
        if slot.phase() == Phase::Settled {
            return (slot.current, false);
        }
        let flags = |id: Id| self.flags[usize::from(id)];
        let (place, known) = self.notes.find(&flow, self.now, flags);
        let known = match known {
            Known::Pending(_) if self.without == Some(Without::Pending) => Known::Stale,
            known => known,
        };
        let is_down = |id: Id| self.flags[usize::from(id)] & (TARGET_DOWN | TARGET_GONE) != 0;
        let mut decision: Decision = decide(slot, segment, known, Tracking::Transitions, is_down);
        let first = matches!(decision.record, Record::Write | Record::Overwrite);
        let left_out = match self.without {
            Some(Without::Adoption) => segment != Segment::Open,
            Some(Without::NewNotes) => segment == Segment::Open,
            _ => false,
        };
        if first && left_out {
            decision.record = Record::Keep;
        }
        self.tally.refused += u64::from(decision.member == NONE && slot.current != NONE);
        self.notes.record(&flow, place, decision, self.now);
        (decision.member, decision.record != Record::Keep)
    }
}

/// A small generator, so that a history is the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// How long after its SYN a connection sends its first packet: after a SYN's answer, or a second one's.
    pub(super) fn first_packet(&mut self, prompt: bool) -> u64 {
        if prompt {
            self.between(5 * MS, 200 * MS)
        } else {
            self.between(SECOND + MS, 2 * SECOND)
        }
    }

    pub(super) fn exponential(&mut self, mean: u64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (-(1.0 - uniform).ln() * mean as f64) as u64
    }
}
