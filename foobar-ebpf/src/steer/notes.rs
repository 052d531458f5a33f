//! Notes of flows in unsettled slots: found, written, promoted, renewed.

use core::ptr::null_mut;

use foobar_common::address::Address;
use foobar_common::admission::FEATURE_NOTE_EVENTS;
use foobar_common::counters::Counter;
use foobar_common::note::{
    FlowKey, NOTE_CLAIMED, NOTE_ENDED, NOTE_PENDING, NOTE_WAYS, Note, NoteEntry, NoteSet, PENDING_WAYS,
    PendingNote, PendingSet, note_places, pending_set,
};
use foobar_common::note_event::{
    NoteEvent, STAGE_ENDED, STAGE_ESTABLISHED, STAGE_NONE, STAGE_OVERWRITTEN, STAGE_PENDING,
};
use foobar_common::settings::Settings;
use foobar_common::slot::{Member, NONE};
use foobar_common::steering::{Decision, Known, Record};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_common::time::{Ticks, age, ticks};
use foobar_common::vip::Vip;

use super::events::tell;
use super::{features, now_ns, target_flags};
use crate::forward::count;
use crate::maps::{NOTES, PENDING_NOTES, exchange, within};
use crate::packet::transport::Transport;

/// A flow of a packet, as notes name it.
pub struct Flow {
    key: [u64; 3],
    hash: u64,
    slot: u32,
    set: u32,
    sets: [u32; 2],
    nothing: u32,
    lifetime: u32,
    now: Ticks,
}

/// A flow's note, and where it is.
///
/// Plain words, all of them always set: of an enum with a pointer in it, the compiler would store a payload
/// that it never set, which the verifier refuses.
pub struct Found {
    note: *mut u64,
    word: u64,
    pending: *mut u64,
    member: Member,
    state: u16,
}

/// A use so late after the one before is told at once: this part of a note's lifetime of 5/4 T, T/8.
const LATE: u32 = 10;

const NOTHING: u16 = 0;
const STALE: u16 = 1;
const PENDING: u16 = 2;
const NOTED: u16 = 3;
const ENDED: u16 = 4;

impl Found {
    /// What the note says.
    #[inline(always)]
    pub const fn known(&self) -> Known {
        match self.state {
            STALE => Known::Stale,
            PENDING => Known::Pending(self.member),
            NOTED => Known::Noted(self.member),
            ENDED => Known::Ended(self.member),
            _ => Known::Nothing,
        }
    }
}

impl Flow {
    /// The flow of a packet that falls into slot `slot` (index in the slot array).
    #[inline(always)]
    pub fn new(
        settings: &Settings,
        vip: &Vip,
        slot: u32,
        hash: u64,
        source: Address,
        transport: Transport,
    ) -> Self {
        Self {
            key: FlowKey::new(source, transport.ports_be, vip.id).words(),
            hash,
            slot,
            sets: note_places(hash, settings.note_sets),
            nothing: settings.nothing,
            set: pending_set(hash, settings.pending_mask),
            lifetime: vip.note_lifetime,
            now: ticks(now_ns()),
        }
    }

    /// The flow's note: from the array of notes, else from the pending ones.
    #[inline(always)]
    pub fn find(&self) -> Found {
        let found = self.search();
        Found {
            word: set(found.word),
            ..found
        }
    }

    #[inline(always)]
    fn search(&self) -> Found {
        let mut found = Found {
            note: null_mut(),
            word: 0,
            pending: null_mut(),
            member: NONE,
            state: NOTHING,
        };
        let mut entry = self.noted(self.sets[0]);
        if entry.is_null() {
            entry = self.noted(self.sets[1]);
        }
        if !entry.is_null() {
            let place = note_of(entry);
            // SAFETY: a pointer to an aligned word of an array map's element.
            found.word = unsafe { place.read_volatile() };
            let note = Note::from_word(found.word);
            found.note = place;
            found.member = note.member;
            found.state = self.judge(note.member, note.flags, age(self.now, note.used));
            return found;
        }
        let identity = PendingNote::identity(self.slot, self.hash);
        if let Some(set) = PENDING_NOTES.get_ptr_mut(self.set) {
            for way in 0..PENDING_WAYS {
                let (word, entry) = pending(set, way);
                if entry.is_of(identity) {
                    found.pending = word;
                    found.member = entry.member();
                    found.state = self.judge(entry.member(), NOTE_PENDING, entry.age(self.now));
                    break;
                }
            }
        }
        found
    }

