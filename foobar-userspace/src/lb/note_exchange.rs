//! Notes on their way between balancers: what the program tells of and what a sweep finds to be told again goes out,
//! and what peers say is written into the arrays that the program looks into.
//!
//! Every note is told when it is made, when it is established, when its flow ends, and when it was used T/8 past the
//! last use that peers know of. A peer's note for a settled slot opens it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use foobar_common::address::Address;
use foobar_common::flow::{flow_hash, ports_be};
use foobar_common::note::{FlowKey, NOTE_ENDED, NOTE_PENDING, Note};
use foobar_common::slot::{Member as Id, Phase};
use foobar_common::time::{TICK_SHIFT, Ticks, age, note_lifetime, ticks};

use super::peers::service_of;
use super::steering::{Steering, Vip};
use crate::balancer::slots::History;
use crate::cluster::message::{FlowNote, Message, Notes, Pending, PendingFlow, Stage};
use crate::cluster::name::{MemberName, Service};
use crate::cluster::replica::since_ns;
use crate::config::{FlowHash, Tracking};
use crate::dataplane::{Heard, HeardNote, NoteEntry, NoteEvent, NoteStage, NotedFlow};

/// So many notes go in one message.
const IN_A_MESSAGE: usize = 1024;

/// How long ago something was, in milliseconds.
const fn ms(ticks: u32) -> u32 {
    (((ticks as u64) << TICK_SHIFT) / 1_000_000) as u32
}

/// Notes of one VIP, gathered for a message.
struct Gathered<'a> {
    vip: &'a Vip,
    members: Vec<MemberName>,
    places: HashMap<Id, u16>,
    notes: Vec<FlowNote>,
    pending: Vec<PendingFlow>,
}

impl<'a> Gathered<'a> {
    fn new(vip: &'a Vip) -> Self {
        Self {
            vip,
            members: Vec::new(),
            places: HashMap::new(),
            notes: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// The place of a member's name in the message; none where the index is no member's (any more).
    fn place(&mut self, id: Id) -> Option<u16> {
        if let Some(&place) = self.places.get(&id) {
            return Some(place);
        }
        let member = self.vip.members.iter().find(|member| member.id == id)?;
        let place = u16::try_from(self.members.len()).ok()?;
        self.members.push(MemberName {
            address: member.address,
            incarnation: member.incarnation,
        });
        self.places.insert(id, place);
        Some(place)
    }

    fn note(&mut self, key: &FlowKey, member: Id, age: u32, stage: Stage) {
        if let Some(member) = self.place(member) {
            self.notes.push(FlowNote {
                source: IpAddr::from(key.source),
                source_port: u16::from_be(key.source_port_be),
                destination_port: u16::from_be(key.destination_port_be),
                member,
                age_ms: ms(age),
                stage,
            });
        }
    }

    /// The messages that say it.
    fn messages(self, sets: u32) -> Vec<Message> {
        let service = service_of(&self.vip.config);
        let members = self.members;
        let notes = self.notes.chunks(IN_A_MESSAGE).map(|notes| {
            Message::Notes(Notes {
                service,
                members: members.clone(),
                notes: notes.to_vec(),
            })
        });
        let pending = self.pending.chunks(IN_A_MESSAGE).map(|notes| {
            Message::Pending(Pending {
                service,
                members: members.clone(),
                sets,
                notes: notes.to_vec(),
            })
        });
        notes.chain(pending).collect()
    }
}

const fn stage_of(note: Note) -> Stage {
    if note.flags & NOTE_PENDING != 0 {
        Stage::Pending
    } else if note.flags & NOTE_ENDED != 0 {
        Stage::Ended
    } else {
        Stage::Established
    }
}

impl Vip {
    /// The slot, from the VIP's first, of a flow.
    fn slot_of(&self, seed: [u64; 2], key: &FlowKey) -> u32 {
        let ports = match self.config.hash {
            FlowHash::FiveTuple => ports_be(key.source_port_be, key.destination_port_be),
            FlowHash::Source => 0,
        };
        flow_hash(seed, key.source.words(), ports) as u32 & (self.config.slots - 1)
    }

    /// Whether notes of a slot count.
    fn is_noting(&self, slot: u32) -> bool {
        let all = matches!(self.config.tracking, Tracking::All | Tracking::AllStrict);
        match self.table.slot(slot as usize).phase() {
            Phase::Settled => all,
            Phase::Kept => false,
            Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved => true,
        }
    }

    /// Notes of a slot are to count from now on; false where there is no such slot, or none of its notes ever counts.
    fn let_count(&mut self, slot: u32, now_ns: u64) -> bool {
        if slot >= self.config.slots || self.table.history() != History::Noted {
            return false;
        }
        if !self.is_noting(slot) {
            self.table.open(slot as usize, now_ns);
        }
        true
    }

    /// The index of the member that a peer calls so.
    fn called(&self, name: MemberName) -> Option<Id> {
        let member = self
            .members
            .iter()
            .find(|member| member.address == name.address)?;
        (name.incarnation >= member.born).then_some(member.id)
    }
}

impl Steering {
    /// Tells the peers what the program has noted.
    pub(super) fn tell_events(&mut self, events: &[NoteEvent], now_ns: u64) {
        let now = ticks(now_ns);
        self.tell_notes(events.iter().map(|event| {
            let stage = match event.stage {
                NoteStage::Pending | NoteStage::Overwritten => Stage::Pending,
                NoteStage::Established => Stage::Established,
                NoteStage::Ended => Stage::Ended,
            };
            (event.key, event.member, age(now, event.used), stage)
        }));
    }

    /// Tells the peers of notes that were used well after the last use that they know of.
    pub(super) fn tell_renewed(&mut self, now_ns: u64) {
        let now = ticks(now_ns);
        let renewed = std::mem::take(&mut self.renewed);
        self.tell_notes(
            renewed
                .iter()
                .map(|(key, note)| (*key, note.member, age(now, note.used), stage_of(*note))),
        );
    }

    fn tell_notes(&mut self, notes: impl Iterator<Item = (FlowKey, Id, u32, Stage)>) {
        let Some(peers) = &mut self.peers else { return };
        if !peers.has_session() {
            return;
        }
        let mut gathered: BTreeMap<u32, Gathered<'_>> = BTreeMap::new();
        for (key, member, age, stage) in notes {
            let of_vip = match gathered.entry(key.vip) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let Some(vip) = self.vips.iter().find(|vip| vip.id == key.vip) else {
                        continue;
                    };
                    entry.insert(Gathered::new(vip))
                }
            };
            of_vip.note(&key, member, age, stage);
        }
        for of_vip in gathered.into_values() {
            for message in of_vip.messages(0) {
                peers.share(message);
            }
        }
    }

