//! The simulated daemon: it decides as the real one does, and writes just the slots that changed.

use foobar_common::slot::{ColdSlot, Member as Id, NONE, Phase, Slot};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};

use super::super::plan::{self, Health};
use super::super::slots::{History, SlotTable};
use super::super::table::{Member, TableKind};
use super::world::{Event, SECOND, SLOTS, T, Without, World};

impl World {
    /// Backend `i` becomes a member, under an id of its own.
    pub(super) fn join(&mut self, i: usize) {
        let Some(id) = self.pool.allocate() else { return };
        self.lives[usize::from(id)].0 += 1;
        self.lives[usize::from(id)].1 = true;
        self.tally.reused_ids += u64::from(self.lives[usize::from(id)].0 > 1);
        self.flags[usize::from(id)] = 0;
        let backend = &mut self.backends[i];
        backend.member.id = id;
        backend.configured = true;
        backend.health = Health::Up;
    }

    fn part(&mut self, i: usize) {
        self.pool.release(self.backends[i].member.id);
        if self.without == Some(Without::Names) {
            self.pool.reclaim(|_| false);
        }
    }

    /// The table that weights and health ask for is put in force.
    pub(super) fn replan(&mut self) {
        let members: Vec<(Member, Health)> = self
            .backends
            .iter()
            .filter(|b| b.configured)
            .map(|b| (b.member, b.health))
            .collect();
        let plan = plan::desired(TableKind::Maglev, 7, SLOTS, &members);
        for id in plan.leaving {
            self.flags[usize::from(id)] |= TARGET_GONE;
            self.table.leave(id, &plan.desired, self.now);
        }
        if self.without == Some(Without::UnnotedOwner) {
            self.forget_unnoted_owners(&plan.desired);
        }
        self.tally.slot_changes += self.table.retarget(&plan.desired, &plan.failing, self.now) as u64;
        self.write();
    }

    fn forget_unnoted_owners(&mut self, desired: &[Id]) {
        let held = self.table.slots().iter().zip(desired).map(|(held, &desired)| {
            let moves = held.slot.phase() == Phase::Moving && held.slot.current != desired;
            let previous = if moves {
                held.slot.current
            } else {
                held.slot.previous
            };
            let older = if moves { NONE } else { held.slot.older };
            ColdSlot {
                slot: Slot {
                    previous,
                    older,
                    ..held.slot
                },
                ..*held
            }
        });
        let held: Vec<ColdSlot> = held.collect();
        self.table = SlotTable::adopt(History::Noted, held);
    }

    /// Writes the slots that the table says have changed.
    fn write(&mut self) {
        for i in self.table.take_changed() {
            let slot = self.table.slot(i as usize);
            let history = self.without != Some(Without::History);
            self.plane[i as usize] = if history {
                slot
            } else {
                Slot::settled(slot.current)
            };
        }
    }

    pub(super) fn tick(&mut self) {
        let idle = if self.without == Some(Without::IdleTime) {
            T / 10
        } else {
            T
        };
        self.table.advance(self.now, idle);
        let ready = self.table.may_settle(self.now);
        let gone = |id| self.flags[usize::from(id)] & TARGET_GONE != 0;
        let live = self.notes.sweep(self.now, gone);
        for i in ready {
            let current = self.table.slot(i as usize).current;
            let foreign = live
                .range((i, 0)..=(i, Id::MAX))
                .any(|(_, member)| *member != current);
            if !foreign || self.without == Some(Without::Sweep) {
                self.table.settle(i as usize, self.now);
            }
        }
        let (slots, notes) = (self.table.usage(), self.notes.named());
        self.pool
            .reclaim(|id| slots.contains_key(&id) || notes.contains(&id));
        self.write();
        self.after(SECOND / 2, Event::Tick);
    }

    /// Something happens to a backend: by the operator, or as its health checks see it.
    pub(super) fn operate(&mut self) {
        let i = self.random.below(self.backends.len() as u64) as usize;
        let dice = self.random.below(100);
        let (id, health) = (self.backends[i].member.id, self.backends[i].health);
        let up = |world: &mut Self| {
            world.backends[i].health = Health::Up;
            world.flags[usize::from(id)] = 0;
            world.lives[usize::from(id)].1 = true;
        };
        match health {
            _ if !self.backends[i].configured => self.join(i),
            Health::Up if dice < 30 => self.set_down(i, Health::SoftDown),
            Health::Up if dice < 40 => self.lose(i),
            Health::Up if dice < 55 => self.backends[i].health = Health::Draining,
            Health::Up if dice < 75 => {
                self.backends[i].member.weight = [0, 20, 50, 100, 200][dice as usize % 5]
            }
            Health::SoftDown if dice < 30 => self.lose(i),
            Health::Up | Health::Draining | Health::SoftDown if dice < 90 && health != Health::SoftDown => {
                self.backends[i].configured = false;
                self.part(i);
            }
            Health::HardDown if self.flags[usize::from(id)] & TARGET_GONE != 0 => {
                self.part(i);
                self.backends[i].configured = false;
                self.join(i);
            }
            Health::Up | Health::SoftDown | Health::HardDown | Health::Draining | Health::Unknown => up(self),
        }
        self.replan();
        let delay = self.random.exponential(self.pace);
        self.after(delay, Event::Operator);
    }

    fn set_down(&mut self, i: usize, health: Health) {
        self.backends[i].health = health;
        self.flags[usize::from(self.backends[i].member.id)] |= TARGET_DOWN;
    }

    /// The host is lost, and every flow that it had.
    fn lose(&mut self, i: usize) {
        self.set_down(i, Health::HardDown);
        let id = usize::from(self.backends[i].member.id);
        self.lives[id].1 = false;
        let lost = (id as Id, self.lives[id].0);
        self.flows.retain(|_, flow| flow.owner != lost);
    }
}
