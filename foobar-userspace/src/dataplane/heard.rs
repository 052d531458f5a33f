//! Notes that a peer told of, written into the arrays while programs work in them.
//!
//! What is known of a flow twice is decided by its last use: the later one counts, with its member. So a peer's copy
//! never takes the place of a newer note of this balancer's own, and where both have steered the flow, the one that
//! did so last is right. A pending note makes none that is established less, unless it names another member or comes
//! after the flow's end. One task hears; its discipline is the program's ([`foobar_common::note`]): a place is claimed
//! and left by compare and swap, and its note is written last.

use std::sync::atomic::Ordering;

use foobar_common::flow::{flow_hash, ports_be};
use foobar_common::note::{
    FlowKey, NOTE_CLAIMED, NOTE_ENDED, NOTE_PENDING, NOTE_WAYS, Note, PENDING_WAYS, PendingNote, note_places,
    pending_set,
};
use foobar_common::slot::Member;
use foobar_common::time::Ticks;

use super::note_events::NoteStage;
use super::notes::{Notes, in_order, place};

/// A flow, as its note is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedFlow {
    key: FlowKey,
    hash: u64,
    slot: u32,
}

impl NotedFlow {
    /// The flow with this key, in the slot with this index in the slot array. The seed is that of the flow hash.
    pub const fn new(seed: [u64; 2], key: FlowKey, slot: u32) -> Self {
        let ports = ports_be(key.source_port_be, key.destination_port_be);
        Self {
            key,
            hash: flow_hash(seed, key.source.words(), ports),
            slot,
        }
    }
}

/// What a peer says of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeardNote {
    /// Whose the flow is, by this balancer's index.
    pub member: Member,
    /// When it was used last.
    pub used: Ticks,
    /// How far it has come.
    pub stage: NoteStage,
}

/// What became of a note that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing was known of the flow.
    New,
    /// What was known is another note now: used later, gone further, or of another member.
    Renewed,
    /// Nothing new: all of it was known, or something later.
    Known,
    /// There is no room; of a flow that goes on, there may be a pending note now.
    NoRoom,
}

/// What became of a note that was heard, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// What became of it.
    pub heard: Heard,
    /// The place of the flow's note in the array of notes, if it has one there.
    pub place: Option<u32>,
}

impl Hearing {
    const fn pending(heard: Heard) -> Self {
        Self { heard, place: None }
    }
}

/// The note that a note becomes by what was heard; none where it stays.
fn merged(held: Note, heard: HeardNote) -> Option<Note> {
    let later = heard.used.wrapping_sub(held.used).cast_signed();
    if later < 0 || later == 0 && heard.member != held.member {
        return None;
    }
    let same_life = heard.member == held.member && held.flags & NOTE_ENDED == 0;
    let flags = match heard.stage {
        NoteStage::Pending | NoteStage::Overwritten if later == 0 || same_life => held.flags,
        NoteStage::Pending | NoteStage::Overwritten => NOTE_PENDING,
        NoteStage::Established if later == 0 => held.flags & NOTE_ENDED,
        NoteStage::Established => 0,
        NoteStage::Ended => NOTE_ENDED,
    };
    let note = Note {
        member: heard.member,
        flags,
        used: heard.used,
    };
    (note != held).then_some(note)
}

impl Notes {
    /// Takes over a note that a peer told of. `now` is the moment.
    pub fn hear(&self, flow: &NotedFlow, heard: HeardNote, now: Ticks) -> Hearing {
        if let Some(hearing) = self.renew(flow, heard) {
            return hearing;
        }
        let note = |flags| Note {
            member: heard.member,
            flags,
            used: heard.used,
        };
        match heard.stage {
            NoteStage::Pending | NoteStage::Overwritten => Hearing::pending(self.hear_pending(
                flow.slot,
                flow.hash,
                self.pending_sets(),
                heard.member,
                heard.used,
                now,
            )),
            NoteStage::Established => self.establish(flow, heard, note(0), now),
            NoteStage::Ended => self.establish(flow, heard, note(NOTE_ENDED), now),
        }
    }