    /// The place of the flow's note, if this set has it; else null.
    #[inline(always)]
    fn noted(&self, set: u32) -> *mut NoteEntry {
        let Some(set) = NOTES.get_ptr_mut(set) else {
            return null_mut();
        };
        for way in 0..NOTE_WAYS {
            let entry = self.entry(set, way);
            // SAFETY: aligned words of an array map's element.
            let (before, tail) = unsafe {
                (
                    note_of(entry).cast::<u32>().read_volatile(),
                    entry.cast::<u64>().add(2).read_volatile(),
                )
            };
            if tail != self.key[2] || before & MEMBER == 0 {
                continue;
            }
            // SAFETY: as above.
            let (first, second, after) = unsafe {
                (
                    entry.cast::<u64>().read_volatile(),
                    entry.cast::<u64>().add(1).read_volatile(),
                    note_of(entry).cast::<u32>().read_volatile(),
                )
            };
            // The place is another flow's if its note has become another one while the key was read.
            if second == self.key[1] && first == self.key[0] && (before ^ after) & MEMBER == 0 {
                return entry;
            }
        }
        null_mut()
    }

    /// A place of a set. Which one is anything to the verifier, so that what follows is one state to it.
    #[inline(always)]
    fn entry(&self, set: *mut NoteSet, way: usize) -> *mut NoteEntry {
        let way = within::<{ NOTE_WAYS as u32 - 1 }>((way as u32).wrapping_add(self.nothing));
        // SAFETY: inside of the element by the mask.
        unsafe { set.cast::<NoteEntry>().add(way) }
    }

    /// A free place in one of the flow's two sets, which nobody else writes to from now on; else null.
    #[inline(always)]
    fn claim(&self) -> *mut NoteEntry {
        // Half of the places first, so that the two sets fill up alike.
        let [first, second] = self.sets;
        let mut entry = self.claim_in(first, 0);
        if entry.is_null() {
            entry = self.claim_in(second, 0);
        }
        if entry.is_null() {
            entry = self.claim_in(first, NOTE_WAYS / 2);
        }
        if entry.is_null() {
            entry = self.claim_in(second, NOTE_WAYS / 2);
        }
        entry
    }

    /// A free one of half of a set's places, as above.
    #[inline(always)]
    fn claim_in(&self, set: u32, begin: usize) -> *mut NoteEntry {
        let Some(set) = NOTES.get_ptr_mut(set) else {
            return null_mut();
        };
        for way in begin..begin + NOTE_WAYS / 2 {
            let entry = self.entry(set, way);
            // SAFETY: a pointer to an aligned word of an array map's element.
            let word = unsafe { note_of(entry).read_volatile() };
            if Note::from_word(word).is_free() {
                let claimed = u64::from(NOTE_CLAIMED) << 16;
                // SAFETY: as above.
                if unsafe { exchange(note_of(entry), word, claimed) } == word {
                    return entry;
                }
            }
        }
        null_mut()
    }

    /// Writes a note for the flow, which has none; says whether there was room.
    #[inline(always)]
    fn insert(&self, member: Member, flags: u16) -> bool {
        let entry = self.claim();
        if entry.is_null() {
            return false;
        }
        let note = Note {
            member,
            flags,
            used: self.now,
        };
        // SAFETY: aligned words of an array map's element, which is ours; the note comes last.
        unsafe {
            let words = entry.cast::<u64>();
            words.write_volatile(self.key[0]);
            words.add(1).write_volatile(self.key[1]);
            words.add(2).write_volatile(self.key[2]);
            note_of(entry).write_volatile(note.to_word());
        }
        true
    }

    /// Makes a note another one, unless it is another flow's by now; gives `stage` if it did.
    #[inline(always)]
    fn change(&self, found: &Found, member: Member, flags: u16, stage: u16) -> u16 {
        let new = Note {
            member,
            flags,
            used: self.now,
        };
        // SAFETY: a pointer to an aligned word of an array map's element.
        unsafe {
            let seen = exchange(found.note, found.word, new.to_word());
            if seen == found.word {
                return stage;
            }
            // Used by another CPU meanwhile, it is still the note that it was.
            if seen as u32 == found.word as u32 && exchange(found.note, seen, new.to_word()) == seen {
                return stage;
            }
        }
        STAGE_NONE
    }

    #[inline(always)]
    fn judge(&self, member: Member, flags: u16, age: u32) -> u16 {
        let target = target_flags(member);
        if age > self.lifetime || target & TARGET_GONE != 0 {
            STALE
        } else if flags & NOTE_PENDING != 0 {
            PENDING
        } else if flags & NOTE_ENDED != 0 || target & TARGET_DOWN != 0 {
            ENDED
        } else {
            NOTED
        }
    }

    /// Writes down what was decided, and tells of what peers must hear of.
    #[inline(always)]
    pub fn record(&self, found: &Found, decision: Decision) {
        let stage = match decision.record {
            Record::Keep => STAGE_NONE,
            Record::Write => self.write_pending(decision.member),
            Record::Overwrite => self.overwrite(found, decision.member),
            Record::Renew => self.renew(found, decision.member),
            Record::Use => self.follow(found, decision.member, 0),
            Record::End => self.follow(found, decision.member, NOTE_ENDED),
        };
        if features::has(FEATURE_NOTE_EVENTS) && stage != STAGE_NONE {
            let [first, second, tail, what, used] =
                NoteEvent::words(self.key, self.slot, decision.member, stage, self.now);
            tell(first, second, tail, what, used);
        }
    }

