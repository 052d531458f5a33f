//! Tables that keep earlier owners as candidates.

use super::super::kept as rule;
use super::*;

fn kept(current: Member, previous: Member, older: Member) -> Slot {
    slot(current, previous, older, Phase::Kept)
}

/// One slot of three owners, the last change at `since_ns`.
fn full(since_ns: u64) -> SlotTable {
    let slot = kept(3, 2, 1);
    SlotTable::adopt(History::Kept, [ColdSlot { slot, since_ns }])
}

#[test]
fn earlier_owners_are_kept_whatever_time_passes() {
    let mut table = SlotTable::new(History::Kept, 1);
    for (member, at) in [(1, 10), (2, 20), (3, 30)] {
        assert!(table.change(0, member, at));
    }
    table.advance(1000 * T, T);
    assert!(table.may_settle(1000 * T).is_empty());
    let expected = ColdSlot {
        slot: kept(3, 2, 1),
        since_ns: 30,
    };
    assert_eq!(table.slots()[0], expected);
    assert_eq!(
        (table.waiting(), table.take_displaced(), table.count(Phase::Kept)),
        (0, 0, 1)
    );
}

#[test]
fn a_fourth_owner_waits_for_t_and_replaces_the_oldest() {
    let mut table = full(10);
    assert!(!table.change(0, 4, 20));
    assert_eq!((table.slot(0), table.waiting()), (kept(3, 2, 1), 1));
    table.advance(10 + T, T);
    assert_eq!(table.slot(0), kept(3, 2, 1), "not before T has passed");
    table.advance(11 + T, T);
    assert_eq!(table.slot(0), kept(4, 3, 2));
    assert_eq!((table.waiting(), table.take_displaced()), (0, 1));
    assert_eq!(table.slots()[0].since_ns, 11 + T);
}

#[test]
fn no_owner_is_lost_for_nobody() {
    let mut table = full(10);
    table.change(0, NONE, 20);
    table.advance(99 * T, T);
    assert_eq!((table.slot(0), table.waiting()), (kept(3, 2, 1), 1));
    table.leave(2, &[9], 99 * T);
    table.advance(99 * T, T);
    assert_eq!((table.slot(0), table.waiting()), (kept(NONE, 3, 1), 0));
}

#[test]
fn nothing_waits_behind_an_owner_that_fails() {
    let mut table = full(10);
    assert_eq!(table.retarget(&[4], &[2], 20), 0, "an earlier one does");
    assert_eq!(table.retarget(&[4], &[3], 20), 1);
    assert_eq!(table.slot(0), kept(4, 3, 2));
    assert_eq!((table.waiting(), table.take_displaced()), (0, 1));

    let mut table = full(10);
    table.retarget(&[4], &[3, 2], 20);
    assert_eq!(
        table.slot(0),
        kept(4, 3, 1),
        "the earlier one that fails makes room"
    );
}

#[test]
fn what_waits_is_what_was_wished_last() {
    let mut table = full(10);
    table.change(0, 4, 20);
    table.change(0, 5, 30);
    table.advance(11 + T, T);
    assert_eq!(table.slot(0), kept(5, 3, 2));
    table.change(0, 4, 12 + T);
    table.change(0, 5, 13 + T);
    table.advance(99 * T, T);
    assert_eq!((table.slot(0), table.waiting()), (kept(5, 3, 2), 0));
}

#[test]
fn who_leaves_makes_room_for_what_waits() {
    let mut table = full(10);
    table.change(0, 4, 20);
    table.leave(2, &[4], 30);
    table.advance(40, T);
    assert_eq!((table.slot(0), table.waiting()), (kept(4, 3, 1), 0));

    let mut table = full(10);
    table.change(0, 4, 20);
    table.leave(3, &[4], 30);
    assert_eq!(table.slot(0), kept(4, 2, 1));
    table.advance(40, T);
    assert_eq!((table.waiting(), table.take_displaced()), (0, 0));

    let mut table = full(10);
    table.change(0, 4, 20);
    table.leave(4, &[5], 30);
    table.advance(99 * T, T);
    assert_eq!(
        table.slot(0),
        kept(5, 3, 2),
        "who waited has gone, its heir waits"
    );
}

