//! What goes wrong in the simulated world, and how all is well again in the end.

use super::super::balancer::Balancer;
use super::super::{BACKENDS, MS, SECOND};
use super::{Backend, Event, World};
use crate::cluster::message::Observed;

impl World {
    pub(super) fn trouble_cluster(&mut self) {
        let node = self.random.below(self.kind.balancers as u64) as usize;
        let others: Vec<usize> = (0..self.kind.balancers).filter(|&other| other != node).collect();
        match self.random.below(10) {
            0..4 => {
                let survives = others.iter().any(|&other| self.may_serve(other));
                if survives && self.nodes[node].is_some() {
                    self.kill(node);
                }
            }
            choice => {
                let length = match self.random.below(3) {
                    0 => self.random.between(100 * MS, 2 * SECOND),
                    1 => self.random.between(SECOND, 15 * SECOND),
                    _ => self.random.between(10 * SECOND, 60 * SECOND),
                };
                // One of them alone, or just one link.
                let count = if choice < 8 { others.len() } else { 1 };
                for &other in &others[..count] {
                    self.link(node, other).is_cut = true;
                    self.tally.cuts += 1;
                    self.after(length, Event::Heal(node, other));
                }
            }
        }
    }

    pub(super) fn trouble_backends(&mut self) {
        let backend = self.random.below(BACKENDS as u64) as usize;
        let node = self.random.below(self.kind.balancers as u64) as usize;
        let now = self.now;
        match self.random.below(100) {
            0..25 => self.change(
                backend,
                if self.backends[backend].state == Observed::Up {
                    Observed::SoftDown
                } else {
                    Observed::Up
                },
            ),
            25..35 => self.change(backend, Observed::HardDown),
            35..55 => self.change(backend, Observed::Up),
            55..65 => {
                self.with(node, |balancer, now| balancer.drain(backend, now));
            }
            65..80 => {
                self.weights[backend] = [0, 20, 50, 100, 200][self.random.below(5) as usize];
                self.configure();
            }
            80..90 => {
                let seen = [Observed::SoftDown, Observed::HardDown][self.random.below(2) as usize];
                self.backends[backend].seen[node] = Some((seen, now));
                self.notice(node, backend);
            }
            _ => {
                self.backends[backend].seen = [None; 3];
                (0..self.kind.balancers).for_each(|node| self.notice(node, backend));
            }
        }
    }

    fn configure(&mut self) {
        let weights = self.weights;
        for node in 0..self.kind.balancers {
            let delay = self.random.below(SECOND);
            self.after(delay, Event::Configure { node, weights });
        }
    }

    fn change(&mut self, backend: usize, state: Observed) {
        let now = self.now;
        let held = &mut self.backends[backend];
        if held.state == state {
            return;
        }
        if state == Observed::HardDown {
            held.life += 1;
        }
        (held.state, held.since) = (state, now);
        (0..self.kind.balancers).for_each(|node| self.notice(node, backend));
    }

    fn notice(&mut self, node: usize, backend: usize) {
        let delay = self.random.between(50 * MS, SECOND);
        self.after(delay, Event::Check { node, backend });
    }

    /// A balancer's check of a backend has come to a judgement: silence is hard down after a while only.
    pub(super) fn check(&mut self, node: usize, backend: usize) {
        let Backend {
            state, since, seen, ..
        } = self.backends[backend];
        let (state, since) = match (state, seen[node]) {
            (Observed::HardDown, _) | (_, None) => (state, since),
            (_, Some(seen)) => seen,
        };
        let is_silent_for = self.now - since;
        let observed = match state {
            Observed::HardDown if is_silent_for < 5 * SECOND => {
                let delay = self
                    .random
                    .between(5 * SECOND, 6 * SECOND)
                    .saturating_sub(is_silent_for);
                self.after(delay, Event::Check { node, backend });
                Observed::SoftDown
            }
            state => state,
        };
        self.with(node, |balancer, now| balancer.observe(backend, observed, now));
    }

    /// From now on all is well.
    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        for link in self.links.values_mut() {
            link.is_cut = false;
        }
        for backend in 0..BACKENDS {
            self.backends[backend].seen = [None; 3];
            self.change(backend, Observed::Up);
            (0..self.kind.balancers).for_each(|node| self.notice(node, backend));
        }
        for node in 0..self.kind.balancers {
            self.after(0, Event::Rejoin(node));
        }
        self.configure();
    }

    pub(super) fn judge_agreement(&mut self) {
        let nodes = self.nodes.iter().flatten();
        let agree = |balancer: &Balancer| {
            balancer.is_ready()
                && balancer.agreement.standings().all(|(_, standing)| {
                    standing.is_complete && standing.has_equal_configuration && standing.differing.is_empty()
                })
        };
        self.tally.disagreeing += nodes.filter(|balancer| !agree(balancer)).count() as u64;
    }
}
