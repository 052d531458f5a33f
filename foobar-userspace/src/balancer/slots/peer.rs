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
            Phase::Moving if since_ns > held.since_ns => ColdSlot { since_ns, ..held },
            Phase::Settled | Phase::Open | Phase::Fresh | Phase::Moved => {
                let open = held.slot.phase() == Phase::Open;
                let until_ns = since_ns.saturating_add(idle_ns);
                if open && held.since_ns >= until_ns {
                    return;
                }
                ColdSlot {
                    slot: Slot {
                        phase: Phase::Open as u16,
                        ..held.slot
                    },
                    since_ns: until_ns,
                }
            }
            Phase::Moving | Phase::Kept => return,
        };
        if self.history == History::Noted {
            self.put(i, next);
        }
    }

    /// While a peer that may live can't be heard, no slot settles and new flows go on being noted, for the peer
    /// must be told of every flow that it could not know.
    pub const fn set_held(&mut self, held: bool) {
        self.is_held = held;
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
        let ColdSlot { slot, .. } = self.slots[i];
        let peer_phase = peer.slot.phase();
        // When the peer begins to note the flows that it has without a note.
        let since_ns = if peer_phase == Phase::Moving {
            peer.since_ns
        } else {
            now_ns
        };
        match (slot.phase(), unnoted(peer.slot)) {
            (Phase::Moving, Some(owner)) if owner != slot.current => self.extend(i, since_ns, idle_ns),
            // Every flow of this balancer has a note: those without one are the peer's.
            (Phase::Fresh, Some(owner)) if owner != slot.current && owner != NONE => self.put(
                i,
                ColdSlot {
                    slot: moving(slot.current, owner, NONE),
                    since_ns,
                },
            ),
            (Phase::Settled | Phase::Open | Phase::Moved, _) if peer_phase == Phase::Moving => {
                self.extend(i, since_ns, idle_ns);
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

/// Who owns the flows of a slot that have no note; none where every flow that lives has one.
const fn unnoted(slot: Slot) -> Option<Member> {
    match slot.phase() {
        Phase::Settled | Phase::Open | Phase::Moved | Phase::Kept => Some(slot.current),
        Phase::Moving => Some(slot.unnoted_owner()),
        Phase::Fresh => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::slots::LINGER_NS;

    const T: u64 = 30_000_000_000;

    fn table(history: History, slot: ColdSlot) -> SlotTable {
        SlotTable::adopt(history, [slot])
    }

    fn held(slot: Slot, since_ns: u64) -> ColdSlot {
        ColdSlot { slot, since_ns }
    }

    fn phase(current: Member, phase: Phase) -> Slot {
        Slot {
            phase: phase as u16,
            ..Slot::settled(current)
        }
    }

    #[test]
    fn the_latest_start_counts_and_never_an_earlier_one() {
        let mut table = table(History::Noted, held(Slot::settled(1), 0));
        table.change(0, 2, 100);
        table.extend(0, 90, T);
        assert_eq!(table.slots()[0].since_ns, 100);
        table.extend(0, 150, T);
        table.advance(140 + T, T);
        assert_eq!(table.slot(0).phase(), Phase::Moving);
        table.advance(151 + T, T);
        assert_eq!(table.slot(0).phase(), Phase::Fresh);
    }

    #[test]
    fn where_the_owner_stays_new_flows_are_noted_while_the_peer_moves() {
        for own in [Phase::Settled, Phase::Open, Phase::Moved, Phase::Fresh] {
            let mut table = table(History::Noted, held(phase(1, own), 5));
            table.extend(0, 100, T);
            assert_eq!(table.slots()[0], held(phase(1, Phase::Open), 100 + T));
            assert!(table.may_settle(100 + T + LINGER_NS).is_empty());
            assert_eq!(table.may_settle(101 + T + LINGER_NS), [0]);
        }
        let mut table = table(History::Noted, held(Slot::settled(1), 0));
        table.reconcile(0, held(moving(1, 2, NONE), 50), 100, T);
        assert_eq!(table.slots()[0], held(phase(1, Phase::Open), 50 + T));
    }

    #[test]
    fn a_held_table_goes_on_noting_new_flows_and_settles_nothing() {
        let mut table = table(History::Noted, held(Slot::settled(1), 0));
        table.set_held(true);
        table.change(0, 2, 0);
        table.advance(T * 2, T);
        assert_eq!(
            table.slot(0),
            moving(2, 1, NONE),
            "the peer has flows of 1 that have no note"
        );
        table.leave(1, &[2], T * 2);
        table.advance(T * 3, T);
        assert_eq!(table.slot(0), phase(2, Phase::Fresh));
        table.change(0, 3, T * 3);
        assert_eq!(table.slot(0), phase(3, Phase::Fresh), "all flows of 2 have notes");
        assert!(table.may_settle(T * 9).is_empty());
        table.change(0, 2, T * 3);
        table.set_held(false);
        table.advance(T * 4, T);
        assert_eq!(table.slot(0).phase(), Phase::Moved);
        assert_eq!(table.may_settle(T * 9), [0]);
        table.set_held(true);
        table.advance(T * 4, T);
        assert_eq!(table.slot(0), phase(2, Phase::Open), "new flows are noted again");
    }

    #[test]
    fn in_a_held_table_the_flows_of_an_heir_are_noted_from_the_first() {
        let mut table = table(History::Noted, held(Slot::settled(1), 0));
        table.leave(1, &[2], 50);
        assert_eq!(table.slot(0), Slot::settled(2), "who can be told of the leaving");
        table.set_held(true);
        table.leave(2, &[3], 60);
        assert_eq!(table.slots()[0], held(phase(3, Phase::Fresh), 60));
        table.reconcile(0, held(Slot::settled(2), 0), 70, T);
        assert_eq!(
            table.slots()[0],
            held(moving(3, 2, NONE), 70),
            "the peer has flows of 2"
        );
        let mut empty = super::SlotTable::new(History::Noted, 1);
        empty.set_held(true);
        empty.change(0, 1, 80);
        assert_eq!(empty.slot(0), phase(1, Phase::Fresh));
    }

    #[test]
    fn only_what_was_changed_here_has_been_started_here() {
        let mut table = SlotTable::adopt(History::Noted, [held(Slot::settled(1), 0); 3]);
        table.change(2, 2, 10);
        table.change(0, 2, 10);
        table.change(0, 3, 11);
        table.join(1, held(moving(2, 1, NONE), 5));
        assert_eq!(table.take_started(), [0, 2]);
        table.extend(0, 20, T);
        assert_eq!(table.take_started(), [0; 0]);
    }

    #[test]
    fn an_open_slot_of_a_held_table_stays_open() {
        let mut table = table(History::Noted, held(Slot::settled(1), 0));
        table.open(0, 0);
        table.set_held(true);
        assert!(table.may_settle(10 * LINGER_NS).is_empty());
        assert!(!table.settle(0, 10 * LINGER_NS));
    }

    #[test]
    fn where_all_own_flows_are_noted_the_others_are_the_peers() {
        // Here the owner changed from 1 to 2 while the peer, which could not be heard, left it with 1.
        let mut fresh = table(History::Noted, held(phase(2, Phase::Fresh), 5));
        fresh.reconcile(0, held(Slot::settled(1), 0), 100, T);
        assert_eq!(fresh.slots()[0], held(moving(2, 1, NONE), 100));
        fresh.change(0, 1, 200);
        assert_eq!(fresh.slot(0).unnoted_owner(), 1, "back at 1, un-noted flows too");
        // New flows of a moved slot aren't noted.
        let mut moved = table(History::Noted, held(phase(2, Phase::Moved), 5));
        moved.reconcile(0, held(Slot::settled(1), 0), 100, T);
        assert_eq!(moved.slots()[0], held(phase(2, Phase::Moved), 5));
    }

    #[test]
    fn the_peers_moving_goes_on_here() {
        let mut table = table(History::Noted, held(phase(2, Phase::Fresh), 5));
        table.reconcile(0, held(moving(3, 1, NONE), 70), 100, T);
        assert_eq!(table.slots()[0], held(moving(2, 1, NONE), 70));
        table.reconcile(0, held(moving(3, 1, NONE), 90), 100, T);
        assert_eq!(table.slots()[0].since_ns, 90);
    }

    #[test]
    fn a_settled_slot_opens_for_the_peers_notes_and_keeps_its_own_flows() {
        for theirs in [
            phase(2, Phase::Fresh),
            phase(2, Phase::Moved),
            phase(2, Phase::Open),
        ] {
            let mut table = table(History::Noted, held(Slot::settled(1), 0));
            table.reconcile(0, held(theirs, 50), 100, T);
            assert_eq!(table.slots()[0], held(phase(1, Phase::Open), 100));
        }
        let mut table = table(History::Noted, held(Slot::settled(1), 0));
        table.reconcile(0, held(Slot::settled(1), 50), 100, T);
        assert_eq!(table.slot(0), Slot::settled(1));
    }

    #[test]
    fn two_that_have_noted_all_of_theirs_have_nothing_to_reconcile() {
        let mut table = table(History::Noted, held(phase(2, Phase::Fresh), 5));
        table.reconcile(0, held(phase(1, Phase::Fresh), 7), 100, T);
        assert_eq!(table.slots()[0], held(phase(2, Phase::Fresh), 5));
    }

    #[test]
    fn who_joins_keeps_what_its_table_keeps() {
        let theirs = held(moving(2, 1, NONE), 5);
        let joined = |history| {
            let mut table = table(history, held(Slot::settled(3), 0));
            table.join(0, theirs);
            table.slots()[0]
        };
        assert_eq!(joined(History::Noted), theirs);
        assert_eq!(joined(History::Forgotten).slot, Slot::settled(2));
        let kept = joined(History::Kept).slot;
        assert_eq!((kept.phase(), kept.current, kept.previous), (Phase::Kept, 2, 1));
    }

    #[test]
    fn kept_slots_remember_the_peers_owners_as_far_as_there_is_room() {
        let kept = |current, previous, older| Slot {
            current,
            previous,
            older,
            phase: Phase::Kept as u16,
        };
        let mut table = table(History::Kept, held(Slot::settled(1), 0));
        table.reconcile(0, held(kept(2, 1, 3), 9), 100, T);
        assert_eq!(table.slot(0), kept(1, 2, 3));
        table.reconcile(0, held(kept(4, 1, 3), 9), 100, T);
        assert_eq!(table.slot(0), kept(1, 2, 3));
    }
}
