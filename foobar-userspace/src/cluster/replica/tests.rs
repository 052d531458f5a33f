//! Tables that go from one balancer to another, whose indices are others.

use super::*;
use crate::balancer::slots::History;

const NOW: u64 = 100_000 * MS;
/// The idle time T.
const T: u64 = 30_000 * MS;

fn service() -> Service {
    Service {
        address: IpAddr::from([192, 0, 2, 101]),
        first_port: 443,
        last_port: 443,
        protocol: 6,
    }
}

fn name(last: u8, incarnation: u64) -> MemberName {
    MemberName {
        address: IpAddr::from([192, 0, 2, last]),
        incarnation,
    }
}

fn roster(members: &[(u8, Id)]) -> Roster {
    let mut roster = Roster::default();
    for &(last, id) in members {
        roster.insert(name(last, 0), 0, id);
    }
    roster
}

fn slots(held: &[ColdSlot]) -> SlotTable {
    SlotTable::adopt(History::Noted, held.iter().copied())
}

fn moving(current: Id, previous: Id, older: Id, since_ns: u64) -> ColdSlot {
    ColdSlot {
        slot: Slot {
            current,
            previous,
            older,
            phase: Phase::Moving as u16,
        },
        since_ns,
    }
}

fn settled(member: Id) -> ColdSlot {
    ColdSlot {
        slot: Slot::settled(member),
        since_ns: 0,
    }
}

#[test]
fn a_newcomer_has_the_peers_slots_under_its_own_indices() {
    let here = slots(&[settled(1), moving(2, 1, 3, NOW - 7 * MS), settled(NONE)]);
    let told = table(service(), &here, &roster(&[(21, 1), (22, 2), (23, 3)]), NOW);
    let mut there = slots(&[settled(NONE); 3]);
    let later = NOW + 500 * MS;
    let ours = roster(&[(21, 9), (22, 8), (23, 7)]);
    take_table(&told, &mut there, &ours, Relation::Newcomer, later, T).unwrap();
    assert_eq!(there.slot(0), Slot::settled(9));
    assert_eq!(there.slots()[1], moving(8, 9, 7, later - 7 * MS));
    assert_eq!(there.slot(2), Slot::settled(NONE));
}

#[test]
fn a_slot_of_a_stranger_is_left_as_it_is() {
    let told = table(service(), &slots(&[settled(1)]), &roster(&[(21, 1)]), NOW);
    let mut there = slots(&[settled(4)]);
    take_table(&told, &mut there, &roster(&[(22, 4)]), Relation::Newcomer, NOW, T).unwrap();
    assert_eq!(there.slot(0), Slot::settled(4));
}

#[test]
fn a_table_that_does_not_fit_changes_nothing_and_says_why() {
    let members = roster(&[(21, 1)]);
    let told = table(service(), &slots(&[settled(1); 2]), &members, NOW);
    let mut there = slots(&[settled(NONE)]);
    let error = take_table(&told, &mut there, &members, Relation::Newcomer, NOW, T).unwrap_err();
    assert!(
        error.to_string().contains("2 slots for 192.0.2.101:443/tcp"),
        "{error}"
    );
    let mut far = table(service(), &slots(&[settled(1)]), &members, NOW);
    far.current = vec![9, 0];
    let mut one = slots(&[settled(NONE)]);
    let error = take_table(&far, &mut one, &members, Relation::Newcomer, NOW, T).unwrap_err();
    assert_eq!(error, TableError::Nonsense(service()));
    let mut behind = table(service(), &slots(&[settled(1)]), &members, NOW);
    behind.unsettled.push(Unsettled {
        slot: 1,
        phase: 2,
        previous: 0,
        older: 0,
        age_ms: 0,
    });
    let error = take_table(&behind, &mut one, &members, Relation::Newcomer, NOW, T).unwrap_err();
    assert_eq!(error, TableError::Nonsense(service()));
    assert_eq!(one.slot(0), Slot::settled(NONE));
}

#[test]
fn names_of_earlier_lives_are_nobodys_and_later_ones_are_the_present_ones() {
    let mut roster = Roster::default();
    roster.insert(name(21, 5), 3, 1);
    assert_eq!(roster.id(name(21, 2)), None);
    for incarnation in [3, 4, 5, 6] {
        assert_eq!(roster.id(name(21, incarnation)), Some(1), "{incarnation}");
    }
    assert_eq!(roster.name(1), Some(name(21, 5)));
    assert_eq!(roster.name(2), None);
}

#[test]
fn starts_go_in_runs_and_extend_what_moves() {
    let told = starts(service(), &[0, 1, 2, 7, 9, 10]).unwrap();
    assert_eq!(told.runs, [(0, 3), (7, 1), (9, 2)]);
    assert_eq!(starts(service(), &[]), None);
    let mut there = slots(&[moving(1, 2, NONE, 5), settled(1), moving(1, 2, NONE, 6)]);
    let beyond = Starts {
        age_ms: 3,
        runs: vec![(0, 2), (3, u32::MAX)],
        ..told
    };
    take_starts(&beyond, &mut there, NOW, T);
    let since: Vec<u64> = there.slots().iter().map(|held| held.since_ns).collect();
    assert_eq!(since, [NOW - 3 * MS, NOW - 3 * MS + T, 6]);
}

#[test]
fn the_digest_knows_members_and_owners_and_not_indices() {
    let one = digest(
        b"x",
        &slots(&[settled(1), settled(2)]),
        &roster(&[(21, 1), (22, 2)]),
    );
    let same = digest(
        b"x",
        &slots(&[settled(7), settled(3)]),
        &roster(&[(21, 7), (22, 3)]),
    );
    assert_eq!(one, same);
    let history = digest(
        b"x",
        &slots(&[moving(1, 2, NONE, 0), settled(2)]),
        &roster(&[(21, 1), (22, 2)]),
    );
    assert_eq!(one, history, "phases are reconciled, not digested");
    let others = [
        digest(
            b"y",
            &slots(&[settled(1), settled(2)]),
            &roster(&[(21, 1), (22, 2)]),
        ),
        digest(
            b"x",
            &slots(&[settled(2), settled(1)]),
            &roster(&[(21, 1), (22, 2)]),
        ),
        digest(
            b"x",
            &slots(&[settled(1), settled(2)]),
            &roster(&[(21, 1), (23, 2)]),
        ),
    ];
    assert!(others.iter().all(|other| *other != one));
}

#[test]
fn ages_go_there_and_back() {
    assert_eq!(age_ms(NOW - 5 * MS, NOW), 5);
    assert_eq!(age_ms(NOW + MS, NOW), 0);
    assert_eq!(age_ms(0, u64::MAX), u32::MAX);
    assert_eq!(since_ns(5, NOW), NOW - 5 * MS);
    assert_eq!(since_ns(u32::MAX, 7), 0);
}

#[test]
fn tables_differ_where_owners_do_and_not_by_how_members_are_numbered() {
    let ours = slots(&[settled(1), settled(2), settled(1), settled(NONE)]);
    let ours = table(service(), &ours, &roster(&[(21, 1), (22, 2)]), NOW);
    let theirs = slots(&[settled(7), settled(7), settled(3), settled(NONE)]);
    let theirs = table(service(), &theirs, &roster(&[(21, 7), (23, 3)]), NOW);
    assert_eq!(differing(&ours, &ours), [0_u32; 0]);
    assert_eq!(differing(&ours, &theirs), [1, 2]);
    let shorter = table(service(), &slots(&[settled(1)]), &roster(&[(21, 1)]), NOW);
    assert_eq!(differing(&ours, &shorter), [1, 2, 3]);
}
