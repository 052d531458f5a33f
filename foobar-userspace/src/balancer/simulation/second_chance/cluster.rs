//! Two balancers without a link, one VIP, hosts with agents, and clients that notice when they are not known.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use foobar_common::slot::{Member as Id, NONE};

use super::super::super::plan::{self, Health};
use super::super::super::slots::{History, SlotTable};
use super::super::super::table::{Member, TableKind};
use super::super::notes::Flow;
use super::super::world::{MS, Random, SECOND, SLOTS, T, TUPLES};

/// What happens to the hosts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Work {
    /// All of it, to three hosts: no slot has more living owners.
    Anything,
    /// What an operator does, to six hosts; connections end within T/2, and the VIP stays where it is.
    Discretion,
}

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Without {
    /// Packets carry `current` alone.
    Candidates,
    /// Packets don't carry `older`.
    Older,
    /// A fourth owner doesn't wait.
    Waiting,
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) flows: u64,
    pub(super) packets: u64,
    /// Packets that no candidate knew though their owner lives.
    pub(super) broken: u64,
    /// The like, where a half-open connection on the same tuple took the packet.
    pub(super) claimed: u64,
    /// Packets that the second or the third candidate knew.
    pub(super) second: u64,
    pub(super) third: u64,
    /// Packets that were lost at a candidate that is down, before it has left.
    pub(super) stalled: u64,
    /// Slots in which a fourth owner replaced one.
    pub(super) displaced: u64,
    pub(super) slot_changes: u64,
    /// Hosts that were lost.
    pub(super) lost: u64,
    /// Moves of the VIP.
    pub(super) moves: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.flows += other.flows;
        self.packets += other.packets;
        self.broken += other.broken;
        self.claimed += other.claimed;
        self.second += other.second;
        self.third += other.third;
        self.stalled += other.stalled;
        self.displaced += other.displaced;
        self.slot_changes += other.slot_changes;
        self.lost += other.lost;
        self.moves += other.moves;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Operator,
    Move,
    /// A balancer sees the change of this number.
    Seen(usize),
    Tick(usize),
    Arrival,
    Packet(u32, u64),
}

struct Balancer {
    table: SlotTable,
    /// Changes that it has seen.
    seen: usize,
    /// When it sees the latest one.
    sees_until: u64,
}

struct Connection {
    number: u64,
    owner: Id,
    left: u64,
}

pub(super) struct Cluster {
    random: Random,
    work: Work,
    pace: u64,
    without: Option<Without>,
    now: u64,
    scheduled: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    balancers: [Balancer; 2],
    owner: usize,
    hosts: Vec<(Member, Health)>,
    /// Earlier lives of hosts.
    dead: Vec<(Member, Health)>,
    /// The hosts after each change.
    changes: Vec<Vec<(Member, Health)>>,
    next_id: Id,
    flows: HashMap<u32, Connection>,
    /// Connections whose client is gone without a word.
    half_open: HashSet<(Id, u32)>,
    tally: Tally,
}

impl Cluster {
    pub(super) fn new(seed: u64, work: Work, pace: u64, without: Option<Without>) -> Self {
        let count = if work == Work::Anything { 3 } else { 6 };
        let host = |id: Id| {
            let name = [id as u8; 16];
            let weight = 100;
            (Member { name, weight, id }, Health::Up)
        };
        let balancer = || Balancer {
            table: SlotTable::new(History::Kept, SLOTS),
            seen: 0,
            sees_until: 0,
        };
        let hosts: Vec<_> = (1..=count).map(host).collect();
        let mut cluster = Self {
            random: Random::new(seed << 8 | pace >> 30),
            work,
            pace,
            without,
            now: SECOND,
            scheduled: 0,
            events: BinaryHeap::new(),
            balancers: [balancer(), balancer()],
            owner: 0,
            changes: vec![hosts.clone()],
            hosts,
            dead: Vec::new(),
            next_id: count + 1,
            flows: HashMap::new(),
            half_open: HashSet::new(),
            tally: Tally::default(),
        };
        cluster.see(0);
        cluster.see(1);
        for event in [Event::Operator, Event::Tick(0), Event::Arrival] {
            cluster.after(SECOND, event);
        }
        cluster.after(SECOND + 70 * MS, Event::Tick(1));
        cluster
    }

