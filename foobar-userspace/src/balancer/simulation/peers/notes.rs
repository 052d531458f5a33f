//! The notes of one simulated balancer: what the arrays hold, by client, and what peers say of them.
//!
//! There is room for all; pending notes are kept with the others. How a note that is heard is united with one that is
//! held is the data plane's rule: the later use counts, with its member.

use foobar_common::slot::Member as Id;
use foobar_common::steering::{Decision, Known, Record};
use foobar_common::time::{Ticks, age};

use crate::cluster::message::Stage;

/// A note.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Note {
    pub(super) member: Id,
    pub(super) used: Ticks,
    pub(super) stage: Stage,
}

/// The note that a note becomes by what was heard; none where it stays.
fn united(held: Note, heard: Note) -> Option<Note> {
    let later = heard.used.wrapping_sub(held.used).cast_signed();
    if later < 0 || later == 0 && heard.member != held.member {
        return None;
    }
    let same_life = heard.member == held.member && held.stage != Stage::Ended;
    let stage = match heard.stage {
        Stage::Pending if later == 0 || same_life => held.stage,
        Stage::Established if later == 0 && held.stage == Stage::Ended => Stage::Ended,
        stage => stage,
    };
    Some(Note { stage, ..heard })
}

/// The notes, by client.
#[derive(Debug)]
pub(super) struct NoteStore {
    pub(super) notes: Vec<Option<Note>>,
    lifetime: u32,
    /// T, in ticks.
    idle: u32,
}

impl NoteStore {
    pub(super) fn new(clients: usize, lifetime: u32, idle: u32) -> Self {
        Self {
            notes: vec![None; clients],
            lifetime,
            idle,
        }
    }

    /// What a packet is to know of its client's note, by whether the noted member is gone or down.
    pub(super) fn find(&self, client: usize, now: Ticks, flags: impl Fn(Id) -> (bool, bool)) -> Known {
        let Some(note) = self.notes[client] else {
            return Known::Nothing;
        };
        let (is_gone, is_down) = flags(note.member);
        match note.stage {
            _ if is_gone || age(now, note.used) > self.lifetime => Known::Stale,
            Stage::Pending => Known::Pending(note.member),
            Stage::Ended => Known::Ended(note.member),
            Stage::Established if is_down => Known::Ended(note.member),
            Stage::Established => Known::Noted(note.member),
        }
    }

    /// Writes down what was decided. Gives the stage that peers are to be told of at once.
    pub(super) fn record(&mut self, client: usize, decision: Decision, now: Ticks) -> Option<Stage> {
        let held = self.notes[client];
        let note = |stage| {
            Some(Note {
                member: decision.member,
                used: now,
                stage,
            })
        };
        let (next, told) = match (decision.record, held) {
            (Record::Keep, _) => return None,
            (Record::Write | Record::Overwrite, _) => (note(Stage::Pending), true),
            (_, None) => unreachable!("only a note is used"),
            (Record::Renew, Some(held)) => (note(held.stage), true),
            (Record::Use, Some(held)) if held.stage == Stage::Ended => {
                (note(Stage::Ended), self.is_late(held, now))
            }
            (Record::Use, Some(held)) => (
                note(Stage::Established),
                held.stage == Stage::Pending || self.is_late(held, now),
            ),
            (Record::End, Some(held)) => (
                note(Stage::Ended),
                held.stage != Stage::Ended || self.is_late(held, now),
            ),
        };
        self.notes[client] = next;
        next.filter(|_| told).map(|note| note.stage)
    }

    /// A use so long after the last one that peers' copies may be about to expire: it is told of at once.
    const fn is_late(&self, held: Note, now: Ticks) -> bool {
        age(now, held.used) > self.idle / 8
    }

    /// A peer's note.
    pub(super) fn hear(&mut self, client: usize, heard: Note) {
        self.notes[client] = match self.notes[client] {
            None => Some(heard),
            Some(held) => united(held, heard).or(Some(held)),
        };
    }
}
