//! The clients of simulated balancers: connections, each of which knows whom it belongs to; and what is said of a
//! packet that comes to somebody else.

use foobar_common::steering::Segment;
use foobar_common::time::TICK_SHIFT;

use super::balancer::Balancer;
use super::world::{Event, Informed, World};
use super::{CLIENTS, GROUPS, MS, SECOND, SLOTS, T};
use crate::cluster::agreement::Readiness;
use crate::cluster::message::Observed;

/// A lost message is found missing, and what it said is asked for and told again, within this time.
const MENDED_NS: u64 = 2_500 * MS;

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    number: u64,
    owner: usize,
    life: u64,
    opened: u64,
    used: u64,
    /// Packets that it still sends, 0 after its FIN.
    left: u32,
    answered: bool,
    /// The balancer that its last packet came by.
    via: usize,
    /// A window was open for one of its packets, whether that was led right or not: what balancers know of the flow
    /// since then is not what the rules are about.
    stray: Option<Window>,
}

/// Why a packet may miss its flow's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    /// The note of the flow, or of the client's flow before, is on its way, or can go none.
    OnWay,
    /// The balancer has given the owner up alone.
    GivenUp,
    /// The balancer began empty and has met nobody who did not.
    Empty,
}

/// A note that a balancer has not heard yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untold {
    pub(super) sent: u64,
    /// A message was lost on this way before it could come: it may have been lost as well.
    pub(super) is_lost: bool,
}

/// By receiver and sender: the last note of a client's that has not been heard.
pub(super) type Unheard = [[Option<Untold>; 3]; 3];

/// What happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) flows: u64,
    pub(super) packets: u64,
    /// Packets that missed a living owner, and no window is open.
    pub(super) moved: u64,
    /// The like, while the flow's note was on its way, or could go none.
    pub(super) on_way: u64,
    /// The like, at a balancer that has given the owner up alone.
    pub(super) given_up: u64,
    /// The like, at a balancer that began empty and has met nobody.
    pub(super) empty: u64,
    /// Packets of flows for which a window was open once.
    pub(super) stray: u64,
    /// The like, after the flow's FIN.
    pub(super) after_end: u64,
    /// Packets that came by another balancer than the one before.
    pub(super) changed_ways: u64,
    pub(super) phases: [u64; 5],
    pub(super) kills: u64,
    pub(super) cuts: u64,
    /// Balancers that did not agree at the end.
    pub(super) disagreeing: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            flows,
            packets,
            moved,
            on_way,
            given_up,
            empty,
            stray,
            after_end,
            changed_ways,
            phases,
            kills,
            cuts,
            disagreeing,
        } = other;
        self.flows += flows;
        self.packets += packets;
        self.moved += moved;
        self.on_way += on_way;
        self.given_up += given_up;
        self.empty += empty;
        self.stray += stray;
        self.after_end += after_end;
        self.changed_ways += changed_ways;
        self.phases
            .iter_mut()
            .zip(phases)
            .for_each(|(sum, count)| *sum += count);
        self.kills += kills;
        self.cuts += cuts;
        self.disagreeing += disagreeing;
    }
}