    /// Renews the flow's note in the array of notes, if it has one there.
    fn renew(&self, flow: &NotedFlow, heard: HeardNote) -> Option<Hearing> {
        loop {
            let (set, way, word) = self.find(flow, None)?;
            let hearing = |heard| {
                Some(Hearing {
                    heard,
                    place: Some(place(set, way)),
                })
            };
            let Some(note) = merged(Note::from_word(word), heard) else {
                return hearing(Heard::Known);
            };
            // Lost where a packet was faster: then there is another note to be merged with.
            if self
                .note_word(set, way)
                .compare_exchange(word, note.to_word(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return hearing(Heard::Renewed);
            }
        }
    }

    /// The flow's note in the array of notes, but for the one at a place.
    fn find(&self, flow: &NotedFlow, but: Option<u32>) -> Option<(u32, usize, u64)> {
        note_places(flow.hash, self.noted.len())
            .into_iter()
            .flat_map(|set| (0..NOTE_WAYS).map(move |way| (set, way)))
            .filter(|&(set, way)| but != Some(place(set, way)))
            .find_map(|(set, way)| {
                let (key, word) = self.noted(set, way)?;
                (key == flow.key).then_some((set, way, word))
            })
    }

    /// Writes a note of a flow that has none in the array of notes.
    fn establish(&self, flow: &NotedFlow, heard: HeardNote, note: Note, now: Ticks) -> Hearing {
        let pending = self.find_pending(flow);
        if let Some((_, own)) = pending
            && own.member() != heard.member
            && own.later_by(heard.used) > 0
        {
            return Hearing::pending(Heard::Known);
        }
        let Some((set, way)) = self.insert(flow, note) else {
            let sets = self.pending_sets();
            self.hear_pending(flow.slot, flow.hash, sets, heard.member, heard.used, now);
            return Hearing::pending(Heard::NoRoom);
        };
        if let Some((set, own)) = pending {
            self.forget_pending(set, own);
        }
        Hearing {
            heard: if pending.is_some() {
                Heard::Renewed
            } else {
                Heard::New
            },
            place: self.unite(flow, place(set, way)),
        }
    }

    /// A packet may have promoted the flow's pending note while one was written here. The flow is to have one note: the
    /// packet's, with what was heard and what packets have made of it since. Gives the place of what it has then.
    fn unite(&self, flow: &NotedFlow, own: u32) -> Option<u32> {
        let Some((other, way, _)) = self.find(flow, Some(own)) else {
            return Some(own);
        };
        let word = self.note_word(own / NOTE_WAYS as u32, own as usize % NOTE_WAYS);
        let note = Note::from_word(word.load(Ordering::Acquire));
        if !self.free(own, note) {
            return Some(own); // used right now: it is found first, and the other one expires
        }
        let said = HeardNote {
            member: note.member,
            used: note.used,
            stage: match note.flags {
                flags if flags & NOTE_PENDING != 0 => NoteStage::Pending,
                flags if flags & NOTE_ENDED != 0 => NoteStage::Ended,
                _ => NoteStage::Established,
            },
        };
        match self.renew(flow, said) {
            Some(hearing) => hearing.place,
            None => Some(place(other, way)), // gone again: a sweep or a flow's end, which is later than what was heard
        }
    }

    /// Writes a note to a free place of the flow's sets; none where they have none.
    fn insert(&self, flow: &NotedFlow, note: Note) -> Option<(u32, usize)> {
        let claimed = Note {
            flags: NOTE_CLAIMED,
            ..Note::default()
        };
        let (set, way) = in_order(note_places(flow.hash, self.noted.len())).find(|&(set, way)| {
            let word = self.note_word(set, way);
            let seen = word.load(Ordering::Acquire);
            Note::from_word(seen).is_free()
                && word
                    .compare_exchange(seen, claimed.to_word(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        })?;
        self.fill(set, way, flow.key, note);
        Some((set, way))
    }

    /// The flow's pending note, and the set that it is in.
    fn find_pending(&self, flow: &NotedFlow) -> Option<(u32, PendingNote)> {
        let set = pending_set(flow.hash, self.pending.len() - 1);
        let identity = PendingNote::identity(flow.slot, flow.hash);
        (0..PENDING_WAYS)
            .map(|way| PendingNote(self.pending_word(set, way).load(Ordering::Acquire)))
            .find(|note| note.is_of(identity))
            .map(|note| (set, note))
    }

    /// Takes over a peer's pending note of a flow of which just this is known: its slot, as index in the slot array,
    /// and the bits of its hash that [`PendingNote::known_hash`] gives at a balancer with so many sets (a power of two).
    ///
    /// Where this one has more sets, the note is written to each that it may belong to.
    pub fn hear_pending(
        &self,
        slot: u32,
        hash: u64,
        sets: u32,
        member: Member,
        used: Ticks,
        now: Ticks,
    ) -> Heard {
        let (first, step) = (pending_set(hash, self.pending.len() - 1), sets.max(1));
        let first = first % step;
        let note = PendingNote::new(slot, hash, member, used);
        let mut heard = Heard::NoRoom;
        for set in (first..self.pending.len()).step_by(step as usize) {
            heard = self.write_pending(set, note, used, (hash >> 48) as usize, now);
        }
        heard
    }

    /// Writes a pending note to its set. `begin` is where the search for a place begins.
    fn write_pending(&self, set: u32, note: PendingNote, used: Ticks, begin: usize, now: Ticks) -> Heard {
        let identity = note.0;
        loop {
            let ways = (0..PENDING_WAYS).map(|nth| (begin + nth) % PENDING_WAYS);
            let mut ways = ways.map(|way| {
                let word = self.pending_word(set, way);
                (word, PendingNote(word.load(Ordering::Acquire)))
            });
            let own = ways.clone().find(|(_, held)| held.is_of(identity));
            let (word, held, heard) = match own {
                // A unit of time is a second: of two uses in the same one, what was heard is taken for the later.
                Some((_, held)) if held.0 == note.0 || held.later_by(used) > 0 => return Heard::Known,
                Some((word, held)) => (word, held, Heard::Renewed),
                None => {
                    let free = ways.clone().find(|(_, held)| held.0 == 0);
                    let oldest = ways
                        .by_ref()
                        .filter(|(_, held)| held.age(now) >= note.age(now))
                        .reduce(|oldest, other| {
                            if other.1.age(now) > oldest.1.age(now) {
                                other
                            } else {
                                oldest
                            }
                        });
                    match free.or(oldest) {
                        Some((word, held)) => (word, held, Heard::New),
                        None => return Heard::NoRoom,
                    }
                }
            };
            // Lost where a packet was faster: it is another set to choose in then.
            if word
                .compare_exchange(held.0, note.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return heard;
            }
        }
    }
}

#[cfg(test)]
mod tests;
