//! Notes, seen from user space: read as a whole from time to time, to see which slots may settle and which
//! members nobody names any more.

use std::io;
use std::mem::{offset_of, size_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foobar_common::flow::{flow_hash, ports_be};
use foobar_common::note::{
    FlowKey, NOTE_WAYS, Note, NoteEntry as Place, NoteSet, PENDING_WAYS, PendingNote, PendingSet, note_places,
};
use foobar_common::slot::NONE;

use super::load::DataPlane;
use super::region::Region;

/// A note, as a sweep shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteEntry {
    /// From the array of notes.
    Noted {
        /// Its place in the array, below [`Notes::places`].
        place: u32,
        /// Whose it is.
        key: FlowKey,
        /// The note.
        note: Note,
    },
    /// A first note.
    Pending {
        /// The set that it is in.
        set: u32,
        /// The note.
        note: PendingNote,
    },
}

/// What a sweep does with a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
}

/// The arrays of notes. The data plane writes to them at any time; clones are of the same arrays.
#[derive(Clone, Debug)]
pub struct Notes {
    pub(super) noted: Arc<Region<NoteSet>>,
    pub(super) pending: Arc<Region<PendingSet>>,
}

impl Notes {
    pub(super) fn of(noted: Region<NoteSet>, pending: Region<PendingSet>) -> Self {
        Self {
            noted: Arc::new(noted),
            pending: Arc::new(pending),
        }
    }

    /// How many places the array of notes has.
    pub fn places(&self) -> u32 {
        self.noted.len() * NOTE_WAYS as u32
    }

    /// How many sets there are for pending notes, a power of two: so many bits of their hashes are known.
    pub fn pending_sets(&self) -> u32 {
        self.pending.len()
    }

    /// Every note. One that vanishes or appears meanwhile may be shown or not.
    pub fn all(&self) -> impl Iterator<Item = NoteEntry> {
        // Pending notes first: one that is promoted meanwhile is then seen in the array, at worst twice.
        let pending = (0..self.pending.len()).flat_map(move |set| {
            (0..PENDING_WAYS).filter_map(move |way| {
                let bits = self.pending_word(set, way).load(Ordering::Acquire);
                (bits != 0).then_some(NoteEntry::Pending {
                    set,
                    note: PendingNote(bits),
                })
            })
        });
        let noted = (0..self.noted.len()).flat_map(move |set| {
            (0..NOTE_WAYS).filter_map(move |way| {
                let (key, word) = self.noted(set, way)?;
                Some(NoteEntry::Noted {
                    place: place(set, way),
                    key,
                    note: Note::from_word(word),
                })
            })
        });
        pending.chain(noted)
    }

    /// Shows every note to `judge` and deletes those that it says; returns how many there are left in the array of
    /// notes.
    fn sweep(&self, mut judge: impl FnMut(NoteEntry) -> Sweep) -> usize {
        let mut left = 0;
        for entry in self.all() {
            let judgement = judge(entry);
            match entry {
                NoteEntry::Pending { set, note } => {
                    if judgement == Sweep::Delete {
                        self.forget_pending(set, note);
                    }
                }
                NoteEntry::Noted { place, note, .. } => {
                    left += usize::from(judgement == Sweep::Keep || !self.free(place, note));
                }
            }
        }
        left
    }

