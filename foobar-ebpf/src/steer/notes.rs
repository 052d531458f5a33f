//! Notes of flows in unsettled slots: found, written, promoted, renewed.

use core::ptr::null_mut;

use foobar_common::address::Address;
use foobar_common::counters::Counter;
use foobar_common::note::{
    FlowKey, NOTE_ENDED, NOTE_PENDING, Note, PENDING_WAYS, PendingNote, PendingSet, pending_set,
};
use foobar_common::settings::Settings;
use foobar_common::slot::{Member, NONE};
use foobar_common::steering::{Decision, Known, Record};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_common::time::{Ticks, age, ticks};
use foobar_common::vip::Vip;

use super::{now_ns, target_flags};
use crate::forward::count;
use crate::maps::{NOTES, PENDING_NOTES};
use crate::packet::transport::Transport;

/// A flow of a packet, as notes name it.
pub struct Flow {
    key: FlowKey,
    hash: u64,
    slot: u32,
    set: u32,
    lifetime: u32,
    now: Ticks,
}

/// A flow's note, and where it is.
///
/// Plain words, all of them always set: of an enum with a pointer in it, the compiler would store a payload
/// that it never set, which the verifier refuses.
pub struct Found {
    note: *mut Note,
    pending: *mut u64,
    member: Member,
    state: u16,
}

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
            key: FlowKey::new(source, transport.ports_be, vip.id),
            hash,
            slot,
            set: pending_set(hash, settings.pending_mask),
            lifetime: vip.note_lifetime,
            now: ticks(now_ns()),
        }
    }

    /// The flow's note: from the map of notes, else from the pending ones.
    #[inline(always)]
    pub fn find(&self) -> Found {
        let mut found = Found {
            note: null_mut(),
            pending: null_mut(),
            member: NONE,
            state: NOTHING,
        };
        if let Some(note) = NOTES.get_ptr_mut(self.key) {
            // SAFETY: a pointer to a live element. Another CPU may reuse the element only when the daemon
            // deletes the note; a stale read then costs one packet's steering, as if it had come earlier.
            let (member, flags, used) = unsafe { ((*note).member, (*note).flags, (*note).used) };
            found.note = note;
            found.member = member;
            found.state = self.judge(member, flags, age(self.now, used));
            return found;
        }
        let identity = PendingNote::identity(self.slot, self.hash);
        if let Some(set) = PENDING_NOTES.get_ptr_mut(self.set) {
            for way in 0..PENDING_WAYS {
                let (word, entry) = entry(set, way);
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

    /// Writes down what was decided.
    #[inline(always)]
    pub fn record(&self, found: &Found, decision: Decision) {
        match decision.record {
            Record::Keep => (),
            Record::Write => self.write_pending(decision.member),
            Record::Overwrite => self.overwrite(found, decision.member),
            Record::Renew => self.renew(found, decision.member),
            Record::Use => self.follow(found, decision.member, 0),
            Record::End => self.follow(found, decision.member, NOTE_ENDED),
        }
    }

    #[inline(always)]
    fn write_pending(&self, member: Member) {
        let Some(set) = PENDING_NOTES.get_ptr_mut(self.set) else {
            return count(Counter::NoteFull);
        };
        // Among notes of one age the hash decides: were it always the same way, then in a flood each
        // newcomer would push out the one before it.
        let first = (self.hash >> 48) as usize;
        let mut oldest = entry(set, first % PENDING_WAYS).0;
        let mut greatest = 0;
        for step in 0..PENDING_WAYS {
            let (word, note) = entry(set, (first + step) % PENDING_WAYS);
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
    }

    #[inline(always)]
    fn set_pending(&self, word: *mut u64, member: Member) {
        let note = PendingNote::new(self.slot, self.hash, member, self.now);
        // SAFETY: a pointer to an aligned word of an array map's element.
        unsafe { word.write_volatile(note.0) }
    }

    #[inline(always)]
    fn overwrite(&self, found: &Found, member: Member) {
        count(Counter::NoteOverwritten);
        if !found.note.is_null() {
            // SAFETY: as in `find`.
            unsafe {
                (*found.note).member = member;
                (*found.note).flags = NOTE_PENDING;
                (*found.note).used = self.now;
            }
        } else if !found.pending.is_null() {
            self.set_pending(found.pending, member);
        }
    }

    #[inline(always)]
    fn renew(&self, found: &Found, member: Member) {
        count(Counter::NoteFollowed);
        if !found.note.is_null() {
            self.touch(found.note);
        } else if !found.pending.is_null() {
            self.set_pending(found.pending, member);
        }
    }

    #[inline(always)]
    fn touch(&self, note: *mut Note) {
        // SAFETY: as in `find`. The word is written only when it changes, to keep the cache line shared.
        unsafe {
            if (*note).used != self.now {
                (*note).used = self.now;
            }
        }
    }

    #[inline(always)]
    fn follow(&self, found: &Found, member: Member, end: u16) {
        count(Counter::NoteFollowed);
        if !found.note.is_null() {
            self.touch(found.note);
            // SAFETY: as in `find`.
            unsafe {
                let flags = (*found.note).flags & !NOTE_PENDING | end;
                if flags != (*found.note).flags {
                    (*found.note).flags = flags;
                }
            }
        } else if !found.pending.is_null() {
            let note = Note {
                member,
                flags: end,
                used: self.now,
                shared: self.now,
                reserved: 0,
            };
            if NOTES.insert(self.key, note, 0).is_ok() {
                count(Counter::NotePromoted);
                // SAFETY: as in `set_pending`.
                unsafe { found.pending.write_volatile(0) }
            } else {
                count(Counter::NoteFull);
                self.set_pending(found.pending, member);
            }
        }
    }
}

/// The word of a set's entry, and what it holds.
#[inline(always)]
fn entry(set: *mut PendingSet, way: usize) -> (*mut u64, PendingNote) {
    // SAFETY: `way` is below PENDING_WAYS wherever it comes from here, so that the word is inside the element.
    unsafe {
        let word = set.cast::<u64>().add(way);
        (word, PendingNote(word.read_volatile()))
    }
}