impl World {
    /// Leads the groups of clients to balancers that may serve: all to one, or each to its own.
    pub(super) fn lead(&mut self) {
        let serving: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.may_serve(node))
            .collect();
        if serving.is_empty() {
            return;
        }
        let any = |world: &mut Self| Some(serving[world.random.below(serving.len() as u64) as usize]);
        let together = self.random.below(2) == 0;
        let one = any(self);
        for group in 0..GROUPS {
            self.routes[group] = if together { one } else { any(self) };
        }
    }

    fn way(&self, client: usize) -> Option<usize> {
        self.routes[client / SLOTS % GROUPS].filter(|&node| self.nodes[node].is_some())
    }

    pub(super) fn arrive(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        if self.flows[client].is_none() && self.now - self.ended[client] > SECOND {
            self.open(client);
        }
        let delay = self.random.exponential(SECOND / 12);
        self.after(delay, Event::Arrival);
    }

    /// Where a packet comes to; `flow` hears of what peers are told.
    fn steer(&mut self, client: usize, via: usize, segment: Segment) -> (Option<usize>, bool) {
        let phase = self.nodes[via]
            .as_ref()
            .map(|node| node.table.slot(client % SLOTS).phase());
        if let Some(phase) = phase {
            self.tally.phases[phase as usize] += 1;
        }
        let steered = self.with(via, |balancer, now| balancer.steer(client, segment, now));
        steered.unwrap_or((None, false))
    }

    /// Whether a note of the client's is on its way to a balancer, or can go none.
    fn is_on_way(&self, client: usize, to: usize) -> bool {
        // Nor does a balancer know that an older note that is told to it is overwritten, where it has told of that in vain.
        let told = self.unheard[client].iter().filter_map(|from| from[to]);
        if told
            .filter(|untold| untold.is_lost)
            .any(|untold| self.now - untold.sent < T * 3 / 2)
        {
            return true;
        }
        let unheard = self.unheard[client][to].iter().enumerate();
        let mut unheard = unheard.filter_map(|(from, untold)| untold.map(|untold| (from, untold)));
        unheard.any(|(from, Untold { sent, is_lost })| {
            let is_open = is_lost
                || self.is_impaired(to, from, sent)
                || self.boots[from] > sent
                || self.nodes[from].is_none()
                || !self.is_complete(to, from)
                || self.now - sent.max(self.met[to][from]) < MENDED_NS;
            is_open && self.now - sent < T * 3 / 2
        })
    }

    /// Whether a SYN that comes to a backend is answered.
    fn answers(&self, backend: usize, via: usize) -> bool {
        self.backends[backend].state == Observed::Up && self.backends[backend].seen[via].is_none()
    }

    fn open(&mut self, client: usize) {
        let Some(via) = self.way(client) else { return };
        let window = self.is_on_way(client, via).then_some(Window::OnWay);
        let (got, told) = self.steer(client, via, Segment::Open);
        let Some(owner) = got.filter(|&owner| self.answers(owner, via)) else {
            return;
        };
        self.tally.flows += 1;
        let number = self.tally.flows;
        // The answer to one SYN in ten is lost; or it is only late, where a note holds the next SYN to the same member.
        let prompt = self.random.below(10) > 0;
        let answered = prompt || told;
        let left = 1 + self.random.exponential(6) as u32;
        self.flows[client] = Some(Flow {
            number,
            owner,
            life: self.backends[owner].life,
            opened: self.now,
            used: self.now,
            left,
            answered,
            via,
            stray: window,
        });
        if !prompt {
            self.after(SECOND, Event::Retransmission { client, flow: number });
        }
        if answered {
            let delay = self.random.first_packet(prompt);
            self.after(delay, Event::Packet { client, flow: number });
        }
    }

    fn end(&mut self, client: usize) {
        self.flows[client] = None;
        self.ended[client] = self.now;
    }

    /// The flow, if it is this one and its owner lives.
    fn living(&mut self, client: usize, number: u64) -> Option<Flow> {
        let flow = self.flows[client].clone().filter(|flow| flow.number == number)?;
        if self.backends[flow.owner].life != flow.life || self.now - flow.used > T {
            self.end(client);
            return None;
        }
        Some(flow)
    }

    pub(super) fn retransmit(&mut self, client: usize, number: u64) {
        let Some(flow) = self.living(client, number) else {
            return;
        };
        let Some(via) = self.way(client) else {
            self.after(100 * MS, Event::Retransmission { client, flow: number });
            return;
        };
        let flow = self.with_window(client, flow, via);
        let (got, _) = self.steer(client, via, Segment::Open);
        if flow.answered {
            // The tuple's last flow may have left the note, and its member be down by now: a SYN may leave it.
            if got != Some(flow.owner) {
                if self.nodes[via]
                    .as_ref()
                    .is_some_and(|node| node.members[flow.owner].is_up())
                {
                    self.miss(&flow);
                }
                self.end(client);
            }
        } else {
            let Some(owner) = got.filter(|&owner| self.answers(owner, via)) else {
                self.end(client);
                return;
            };
            let (now, life) = (self.now, self.backends[owner].life);
            if let Some(flow) = &mut self.flows[client] {
                (flow.owner, flow.life, flow.used, flow.via) = (owner, life, now, via);
            }
            let delay = self.random.between(5 * MS, 200 * MS);
            self.after(delay, Event::Packet { client, flow: number });
        }
    }

    pub(super) fn send(&mut self, client: usize, number: u64) {
        let Some(flow) = self.living(client, number) else {
            return;
        };
        let Some(via) = self.way(client) else {
            self.after(100 * MS, Event::Packet { client, flow: number });
            return;
        };
        // The last packet acknowledges the server's FIN; some connections vanish without a word.
        let segment = if flow.left == 1 && !number.is_multiple_of(8) {
            Segment::End
        } else {
            Segment::Data
        };
        let flow = self.with_window(client, flow, via);
        self.tally.stray += u64::from(flow.stray.is_some());
        let (got, _) = self.steer(client, via, segment);
        self.tally.packets += 1;
        self.tally.changed_ways += u64::from(via != flow.via);
        if got != Some(flow.owner) {
            if flow.left == 0 {
                self.tally.after_end += 1;
            } else {
                self.miss(&flow);
            }
            self.end(client);
            return;
        }
        if flow.left == 0 {
            self.end(client);
            return;
        }
        let gap = match flow.left {
            1 => 50 * MS,
            _ if self.random.below(10) < 8 => self.random.exponential(2 * SECOND).min(T),
            _ => self.random.below(T),
        };
        let now = self.now;
        if let Some(flow) = &mut self.flows[client] {
            (flow.used, flow.left, flow.via) = (now, flow.left - 1, via);
        }
        self.after(gap.min(T * 19 / 20), Event::Packet { client, flow: number });
    }

    /// The flow, as windows are that are open for its next packet.
    fn with_window(&mut self, client: usize, mut flow: Flow, via: usize) -> Flow {
        if let Some(window) = self.window(client, &flow, via) {
            flow.stray = Some(window);
            if let Some(held) = &mut self.flows[client] {
                held.stray = flow.stray;
            }
        }
        flow
    }

    fn window(&self, client: usize, flow: &Flow, via: usize) -> Option<Window> {
        if self.is_on_way(client, via) {
            return Some(Window::OnWay);
        }
        let given_up = self.given_up[via][flow.owner];
        let is_alone = if via == flow.via {
            given_up > flow.opened
        } else {
            let met = if self.boots[flow.via] > flow.used || self.nodes[flow.via].is_none() {
                self.met_before[via][flow.via]
            } else {
                self.met[via][flow.via]
            };
            given_up > 0 && met < given_up
        };
        if is_alone {
            return Some(Window::GivenUp);
        }
        let is_ready = |balancer: &Balancer| balancer.agreement.readiness() == Readiness::Ready;
        let is_empty =
            self.informed[via] == Informed::Nothing && self.nodes[via].as_ref().is_some_and(is_ready);
        is_empty.then_some(Window::Empty)
    }

    /// A packet has missed its flow's owner, who lives: in a window, or not.
    fn miss(&mut self, flow: &Flow) {
        match flow.stray {
            Some(Window::OnWay) => self.tally.on_way += 1,
            Some(Window::GivenUp) => self.tally.given_up += 1,
            Some(Window::Empty) => self.tally.empty += 1,
            None => self.tally.moved += 1,
        }
    }

    // --- what balancers did ---

    /// A balancer has told of a client's note, or would have if anybody had listened.
    pub(super) fn told(&mut self, node: usize, client: usize, age: u32) {
        let sent = self.now - (u64::from(age) << TICK_SHIFT);
        for (to, unheard) in self.unheard[client].iter_mut().enumerate() {
            unheard[node] = (to != node).then_some(Untold { sent, is_lost: false });
        }
    }

    pub(super) fn heard(&mut self, node: usize, from: usize, client: usize, age_ms: u32) {
        let used = self.now - u64::from(age_ms) * MS;
        let untold = &mut self.unheard[client][node][from];
        if untold.is_some_and(|untold| used + 2 * MS >= untold.sent) {
            *untold = None;
        }
    }

    /// What is given up at a balancer was not served for a while by any that hears nothing of it either.
    pub(super) fn gave_up(&mut self, node: usize, backend: usize) {
        self.given_up[node][backend] = self.now;
        for client in 0..CLIENTS {
            let Some(flow) = self.flows[client].as_ref().filter(|flow| flow.owner == backend) else {
                continue;
            };
            let is_silent = match &self.nodes[flow.via] {
                _ if flow.via == node => true,
                Some(via) if self.boots[flow.via] <= flow.used => {
                    via.members[backend].observed == Observed::HardDown
                }
                _ => true,
            };
            if is_silent {
                self.end(client);
            }
        }
    }

    pub(super) fn followed(&mut self, node: usize, backend: usize) {
        let Some(balancer) = &self.nodes[node] else { return };
        if balancer.members[backend].observed == Observed::HardDown {
            self.gave_up(node, backend);
        }
    }
}
