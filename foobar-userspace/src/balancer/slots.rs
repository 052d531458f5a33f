//! The slots of one VIP, and the rules by which their owners change without moving a flow.
//!
//! A slot remembers its earlier owners until every flow of theirs that lives has a note (see
//! [`foobar_common::slot`]); [`foobar_common::steering::decide`] is what a packet makes of it. Everything that
//! changes a slot is a method here, called by one writer. Times are CLOCK_MONOTONIC in nanoseconds and come from
//! the caller; nothing is written to a map: [`SlotTable::take_changed`] says what has to be.
//!
//! Where nothing is noted and packets carry their slot's members as candidates ([`History::Kept`]), a slot keeps
//! its earlier owners instead: nobody knows whether their flows live, so that they stay, whatever time passes,
//! until they leave (hard down, or cut off at the end of a drain) or a fourth owner needs the place. That one
//! waits until T after the slot's last change, unless the current owner fails: then new flows must go elsewhere
//! at once. [`SlotTable::take_displaced`] counts both.
//!
//! Invariants: a settled slot has no history and no live note in it names another member than `current`; the
//! un-noted owner doesn't change while a slot is moving, unless that member leaves; a kept slot that has room
//! loses nobody.

mod history;
mod kept;
mod peer;
mod time;

use std::collections::BTreeMap;

use foobar_common::slot::{ColdSlot, Member, NONE, Phase, Slot};

pub use history::History;

/// How long new flows are still noted after moving ends, and how long a slot stays open at least.
pub const LINGER_NS: u64 = 1_000_000_000;

/// The beginning of a moving in which every flow of this balancer has a note from the first, in a held table.
const LONG_AGO_NS: u64 = 0;

const PHASES: usize = Phase::Kept as usize + 1;

/// How many slots name a member, by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// As the owner of new flows.
    pub current: usize,
    /// As the owner before.
    pub previous: usize,
    /// As the owner before that one.
    pub older: usize,
}

/// The slots of one VIP.
#[derive(Clone, Debug)]
pub struct SlotTable {
    history: History,
    slots: Vec<ColdSlot>,
    phases: [usize; PHASES],
    changed: Vec<u32>,
    is_changed: Vec<bool>,
    /// Kept slots that a fourth owner waits for.
    waiting: BTreeMap<u32, Member>,
    displaced: usize,
    is_held: bool,
    is_shared: bool,
    /// It was held until a moment ago.
    is_released: bool,
    /// When the peers were last told of what moves while the table is held.
    announced_ns: u64,
    /// Slots that have begun to move by a change made here.
    started: Vec<u32>,
    revision: u64,
}

impl SlotTable {
    /// `count` settled slots without an owner.
    #[must_use]
    pub fn new(history: History, count: usize) -> Self {
        Self::adopt(history, std::iter::repeat_n(ColdSlot::default(), count))
    }

    /// The slots that maps held, as far as [`set_history`](Self::set_history) leaves them. An owner that is no
    /// member any more has to [`leave`](Self::leave).
    #[must_use]
    pub fn adopt(history: History, held: impl IntoIterator<Item = ColdSlot>) -> Self {
        let slots: Vec<ColdSlot> = held.into_iter().collect();
        let mut phases = [0; PHASES];
        for held in &slots {
            phases[held.slot.phase() as usize] += 1;
        }
        let mut table = Self {
            history: History::Noted,
            is_changed: vec![false; slots.len()],
            slots,
            phases,
            changed: Vec::new(),
            waiting: BTreeMap::new(),
            displaced: 0,
            is_held: false,
            is_shared: false,
            is_released: false,
            announced_ns: 0,
            started: Vec::new(),
            revision: 0,
        };
        table.set_history(history);
        table
    }

    /// All slots, with the time at which each one's phase began.
    #[must_use]
    pub fn slots(&self) -> &[ColdSlot] {
        &self.slots
    }

    /// Slot `i`.
    ///
    /// # Panics
    /// Where there is no slot `i`, as every method that takes an index.
    #[must_use]
    pub fn slot(&self, i: usize) -> Slot {
        self.slots[i].slot
    }

    /// Counts the changes of slots' current owners.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// How many slots are in a phase.
    #[must_use]
    pub fn count(&self, phase: Phase) -> usize {
        self.phases[phase as usize]
    }

