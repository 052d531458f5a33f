//! The world around simulated balancers: backends that fail and come back, links that lose messages and are cut, and
//! what of it happens when. All of it follows from a seed.

mod links;
mod troubles;

use std::collections::BTreeMap;

use links::{end, pair};

use super::super::world::Random;
use super::balancer::{Balancer, Outcome};
use super::clients::{Flow, Tally, Unheard};
use super::{BACKENDS, CLIENTS, GROUPS, MS, SECOND, Without};
use crate::cluster::agreement::Node;
use crate::cluster::message::{Envelope, Observed};

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    Tick(usize),
    Arrival,
    Packet {
        client: usize,
        flow: u64,
    },
    Retransmission {
        client: usize,
        flow: u64,
    },
    Deliver {
        from: usize,
        to: usize,
        session: u64,
        envelope: Envelope,
    },
    Connect(usize, usize),
    Close {
        at: usize,
        from: usize,
        session: u64,
    },
    Heal(usize, usize),
    Check {
        node: usize,
        backend: usize,
    },
    Configure {
        node: usize,
        weights: [u16; BACKENDS],
    },
    Backend,
    Cluster,
    Route,
    Rejoin(usize),
}

/// What there is between two balancers.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) is_cut: bool,
    session: u64,
    /// Whether each end, the lower one first, has the session.
    ends: [bool; 2],
}

/// A backend, as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backend {
    pub(super) state: Observed,
    since: u64,
    /// Counts its deaths.
    pub(super) life: u64,
    /// What single balancers see of it instead, and since when.
    pub(super) seen: [Option<(Observed, u64)>; 3],
}

/// What kind of a history a seed makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) balancers: usize,
    /// Messages lost, of a thousand.
    loss: u64,
    /// Mean times between events.
    backends: u64,
    cluster: u64,
    routes: u64,
}

impl Kind {
    fn of(seed: u64) -> Self {
        let pick = |values: &[u64], divisor: u64| values[(seed / divisor) as usize % values.len()];
        Self {
            balancers: pick(&[2, 3], 1) as usize,
            loss: pick(&[0, 5, 50], 2),
            backends: pick(&[2, 6, 20, 60], 6) * SECOND,
            cluster: pick(&[8, 25, 1000], 24) * SECOND,
            routes: pick(&[2, 10], 72) * SECOND,
        }
    }
}

/// What a balancer knows of what was before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Informed {
    /// It began empty, and has met nobody who did not.
    Nothing,
    /// It met others that began empty first; of what it was told later it can't inform them.
    Late,
    /// All.
    First,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) kind: Kind,
    pub(super) without: Option<Without>,
    pub(super) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    pub(super) nodes: Vec<Option<Balancer>>,
    /// How far each one's clock is ahead.
    clocks: Vec<u64>,
    /// When each one began.
    pub(super) boots: [u64; 3],
    pub(super) links: BTreeMap<(usize, usize), Link>,
    pub(super) backends: [Backend; BACKENDS],
    weights: [u16; BACKENDS],
    /// Which balancer each group of clients is led to.
    pub(super) routes: [Option<usize>; GROUPS],
    pub(super) flows: Vec<Option<Flow>>,
    /// What balancers have not heard yet of each client's note.
    pub(super) unheard: Vec<Unheard>,
    /// When each client's last flow ended.
    pub(super) ended: Vec<u64>,
    /// When a balancer gave a backend up.
    pub(super) given_up: [[u64; BACKENDS]; 3],
    /// When a balancer's tables and notes were last here, by receiver and sender.
    pub(super) met: [[u64; 3]; 3],
    /// The same, before the sender last died.
    pub(super) met_before: [[u64; 3]; 3],
    /// Since when messages have been lost or late on a way, by receiver and sender.
    impaired: [[Option<u64>; 3]; 3],
    pub(super) informed: [Informed; 3],
    is_calm: bool,
    pub(super) tally: Tally,
}

pub(super) fn name(node: usize) -> Node {
    format!("lb{node}")
}

fn node_of(name: &str) -> usize {
    usize::from(name.as_bytes()[2] - b'0')
}

impl World {
    pub(super) fn new(seed: u64, without: Option<Without>) -> Self {
        let kind = Kind::of(seed);
        let mut random = Random::new(seed);
        let clocks = (0..kind.balancers).map(|_| random.below(100 * SECOND)).collect();
        let mut world = Self {
            random,
            kind,
            without,
            now: 100 * SECOND,
            events: BTreeMap::new(),
            scheduled: 0,
            nodes: Vec::new(),
            clocks,
            boots: [0; 3],
            links: BTreeMap::new(),
            backends: [Backend {
                state: Observed::Up,
                since: 0,
                life: 0,
                seen: [None; 3],
            }; BACKENDS],
            weights: [100; BACKENDS],
            routes: [None; GROUPS],
            flows: (0..CLIENTS).map(|_| None).collect(),
            unheard: vec![[[None; 3]; 3]; CLIENTS],
            ended: vec![0; CLIENTS],
            given_up: [[0; BACKENDS]; 3],
            met: [[0; 3]; 3],
            met_before: [[0; 3]; 3],
            impaired: [[None; 3]; 3],
            informed: [Informed::First; 3],
            is_calm: false,
            tally: Tally::default(),
        };
        for node in 0..kind.balancers {
            for other in node + 1..kind.balancers {
                world.links.insert((node, other), Link::default());
                world.after(50 * MS, Event::Connect(node, other));
            }
            world.nodes.push(None);
            world.boot(node);
            world.after(node as u64 * 37 * MS, Event::Tick(node));
        }
        for event in [Event::Arrival, Event::Route] {
            world.after(SECOND, event);
        }
        for event in [Event::Backend, Event::Cluster] {
            world.after(5 * SECOND, event);
        }
        world
    }