    #[inline(always)]
    fn write_pending(&self, member: Member) -> u16 {
        let Some(set) = PENDING_NOTES.get_ptr_mut(self.set) else {
            count(Counter::NoteFull);
            return STAGE_NONE;
        };
        // Among notes of one age the hash decides: were it always the same way, then in a flood each
        // newcomer would push out the one before it.
        let first = (self.hash >> 48) as usize;
        let mut oldest = pending(set, first % PENDING_WAYS).0;
        let mut greatest = 0;
        for step in 0..PENDING_WAYS {
            let (word, note) = pending(set, (first + step) % PENDING_WAYS);
            if note.0 == 0 {
                oldest = word;
                greatest = u32::MAX;
                break;
            }
            let age = note.age(self.now);
            if age > greatest {
                oldest = word;
                greatest = age;
            }
        }
        if greatest <= self.lifetime {
            count(Counter::NotePendingEvicted);
        }
        count(Counter::NotePending);
        self.set_pending(oldest, member);
        STAGE_PENDING
    }

    #[inline(always)]
    fn set_pending(&self, word: *mut u64, member: Member) {
        let note = PendingNote::new(self.slot, self.hash, member, self.now);
        // SAFETY: a pointer to an aligned word of an array map's element.
        unsafe { word.write_volatile(note.0) }
    }

    #[inline(always)]
    fn overwrite(&self, found: &Found, member: Member) -> u16 {
        count(Counter::NoteOverwritten);
        if !found.note.is_null() {
            return self.change(found, member, NOTE_PENDING, STAGE_OVERWRITTEN);
        }
        if !found.pending.is_null() {
            self.set_pending(found.pending, member);
        }
        STAGE_OVERWRITTEN
    }

    #[inline(always)]
    fn renew(&self, found: &Found, member: Member) -> u16 {
        count(Counter::NoteFollowed);
        if !found.note.is_null() {
            self.touch(found);
            if Note::from_word(found.word).flags & NOTE_PENDING == 0 {
                return STAGE_ESTABLISHED;
            }
        } else if !found.pending.is_null() {
            self.set_pending(found.pending, member);
        }
        STAGE_PENDING
    }

    #[inline(always)]
    fn touch(&self, found: &Found) {
        // Written only when it changes, to keep the cache line shared.
        if Note::from_word(found.word).used != self.now {
            // SAFETY: the upper half of an aligned word of an array map's element.
            unsafe { found.note.cast::<Ticks>().add(1).write_volatile(self.now) }
        }
    }

    #[inline(always)]
    fn follow(&self, found: &Found, member: Member, end: u16) -> u16 {
        count(Counter::NoteFollowed);
        let stage = if end == 0 { STAGE_ESTABLISHED } else { STAGE_ENDED };
        if !found.note.is_null() {
            let Note { flags: had, used, .. } = Note::from_word(found.word);
            let flags = had & !NOTE_PENDING | end;
            if flags != had {
                return self.change(found, member, flags, stage);
            }
            self.touch(found);
            // A peer's copy may be about to expire: it can't wait for the next sweep.
            if age(self.now, used) > self.lifetime / LATE {
                return if flags & NOTE_ENDED == 0 {
                    STAGE_ESTABLISHED
                } else {
                    STAGE_ENDED
                };
            }
        } else if !found.pending.is_null() {
            if self.insert(member, end) {
                count(Counter::NotePromoted);
                // SAFETY: as in `set_pending`.
                unsafe { found.pending.write_volatile(0) }
                return stage;
            }
            count(Counter::NoteFull);
            self.set_pending(found.pending, member);
        }
        STAGE_NONE
    }
}

/// A word that has to be set by now, whichever way led here: the compiler sees no further.
#[inline(always)]
fn set(word: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut word = word;
        // SAFETY: no instruction at all.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }
    #[cfg(not(target_arch = "bpf"))]
    word
}

/// The word of an entry's note.
#[inline(always)]
fn note_of(entry: *mut NoteEntry) -> *mut u64 {
    // SAFETY: the entry is inside of an element.
    unsafe { &raw mut (*entry).note }.cast()
}

/// The bits of a note's word that name its member.
const MEMBER: u32 = 0xffff;

/// The word of a set's entry, and what it holds.
#[inline(always)]
fn pending(set: *mut PendingSet, way: usize) -> (*mut u64, PendingNote) {
    // SAFETY: `way` is below PENDING_WAYS wherever it comes from here, so that the word is inside the element.
    unsafe {
        let word = set.cast::<u64>().add(way);
        (word, PendingNote(word.read_volatile()))
    }
}