    /// The slots changed since the last call, each once, in the order in which they first changed.
    pub fn take_changed(&mut self) -> Vec<u32> {
        for &i in &self.changed {
            self.is_changed[i as usize] = false;
        }
        std::mem::take(&mut self.changed)
    }

    /// The slots that have begun to move since the last call, by a change made here and not by a peer's, ascending.
    pub fn take_started(&mut self) -> Vec<u32> {
        let mut started = std::mem::take(&mut self.started);
        started.sort_unstable();
        started.dedup();
        started
    }

    /// How many slots name each member, for those that are named.
    #[must_use]
    pub fn usage(&self) -> BTreeMap<Member, Usage> {
        let mut named: Vec<Usage> = Vec::new();
        for ColdSlot { slot, .. } in &self.slots {
            let highest = usize::from(slot.current.max(slot.previous).max(slot.older));
            if named.len() <= highest {
                named.resize(highest + 1, Usage::default());
            }
            named[usize::from(slot.current)].current += 1;
            named[usize::from(slot.previous)].previous += 1;
            named[usize::from(slot.older)].older += 1;
        }
        let members = named
            .into_iter()
            .enumerate()
            .skip(1)
            .filter(|(_, usage)| *usage != Usage::default());
        members.map(|(member, usage)| (member as Member, usage)).collect()
    }

    /// Gives slot `i` to `member`, keeping what its earlier owners have. True where that is a change.
    ///
    /// A slot that nobody had has no flows to keep, so its phase stays. A kept slot that has three owners waits
    /// with a fourth.
    pub fn change(&mut self, i: usize, member: Member, now_ns: u64) -> bool {
        self.change_from(i, member, &[], now_ns)
    }

    /// As [`change`](Self::change); and nothing waits behind a current owner that is `failing`.
    fn change_from(&mut self, i: usize, member: Member, failing: &[Member], now_ns: u64) -> bool {
        let slot = self.slots[i].slot;
        self.waiting.remove(&(i as u32));
        if slot.current == member {
            return false;
        }
        let next = match self.history {
            History::Noted => self.noted(i, member, now_ns),
            History::Forgotten => ColdSlot {
                slot: Slot::settled(member),
                since_ns: now_ns,
            },
            History::Kept => {
                let is_failing = |member| failing.contains(&member);
                let room = if kept::fits(slot, member) {
                    slot
                } else if is_failing(slot.current) {
                    self.displaced += 1;
                    kept::relieved(slot, is_failing)
                } else {
                    self.waiting.insert(i as u32, member);
                    return false;
                };
                ColdSlot {
                    slot: kept::given(room, member),
                    since_ns: now_ns,
                }
            }
        };
        if next.slot.phase() == Phase::Moving && slot.phase() != Phase::Moving {
            self.started.push(i as u32);
        }
        self.put(i, next);
        true
    }

    /// Slot `i` given to `member`, with its old owners' flows to be noted.
    fn noted(&self, i: usize, member: Member, now_ns: u64) -> ColdSlot {
        let ColdSlot { slot, since_ns } = self.slots[i];
        match slot.phase() {
            Phase::Moving => {
                let (unnoted, since_ns) = if slot.previous != NONE || slot.older != NONE {
                    (slot.unnoted_owner(), since_ns)
                } else if self.is_held {
                    (NONE, LONG_AGO_NS)
                } else {
                    (NONE, since_ns)
                };
                ColdSlot {
                    slot: moving(member, slot.current, unnoted),
                    since_ns,
                }
            }
            Phase::Settled | Phase::Open | Phase::Fresh | Phase::Moved | Phase::Kept
                if slot.current == NONE =>
            {
                let slot = Slot {
                    current: member,
                    ..slot
                };
                self.noting(slot, since_ns, now_ns)
            }
            // Every flow of the old owner has a note here; a peer that can't be heard may have others.
            Phase::Fresh if self.is_held => ColdSlot {
                slot: moving(member, slot.current, NONE),
                since_ns: LONG_AGO_NS,
            },
            Phase::Settled | Phase::Open | Phase::Fresh | Phase::Moved | Phase::Kept => ColdSlot {
                slot: moving(member, slot.current, NONE),
                since_ns: now_ns,
            },
        }
    }

