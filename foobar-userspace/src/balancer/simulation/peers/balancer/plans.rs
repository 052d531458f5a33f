//! How a simulated balancer comes to plans: of what it and its peers see of backends, of drains and of weights.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use foobar_common::slot::{Member as Id, NONE};

use super::super::super::super::plan::{self, Health, Plan, Serving};
use super::super::super::super::table::{Member as Planned, SLOTS as TABLE_SLOTS, TableKind};
use super::super::{SLOTS, Without};
use super::{Balancer, Drain, Member, Observed, Outcome, RECOVERY_NS, View, address, configuration, service};

/// Plans by the members' weights and health.
type Plans = HashMap<Vec<(u16, Health)>, Rc<Plan>>;

thread_local! {
    /// Tables are a function of weights and health: most are asked for many times.
    static PLANS: RefCell<Plans> = RefCell::default();
}

/// The plan for members of these weights and this health, who are numbered from 1.
fn plan(members: &[(u16, Health)]) -> Rc<Plan> {
    PLANS.with_borrow_mut(|plans| {
        let made = || {
            let members: Vec<(Planned, Health)> = (1..)
                .zip(members)
                .map(|(id, &(weight, health))| {
                    let name = [id as u8; 16];
                    (Planned { name, weight, id }, health)
                })
                .collect();
            let mut plan = plan::desired(TableKind::Maglev, 7, *TABLE_SLOTS.start(), &members);
            plan.desired.truncate(SLOTS);
            Rc::new(plan)
        };
        Rc::clone(plans.entry(members.to_vec()).or_insert_with(made))
    })
}

impl Balancer {
    /// This balancer's checks see a backend so.
    pub(in super::super) fn observe(&mut self, backend: usize, observed: Observed, now_ns: u64) {
        let member = &mut self.members[backend];
        if member.observed != observed {
            member.observed = observed;
            member.left &= observed == Observed::HardDown;
            self.replan(now_ns);
            self.converse(now_ns);
        }
    }

    /// An operator drains a backend here, or ends that.
    pub(in super::super) fn drain(&mut self, backend: usize, now_ns: u64) {
        let drain = &mut self.members[backend].drain;
        *drain = Drain {
            count: drain.count + 1,
            drained: !drain.drained,
        };
        self.replan(now_ns);
        self.converse(now_ns);
    }

    /// Weights as the configuration has them from now on.
    pub(in super::super) fn configure(&mut self, weights: &[u16], now_ns: u64) {
        if self.agreement.set_configuration(configuration(weights), now_ns) {
            let pulse = self.agreement.pulse();
            self.post(pulse);
            self.has_held_back = true;
        }
        for (member, &weight) in self.members.iter_mut().zip(weights) {
            member.weight = weight;
        }
        self.replan(now_ns);
        self.converse(now_ns);
    }

    pub(super) fn holds_back(&self, now_ns: u64) -> bool {
        !self.is_without(Without::HoldingBack) && self.agreement.holds_back(now_ns)
    }

    pub(super) fn judge(&mut self, now_ns: u64) {
        let seen = self.members.iter().enumerate();
        let own: View = seen
            .map(|(backend, member)| (address(backend), member.observed))
            .collect();
        let judged = self.agreement.judge(service(), &own, now_ns);
        for (backend, member) in self.members.iter_mut().enumerate() {
            if self.without != Some(Without::CommonJudgement) {
                member.common = judged.get(&address(backend)).map(|judgement| judgement.state);
            }
            self.targets[usize::from(member.id)].2 =
                matches!(member.state(), Observed::SoftDown | Observed::HardDown);
        }
    }

    /// The plan, by ids.
    pub(super) fn plan(&self) -> Plan {
        let members: Vec<(u16, Health)> = self.members.iter().map(Member::planned).collect();
        let plan = plan(&members);
        let id = |place: &u16| match place {
            0 => NONE,
            place => self.members[usize::from(*place) - 1].id,
        };
        Plan {
            desired: plan.desired.iter().map(id).collect(),
            serving: plan.serving,
            failing: plan.failing.iter().map(id).collect(),
            leaving: plan.leaving.iter().map(id).collect(),
        }
    }

    pub(super) fn replan(&mut self, now_ns: u64) {
        self.judge(now_ns);
        if self.holds_back(now_ns) && self.serving != Serving::Nobody {
            return;
        }
        for member in &mut self.members {
            member.left &= member.state() == Observed::HardDown;
        }
        let mut plan = self.plan();
        let members = &self.members;
        plan.leaving
            .retain(|&id| members.iter().all(|member| member.id != id || !member.left));
        if plan.serving != Serving::Healthy {
            self.members.iter_mut().for_each(|member| member.left = false);
        }
        if plan.serving == Serving::Healthy && self.serving == Serving::NoneUp {
            self.recovered_ns = now_ns;
        }
        self.serving = plan.serving;
        if self.recovered_ns != 0 && now_ns < self.recovered_ns + RECOVERY_NS {
            plan.leaving.clear();
        }
        for &id in &plan.leaving {
            self.table.leave(id, &plan.desired, now_ns);
        }
        self.table.retarget(&plan.desired, &plan.failing, now_ns);
        for id in plan.leaving {
            let backend = self.targets[usize::from(id)].0;
            let next = self.members[backend].incarnation + 1;
            self.begin_life(backend, next);
            self.outcomes.push(Outcome::GivenUp(backend));
        }
    }

    /// A member begins the life of this name, under another index.
    pub(super) fn begin_life(&mut self, backend: usize, incarnation: u64) -> Id {
        let fresh = self.targets.len() as Id;
        self.targets.push((backend, false, false));
        let member = &mut self.members[backend];
        let old = std::mem::replace(&mut member.id, fresh);
        (member.incarnation, member.born) = (incarnation, incarnation);
        member.founding = false;
        member.left = member.state() == Observed::HardDown;
        self.targets[usize::from(old)].1 = true;
        self.targets[usize::from(fresh)].2 =
            matches!(member.state(), Observed::SoftDown | Observed::HardDown);
        old
    }

    /// A member that a peer has given up is given up here too, if nothing is heard of it here either. Whoever hears it
    /// takes the name of its new life for the one that it leads here.
    pub(super) fn give_up_with_peers(&mut self, now_ns: u64) {
        self.judge(now_ns);
        for backend in 0..self.members.len() {
            let theirs = self.agreement.incarnation(service(), address(backend));
            let member = &mut self.members[backend];
            if theirs <= member.incarnation {
                continue;
            }
            if matches!(member.observed, Observed::Up | Observed::SoftDown) {
                member.incarnation = theirs;
            } else {
                let old = self.begin_life(backend, theirs);
                let heirs = self.plan().desired;
                self.table.leave(old, &heirs, now_ns);
                self.outcomes.push(Outcome::Followed(backend));
            }
        }
    }
}
