//! What a table's slots do with their earlier owners, how that is changed while flows live, and who waits for a
//! place in a slot that keeps them.

use foobar_common::slot::{ColdSlot, Member, NONE, Phase, Slot};

use super::{SlotTable, kept};

/// What a slot does with its earlier owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// They are remembered until each of their flows has a note.
    Noted,
    /// They stay candidates of packets whose flows nobody notes.
    Kept,
    /// They are forgotten: a change moves flows.
    Forgotten,
}

impl SlotTable {
    /// What the slots do with their earlier owners.
    #[must_use]
    pub const fn history(&self) -> History {
        self.history
    }

    /// Lets the slots do something else with their earlier owners from now on. No note counts in a table that
    /// keeps them: whose flows have some, has to be told before ([`recall`](Self::recall)).
    ///
    /// To [`History::Kept`], a slot keeps every member that it names. From there to [`History::Noted`], a slot
    /// stays as it is until it changes, or T has passed since it did: nobody knows who owns its flows, so that
    /// one that is older than the slot's current owner is lost as soon as its packets carry no candidates.
    pub fn set_history(&mut self, history: History) {
        self.history = history;
        self.waiting.clear();
        for i in 0..self.slots.len() {
            let ColdSlot { slot, since_ns } = self.slots[i];
            let next = match history {
                History::Noted => slot,
                History::Kept => kept::named(slot),
                History::Forgotten => Slot::settled(slot.current),
            };
            if next != slot {
                self.put(i, ColdSlot { slot: next, since_ns });
            }
        }
    }

    /// A live note of slot `i` names `member`: where notes are about to be given up for candidates, the slot
    /// names it too. False where it has no room.
    pub fn recall(&mut self, i: usize, member: Member) -> bool {
        let ColdSlot { slot, since_ns } = self.slots[i];
        let no_note_counts = matches!(slot.phase(), Phase::Settled | Phase::Kept);
        if no_note_counts || kept::names(slot, member) {
            return true;
        }
        // The un-noted owner stays the last one.
        let (previous, older) = match (slot.previous, slot.older) {
            (NONE, NONE) => (member, NONE),
            (previous, NONE) => (member, previous),
            (NONE, older) => (member, older),
            _ => return false,
        };
        self.put(
            i,
            ColdSlot {
                slot: Slot {
                    previous,
                    older,
                    ..slot
                },
                since_ns,
            },
        );
        true
    }

    /// How many slots a change waits for, because it would need a fourth owner.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many slots have given up an earlier owner for a fourth since the last call: what flows that one still
    /// had are lost.
    pub const fn take_displaced(&mut self) -> usize {
        std::mem::replace(&mut self.displaced, 0)
    }

    /// Lets in those who wait: where there is room by now, and T after the slot's last change. That nobody is to
    /// take new flows is no reason to lose an owner, however long ago the last change was.
    pub(super) fn admit(&mut self, now_ns: u64, idle_ns: u64) {
        for (index, member) in self.waiting.clone() {
            let i = index as usize;
            let ColdSlot { slot, since_ns } = self.slots[i];
            let room = if kept::fits(slot, member) {
                slot
            } else if member != NONE && now_ns.saturating_sub(since_ns) > idle_ns {
                self.displaced += 1;
                kept::relieved(slot, |_| false)
            } else {
                continue;
            };
            self.waiting.remove(&index);
            if slot.current != member {
                self.put(
                    i,
                    ColdSlot {
                        slot: kept::given(room, member),
                        since_ns: now_ns,
                    },
                );
            }
        }
    }
}