    /// Runs for so long, or until so many connections were broken.
    pub(super) fn run(mut self, seconds: u64, harm: u64) -> Tally {
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if time > seconds * SECOND || self.tally.broken >= harm {
                break;
            }
            self.now = time;
            match event {
                Event::Operator => self.operate(),
                Event::Move => self.move_vip(),
                Event::Seen(balancer) => self.see(balancer),
                Event::Tick(balancer) => self.tick(balancer),
                Event::Arrival => self.arrive(),
                Event::Packet(tuple, number) => self.send(tuple, number),
            }
        }
        self.tally
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.scheduled += 1;
        self.events
            .push(Reverse((self.now + delay, self.scheduled, event)));
    }

    /// A balancer sees the next change, and plans anew.
    fn see(&mut self, balancer: usize) {
        let Balancer { table, seen, .. } = &mut self.balancers[balancer];
        let plan = plan::desired(TableKind::Maglev, 7, SLOTS, &self.changes[*seen]);
        *seen += 1;
        for &id in &plan.leaving {
            table.leave(id, &plan.desired, self.now);
        }
        let everybody: Vec<Id> = (1..self.next_id).collect();
        let failing = if self.without == Some(Without::Waiting) {
            &everybody
        } else {
            &plan.failing
        };
        self.tally.slot_changes += table.retarget(&plan.desired, failing, self.now) as u64;
    }

    fn tick(&mut self, balancer: usize) {
        let table = &mut self.balancers[balancer].table;
        table.advance(self.now, T);
        self.tally.displaced += table.take_displaced() as u64;
        self.after(200 * MS, Event::Tick(balancer));
    }

    fn operate(&mut self) {
        let i = self.random.below(self.hosts.len() as u64) as usize;
        let dice = self.random.below(100);
        let anything = self.work == Work::Anything;
        let host = &mut self.hosts[i];
        match host.1 {
            Health::Up if anything && dice < 30 => host.1 = Health::SoftDown,
            Health::Up | Health::SoftDown if anything && dice < 45 => self.lose(i),
            Health::Up if dice < 70 => host.1 = Health::Draining,
            Health::Up => host.0.weight = [20, 50, 100, 200][dice as usize % 4],
            Health::HardDown => {
                // Back with another index; the old one leaves as soon as anybody can take its place.
                self.dead.push((Member { weight: 0, ..host.0 }, Health::HardDown));
                host.0.id = self.next_id;
                self.next_id += 1;
                host.1 = Health::Up;
            }
            Health::SoftDown | Health::Draining | Health::Unknown => host.1 = Health::Up,
        }
        self.changes.push([&self.hosts[..], &self.dead].concat());
        for balancer in 0..2 {
            let at = self.now + self.random.below(SECOND / 4);
            let at = at.max(self.balancers[balancer].sees_until);
            self.balancers[balancer].sees_until = at;
            self.after(at - self.now, Event::Seen(balancer));
        }
        if self.work == Work::Anything && self.random.below(2) == 0 {
            let delay = self.random.below(SECOND);
            self.after(delay, Event::Move);
        }
        let delay = self.random.exponential(self.pace);
        self.after(delay, Event::Operator);
    }

    /// A host is lost, and every connection that it had.
    fn lose(&mut self, i: usize) {
        self.hosts[i].1 = Health::HardDown;
        let id = self.hosts[i].0.id;
        self.flows.retain(|_, flow| flow.owner != id);
        self.half_open.retain(|(owner, _)| *owner != id);
        self.tally.lost += 1;
    }

    /// The VIP goes to the other balancer, once that has seen the same changes.
    fn move_vip(&mut self) {
        if self.balancers[0].seen != self.balancers[1].seen {
            return self.after(10 * MS, Event::Move);
        }
        self.owner = 1 - self.owner;
        self.tally.moves += 1;
    }

    /// A packet's candidates, in their order.
    fn candidates(&self, tuple: u32) -> [Id; 3] {
        let place = Flow::new(tuple, SLOTS as u32).slot as usize;
        let slot = self.balancers[self.owner].table.slot(place);
        match self.without {
            Some(Without::Candidates) => [slot.current, NONE, NONE],
            Some(Without::Older) => [slot.current, slot.previous, NONE],
            _ => [slot.current, slot.previous, slot.older],
        }
    }

    fn arrive(&mut self) {
        let tuple = self.random.below(TUPLES) as u32;
        let [owner, ..] = self.candidates(tuple);
        let lives = |(host, health): &(Member, Health)| host.id == owner && *health != Health::HardDown;
        if !self.flows.contains_key(&tuple) && self.hosts.iter().any(lives) {
            self.tally.flows += 1;
            let number = self.tally.flows;
            let left = 1 + match self.work {
                Work::Anything => self.random.exponential(10),
                Work::Discretion => self.random.below(5),
            };
            // The SYN meets what is left of an old connection, and ends it.
            self.half_open.remove(&(owner, tuple));
            self.flows.insert(tuple, Connection { number, owner, left });
            let delay = self.random.between(5 * MS, 200 * MS);
            self.after(delay, Event::Packet(tuple, number));
        }
        let delay = self.random.exponential(SECOND / 60);
        self.after(delay, Event::Arrival);
    }

    fn send(&mut self, tuple: u32, number: u64) {
        let candidates = self.candidates(tuple);
        let Some(flow) = self.flows.get_mut(&tuple).filter(|flow| flow.number == number) else {
            return;
        };
        self.tally.packets += 1;
        let owner = flow.owner;
        let before = candidates.iter().take_while(|id| **id != owner);
        let lives = |id: Id| {
            let of_it = |(host, health): &(Member, Health)| host.id == id && *health != Health::HardDown;
            self.hosts.iter().any(of_it)
        };
        let is_dead = |id: &Id| *id != NONE && !lives(*id);
        if candidates.contains(&owner) && before.clone().any(is_dead) {
            self.tally.stalled += 1;
            return self.after(SECOND, Event::Packet(tuple, number));
        }
        let knows = |id: &Id| *id == owner || self.half_open.contains(&(*id, tuple));
        match candidates.iter().position(knows) {
            Some(place) if candidates[place] == owner => {
                self.tally.second += u64::from(place == 1);
                self.tally.third += u64::from(place == 2);
            }
            taken => {
                self.tally.claimed += u64::from(taken.is_some());
                self.tally.broken += u64::from(taken.is_none());
                self.flows.remove(&tuple);
                return;
            }
        }
        if flow.left == 0 {
            // Some vanish without a word.
            if number.is_multiple_of(64) {
                self.half_open.insert((owner, tuple));
            }
            self.flows.remove(&tuple);
            return;
        }
        flow.left -= 1;
        let gap = match self.work {
            Work::Anything if self.random.below(10) == 0 => self.random.below(2 * T),
            Work::Anything => self.random.exponential(2 * SECOND),
            Work::Discretion => self.random.below(2 * SECOND),
        };
        self.after(gap, Event::Packet(tuple, number));
    }
}
