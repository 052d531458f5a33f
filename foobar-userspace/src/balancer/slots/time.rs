//! What time does to slots: moving ends, new flows are noted for a second more, and what needs no notes settles.

use foobar_common::slot::{ColdSlot, Phase, Slot};

use super::{History, LINGER_NS, SlotTable};

impl SlotTable {
    /// Lets time pass: moving ends after the idle time T, new flows are noted for a second more; what waits for
    /// T does no longer.
    pub fn advance(&mut self, now_ns: u64, idle_ns: u64) {
        match self.history {
            History::Noted => self.advance_noted(now_ns, idle_ns),
            History::Kept => self.admit(now_ns, idle_ns),
            History::Forgotten => (),
        }
    }

    fn advance_noted(&mut self, now_ns: u64, idle_ns: u64) {
        if std::mem::take(&mut self.is_released) {
            self.begin_anew(now_ns);
        }
        if self.is_held {
            self.announce(now_ns, idle_ns);
            return;
        }
        if self.count(Phase::Moving) + self.count(Phase::Fresh) + self.count(Phase::Kept) == 0 {
            return;
        }
        for i in 0..self.slots.len() {
            let ColdSlot { slot, since_ns } = self.slots[i];
            let elapsed = now_ns.saturating_sub(since_ns);
            let phase = match slot.phase() {
                Phase::Moving if elapsed > idle_ns => Phase::Fresh,
                Phase::Fresh if elapsed > LINGER_NS => Phase::Moved,
                Phase::Kept if elapsed > idle_ns => Phase::Settled,
                Phase::Settled | Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved | Phase::Kept => {
                    continue;
                }
            };
            let slot = Slot {
                phase: phase as u16,
                ..Slot::settled(slot.current)
            };
            self.put(
                i,
                ColdSlot {
                    slot,
                    since_ns: now_ns,
                },
            );
        }
    }

    /// What moves while the table is held does not end: peers that can be heard, and hold nothing, have to go on as
    /// well.
    fn announce(&mut self, now_ns: u64, idle_ns: u64) {
        if now_ns.saturating_sub(self.announced_ns) < idle_ns / 2 {
            return;
        }
        self.announced_ns = now_ns;
        let moving = (0..)
            .zip(&self.slots)
            .filter(|(_, held)| held.slot.phase() == Phase::Moving);
        self.started.extend(moving.map(|(i, _)| i));
    }

    /// The hold is over: what has to last for T, or a second, lasts for so long from now on. A peer may have led flows
    /// without a note until a moment ago, and be dead, so that they come here from now on.
    fn begin_anew(&mut self, now_ns: u64) {
        for i in 0..self.slots.len() {
            let held = self.slots[i];
            if matches!(held.slot.phase(), Phase::Moving | Phase::Fresh | Phase::Open)
                && held.since_ns < now_ns
            {
                if held.slot.phase() == Phase::Moving {
                    self.started.push(i as u32);
                }
                self.put(
                    i,
                    ColdSlot {
                        since_ns: now_ns,
                        ..held
                    },
                );
            }
        }
    }

    /// A peer's note came for slot `i`: where it is settled, notes count from now on.
    pub fn open(&mut self, i: usize, now_ns: u64) -> bool {
        let slot = self.slots[i].slot;
        let settled = slot.phase() == Phase::Settled;
        if settled {
            let slot = Slot {
                phase: Phase::Open as u16,
                ..slot
            };
            self.put(
                i,
                ColdSlot {
                    slot,
                    since_ns: now_ns,
                },
            );
        }
        settled
    }

    /// The slots that may settle, to be asked for before the notes are read: those moved, and those open for
    /// over a second.
    #[must_use]
    pub fn may_settle(&self, now_ns: u64) -> Vec<u32> {
        let is_held = self.is_held || self.is_released;
        if is_held || self.count(Phase::Moved) + self.count(Phase::Open) == 0 {
            return Vec::new();
        }
        let ready = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, held)| is_ready(held, now_ns));
        ready.map(|(i, _)| i as u32).collect()
    }

    /// Settles slot `i`, in which no live note names anything but `current`: the caller has looked, after it
    /// asked [`may_settle`](Self::may_settle). False where the slot isn't ready (any more).
    pub fn settle(&mut self, i: usize, now_ns: u64) -> bool {
        let ready = !self.is_held && !self.is_released && is_ready(&self.slots[i], now_ns);
        if ready {
            let slot = Slot::settled(self.slots[i].slot.current);
            self.put(
                i,
                ColdSlot {
                    slot,
                    since_ns: now_ns,
                },
            );
        }
        ready
    }
}

fn is_ready(held: &ColdSlot, now_ns: u64) -> bool {
    match held.slot.phase() {
        Phase::Moved => true,
        Phase::Open => now_ns.saturating_sub(held.since_ns) > LINGER_NS,
        Phase::Settled | Phase::Moving | Phase::Fresh | Phase::Kept => false,
    }
}
