//! The automaton's rules one by one, driven by hand.

use proptest::prelude::*;

use super::super::fixed;
use super::*;

const SECOND: u64 = 1_000_000_000;
const T: u64 = 30 * SECOND;

fn slot(current: Member, previous: Member, older: Member, phase: Phase) -> Slot {
    Slot {
        current,
        previous,
        older,
        phase: phase as u16,
    }
}

/// One slot that belongs to member 1, nothing to write.
fn one() -> SlotTable {
    SlotTable::adopt(
        History::Noted,
        [ColdSlot {
            slot: Slot::settled(1),
            since_ns: 0,
        }],
    )
}

#[test]
fn the_first_member_of_a_slot_has_nothing_to_wait_for() {
    let mut table = SlotTable::new(History::Noted, 2);
    assert_eq!(table.retarget(&[1, 0], &[], 5), 1);
    assert_eq!(
        (table.slot(0), table.slot(1)),
        (Slot::settled(1), Slot::settled(0))
    );
    assert_eq!(table.take_changed(), [0]);
}

#[test]
fn a_change_moves_then_lingers_then_settles() {
    let mut table = one();
    assert!(table.change(0, 2, 10) && !table.change(0, 2, 11));
    assert_eq!(table.slot(0), slot(2, 1, 0, Phase::Moving));
    table.advance(10 + T, T);
    assert_eq!(table.slot(0).phase(), Phase::Moving, "not before T has passed");
    assert!(!table.settle(0, 10 + T), "a moving slot never settles");
    table.advance(11 + T, T);
    assert_eq!(
        table.slots()[0],
        ColdSlot {
            slot: slot(2, 0, 0, Phase::Fresh),
            since_ns: 11 + T
        }
    );
    assert!(table.may_settle(11 + T).is_empty());
    table.advance(11 + T + SECOND, T);
    assert_eq!(table.slot(0).phase(), Phase::Fresh, "a whole second");
    table.advance(12 + T + SECOND, T);
    assert_eq!(table.slot(0), slot(2, 0, 0, Phase::Moved));
    assert_eq!(
        (table.may_settle(99 * T), table.settle(0, 99 * T)),
        (vec![0], true)
    );
    assert_eq!(
        table.slots()[0],
        ColdSlot {
            slot: Slot::settled(2),
            since_ns: 99 * T
        }
    );
}

#[test]
fn changes_while_moving_keep_the_unnoted_owner_and_the_start() {
    let mut table = one();
    for (member, at) in [(2, 10), (3, 20), (4, 30), (1, 40)] {
        table.change(0, member, at);
        assert_eq!(
            (table.slot(0).unnoted_owner(), table.slots()[0].since_ns),
            (1, 10),
            "{member}"
        );
    }
    assert_eq!(table.slot(0), slot(1, 4, 1, Phase::Moving));
}

#[test]
fn a_change_after_moving_begins_anew() {
    for after in [Phase::Open, Phase::Fresh, Phase::Moved] {
        let mut table = SlotTable::adopt(
            History::Noted,
            [ColdSlot {
                slot: slot(2, 0, 0, after),
                since_ns: 3,
            }],
        );
        table.change(0, 5, 77);
        let expected = ColdSlot {
            slot: slot(5, 2, 0, Phase::Moving),
            since_ns: 77,
        };
        assert_eq!(table.slots()[0], expected, "{after:?}");
    }
}

#[test]
fn a_slot_may_lose_its_last_owner_and_keeps_the_flows() {
    let mut table = one();
    table.change(0, NONE, 10);
    assert_eq!(table.slot(0), slot(0, 1, 0, Phase::Moving));
    table.change(0, 2, 20);
    assert_eq!(
        (table.slot(0), table.slot(0).unnoted_owner()),
        (slot(2, 0, 1, Phase::Moving), 1)
    );

    for after in [Phase::Open, Phase::Fresh, Phase::Moved] {
        let mut table = SlotTable::adopt(
            History::Noted,
            [ColdSlot {
                slot: slot(0, 0, 0, after),
                since_ns: 3,
            }],
        );
        table.change(0, 2, 20);
        let kept = ColdSlot {
            slot: slot(2, 0, 0, after),
            since_ns: 3,
        };
        assert_eq!(table.slots()[0], kept, "notes of the one before still count");
    }
}

