//! From notes to candidates and back, and tables that remember nothing.

use super::*;

#[test]
fn slots_that_kept_owners_as_notes_asked_for_keep_them_as_candidates() {
    let held = [
        slot(1, 0, 0, Phase::Settled),
        slot(3, 2, 1, Phase::Moving),
        slot(3, 0, 1, Phase::Moving),
        slot(1, 2, 1, Phase::Moving),
        slot(1, 0, 0, Phase::Moved),
        slot(1, 0, 0, Phase::Open),
    ];
    let mut table = SlotTable::adopt(History::Noted, held.map(|slot| ColdSlot { slot, since_ns: 4 }));
    table.set_history(History::Kept);
    let expected = [
        Slot::settled(1),
        slot(3, 2, 1, Phase::Kept),
        slot(3, 1, 0, Phase::Kept),
        slot(1, 2, 0, Phase::Kept),
        Slot::settled(1),
        Slot::settled(1),
    ];
    assert_eq!(
        table.slots().to_vec(),
        expected.map(|slot| ColdSlot { slot, since_ns: 4 })
    );
    assert_eq!(table.take_changed(), [1, 2, 3, 4, 5]);
}

#[test]
fn who_is_noted_is_recalled_before_notes_stop_counting() {
    let held = [
        slot(1, 0, 0, Phase::Moved),
        slot(2, 1, 0, Phase::Moving),
        slot(2, 0, 1, Phase::Moving),
        slot(3, 2, 1, Phase::Moving),
        slot(1, 0, 0, Phase::Settled),
    ];
    let mut table = SlotTable::adopt(History::Noted, held.map(|slot| ColdSlot { slot, since_ns: 4 }));
    let unnoted: Vec<Member> = (1..4).map(|i| table.slot(i).unnoted_owner()).collect();
    let recalled: Vec<bool> = (0..5).map(|i| table.recall(i, 9)).collect();
    assert_eq!(recalled, [true, true, true, false, true]);
    let still: Vec<Member> = (1..4).map(|i| table.slot(i).unnoted_owner()).collect();
    assert_eq!(unnoted, still, "flows without a note go where they went");
    assert!(table.recall(0, 8) && !table.recall(0, 7) && table.recall(0, 9));
    table.set_history(History::Kept);
    let slots: Vec<Slot> = (0..5).map(|i| table.slot(i)).collect();
    let expected = [
        slot(1, 8, 9, Phase::Kept),
        slot(2, 9, 1, Phase::Kept),
        slot(2, 9, 1, Phase::Kept),
        slot(3, 2, 1, Phase::Kept),
        Slot::settled(1),
    ];
    assert_eq!(slots, expected);
}

#[test]
fn kept_slots_of_a_table_that_notes_settle_when_t_has_passed() {
    let held = [slot(3, 2, 1, Phase::Kept), slot(3, 2, 1, Phase::Kept)];
    let mut table = SlotTable::adopt(History::Kept, held.map(|slot| ColdSlot { slot, since_ns: 4 }));
    table.set_history(History::Noted);
    assert_eq!(table.slot(0), held[0], "candidates as long as packets carry them");
    table.change(1, 4, 10);
    assert_eq!(table.slot(1), slot(4, 3, 0, Phase::Moving));
    table.advance(4 + T, T);
    assert_eq!(table.slot(0), held[0]);
    table.advance(5 + T, T);
    assert_eq!(table.slot(0), Slot::settled(3));
}

#[test]
fn a_table_that_forgets_is_always_settled() {
    let held = [slot(3, 2, 1, Phase::Moving), slot(3, 2, 1, Phase::Kept)];
    let mut table = SlotTable::adopt(
        History::Forgotten,
        held.map(|slot| ColdSlot { slot, since_ns: 4 }),
    );
    assert_eq!(table.count(Phase::Settled), 2);
    table.change(0, 4, 10);
    table.leave(3, &[5, 5], 20);
    assert_eq!(
        (table.slot(0), table.slot(1)),
        (Slot::settled(4), Slot::settled(5))
    );
}
