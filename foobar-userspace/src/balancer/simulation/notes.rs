//! Notes as the maps hold them, on the host: a set-associative array of pending ones, a map of the others.

use std::collections::{BTreeSet, HashMap, HashSet};

use foobar_common::address::Address;
use foobar_common::flow::flow_hash;
use foobar_common::note::{
    FlowKey, NOTE_ENDED, NOTE_PENDING, Note, PENDING_WAYS, PendingNote, PendingSet, pending_set,
};
use foobar_common::slot::{Member, NONE};
use foobar_common::steering::{Decision, Known, Record};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_common::time::{Ticks, age, ticks};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Below the bits of a pending note that tell its flow.
const IDENTITY_SHIFT: u32 = 27;

/// A flow, as notes name it.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    key: FlowKey,
    hash: u64,
    pub(super) slot: u32,
}

impl Flow {
    /// The flow of client number `tuple` in a table of `slots`.
    pub(super) fn new(tuple: u32, slots: u32) -> Self {
        let source = Address::from_ipv4_raw((0xc633_6400 | tuple & 0xff).to_be());
        let (source_port_be, destination_port_be) = ((1024 + (tuple >> 8) as u16).to_be(), 443u16.to_be());
        let ports = u32::from(source_port_be) | u32::from(destination_port_be) << 16;
        let hash = flow_hash(SEED, source.words(), ports);
        let key = FlowKey {
            source,
            source_port_be,
            destination_port_be,
            vip: 1,
        };
        Self {
            key,
            hash,
            slot: hash as u32 & (slots - 1),
        }
    }
}

/// Where a flow's note is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    Nowhere,
    Map,
    Pending(usize, usize),
}

pub(super) struct NoteStore {
    notes: HashMap<FlowKey, Note>,
    pending: Vec<PendingSet>,
    lifetime: u32,
    slots: u32,
    /// Pending notes that still counted and had to give way.
    pub(super) evicted: u64,
    /// The flows whose pending note had to give way, by what tells them, until they have another.
    lost: HashSet<u64>,
}

impl NoteStore {
    pub(super) fn new(sets: usize, lifetime: u32, slots: u32) -> Self {
        Self {
            notes: HashMap::new(),
            pending: vec![PendingSet::default(); sets],
            lifetime,
            slots,
            evicted: 0,
            lost: HashSet::new(),
        }
    }

    /// The flow's note: from the map, else from the pending ones. `flags` are a target's.
    pub(super) fn find(&self, flow: &Flow, now_ns: u64, flags: impl Fn(Member) -> u16) -> (Place, Known) {
        let now = ticks(now_ns);
        if let Some(note) = self.notes.get(&flow.key) {
            let known = self.judge(note.member, note.flags, age(now, note.used), flags(note.member));
            return (Place::Map, known);
        }
        let (set, identity) = (self.set(flow), PendingNote::identity(flow.slot, flow.hash));
        let words = self.pending[set].words.map(PendingNote);
        match words.iter().position(|note| note.is_of(identity)) {
            Some(way) => {
                let note = words[way];
                let known = self.judge(note.member(), NOTE_PENDING, note.age(now), flags(note.member()));
                (Place::Pending(set, way), known)
            }
            None => (Place::Nowhere, Known::Nothing),
        }
    }

    fn set(&self, flow: &Flow) -> usize {
        pending_set(flow.hash, self.pending.len() as u32 - 1) as usize
    }

    fn judge(&self, member: Member, flags: u16, age: u32, target: u16) -> Known {
        if age > self.lifetime || target & TARGET_GONE != 0 {
            Known::Stale
        } else if flags & NOTE_PENDING != 0 {
            Known::Pending(member)
        } else if flags & NOTE_ENDED != 0 || target & TARGET_DOWN != 0 {
            Known::Ended(member)
        } else {
            Known::Noted(member)
        }
    }

    /// Whether the flow had a pending note that had to give way, and none since.
    pub(super) fn has_lost(&self, flow: &Flow) -> bool {
        let identity = PendingNote::identity(flow.slot, flow.hash) >> IDENTITY_SHIFT;
        self.lost.contains(&identity)
    }

