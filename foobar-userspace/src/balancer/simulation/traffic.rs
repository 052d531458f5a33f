//! The simulated clients: connections and UDP flows, each of which knows whom it belongs to.

use foobar_common::slot::{Member as Id, NONE};
use foobar_common::steering::Segment;
use foobar_common::target::TARGET_DOWN;

use super::notes::Flow;
use super::world::{Connection, Event, MS, Owner, Protocol, SECOND, SLOTS, T, TUPLES, World};

/// SYNs of a flood in half a second.
const FLOOD: u32 = 400;

impl World {
    fn life(&self, id: Id) -> Owner {
        (id, self.lives[usize::from(id)].0)
    }

    fn has_lost(&self, tuple: u32) -> bool {
        self.notes.has_lost(&Flow::new(tuple, SLOTS as u32))
    }

    /// SYNs from everywhere, of which nothing follows.
    pub(super) fn flood(&mut self) {
        for _ in 0..FLOOD {
            let tuple = TUPLES + self.random.below(1 << 20);
            self.steer(tuple as u32, Segment::Open);
        }
        self.after(SECOND / 2, Event::Flood);
    }

    pub(super) fn arrive(&mut self) {
        let tuple = self.random.below(TUPLES) as u32;
        if !self.flows.contains_key(&tuple) {
            self.connect(tuple);
        }
        let delay = self.random.exponential(SECOND / 60);
        self.after(delay, Event::Arrival);
    }

    fn connect(&mut self, tuple: u32) {
        let segment = if self.protocol == Protocol::Tcp {
            Segment::Open
        } else {
            Segment::Datagram
        };
        let (id, noted) = self.steer(tuple, segment);
        if id == NONE || !self.lives[usize::from(id)].1 {
            return;
        }
        self.tally.flows += 1;
        let number = self.tally.flows;
        let left = 1 + self.random.exponential(10) as u32;
        // The answer to one SYN in ten is lost; or it is only late, where a note holds the next SYN to the same
        // member.
        let prompt = self.protocol == Protocol::Udp || self.random.below(10) > 0;
        let answered = prompt || noted;
        let (owner, used) = (self.life(id), self.now);
        self.flows.insert(
            tuple,
            Connection {
                number,
                owner,
                used,
                left,
                answered,
            },
        );
        if !prompt {
            self.after(SECOND, Event::Retransmission { tuple, flow: number });
        }
        if answered {
            let delay = self.random.first_packet(prompt);
            self.after(delay, Event::Packet { tuple, flow: number });
        }
    }

    /// A SYN again, before its flow sends anything else.
    pub(super) fn retransmit(&mut self, tuple: u32, number: u64) {
        let Some(flow) = self.flows.get(&tuple).filter(|flow| flow.number == number) else {
            return;
        };
        let (owner, answered) = (flow.owner, flow.answered);
        let without_note = self.has_lost(tuple);
        let (id, _) = self.steer(tuple, Segment::Open);
        self.tally.retransmissions += 1;
        let got = self.life(id);
        if answered {
            // The tuple's last flow may have left the note, and its member be down by now: a SYN may leave it.
            if got != owner {
                let down = self.flags[usize::from(owner.0)] & TARGET_DOWN != 0;
                if without_note {
                    self.tally.moved_without_note += 1;
                } else {
                    self.tally.moved += u64::from(!down);
                }
                self.flows.remove(&tuple);
            }
            return;
        }
        if id == NONE || !self.lives[usize::from(id)].1 {
            self.flows.remove(&tuple);
            return;
        }
        let now = self.now;
        if let Some(flow) = self.flows.get_mut(&tuple) {
            (flow.owner, flow.used) = (got, now);
        }
        let delay = self.random.between(5 * MS, 200 * MS);
        self.after(delay, Event::Packet { tuple, flow: number });
    }

    pub(super) fn send(&mut self, tuple: u32, number: u64) {
        let Some(flow) = self.flows.get(&tuple).filter(|flow| flow.number == number) else {
            return;
        };
        let (owner, left) = (flow.owner, flow.left);
        let segment = match self.protocol {
            Protocol::Udp => Segment::Datagram,
            // The last packet acknowledges the server's FIN; some connections vanish without a word.
            Protocol::Tcp if left == 1 && !number.is_multiple_of(8) => Segment::End,
            Protocol::Tcp => Segment::Data,
        };
        let without_note = self.has_lost(tuple);
        let (id, _) = self.steer(tuple, segment);
        self.tally.packets += 1;
        let got = self.life(id);
        if got != owner {
            let down = self.flags[usize::from(owner.0)] & TARGET_DOWN != 0;
            let counts = u64::from(self.protocol == Protocol::Tcp || !down);
            match (self.protocol, left) {
                _ if without_note => self.tally.moved_without_note += counts,
                (Protocol::Tcp, 0) => self.tally.moved_after_end += counts,
                _ => self.tally.moved += counts,
            }
            self.flows.remove(&tuple);
            return;
        }
        if left == 0 {
            self.flows.remove(&tuple);
            return;
        }
        let half = self.random.below(2) == 0;
        let gap = match left {
            1 if half => 50 * MS,
            _ if self.random.below(10) < 8 => self.random.exponential(2 * SECOND).min(T),
            _ => self.random.below(T + 1),
        };
        let now = self.now;
        if let Some(flow) = self.flows.get_mut(&tuple) {
            (flow.used, flow.left) = (now, left - 1);
        }
        self.after(gap, Event::Packet { tuple, flow: number });
    }
}
