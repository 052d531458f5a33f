//! What becomes of notes that were heard, alone and while others write to the arrays.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::thread;

use foobar_common::address::Address;
use foobar_common::note::PENDING_TIME_SHIFT;
use foobar_common::slot::NONE;

use super::super::notes::NoteEntry;
use super::super::region::Region;
use super::*;

const SEED: [u64; 2] = [0x0f1e_2d3c_4b5a_6978, 0x1122_3344_5566_7788];
const SLOT: u32 = 5;
const NOW: Ticks = 1 << 20;

fn notes(sets: u32, pending_sets: u32) -> Notes {
    Notes::of(Region::anonymous(sets), Region::anonymous(pending_sets))
}

fn flow(n: u16) -> NotedFlow {
    let key = FlowKey {
        source: Address::from(Ipv4Addr::new(198, 51, 100, 7)),
        source_port_be: n.to_be(),
        destination_port_be: 443u16.to_be(),
        vip: 71,
    };
    NotedFlow::new(SEED, key, SLOT)
}

const fn heard(member: Member, used: Ticks, stage: NoteStage) -> HeardNote {
    HeardNote { member, used, stage }
}

use NoteStage::{Ended, Established, Overwritten, Pending};

/// All notes of the array, by their keys: no flow has two.
fn noted(notes: &Notes) -> HashMap<FlowKey, Note> {
    let mut found = HashMap::new();
    for entry in notes.all() {
        if let NoteEntry::Noted { key, note, .. } = entry {
            assert_eq!(found.insert(key, note), None, "two notes of {key:?}");
        }
    }
    found
}

fn pending(notes: &Notes) -> Vec<PendingNote> {
    let pending = |entry| match entry {
        NoteEntry::Pending { note, .. } => Some(note),
        NoteEntry::Noted { .. } => None,
    };
    notes.all().filter_map(pending).collect()
}

fn only(notes: &Notes) -> (Member, u16, Ticks) {
    let found = noted(notes);
    assert_eq!(found.len(), 1);
    let note = found[&flow(1).key];
    (note.member, note.flags, note.used)
}

fn hear(notes: &Notes, member: Member, used: Ticks, stage: NoteStage) -> Heard {
    notes.hear(&flow(1), heard(member, used, stage), NOW).heard
}

#[test]
fn a_note_is_new_once_and_its_later_use_counts() {
    let notes = notes(8, 8);
    let first = notes.hear(&flow(1), heard(3, NOW - 50, Established), NOW);
    assert_eq!(first.heard, Heard::New);
    assert_eq!(hear(&notes, 3, NOW - 50, Established), Heard::Known);
    assert_eq!(hear(&notes, 3, NOW - 90, Established), Heard::Known);
    assert_eq!(only(&notes), (3, 0, NOW - 50));
    let later = notes.hear(&flow(1), heard(3, NOW - 20, Established), NOW);
    assert_eq!((later.heard, later.place), (Heard::Renewed, first.place));
    assert_eq!(only(&notes), (3, 0, NOW - 20));
    let places: Vec<_> = notes
        .all()
        .map(|entry| match entry {
            NoteEntry::Noted { place, .. } => Some(place),
            NoteEntry::Pending { .. } => None,
        })
        .collect();
    assert_eq!(places, [first.place]);
}

#[test]
fn of_two_members_the_one_that_was_used_later_has_the_flow() {
    let notes = notes(8, 8);
    hear(&notes, 3, NOW - 50, Established);
    assert_eq!(hear(&notes, 4, NOW - 60, Established), Heard::Known);
    assert_eq!(
        hear(&notes, 4, NOW - 50, Ended),
        Heard::Known,
        "not at the same time"
    );
    assert_eq!(only(&notes), (3, 0, NOW - 50));
    assert_eq!(hear(&notes, 4, NOW - 40, Established), Heard::Renewed);
    assert_eq!(only(&notes), (4, 0, NOW - 40));
    assert_eq!(hear(&notes, 5, NOW - 30, Overwritten), Heard::Renewed);
    assert_eq!(only(&notes), (5, NOTE_PENDING, NOW - 30));
}