    /// Writes down what was decided.
    pub(super) fn record(&mut self, flow: &Flow, place: Place, decision: Decision, now_ns: u64) {
        let (now, member) = (ticks(now_ns), decision.member);
        let pending = PendingNote::new(flow.slot, flow.hash, member, now).0;
        let note = |flags| Note {
            member,
            flags,
            used: now,
        };
        match (decision.record, place) {
            (Record::Keep, _) => {}
            (Record::Overwrite, Place::Map) => {
                self.notes.insert(flow.key, note(NOTE_PENDING));
            }
            (Record::Write, _) | (Record::Overwrite, Place::Nowhere) => {
                self.write_pending(flow, pending, now)
            }
            (Record::Overwrite | Record::Renew, Place::Pending(set, way)) => {
                self.pending[set].words[way] = pending;
            }
            (Record::Renew, _) => self.in_map(flow, |held| held.used = now),
            (Record::Use | Record::End, Place::Map) => {
                let end = if decision.record == Record::End {
                    NOTE_ENDED
                } else {
                    0
                };
                self.in_map(flow, |held| {
                    *held = Note {
                        flags: held.flags & NOTE_ENDED | end,
                        ..note(0)
                    }
                });
            }
            (Record::Use | Record::End, Place::Pending(set, way)) => {
                let end = if decision.record == Record::End {
                    NOTE_ENDED
                } else {
                    0
                };
                self.notes.insert(flow.key, note(end));
                self.pending[set].words[way] = 0;
            }
            (Record::Use | Record::End, Place::Nowhere) => unreachable!("only a note is used"),
        }
    }

    fn in_map(&mut self, flow: &Flow, change: impl FnOnce(&mut Note)) {
        change(self.notes.get_mut(&flow.key).expect("the note that was found"));
    }

    /// Into a free place of the flow's set, else in the place of the oldest.
    fn write_pending(&mut self, flow: &Flow, pending: u64, now: Ticks) {
        let set = self.set(flow);
        let words = &mut self.pending[set].words;
        let rank = |way: &usize| {
            if words[*way] == 0 {
                u32::MAX
            } else {
                PendingNote(words[*way]).age(now)
            }
        };
        let way = (0..PENDING_WAYS).max_by_key(rank).expect("a set has ways");
        if rank(&way) <= self.lifetime {
            self.evicted += 1;
            self.lost.insert(words[way] >> IDENTITY_SHIFT);
        }
        words[way] = pending;
        self.lost.remove(&(pending >> IDENTITY_SHIFT));
    }

    /// Deletes what doesn't count any more, and says for each slot which members are noted in it.
    pub(super) fn sweep(&mut self, now_ns: u64, gone: impl Fn(Member) -> bool) -> BTreeSet<(u32, Member)> {
        let (now, lifetime, mut live) = (ticks(now_ns), self.lifetime, BTreeSet::new());
        self.notes.retain(|key, note| {
            let counts = age(now, note.used) <= lifetime && !gone(note.member);
            if counts {
                let ports = u32::from(key.source_port_be) | u32::from(key.destination_port_be) << 16;
                let hash = flow_hash(SEED, key.source.words(), ports);
                live.insert((hash as u32 & (self.slots - 1), note.member));
            }
            counts
        });
        for word in self.pending.iter_mut().flat_map(|set| &mut set.words) {
            let note = PendingNote(*word);
            if *word == 0 || note.age(now) > lifetime || gone(note.member()) {
                *word = 0;
            } else {
                live.insert((note.slot(), note.member()));
            }
        }
        live
    }

    /// The members that some note names, counting or not.
    pub(super) fn named(&self) -> BTreeSet<Member> {
        let pending = self
            .pending
            .iter()
            .flat_map(|set| set.words)
            .map(|word| PendingNote(word).member());
        self.notes
            .values()
            .map(|note| note.member)
            .chain(pending)
            .filter(|&m| m != NONE)
            .collect()
    }
}