    /// Sends a peer all tables and all notes.
    pub(super) fn tell_all(&mut self, node: &str, now_ns: u64) {
        let (now, seed) = (ticks(now_ns), self.seed);
        let notes = self.plane.notes();
        let mut messages = Vec::new();
        let mut gathered: Vec<Gathered<'_>> = Vec::new();
        let (mut by_id, mut by_slot) = (HashMap::new(), BTreeMap::new());
        for (nth, vip) in self.vips.iter().enumerate() {
            messages.push(Message::Table(super::peers::table_of(vip, now_ns)));
            gathered.push(Gathered::new(vip));
            by_id.insert(vip.id, nth);
            by_slot.insert(vip.base, nth);
        }
        for entry in notes.all() {
            match entry {
                NoteEntry::Noted { key, note, .. } => {
                    let Some(&nth) = by_id.get(&key.vip) else {
                        continue;
                    };
                    let of_vip = &mut gathered[nth];
                    let idle = age(now, note.used);
                    let counts = of_vip.vip.is_noting(of_vip.vip.slot_of(seed, &key));
                    if counts && idle <= note_lifetime(of_vip.vip.idle_ns()) {
                        of_vip.note(&key, note.member, idle, stage_of(note));
                    }
                }
                NoteEntry::Pending { set, note } => {
                    let Some((_, &nth)) = by_slot.range(..=note.slot()).next_back() else {
                        continue;
                    };
                    let of_vip = &mut gathered[nth];
                    let slot = note.slot() - of_vip.vip.base;
                    if slot >= of_vip.vip.config.slots || !of_vip.vip.is_noting(slot) {
                        continue;
                    }
                    if let Some(member) = of_vip.place(note.member()) {
                        of_vip.pending.push(PendingFlow {
                            slot,
                            hash: note.known_hash(set),
                            member,
                            age_ms: ms(note.age(now)),
                        });
                    }
                }
            }
        }
        let sets = notes.pending_sets();
        messages.extend(gathered.into_iter().flat_map(|of_vip| of_vip.messages(sets)));
        let Some(peers) = &mut self.peers else { return };
        for message in messages {
            peers.tell(node, message);
        }
        let complete = peers.agreement.all_told(node);
        peers.post(complete);
    }

