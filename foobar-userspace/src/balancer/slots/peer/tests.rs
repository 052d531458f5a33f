//! What slots make of a peer's, one rule at a time.

use super::*;
use crate::balancer::slots::{LINGER_NS, LONG_AGO_NS};

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
    for own in [Phase::Settled, Phase::Open, Phase::Moved] {
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
fn a_fresh_slot_stays_fresh_for_as_long_as_the_peer_moves() {
    let mut table = table(History::Noted, held(phase(1, Phase::Fresh), 5));
    table.extend(0, 100, T);
    assert_eq!(table.slots()[0], held(phase(1, Phase::Fresh), 100 + T));
    table.extend(0, 90, T);
    table.advance(100 + T + LINGER_NS, T);
    assert_eq!(
        table.slots()[0],
        held(phase(1, Phase::Fresh), 100 + T),
        "never shortened"
    );
    table.advance(101 + T + LINGER_NS, T);
    assert_eq!(table.slot(0).phase(), Phase::Moved);
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
    assert_eq!(
        table.slots()[0],
        held(moving(2, NONE, NONE), 0),
        "nobody is un-noted"
    );
    table.change(0, 3, T * 3);
    assert_eq!(table.slots()[0], held(moving(3, 2, NONE), LONG_AGO_NS));
    assert!(table.may_settle(T * 9).is_empty());
}

#[test]
fn what_has_to_last_begins_anew_when_a_hold_ends() {
    let mut table = SlotTable::adopt(
        History::Noted,
        [
            held(moving(2, 1, NONE), 5),
            held(phase(2, Phase::Fresh), 6),
            held(phase(2, Phase::Open), 7),
            held(phase(2, Phase::Open), 9 * T),
        ],
    );
    table.set_held(true);
    table.advance(3 * T, T);
    assert_eq!(table.slots()[0].since_ns, 5);
    table.take_started();
    table.set_held(false);
    assert!(
        table.may_settle(4 * T).is_empty() && !table.settle(2, 4 * T),
        "not before time has passed"
    );
    table.advance(4 * T, T);
    let since: Vec<u64> = table.slots().iter().map(|held| held.since_ns).collect();
    assert_eq!(since, [4 * T, 4 * T, 4 * T, 9 * T]);
    assert_eq!(table.take_started(), [0], "the peers hear of it");
    table.advance(5 * T, T);
    assert_eq!(table.slot(0), moving(2, 1, NONE));
    table.advance(5 * T + 1, T);
    assert_eq!(table.slot(0).phase(), Phase::Fresh);
}

#[test]
fn a_moved_slot_notes_again_as_soon_as_the_table_is_held() {
    let mut table = table(History::Noted, held(phase(2, Phase::Moved), 5));
    table.set_held(true);
    assert_eq!(table.slot(0), phase(2, Phase::Open));
    assert_eq!(table.take_changed(), [0]);
}

#[test]
fn peers_are_told_again_and_again_of_what_moves_in_a_held_table() {
    let mut table = SlotTable::adopt(History::Noted, [held(Slot::settled(1), 0); 2]);
    table.set_held(true);
    table.change(1, 2, T);
    assert_eq!(table.take_started(), [1]);
    table.advance(T + 1, T);
    assert_eq!(table.take_started(), [1]);
    table.advance(T + T / 2, T);
    assert_eq!(table.take_started(), [0; 0]);
    table.advance(T + T / 2 + 1, T);
    assert_eq!(table.take_started(), [1]);
}

#[test]
fn in_a_shared_table_the_flows_of_an_heir_are_noted_from_the_first() {
    let shared = |slot| {
        let mut table = table(History::Noted, slot);
        table.set_shared(true);
        table.leave(1, &[2], 50);
        table.slots()[0]
    };
    assert_eq!(
        shared(held(Slot::settled(1), 0)),
        held(phase(2, Phase::Fresh), 50)
    );
    assert_eq!(
        shared(held(phase(1, Phase::Moved), 0)),
        held(phase(2, Phase::Fresh), 50)
    );
    assert_eq!(
        shared(held(phase(1, Phase::Open), 90)),
        held(phase(2, Phase::Fresh), 90)
    );
    // The peer may not have heard of it, and go on as before until its T is over.
    assert_eq!(
        shared(held(moving(3, 1, NONE), 9)),
        held(moving(3, NONE, NONE), 9)
    );
    let mut empty = super::SlotTable::new(History::Noted, 1);
    empty.set_shared(true);
    empty.change(0, 1, 80);
    assert_eq!(empty.slot(0), phase(1, Phase::Fresh));
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
    // As where it has moved for longer than T; one that moves for less has flows of its own without a note.
    let mut long = table(History::Noted, held(moving(3, 2, NONE), 5));
    long.reconcile(0, held(Slot::settled(1), 0), 5 + T, T);
    assert_eq!(long.slot(0).unnoted_owner(), 2);
    let mut long = table(History::Noted, held(moving(3, 2, NONE), 5));
    long.reconcile(0, held(Slot::settled(1), 0), 6 + T, T);
    assert_eq!(long.slots()[0], held(moving(3, 1, NONE), 6 + T));
    assert_eq!(long.take_started(), [0], "the other peers hear of it");
    let mut back = table(History::Noted, held(moving(3, 2, NONE), 5));
    back.reconcile(0, held(Slot::settled(3), 0), 6 + T, T);
    assert_eq!(back.slots()[0], held(moving(3, NONE, NONE), 6 + T));
    // New flows of a moved slot aren't noted.
    let mut moved = table(History::Noted, held(phase(2, Phase::Moved), 5));
    moved.reconcile(0, held(Slot::settled(1), 0), 100, T);
    assert_eq!(moved.slots()[0], held(phase(2, Phase::Moved), 5));
}

#[test]
fn the_peers_moving_goes_on_here() {
    let mut table = table(History::Noted, held(phase(2, Phase::Fresh), 5));
    table.reconcile(0, held(moving(3, 1, NONE), 70), 100, T);
    assert_eq!(table.slots()[0], held(moving(2, 1, NONE), 100));
    table.reconcile(0, held(moving(3, 1, NONE), 110), 100, T);
    assert_eq!(table.slots()[0].since_ns, 110);
    let mut same = super::SlotTable::adopt(History::Noted, [held(phase(1, Phase::Fresh), 5)]);
    same.reconcile(0, held(moving(3, 1, NONE), 70), 100, T);
    assert_eq!(
        same.slots()[0],
        held(phase(1, Phase::Fresh), 70 + T),
        "new flows are noted until then"
    );
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