#[test]
fn a_member_that_is_hard_down_leaves_its_slots() {
    let cases = [
        (slot(1, 0, 0, Phase::Settled), slot(9, 0, 0, Phase::Settled)),
        (slot(1, 0, 0, Phase::Moved), slot(9, 0, 0, Phase::Moved)),
        (slot(1, 2, 3, Phase::Moving), slot(9, 2, 3, Phase::Moving)),
        (slot(2, 1, 3, Phase::Moving), slot(2, 3, 0, Phase::Moving)),
        (slot(2, 3, 1, Phase::Moving), slot(2, 0, 0, Phase::Fresh)),
        (slot(2, 1, 0, Phase::Moving), slot(2, 0, 0, Phase::Fresh)),
        (slot(1, 1, 1, Phase::Moving), slot(9, 0, 0, Phase::Fresh)),
        (slot(2, 0, 1, Phase::Moving), slot(2, 0, 0, Phase::Fresh)),
        (slot(2, 3, 0, Phase::Moving), slot(2, 3, 0, Phase::Moving)),
    ];
    let mut table = SlotTable::adopt(
        History::Noted,
        cases.map(|(slot, _)| ColdSlot { slot, since_ns: 4 }),
    );
    table.leave(1, &[9; 9], 50);
    for (i, (before, after)) in cases.iter().enumerate() {
        assert_eq!(table.slot(i), *after, "from {before:?}");
        let ended = before.phase() == Phase::Moving && after.phase() == Phase::Fresh;
        assert_eq!(
            table.slots()[i].since_ns,
            if ended { 50 } else { 4 },
            "from {before:?}"
        );
    }
    assert_eq!(table.take_changed(), (0..8).collect::<Vec<_>>());
}

#[test]
fn an_open_slot_settles_after_a_second() {
    let mut table = one();
    assert!(table.open(0, 5) && !table.open(0, 6));
    assert_eq!(table.slot(0), slot(1, 0, 0, Phase::Open));
    assert!(table.may_settle(5 + SECOND).is_empty() && !table.settle(0, 5 + SECOND));
    assert_eq!(table.may_settle(6 + SECOND), [0]);
    assert!(table.settle(0, 6 + SECOND));
    assert_eq!(table.slot(0), Slot::settled(1));
}

#[test]
fn usage_counts_every_name() {
    let held = [
        slot(1, 2, 3, Phase::Moving),
        slot(1, 0, 0, Phase::Settled),
        slot(2, 1, 0, Phase::Moving),
    ];
    let usage = SlotTable::adopt(History::Noted, held.map(|slot| ColdSlot { slot, since_ns: 0 })).usage();
    let counts = |current, previous, older| Usage {
        current,
        previous,
        older,
    };
    assert_eq!(
        usage,
        BTreeMap::from([(1, counts(2, 1, 0)), (2, counts(1, 1, 0)), (3, counts(0, 0, 1))])
    );
}

proptest! {
    #![proptest_config(fixed(256))]

    /// Whatever is done, the table says which slots differ, counts them right and keeps its invariants.
    #[test]
    fn every_difference_is_listed_and_counted(
        steps in prop::collection::vec((0..6u8, 0..8usize, 0..6u16, 0..T), 1..200),
    ) {
        let mut table = SlotTable::new(History::Noted, 8);
        let mut now = 0;
        for (step, i, member, wait) in steps {
            let before = table.slots().to_vec();
            now += wait / 4;
            match step {
                0 | 1 => { table.change(i, member, now); }
                2 => table.leave(member, &[member + 1; 8], now),
                3 => table.advance(now, T),
                4 => { table.open(i, now); }
                _ => { table.settle(i, now); }
            }
            let mut changed = table.take_changed();
            changed.sort_unstable();
            let differing = (0..8u32).filter(|&i| before[i as usize] != table.slots()[i as usize]);
            prop_assert_eq!(&changed, &differing.collect::<Vec<_>>());
            let phases = [Phase::Settled, Phase::Open, Phase::Moving, Phase::Fresh, Phase::Moved];
            for phase in phases {
                prop_assert_eq!(table.count(phase), table.slots().iter().filter(|s| s.slot.phase() == phase).count());
            }
            for (was, is) in before.iter().zip(table.slots()) {
                let history = is.slot.previous != NONE || is.slot.older != NONE;
                prop_assert_eq!(history, is.slot.phase() == Phase::Moving, "{:?}", is);
                if step != 2 && was.slot.phase() == Phase::Moving && is.slot.phase() == Phase::Moving {
                    prop_assert_eq!(was.slot.unnoted_owner(), is.slot.unnoted_owner());
                    prop_assert_eq!(was.since_ns, is.since_ns);
                }
            }
        }
    }
}

mod kept;
mod modes;