    /// Runs for `seconds`; the last of them are calm, and everybody is there.
    pub(super) fn run(mut self, seconds: u64, calm: u64, harm: u64) -> Tally {
        let end = self.now + seconds * SECOND;
        while let Some(((time, _), event)) = self.events.pop_first() {
            if time > end || self.tally.moved >= harm {
                break;
            }
            if !self.is_calm && time > end - calm * SECOND {
                self.calm_down();
            }
            self.now = time;
            self.happen(event);
        }
        self.judge_agreement();
        self.tally
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now + delay, self.scheduled), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(node) => {
                self.with(node, Balancer::tick);
                self.after(100 * MS, Event::Tick(node));
            }
            Event::Arrival => self.arrive(),
            Event::Packet { client, flow } => self.send(client, flow),
            Event::Retransmission { client, flow } => self.retransmit(client, flow),
            Event::Deliver {
                from,
                to,
                session,
                envelope,
            } => {
                let link = &self.links[&pair(from, to)];
                if !link.is_cut && link.session == session && link.ends[end(to, from)] {
                    let was_complete = self.is_complete(to, from);
                    self.with(to, |balancer, now| balancer.receive(&name(from), envelope, now));
                    if !was_complete && self.is_complete(to, from) {
                        self.meet(to, from);
                    }
                } else {
                    self.impaired[to][from].get_or_insert(self.now);
                }
            }
            Event::Connect(one, other) => self.connect(one, other),
            Event::Close { at, from, session } => {
                let link = &self.links[&pair(at, from)];
                if !link.is_cut && link.session == session {
                    self.close(at, from);
                }
            }
            Event::Heal(one, other) => self.link(one, other).is_cut = false,
            Event::Check { node, backend } => self.check(node, backend),
            Event::Configure { node, weights } => {
                self.with(node, |balancer, now| balancer.configure(&weights, now));
            }
            Event::Backend => {
                if !self.is_calm {
                    self.trouble_backends();
                }
                let delay = self.random.exponential(self.kind.backends);
                self.after(delay, Event::Backend);
            }
            Event::Cluster => {
                if !self.is_calm {
                    self.trouble_cluster();
                }
                let delay = self.random.exponential(self.kind.cluster);
                self.after(delay, Event::Cluster);
            }
            Event::Route => {
                self.lead();
                let delay = self.random.exponential(self.kind.routes);
                self.after(delay, Event::Route);
            }
            Event::Rejoin(node) => {
                if self.nodes[node].is_none() {
                    self.boot(node);
                }
            }
        }
    }

    /// Lets a balancer do something, if it is there, and what follows from it happen.
    pub(super) fn with<R>(&mut self, node: usize, what: impl FnOnce(&mut Balancer, u64) -> R) -> Option<R> {
        let clock = self.now + self.clocks[node];
        let balancer = self.nodes[node].as_mut()?;
        let result = what(balancer, clock);
        for outcome in std::mem::take(&mut balancer.outcomes) {
            match outcome {
                Outcome::Send(to, envelope) => self.carry(node, node_of(&to), envelope),
                Outcome::Cut(from) => self.close(node, node_of(&from)),
                Outcome::Heard(from, client, age_ms) => self.heard(node, node_of(&from), client, age_ms),
                Outcome::Told(client, age) => self.told(node, client, age),
                Outcome::GivenUp(backend) => self.gave_up(node, backend),
                Outcome::Followed(backend) => self.followed(node, backend),
            }
        }
        Some(result)
    }

    fn boot(&mut self, node: usize) {
        let peers = (0..self.kind.balancers)
            .filter(|&peer| peer != node)
            .map(name)
            .collect();
        let clock = self.now + self.clocks[node];
        self.boots[node] = self.now;
        self.given_up[node] = [0; BACKENDS];
        self.met[node] = [0; 3];
        self.nodes[node] = Some(Balancer::new(peers, &self.weights, self.without, clock));
        for backend in 0..BACKENDS {
            let delay = self.random.between(100 * MS, 1500 * MS);
            self.after(delay, Event::Check { node, backend });
        }
    }

    /// A balancer is gone with all that it had. Its peers hear of it at once, or by its silence.
    fn kill(&mut self, node: usize) {
        let peers: Vec<usize> = (0..self.kind.balancers).filter(|&peer| peer != node).collect();
        let way = self.random.below(3);
        if way == 0 {
            self.with(node, |balancer, _| {
                let farewell = balancer.agreement.farewell();
                balancer.post(farewell);
            });
        }
        self.nodes[node] = None;
        self.informed[node] = Informed::Nothing;
        for (before, met) in self.met_before.iter_mut().zip(&self.met) {
            before[node] = met[node];
        }
        // What nobody else has heard is lost with it.
        for unheard in &mut self.unheard {
            for from in 0..unheard.len() {
                let untold = unheard.iter().filter_map(|to| to[from]);
                unheard[node][from] = untold.max_by_key(|untold| untold.sent);
            }
        }
        self.tally.kills += 1;
        for peer in peers {
            let link = self.link(node, peer);
            link.ends[end(node, peer)] = false;
            let session = link.session;
            if way < 2 {
                self.after(
                    5 * MS,
                    Event::Close {
                        at: peer,
                        from: node,
                        session,
                    },
                );
            }
        }
        for route in &mut self.routes {
            if *route == Some(node) {
                *route = None;
            }
        }
        self.after(300 * MS, Event::Route);
        let delay = self.random.between(SECOND, 20 * SECOND);
        self.after(delay, Event::Rejoin(node));
    }

    pub(super) fn may_serve(&self, node: usize) -> bool {
        self.nodes[node].as_ref().is_some_and(Balancer::is_ready)
    }
}
