//! Notes, seen from user space: read as a whole from time to time, to see which slots may settle and which
//! members nobody names any more.

use std::io;
use std::sync::atomic::Ordering;

use aya::Pod;
use aya::maps::IterableMap as _;
use foobar_common::note::{FlowKey, Note, PENDING_WAYS, PendingNote};

use super::batch;
use super::counters::Value;
use super::load::DataPlane;

// SAFETY: no padding: 16 + 2 + 2 + 4 bytes.
unsafe impl Pod for Value<FlowKey> {}
// SAFETY: no padding: 2 + 2 + 4 + 4 + 4 bytes.
unsafe impl Pod for Value<Note> {}

/// A note, as a sweep shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteEntry {
    /// From the map of notes.
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
    /// map of notes.
    ///
    /// # Errors
    /// Where the map can't be read. A note that vanishes or appears meanwhile is no error.
    pub fn sweep_notes(&mut self, mut judge: impl FnMut(NoteEntry) -> Sweep) -> io::Result<usize> {
        // Pending notes first: one that is promoted meanwhile is then seen in the map, at worst twice.
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
        let mut doomed = Vec::new();
        batch::each(
            self.notes.map(),
            |key: Value<FlowKey>, note: Value<Note>| match judge(NoteEntry::Noted(key.0, note.0)) {
                Sweep::Keep => left += 1,
                Sweep::Delete => doomed.push((key, note)),
            },
        )?;
        for (key, note) in doomed {
            // One that a packet has used or overwritten meanwhile is another note now.
            if self.notes.get(&key, 0).is_ok_and(|now| now.0 == note.0) {
                // Gone already is as good.
                drop(self.notes.remove(&key));
            }
        }
        Ok(left)
    }

    /// Writes a note that the data plane did not make.
    ///
    /// # Errors
    /// Where the map is full.
    pub fn insert_note(&mut self, key: FlowKey, note: Note) -> io::Result<()> {
        self.notes
            .insert(Value(key), Value(note), 0)
            .map_err(io::Error::other)
    }

    /// How many pending notes there are, those that no longer count included.
    pub fn pending_notes(&self) -> usize {
        (0..self.pending.len())
            .flat_map(|set| (0..PENDING_WAYS).map(move |way| (set, way)))
            .filter(|&(set, way)| self.pending.u64(set, way * 8).load(Ordering::Relaxed) != 0)
            .count()
    }

    /// How many notes the map has room for.
    pub const fn note_capacity(&self) -> u32 {
        self.note_capacity
    }
}