    /// A slot whose owner has just got it from nobody, or from one whose flows are lost. While the table is held
    /// or shared ([`set_held`](Self::set_held), [`set_shared`](Self::set_shared)), the new owner's flows are noted
    /// from the first on. What had a later end keeps it.
    fn noting(&self, slot: Slot, since_ns: u64, now_ns: u64) -> ColdSlot {
        match slot.phase() {
            Phase::Settled | Phase::Moved if self.is_held || self.is_shared => ColdSlot {
                slot: Slot {
                    phase: Phase::Fresh as u16,
                    ..slot
                },
                since_ns: now_ns,
            },
            Phase::Open if self.is_held || self.is_shared => ColdSlot {
                slot: Slot {
                    phase: Phase::Fresh as u16,
                    ..slot
                },
                since_ns: since_ns.max(now_ns),
            },
            Phase::Settled | Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved | Phase::Kept => {
                ColdSlot { slot, since_ns }
            }
        }
    }

    /// Applies a whole table of owners as changes. No slot waits behind an owner that is `failing`: one that
    /// can't take new flows, though others can.
    ///
    /// # Panics
    /// Where `desired` has another length than the table.
    pub fn retarget(&mut self, desired: &[Member], failing: &[Member], now_ns: u64) -> usize {
        assert_eq!(desired.len(), self.slots.len(), "a table of another size");
        desired
            .iter()
            .enumerate()
            .filter(|(i, member)| self.change_from(*i, **member, failing, now_ns))
            .count()
    }

    /// Hard down: `member`'s flows are lost, so it leaves every slot at once; where it was current, the slot's
    /// entry in `heirs`, a whole table of owners, takes over.
    ///
    /// # Panics
    /// Where `heirs` has another length than the table.
    pub fn leave(&mut self, member: Member, heirs: &[Member], now_ns: u64) {
        assert_eq!(heirs.len(), self.slots.len(), "a table of another size");
        if member == NONE {
            return;
        }
        for (i, &heir) in heirs.iter().enumerate() {
            if let Some(next) = self.waiting.get_mut(&(i as u32))
                && *next == member
            {
                *next = heir;
            }
            let ColdSlot { slot, since_ns } = self.slots[i];
            if ![slot.current, slot.previous, slot.older].contains(&member) {
                continue;
            }
            if self.history != History::Noted {
                let since_ns = if slot.current == member { now_ns } else { since_ns };
                let slot = kept::without(slot, member, heir);
                self.put(i, ColdSlot { slot, since_ns });
                continue;
            }
            let current = if slot.current == member {
                heir
            } else {
                slot.current
            };
            let mut history = [slot.previous, slot.older]
                .into_iter()
                .filter(|&m| m != member && m != NONE);
            let (previous, older) = (history.next().unwrap_or(NONE), history.next().unwrap_or(NONE));
            // What `previous` got while `older` owned the un-noted flows has notes.
            let lost_unnoted = previous == NONE || slot.unnoted_owner() == member;
            let next = match slot.phase() {
                // A peer may still have an un-noted owner: new flows are noted until it has none.
                Phase::Moving if lost_unnoted && (self.is_held || self.is_shared) => ColdSlot {
                    slot: moving(current, NONE, NONE),
                    since_ns,
                },
                Phase::Moving if lost_unnoted => ColdSlot {
                    slot: Slot {
                        phase: Phase::Fresh as u16,
                        ..Slot::settled(current)
                    },
                    since_ns: now_ns,
                },
                Phase::Settled | Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved | Phase::Kept => {
                    let next = Slot {
                        current,
                        previous,
                        older,
                        ..slot
                    };
                    if slot.current == member {
                        self.noting(next, since_ns, now_ns)
                    } else {
                        ColdSlot { slot: next, since_ns }
                    }
                }
            };
            self.put(i, next);
        }
    }

    fn put(&mut self, i: usize, next: ColdSlot) {
        let held = &mut self.slots[i];
        self.phases[held.slot.phase() as usize] -= 1;
        self.phases[next.slot.phase() as usize] += 1;
        self.revision += u64::from(held.slot.current != next.slot.current);
        *held = next;
        if !std::mem::replace(&mut self.is_changed[i], true) {
            self.changed.push(i as u32);
        }
    }
}

fn moving(current: Member, previous: Member, older: Member) -> Slot {
    Slot {
        current,
        previous,
        older,
        phase: Phase::Moving as u16,
    }
}

#[cfg(test)]
mod tests;