#[test]
fn a_pending_note_makes_no_established_one_less() {
    let notes = notes(8, 8);
    hear(&notes, 3, NOW - 50, Established);
    assert_eq!(hear(&notes, 3, NOW - 50, Pending), Heard::Known);
    assert_eq!(hear(&notes, 3, NOW - 40, Pending), Heard::Renewed);
    assert_eq!(only(&notes), (3, 0, NOW - 40));
    assert!(pending(&notes).is_empty());
}

#[test]
fn a_flow_that_has_ended_begins_a_new_life_with_a_later_note_only() {
    let notes = notes(8, 8);
    hear(&notes, 3, NOW - 50, Established);
    assert_eq!(hear(&notes, 3, NOW - 50, Ended), Heard::Renewed);
    assert_eq!(hear(&notes, 3, NOW - 50, Established), Heard::Known);
    assert_eq!(hear(&notes, 3, NOW - 60, Pending), Heard::Known);
    assert_eq!(only(&notes), (3, NOTE_ENDED, NOW - 50));
    assert_eq!(hear(&notes, 3, NOW - 40, Overwritten), Heard::Renewed);
    assert_eq!(only(&notes), (3, NOTE_PENDING, NOW - 40));
    assert_eq!(hear(&notes, 3, NOW - 40, Established), Heard::Renewed);
    assert_eq!(only(&notes), (3, 0, NOW - 40));
}

#[test]
fn an_established_note_takes_the_place_of_the_pending_one() {
    let notes = notes(8, 8);
    assert_eq!(hear(&notes, 3, NOW - 50, Pending), Heard::New);
    assert_eq!((noted(&notes).len(), pending(&notes).len()), (0, 1));
    assert_eq!(hear(&notes, 3, NOW - 40, Established), Heard::Renewed);
    assert_eq!(only(&notes), (3, 0, NOW - 40));
    assert!(pending(&notes).is_empty());
}

#[test]
fn a_later_pending_note_of_another_member_outlives_what_was_established_before() {
    const UNIT: Ticks = 1 << PENDING_TIME_SHIFT;
    let notes = notes(8, 8);
    hear(&notes, 3, NOW, Pending);
    assert_eq!(hear(&notes, 4, NOW - 3 * UNIT, Established), Heard::Known);
    assert_eq!((noted(&notes).len(), pending(&notes)[0].member()), (0, 3));
    assert_eq!(hear(&notes, 4, NOW - 3 * UNIT, Pending), Heard::Known);
    assert_eq!(pending(&notes)[0].member(), 3);
    assert_eq!(hear(&notes, 4, NOW + UNIT, Pending), Heard::Renewed);
    assert_eq!((pending(&notes).len(), pending(&notes)[0].member()), (1, 4));
}

#[test]
fn where_both_sets_are_full_a_flows_note_stays_pending_and_the_others_are_there() {
    let notes = notes(1, 8);
    for n in 10..18 {
        let hearing = notes.hear(&flow(n), heard(3, NOW, Established), NOW);
        assert_eq!(hearing.heard, Heard::New);
    }
    assert_eq!(hear(&notes, 3, NOW, Established), Heard::NoRoom);
    assert_eq!((noted(&notes).len(), pending(&notes).len()), (8, 1));
}

#[test]
fn only_a_later_pending_note_takes_the_place_of_an_older_one_of_another_flow() {
    const UNIT: Ticks = 1 << PENDING_TIME_SHIFT;
    let notes = notes(1, 1);
    for n in 10..18 {
        let used = NOW - u32::from(n - 10) * 4 * UNIT;
        notes.hear(&flow(n), heard(3, used, Pending), NOW);
    }
    assert_eq!(hear(&notes, 4, NOW - 60 * UNIT, Pending), Heard::NoRoom);
    assert_eq!(hear(&notes, 4, NOW, Pending), Heard::New);
    let left = pending(&notes);
    assert_eq!(left.len(), PENDING_WAYS);
    let identity = |n| PendingNote::identity(SLOT, flow(n).hash);
    let oldest = identity(17);
    assert!(left.iter().all(|note| !note.is_of(oldest)));
    assert!(
        left.iter()
            .any(|note| note.is_of(identity(1)) && note.member() == 4)
    );
}