    /// Takes in a peer's notes.
    pub(super) fn take_notes(&mut self, said: &Notes, now_ns: u64) {
        let Some(place) = self.place_of(said.service) else {
            self.refuse_notes(said.notes.len());
            return;
        };
        let (now, seed) = (ticks(now_ns), self.seed);
        let arrays = self.plane.notes();
        let vip = &mut self.vips[place];
        let ids: Vec<Option<Id>> = said.members.iter().map(|name| vip.called(*name)).collect();
        let mut flows = Vec::with_capacity(said.notes.len());
        for note in &said.notes {
            let id = ids.get(usize::from(note.member)).copied().flatten();
            if let Some(id) = id
                && let Some(key) = key_of(said.service, vip.id, note)
                && let slot = vip.slot_of(seed, &key)
                && vip.let_count(slot, now_ns)
            {
                flows.push((NotedFlow::new(seed, key, vip.base + slot), key, id, note));
            }
        }
        let mut refused = said.notes.len() - flows.len();
        // Before a slot is open, what is found in it is no note that counts, and a sweep may take it away.
        self.flush(place);
        for (flow, key, member, note) in flows {
            let used = used(note.age_ms, now_ns);
            let stage = match note.stage {
                Stage::Pending => NoteStage::Pending,
                Stage::Established => NoteStage::Established,
                Stage::Ended => NoteStage::Ended,
            };
            let hearing = arrays.hear(&flow, HeardNote { member, used, stage }, now);
            refused += usize::from(hearing.heard == Heard::NoRoom);
            if let (Some(place), Some(renewals)) = (hearing.place, &mut self.renewals) {
                renewals.known(place, &key, used);
            }
        }
        self.refuse_notes(refused);
    }

    /// Takes in a peer's pending notes.
    pub(super) fn take_pending(&mut self, said: &Pending, now_ns: u64) {
        let Some(place) = self.place_of(said.service) else {
            self.refuse_notes(said.notes.len());
            return;
        };
        let now = ticks(now_ns);
        let arrays = self.plane.notes();
        let vip = &mut self.vips[place];
        let ids: Vec<Option<Id>> = said.members.iter().map(|name| vip.called(*name)).collect();
        let is_size = said.sets.is_power_of_two();
        let mut taken = Vec::with_capacity(said.notes.len());
        for note in &said.notes {
            let id = ids.get(usize::from(note.member)).copied().flatten();
            if let Some(id) = id
                && is_size
                && vip.let_count(note.slot, now_ns)
            {
                taken.push((vip.base + note.slot, note, id));
            }
        }
        let mut refused = said.notes.len() - taken.len();
        self.flush(place);
        for (slot, note, member) in taken {
            let used = used(note.age_ms, now_ns);
            let heard = arrays.hear_pending(slot, note.hash, said.sets, member, used, now);
            refused += usize::from(heard == Heard::NoRoom);
        }
        self.refuse_notes(refused);
    }

    fn refuse_notes(&mut self, count: usize) {
        if let Some(peers) = &mut self.peers {
            peers.refused_notes += count as u64;
        }
    }
}

/// When something of this age was used.
const fn used(age_ms: u32, now_ns: u64) -> Ticks {
    ticks(since_ns(age_ms, now_ns))
}

/// The key of the flow that a note is of; none where it can be no flow of the service.
fn key_of(service: Service, vip: u32, note: &FlowNote) -> Option<FlowKey> {
    let fits = note.source.is_ipv4() == service.address.is_ipv4()
        && (service.first_port..=service.last_port).contains(&note.destination_port);
    fits.then(|| FlowKey {
        source: Address::from(note.source),
        source_port_be: note.source_port.to_be(),
        destination_port_be: note.destination_port.to_be(),
        vip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(source: &str, port: u16) -> FlowNote {
        FlowNote {
            source: source.parse().expect("an address"),
            source_port: 40_000,
            destination_port: port,
            member: 0,
            age_ms: 0,
            stage: Stage::Established,
        }
    }

    #[test]
    fn a_note_of_another_family_or_port_is_no_flow_of_the_service() {
        let service = Service {
            address: "192.0.2.101".parse().expect("an address"),
            first_port: 8000,
            last_port: 8009,
            protocol: 6,
        };
        let key = key_of(service, 3, &note("198.51.100.7", 8009)).expect("a flow");
        assert_eq!((key.vip, u16::from_be(key.destination_port_be)), (3, 8009));
        assert_eq!(key_of(service, 3, &note("198.51.100.7", 8010)), None);
        assert_eq!(key_of(service, 3, &note("2001:db8::7", 8009)), None);
    }

    #[test]
    fn stages_and_ages_are_told_as_they_are() {
        let of = |flags| {
            stage_of(Note {
                member: 1,
                flags,
                used: 0,
            })
        };
        assert_eq!(of(0), Stage::Established);
        assert_eq!(of(NOTE_ENDED), Stage::Ended);
        assert_eq!(of(NOTE_PENDING), Stage::Pending);
        assert_eq!(ms(1_000_000_000 >> TICK_SHIFT), 999);
        let now_ns = 10_000_000_000;
        assert_eq!(age(ticks(now_ns), used(4_000, now_ns)), ticks(4_000_000_000));
    }
}
