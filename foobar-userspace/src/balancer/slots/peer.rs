//! What a slot makes of the same slot on another balancer, so that whichever of the two gets a flow's next packet
//! finds its owner. Pure; the peer's members are named by the caller's ids, its times are by the caller's clock.
//!
//! What a balancer knows of flows is in two places: its notes, and, for flows without one, the slot's un-noted
//! owner. Notes are told to the peers one by one. The un-noted owners are equal as long as the balancers started
//! from equal slots; after they could not see each other, [`SlotTable::reconcile`] makes them equal again where
//! one of the two has a note for every flow.

use foobar_common::slot::{ColdSlot, Member, NONE, Phase, Slot};

use super::{History, SlotTable, kept, moving};

impl SlotTable {
    /// The peer has begun to move slot `i` at `since_ns`: the latest start counts, so that moving ends on no
    /// balancer before it has on all. Where nothing changes here, new flows are noted for as long as the peer moves
    /// (T is `idle_ns`), for it would lead one without a note to an earlier owner.
    pub fn extend(&mut self, i: usize, since_ns: u64, idle_ns: u64) {
        let held = self.slots[i];
        let next = match held.slot.phase() {
            Phase::Moving if since_ns > held.since_ns && !self.is_held => ColdSlot { since_ns, ..held },
            Phase::Settled | Phase::Open | Phase::Fresh | Phase::Moved => {
                let until_ns = since_ns.saturating_add(idle_ns);
                let has_deadline = matches!(held.slot.phase(), Phase::Open | Phase::Fresh);
                if has_deadline && held.since_ns >= until_ns {
                    return;
                }
                // All flows of a fresh slot have notes, and go on to.
                let phase = if held.slot.phase() == Phase::Fresh {
                    Phase::Fresh
                } else {
                    Phase::Open
                };
                ColdSlot {
                    slot: Slot {
                        phase: phase as u16,
                        ..held.slot
                    },
                    since_ns: until_ns,
                }
            }
            // What moves in a held table does not end, and is to be known by its own age.
            Phase::Moving | Phase::Kept => return,
        };
        if self.history == History::Noted {
            self.put(i, next);
        }
    }

    /// While a peer that may live can't be heard, no slot settles and new flows go on being noted, for the peer
    /// must be told of every flow that it could not know.
    ///
    /// It must be called in the same step in which a session begins or ends, and not with the next tick.
    pub fn set_held(&mut self, held: bool) {
        let was_held = std::mem::replace(&mut self.is_held, held);
        self.is_released = !held && (was_held || self.is_released);
        if !was_held {
            self.announced_ns = 0;
        }
        if was_held || !held || self.count(Phase::Moved) == 0 {
            return;
        }
        for i in 0..self.slots.len() {
            let ColdSlot { slot, since_ns } = self.slots[i];
            if slot.phase() == Phase::Moved {
                let slot = Slot {
                    phase: Phase::Open as u16,
                    ..slot
                };
                self.put(i, ColdSlot { slot, since_ns });
            }
        }
    }

    /// Whether there are peers. While there are, an owner that a slot got from nobody, or from one whose flows are
    /// lost, has its flows noted from the first, for a peer may not have heard of it yet.
    pub const fn set_shared(&mut self, shared: bool) {
        self.is_shared = shared;
    }

    /// Whether nothing settles, see [`set_held`](Self::set_held).
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.is_held
    }

    /// A balancer that has had no flow yet takes over the slot that its peer has.
    ///
    /// What it remembers is as this table has it: a peer whose configuration is another yet may keep it otherwise.
    pub fn join(&mut self, i: usize, peer: ColdSlot) {
        let slot = match self.history {
            History::Noted => peer.slot,
            History::Kept => kept::named(peer.slot),
            History::Forgotten => Slot::settled(peer.slot.current),
        };
        let peer = ColdSlot { slot, ..peer };
        if self.slots[i] != peer {
            self.put(i, peer);
        }
    }

    /// Takes in what a peer, from which nothing was heard for a while, has in slot `i` by now.
    ///
    /// It must be called before the peer's notes of the slot are taken in, and before anything else changes it.
    pub fn reconcile(&mut self, i: usize, peer: ColdSlot, now_ns: u64, idle_ns: u64) {
        match self.history {
            History::Noted => self.reconcile_noted(i, peer, now_ns, idle_ns),
            History::Kept => {
                for member in [peer.slot.current, peer.slot.previous, peer.slot.older] {
                    self.remember(i, member);
                }
            }
            History::Forgotten => (),
        }
    }

    fn reconcile_noted(&mut self, i: usize, peer: ColdSlot, now_ns: u64, idle_ns: u64) {
        let ColdSlot { slot, since_ns } = self.slots[i];
        let peer_phase = peer.slot.phase();
        // When the peer begins to note the flows that it has without a note.
        let start_ns = if peer_phase == Phase::Moving {
            peer.since_ns
        } else {
            now_ns
        };
        let has_noted_all = |held: ColdSlot| {
            held.slot.phase() == Phase::Fresh
                || held.slot.phase() == Phase::Moving
                    && (has_no_history(held.slot) || now_ns.saturating_sub(held.since_ns) > idle_ns)
        };
        let own = ColdSlot { slot, since_ns };
        match (slot.phase(), unnoted(peer.slot).filter(|_| !has_noted_all(peer))) {
            // Every flow of this balancer has a note: those without one are the peer's.
            (Phase::Fresh | Phase::Moving, Some(owner))
                if has_noted_all(own) && owner != NONE && owner != slot.unnoted_owner() =>
            {
                // The other peers have to hear of it, as of any beginning.
                self.started.push(i as u32);
                let previous = if owner == slot.current { NONE } else { owner };
                self.put(
                    i,
                    ColdSlot {
                        slot: moving(slot.current, previous, NONE),
                        since_ns: now_ns.max(start_ns),
                    },
                );
            }
            (Phase::Moving, _) if peer_phase == Phase::Moving => self.extend(i, start_ns, idle_ns),
            (Phase::Moving, Some(owner)) if owner != slot.current => self.extend(i, start_ns, idle_ns),
            (Phase::Settled | Phase::Open | Phase::Fresh | Phase::Moved, _)
                if peer_phase == Phase::Moving =>
            {
                self.extend(i, start_ns, idle_ns);
            }
            (Phase::Settled, _) if peer_phase != Phase::Settled => {
                self.open(i, now_ns);
            }
            (Phase::Settled | Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved | Phase::Kept, _) => {
            }
        }
    }

    /// A kept slot names one more candidate, behind its own, where it has room.
    fn remember(&mut self, i: usize, member: Member) {
        let held = self.slots[i];
        if member == NONE || kept::names(held.slot, member) {
            return;
        }
        let Slot {
            current,
            previous,
            older,
            ..
        } = held.slot;
        let slot = match (previous, older) {
            (NONE, NONE) => Slot {
                current,
                previous: member,
                older: NONE,
                phase: Phase::Kept as u16,
            },
            (_, NONE) => Slot {
                older: member,
                ..held.slot
            },
            _ => return,
        };
        self.put(i, ColdSlot { slot, ..held });
    }
}

const fn has_no_history(slot: Slot) -> bool {
    slot.previous == NONE && slot.older == NONE
}

/// Who owns the flows of a slot that have no note; none where every flow that lives has one.
const fn unnoted(slot: Slot) -> Option<Member> {
    match slot.phase() {
        Phase::Settled | Phase::Open | Phase::Moved | Phase::Kept => Some(slot.current),
        Phase::Moving => Some(slot.unnoted_owner()),
        Phase::Fresh => None,
    }
}

#[cfg(test)]
mod tests;