    /// Deletes a pending note; lost where the data plane was faster: then it is a newer note.
    pub(super) fn forget_pending(&self, set: u32, note: PendingNote) {
        for way in 0..PENDING_WAYS {
            let word = self.pending_word(set, way);
            if word.load(Ordering::Relaxed) == note.0 {
                _ = word.compare_exchange(note.0, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Frees the place of a note, unless a packet has used or overwritten it meanwhile: then it is another note, and
    /// this is false.
    pub(super) fn free(&self, place: u32, note: Note) -> bool {
        let word = self.note_word(place / NOTE_WAYS as u32, place as usize % NOTE_WAYS);
        word.compare_exchange(note.to_word(), 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    pub(super) fn pending_word(&self, set: u32, way: usize) -> &AtomicU64 {
        self.pending.u64(set, way * 8)
    }

    pub(super) fn note_word(&self, set: u32, way: usize) -> &AtomicU64 {
        self.noted
            .u64(set, way * size_of::<Place>() + offset_of!(Place, note))
    }

    /// A place's note and whose it is, if there is one.
    pub(super) fn noted(&self, set: u32, way: usize) -> Option<(FlowKey, u64)> {
        let place = self.note_word(set, way);
        let mut word = place.load(Ordering::Acquire);
        loop {
            if Note::from_word(word).member == NONE {
                return None;
            }
            let [first, second, tail] = [0, 8, 16].map(|at| {
                self.noted
                    .u64(set, way * size_of::<Place>() + at)
                    .load(Ordering::Acquire)
            });
            let after = place.load(Ordering::Acquire);
            if after == word {
                return Some((FlowKey::from_words([first, second, tail]), word));
            }
            // The key may have been another note's; or the note was used, and now it is as it is.
            word = after;
        }
    }

    /// Writes a place's key, and then its note: of a place that is the caller's.
    pub(super) fn fill(&self, set: u32, way: usize, key: FlowKey, note: Note) {
        for (nth, word) in key.words().into_iter().enumerate() {
            self.noted
                .u64(set, way * size_of::<Place>() + nth * 8)
                .store(word, Ordering::Release);
        }
        self.note_word(set, way).store(note.to_word(), Ordering::Release);
    }
}

/// The place of a set's entry.
pub(super) const fn place(set: u32, way: usize) -> u32 {
    set * NOTE_WAYS as u32 + way as u32
}

/// The places of two sets, as the data plane tries them for a new note.
pub(super) fn in_order(sets: [u32; 2]) -> impl Iterator<Item = (u32, usize)> + Clone {
    const HALF: usize = NOTE_WAYS / 2;
    [0..HALF, HALF..NOTE_WAYS]
        .into_iter()
        .flat_map(move |half| sets.map(|set| (set, half.clone())))
        .flat_map(|(set, half)| half.map(move |way| (set, way)))
}

impl DataPlane {
    /// The notes.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Shows every note to `judge` and deletes those that it says; returns how many there are left in the
    /// array of notes. A note that vanishes or appears meanwhile may be shown or not.
    pub fn sweep_notes(&mut self, judge: impl FnMut(NoteEntry) -> Sweep) -> usize {
        self.notes.sweep(judge)
    }

    /// Writes a note that the data plane did not make, while no program runs.
    ///
    /// # Errors
    /// Where neither of its sets has room.
    pub fn insert_note(&mut self, key: FlowKey, note: Note) -> io::Result<()> {
        let ports = ports_be(key.source_port_be, key.destination_port_be);
        let hash = flow_hash(self.flow_seed(), key.source.words(), ports);
        let notes = &self.notes;
        let mut places = in_order(note_places(hash, notes.noted.len()));
        let own = places
            .clone()
            .find(|&(set, way)| notes.noted(set, way).is_some_and(|(have, _)| have == key));
        let Some((set, way)) = own.or_else(|| places.find(|&(set, way)| notes.noted(set, way).is_none()))
        else {
            return Err(io::Error::other("there is no room for the note"));
        };
        notes.fill(set, way, key, note);
        Ok(())
    }

    /// How many pending notes there are, those that no longer count included.
    pub fn pending_notes(&self) -> usize {
        (0..self.notes.pending.len())
            .flat_map(|set| (0..PENDING_WAYS).map(move |way| (set, way)))
            .filter(|&(set, way)| self.notes.pending_word(set, way).load(Ordering::Relaxed) != 0)
            .count()
    }

    /// How many notes there is room for, as a rule: half of the places.
    pub fn note_capacity(&self) -> u32 {
        self.notes.noted.len() * (NOTE_WAYS as u32 / 2)
    }
}