#[test]
fn a_pending_note_of_a_balancer_with_fewer_sets_is_in_each_that_it_may_belong_to() {
    let notes = notes(1, 8);
    let hash = flow(1).hash;
    let known = PendingNote::new(SLOT, hash, 3, NOW).known_hash(pending_set(hash, 1));
    assert_eq!(notes.hear_pending(SLOT, known, 2, 3, NOW, NOW), Heard::New);
    assert_eq!(pending(&notes).len(), 4);
    assert!(notes.find_pending(&flow(1)).is_some());
    let more = PendingNote::new(SLOT, hash, 3, NOW).known_hash(pending_set(hash, 63));
    assert_eq!(notes.hear_pending(SLOT, more, 64, 3, NOW, NOW), Heard::Known);
}

/// What the program does with a flow's packet, by the same discipline.
fn packet(notes: &Notes, flow: &NotedFlow, member: Member, used: Ticks, end: bool) {
    let flags = if end { NOTE_ENDED } else { 0 };
    let Some((set, way, word)) = notes.find(flow, None) else {
        notes.insert(flow, Note { member, flags, used });
        return;
    };
    let held = Note::from_word(word);
    let new = Note {
        flags: held.flags & NOTE_ENDED | flags,
        used,
        ..held
    };
    _ = notes
        .note_word(set, way)
        .compare_exchange(word, new.to_word(), Ordering::AcqRel, Ordering::Relaxed);
}

/// Flows that packets use, that are heard of, and both, in sets so full that they meet. Nobody is ever seen with
/// another's member, and at the end each has the note that it was given.
#[test]
fn no_note_is_lost_or_mixed_up_while_packets_and_peers_write() {
    const FLOWS: u16 = 96;
    const ROUNDS: Ticks = 300;
    let notes = notes(32, 8);
    let member = |n: u16| n + 1;
    let of_key: HashMap<FlowKey, Member> = (0..FLOWS).map(|n| (flow(n).key, member(n))).collect();
    let (done, seen) = (AtomicBool::new(false), |notes: &Notes| {
        for entry in notes.all() {
            if let NoteEntry::Noted { key, note, .. } = entry {
                assert_eq!(of_key.get(&key), Some(&note.member), "{key:?}");
            }
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                seen(&notes);
            }
        });
        let packets = scope.spawn(|| {
            for round in 0..ROUNDS {
                for n in 0..FLOWS * 2 / 3 {
                    packet(&notes, &flow(n), member(n), NOW + round, round == ROUNDS - 1);
                }
            }
        });
        for round in 0..ROUNDS {
            for n in FLOWS / 3..FLOWS {
                let said = heard(member(n), NOW + round, Established);
                let hearing = notes.hear(&flow(n), said, NOW + round);
                assert_ne!(hearing.heard, Heard::NoRoom, "{n}");
            }
        }
        packets.join().unwrap();
        done.store(true, Ordering::Relaxed);
    });
    for n in 0..FLOWS {
        let (_, _, word) = notes.find(&flow(n), None).unwrap();
        let note = Note::from_word(word);
        assert_eq!((note.member, note.used), (member(n), NOW + ROUNDS - 1), "{n}");
    }
    for set in 0..notes.noted.len() {
        for way in 0..NOTE_WAYS {
            let note = Note::from_word(notes.note_word(set, way).load(Ordering::Relaxed));
            assert!(note.is_free() || note.member != NONE, "a place is left claimed");
        }
    }
}
