//! Notes: pending ones in sets of eight, the others in one of two sets of eight each, from which none is evicted.

use std::collections::HashMap;
use std::net::IpAddr;

use foobar_common::counters::Counter;
use foobar_common::slot::Member;

use super::world::State;

/// Pending notes in a set.
const WAYS: usize = 8;

/// A flow as notes tell it, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    /// The client.
    pub client: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// The VIP's port.
    pub port: u16,
    /// The service's id.
    pub service: u32,
    /// The flow's slot.
    pub slot: u32,
    /// Its hash.
    pub hash: u64,
}

/// What a note says: member, whether pending, whether ended.
pub type Held = (Member, bool, bool);

/// What the map of notes tells flows by: client, its port, the VIP's, service.
pub type Key = (IpAddr, u16, u16, u32);

impl FlowId {
    const fn key(&self) -> Key {
        (self.client, self.client_port, self.port, self.service)
    }

    /// A pending note has 13 bits of its flow's hash, the highest ones, besides slot and set.
    const fn print(&self) -> u16 {
        (self.hash >> 51) as u16
    }
}

/// Whether a note has been idle for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It counts.
    Fresh,
    /// It doesn't.
    Expired,
}

/// A note in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Whose the flow is.
    pub member: Member,
    /// A SYN wrote it over an older one, and nothing has confirmed it.
    pub pending: bool,
    /// A FIN or RST was seen.
    pub ended: bool,
    /// Its age.
    pub age: Age,
}

/// What is known of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// A note that doesn't count.
    Stale,
    /// A note that does.
    Live(Written),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    slot: u32,
    print: u16,
    member: Member,
}

/// All notes.
#[derive(Clone, Debug)]
pub struct Notes {
    written: HashMap<Key, Written>,
    /// How many of them are in each set.
    taken: Vec<usize>,
    sets: Vec<[Option<Pending>; WAYS]>,
}

impl Notes {
    /// No notes, `noted` sets for them, and `sets` sets of pending ones, a power of two.
    pub fn new(noted: usize, sets: usize) -> Self {
        Self {
            written: HashMap::new(),
            taken: vec![0; noted],
            sets: vec![[None; WAYS]; sets],
        }
    }

    /// Writes a note, as a peer's would be; says whether there was room for it.
    pub fn insert(&mut self, id: &FlowId, note: Written) -> bool {
        let has_room = self.written.contains_key(&id.key()) || self.take(id);
        if has_room {
            self.written.insert(id.key(), note);
        }
        has_room
    }

    /// Takes a place in one of the flow's two sets, which two parts of its hash name; says whether there was one.
    fn take(&mut self, id: &FlowId) -> bool {
        let sets = self.taken.len() as u128;
        // Half of both sets is taken before the rest.
        for most in [WAYS / 2, WAYS] {
            for part in [id.hash >> 32, id.hash >> 10 & 0xffff_ffff] {
                let taken = &mut self.taken[((u128::from(part) * sets) >> 32) as usize];
                if *taken < most {
                    *taken += 1;
                    return true;
                }
            }
        }
        false
    }

    /// What is in the map; a mapped address as IPv4's.
    pub fn list(&self) -> Vec<(Key, Held)> {
        self.written
            .iter()
            .map(|(&(client, from, to, service), note)| {
                let key = (client.to_canonical(), from, to, service);
                (key, (note.member, note.pending, note.ended))
            })
            .collect()
    }

    /// The pending notes: slot, 13 bits of the hash, member.
    pub fn list_pending(&self) -> Vec<(u32, u16, Member)> {
        self.sets
            .iter()
            .flatten()
            .flatten()
            .map(|note| (note.slot, note.print, note.member))
            .collect()
    }

    fn set(&mut self, id: &FlowId) -> &mut [Option<Pending>; WAYS] {
        let sets = self.sets.len() as u64;
        &mut self.sets[((id.hash >> 28) % sets) as usize]
    }

    fn pending(&mut self, id: &FlowId) -> Option<&mut Option<Pending>> {
        self.set(id)
            .iter_mut()
            .find(|way| way.is_some_and(|note| note.slot == id.slot && note.print == id.print()))
    }

    pub(super) fn look_up(&self, id: &FlowId, state: impl Fn(Member) -> State) -> Known {
        let note = match self.written.get(&id.key()) {
            Some(&note) => note,
            None => {
                let sets = self.sets.len() as u64;
                let set = &self.sets[((id.hash >> 28) % sets) as usize];
                let found = set
                    .iter()
                    .flatten()
                    .find(|note| note.slot == id.slot && note.print == id.print());
                match found {
                    Some(found) => Written {
                        member: found.member,
                        pending: true,
                        ended: false,
                        age: Age::Fresh,
                    },
                    None => return Known::Nothing,
                }
            }
        };
        if note.age == Age::Expired || state(note.member) == State::Gone {
            Known::Stale
        } else {
            Known::Live(note)
        }
    }

    /// A first note. Among pending notes of one age the hash says which one has to go.
    pub(super) fn write(&mut self, id: &FlowId, member: Member, counted: &mut Vec<Counter>) {
        counted.push(Counter::NotePending);
        let first = (id.hash >> 48) as usize;
        let set = self.set(id);
        let empty = (first..first + WAYS).find(|way| set[way % WAYS].is_none());
        if empty.is_none() {
            counted.push(Counter::NotePendingEvicted);
        }
        set[empty.unwrap_or(first) % WAYS] = Some(Pending {
            slot: id.slot,
            print: id.print(),
            member,
        });
    }

    /// The note that there is names another member.
    pub(super) fn overwrite(&mut self, id: &FlowId, member: Member, counted: &mut Vec<Counter>) {
        counted.push(Counter::NoteOverwritten);
        if let Some(note) = self.written.get_mut(&id.key()) {
            *note = Written {
                member,
                pending: true,
                ended: false,
                age: Age::Fresh,
            };
        } else if let Some(Some(note)) = self.pending(id) {
            note.member = member;
        }
    }

    /// A SYN follows a note.
    pub(super) fn renew(&mut self, counted: &mut Vec<Counter>) {
        counted.push(Counter::NoteFollowed);
    }

    /// A packet that opens nothing follows a note: a pending one is confirmed.
    pub(super) fn r#use(&mut self, id: &FlowId, member: Member, ends: bool, counted: &mut Vec<Counter>) {
        counted.push(Counter::NoteFollowed);
        if let Some(note) = self.written.get_mut(&id.key()) {
            note.pending = false;
            note.ended |= ends;
            return;
        }
        if !self.take(id) {
            counted.push(Counter::NoteFull);
            return;
        }
        counted.push(Counter::NotePromoted);
        if let Some(place) = self.pending(id) {
            *place = None;
        }
        self.written.insert(
            id.key(),
            Written {
                member,
                pending: false,
                ended: ends,
                age: Age::Fresh,
            },
        );
    }
}