#[test]
fn a_slot_settles_when_its_earlier_owners_have_left() {
    let mut table = full(10);
    table.leave(1, &[9], 20);
    assert_eq!(table.slot(0), kept(3, 2, 0));
    table.leave(2, &[9], 30);
    assert_eq!(table.slot(0), Slot::settled(3));
}

/// What each of two balancers sees, with its own delays.
fn driven(tables: &[Vec<Member>], times: &[u64]) -> SlotTable {
    let mut table = SlotTable::new(History::Kept, tables[0].len());
    for (desired, &at) in tables.iter().zip(times) {
        table.advance(at, T);
        table.retarget(desired, &[], at);
    }
    table
}

proptest! {
    #![proptest_config(fixed(256))]

    /// Three members at most: no order or time of changes matters to who takes new flows, and nobody who ever
    /// did is missing from a table that has seen it.
    #[test]
    fn tables_that_saw_the_same_changes_find_each_others_owners(
        tables in prop::collection::vec(prop::collection::vec(1..=3u16, 8), 1..12),
        delays in prop::collection::vec((0..SECOND, 0..SECOND), 12),
        order in any::<prop::sample::Index>(),
    ) {
        let here: Vec<u64> = (0..).zip(&delays).map(|(i, delay)| i * SECOND + delay.0).collect();
        let there: Vec<u64> = (0..).zip(&delays).map(|(i, delay)| i * SECOND + delay.1).collect();
        let (one, other) = (driven(&tables, &here), driven(&tables, &there));
        for i in 0..8 {
            prop_assert_eq!(one.slot(i), other.slot(i));
            for owner in tables.iter().map(|table| table[i]) {
                prop_assert!(rule::names(one.slot(i), owner));
            }
        }
        // The same changes in another order, up to the same last table.
        let mut turned = tables.clone();
        let last = turned.len() - 1;
        turned[..last].rotate_left(if last == 0 { 0 } else { order.index(last) });
        let other = driven(&turned, &there);
        for i in 0..8 {
            prop_assert_eq!(one.slot(i).current, other.slot(i).current);
            for owner in tables.iter().map(|table| table[i]) {
                prop_assert!(rule::names(other.slot(i), owner));
            }
        }
    }

    /// Whatever is done, a slot names nobody twice, has no gap, and loses an owner only where that is counted.
    #[test]
    fn no_owner_is_lost_unless_it_is_counted(
        steps in prop::collection::vec((0..6u8, 0..8usize, 0..7u16, 0..T), 1..200),
    ) {
        let mut table = SlotTable::new(History::Kept, 8);
        let mut now = 0;
        for (step, i, member, wait) in steps {
            let before = table.slots().to_vec();
            now += wait / 4;
            let failing = if step == 1 { vec![table.slot(i).current] } else { Vec::new() };
            let mut desired: Vec<Member> = table.slots().iter().map(|held| held.slot.current).collect();
            desired[i] = member;
            match step {
                0..=2 => { table.retarget(&desired, &failing, now); }
                3 => table.leave(member, &[member % 6 + 1; 8], now),
                _ => table.advance(now, T),
            }
            let mut lost = 0;
            for (was, is) in before.iter().zip(table.slots()) {
                let names = [is.slot.current, is.slot.previous, is.slot.older];
                let named: Vec<Member> = names.into_iter().filter(|&m| m != NONE).collect();
                prop_assert!(named.iter().enumerate().all(|(n, m)| !named[..n].contains(m)), "{:?}", is);
                prop_assert!(is.slot.previous != NONE || is.slot.older == NONE, "{:?}", is);
                let phase = if is.slot.previous == NONE { Phase::Settled } else { Phase::Kept };
                prop_assert_eq!(is.slot.phase(), phase);
                for owner in [was.slot.current, was.slot.previous, was.slot.older] {
                    let left = step == 3 && owner == member;
                    lost += usize::from(owner != NONE && !left && !rule::names(is.slot, owner));
                }
            }
            prop_assert_eq!(lost, table.take_displaced());
            let mut changed = table.take_changed();
            changed.sort_unstable();
            changed.retain(|&i| before[i as usize] != table.slots()[i as usize]);
            let differing = (0..8u32).filter(|&i| before[i as usize] != table.slots()[i as usize]);
            prop_assert_eq!(&changed, &differing.collect::<Vec<_>>());
        }
    }
}
