//! Notes, seen from user space: read as a whole from time to time, to see which slots may settle and which
//! members nobody names any more.

use std::io;
use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicU64, Ordering};

use foobar_common::flow::{flow_hash, ports_be};
use foobar_common::note::{
    FlowKey, NOTE_WAYS, Note, NoteEntry as Place, PENDING_WAYS, PendingNote, note_places,
};
use foobar_common::slot::NONE;

use super::load::DataPlane;

/// A note, as a sweep shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteEntry {
    /// From the array of notes.
    Noted(FlowKey, Note),
    /// A first note.
    Pending(PendingNote),
}

/// What a sweep does with a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
}

impl DataPlane {
    /// Shows every note to `judge` and deletes those that it says; returns how many there are left in the
    /// array of notes. A note that vanishes or appears meanwhile may be shown or not.
    pub fn sweep_notes(&mut self, mut judge: impl FnMut(NoteEntry) -> Sweep) -> usize {
        // Pending notes first: one that is promoted meanwhile is then seen in the array, at worst twice.
        for set in 0..self.pending.len() {
            for way in 0..PENDING_WAYS {
                let word = self.pending.u64(set, way * 8);
                let bits = word.load(Ordering::Acquire);
                if bits != 0 && judge(NoteEntry::Pending(PendingNote(bits))) == Sweep::Delete {
                    // Lost where the data plane was faster: then it is a newer note.
                    _ = word.compare_exchange(bits, 0, Ordering::AcqRel, Ordering::Relaxed);
                }
            }
        }
        let mut left = 0;
        for set in 0..self.notes.len() {
            for way in 0..NOTE_WAYS {
                let Some((key, word)) = self.noted(set, way) else {
                    continue;
                };
                let note = Note::from_word(word);
                let kept = match judge(NoteEntry::Noted(key, note)) {
                    Sweep::Keep => true,
                    // One that a packet has used or overwritten meanwhile is another note now.
                    Sweep::Delete => self
                        .note_word(set, way)
                        .compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed)
                        .is_err(),
                };
                left += usize::from(kept);
            }
        }
        left
    }

    fn note_word(&self, set: u32, way: usize) -> &AtomicU64 {
        self.notes
            .u64(set, way * size_of::<Place>() + offset_of!(Place, note))
    }

    /// A place's note and whose it is, if there is one.
    fn noted(&self, set: u32, way: usize) -> Option<(FlowKey, u64)> {
        let place = self.note_word(set, way);
        let mut word = place.load(Ordering::Acquire);
        loop {
            if Note::from_word(word).member == NONE {
                return None;
            }
            let [first, second, tail] = [0, 8, 16].map(|at| {
                self.notes
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

    /// Writes a note that the data plane did not make, while no program runs.
    ///
    /// # Errors
    /// Where neither of its sets has room.
    pub fn insert_note(&mut self, key: FlowKey, note: Note) -> io::Result<()> {
        let ports = ports_be(key.source_port_be, key.destination_port_be);
        let sets = note_places(
            flow_hash(self.flow_seed(), key.source.words(), ports),
            self.notes.len(),
        );
        // As the data plane tries them.
        const HALF: usize = NOTE_WAYS / 2;
        let mut places = [0..HALF, HALF..NOTE_WAYS]
            .into_iter()
            .flat_map(|half| sets.map(|set| (set, half.clone())))
            .flat_map(|(set, half)| half.map(move |way| (set, way)));
        let own = places
            .clone()
            .find(|&(set, way)| self.noted(set, way).is_some_and(|(have, _)| have == key));
        let Some((set, way)) = own.or_else(|| places.find(|&(set, way)| self.noted(set, way).is_none()))
        else {
            return Err(io::Error::other("there is no room for the note"));
        };
        for (nth, word) in key.words().into_iter().enumerate() {
            self.notes
                .u64(set, way * size_of::<Place>() + nth * 8)
                .store(word, Ordering::Release);
        }
        self.note_word(set, way).store(note.to_word(), Ordering::Release);
        Ok(())
    }

    /// How many pending notes there are, those that no longer count included.
    pub fn pending_notes(&self) -> usize {
        (0..self.pending.len())
            .flat_map(|set| (0..PENDING_WAYS).map(move |way| (set, way)))
            .filter(|&(set, way)| self.pending.u64(set, way * 8).load(Ordering::Relaxed) != 0)
            .count()
    }

    /// How many notes there is room for, as a rule: half of the places.
    pub const fn note_capacity(&self) -> u32 {
        self.notes.len() * (NOTE_WAYS as u32 / 2)
    }
}
