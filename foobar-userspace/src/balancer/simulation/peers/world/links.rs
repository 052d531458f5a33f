//! The ways between simulated balancers: sessions, and messages that are lost, late, twice and out of order.

use super::super::MS;
use super::{Event, Informed, Link, World, name};
use crate::cluster::message::Envelope;

impl World {
    pub(super) fn link(&mut self, one: usize, other: usize) -> &mut Link {
        self.links
            .get_mut(&pair(one, other))
            .expect("a pair of balancers")
    }

    pub(super) fn carry(&mut self, from: usize, to: usize, envelope: Envelope) {
        let loss = if self.is_calm { 0 } else { self.kind.loss };
        let link = self.link(from, to);
        let session = link.session;
        if link.is_cut || !link.ends[end(from, to)] {
            self.impaired[to][from].get_or_insert(self.now);
            return;
        }
        if self.random.below(1000) < loss {
            self.impaired[to][from].get_or_insert(self.now);
            return;
        }
        let copies = 1 + u64::from(self.random.below(1000) < loss);
        for _ in 0..copies {
            let late = self.random.below(1000) < 2 * loss;
            let delay = if late {
                self.impaired[to][from].get_or_insert(self.now);
                self.random.between(MS, 400 * MS)
            } else {
                self.random.between(MS / 2, 3 * MS)
            };
            self.after(
                delay,
                Event::Deliver {
                    from,
                    to,
                    session,
                    envelope: envelope.clone(),
                },
            );
        }
    }

    pub(super) fn connect(&mut self, one: usize, other: usize) {
        let both = self.nodes[one].is_some() && self.nodes[other].is_some();
        let link = self.link(one, other);
        if both && !link.is_cut && link.ends == [false; 2] {
            link.session += 1;
            link.ends = [true; 2];
            self.with(one, |balancer, now| balancer.connected(&name(other), now));
            self.with(other, |balancer, now| balancer.connected(&name(one), now));
        }
        let delay = self.random.between(100 * MS, 400 * MS);
        self.after(delay, Event::Connect(one, other));
    }

    /// The session is over at one end; the other one hears of it if it can.
    pub(super) fn close(&mut self, at: usize, from: usize) {
        let link = self.link(at, from);
        if !std::mem::replace(&mut link.ends[end(at, from)], false) {
            return;
        }
        let session = link.session;
        self.with(at, |balancer, now| balancer.lost(&name(from), now));
        self.after(
            2 * MS,
            Event::Close {
                at: from,
                from: at,
                session,
            },
        );
    }

    /// A balancer has all that another one has told.
    pub(super) fn meet(&mut self, to: usize, from: usize) {
        let is_first = self.met[to].iter().all(|&met| met == 0);
        self.met[to][from] = self.now;
        self.informed[to] = match (self.informed[to], self.informed[from]) {
            (Informed::Nothing, Informed::First) if is_first => Informed::First,
            (Informed::Nothing, Informed::First) => Informed::Late,
            (known, _) => known,
        };
        if let Some(since) = self.impaired[to][from].take() {
            for unheard in &mut self.unheard {
                if let Some(untold) = &mut unheard[to][from] {
                    untold.is_lost |= untold.sent + 3 * MS >= since;
                }
            }
        }
    }

    /// Whether there is a session in which `at` has all that `from` has.
    pub(in super::super) fn is_complete(&self, at: usize, from: usize) -> bool {
        let Some(balancer) = &self.nodes[at] else {
            return false;
        };
        let from = name(from);
        balancer
            .agreement
            .standings()
            .any(|(node, standing)| *node == from && standing.is_complete)
    }

    /// Whether something that was sent then may have been lost, and the receiver does not have all yet.
    pub(in super::super) fn is_impaired(&self, to: usize, from: usize, sent: u64) -> bool {
        self.impaired[to][from].is_some_and(|since| sent + 3 * MS >= since)
    }
}

pub(super) const fn pair(one: usize, other: usize) -> (usize, usize) {
    if one < other { (one, other) } else { (other, one) }
}

/// Which end of their link a balancer has.
pub(super) const fn end(node: usize, other: usize) -> usize {
    (node > other) as usize
}
