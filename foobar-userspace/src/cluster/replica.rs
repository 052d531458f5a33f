//! Between one balancer's slots and notes, which name members by index, and messages, which name them so that every
//! balancer understands it. Pure; times are CLOCK_MONOTONIC in nanoseconds.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use foobar_common::slot::{ColdSlot, Member as Id, NONE, Phase, Slot};
use sha2::{Digest as _, Sha256};

use super::message::{Digest, Starts, Table, Unsettled};
use super::name::{MemberName, Service};
use crate::balancer::slots::SlotTable;

const MS: u64 = 1_000_000;

/// The members of a service on this balancer.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    members: BTreeMap<IpAddr, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: Id,
    born: u64,
    incarnation: u64,
}

impl Roster {
    /// A member: its index, what it is called, and the first name of the life that it leads (peers may not have
    /// heard of the later ones).
    pub fn insert(&mut self, name: MemberName, born: u64, id: Id) {
        let entry = Entry {
            id,
            born,
            incarnation: name.incarnation,
        };
        self.members.insert(name.address, entry);
    }

    /// The index of the member that a peer calls so; none where there is no such member here, or the name is that
    /// of an earlier life.
    #[must_use]
    pub fn id(&self, name: MemberName) -> Option<Id> {
        let entry = self.members.get(&name.address)?;
        (name.incarnation >= entry.born).then_some(entry.id)
    }

    /// What the member with this index is called.
    #[must_use]
    pub fn name(&self, id: Id) -> Option<MemberName> {
        let found = self.members.iter().find(|(_, entry)| entry.id == id);
        found.map(|(address, entry)| MemberName {
            address: *address,
            incarnation: entry.incarnation,
        })
    }

    /// All names, by address, and the place of each index among them.
    fn names(&self) -> (Vec<MemberName>, BTreeMap<Id, u16>) {
        let mut names = Vec::with_capacity(self.members.len());
        let mut places = BTreeMap::new();
        for (place, (address, entry)) in (1..).zip(&self.members) {
            names.push(MemberName {
                address: *address,
                incarnation: entry.incarnation,
            });
            places.insert(entry.id, place);
        }
        (names, places)
    }
}

/// How old something is, as messages say it.
#[must_use]
pub const fn age_ms(since_ns: u64, now_ns: u64) -> u32 {
    let age = now_ns.saturating_sub(since_ns) / MS;
    if age > u32::MAX as u64 {
        u32::MAX
    } else {
        age as u32
    }
}

/// When something of this age was, by this balancer's clock.
#[must_use]
pub const fn since_ns(age_ms: u32, now_ns: u64) -> u64 {
    now_ns.saturating_sub(age_ms as u64 * MS)
}

/// A service's slots, to be told to a peer. An owner who is no member any more is told as nobody.
#[must_use]
pub fn table(service: Service, slots: &SlotTable, roster: &Roster, now_ns: u64) -> Table {
    let (members, places) = roster.names();
    let place = |id: Id| places.get(&id).copied().unwrap_or(0);
    let mut current = Vec::with_capacity(slots.slots().len() * 2);
    let mut unsettled = Vec::new();
    for (index, ColdSlot { slot, since_ns }) in (0..).zip(slots.slots()) {
        current.extend(place(slot.current).to_le_bytes());
        if slot.phase() != Phase::Settled {
            unsettled.push(Unsettled {
                slot: index,
                phase: slot.phase as u8,
                previous: place(slot.previous),
                older: place(slot.older),
                age_ms: age_ms(*since_ns, now_ns),
            });
        }
    }
    Table {
        service,
        members,
        current,
        unsettled,
    }
}

/// What a peer's table is to this balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// No flow has come by here yet: the peer's slots are taken as they are.
    Newcomer,
    /// Both have had flows.
    Equal,
}

/// A table that is no table of this service.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The peer has another number of slots.
    #[error(
        "the peer has {theirs} slots for {service}, and here are {ours}: `slots` must be the same on all balancers"
    )]
    Size {
        /// Of this service.
        service: Service,
        /// So many there.
        theirs: usize,
        /// So many here.
        ours: usize,
    },
    /// A slot or a member is named that isn't there.
    #[error("the peer's table of {0} names what isn't in it")]
    Nonsense(Service),
}

/// Takes in a peer's table; T is `idle_ns`. A slot whose current owner there is no member here is left as it is.
///
/// # Errors
/// Where it doesn't fit this service; nothing is changed then.
pub fn take_table(
    table: &Table,
    slots: &mut SlotTable,
    roster: &Roster,
    relation: Relation,
    now_ns: u64,
    idle_ns: u64,
) -> Result<(), TableError> {
    let theirs = table.current.len() / 2;
    if theirs != slots.slots().len() || !table.current.len().is_multiple_of(2) {
        return Err(TableError::Size {
            service: table.service,
            theirs,
            ours: slots.slots().len(),
        });
    }
    let ids: Vec<Option<Id>> = std::iter::once(Some(NONE))
        .chain(table.members.iter().map(|name| roster.id(*name)))
        .collect();
    let nonsense = || TableError::Nonsense(table.service);
    let id = |place: u16| ids.get(usize::from(place)).copied().ok_or_else(nonsense);
    let mut taken: Vec<Option<ColdSlot>> = Vec::with_capacity(theirs);
    for bytes in table.current.chunks_exact(2) {
        let current = id(u16::from_le_bytes([bytes[0], bytes[1]]))?;
        taken.push(current.map(|current| ColdSlot {
            slot: Slot::settled(current),
            since_ns: now_ns,
        }));
    }
    for told in &table.unsettled {
        let slot = taken.get_mut(told.slot as usize).ok_or_else(nonsense)?;
        let (previous, older) = (id(told.previous)?, id(told.older)?);
        if let Some(held) = slot {
            held.slot.previous = previous.unwrap_or(NONE);
            held.slot.older = older.unwrap_or(NONE);
            held.slot.phase = Phase::from_raw(u16::from(told.phase)) as u16;
            held.since_ns = since_ns(told.age_ms, now_ns);
        }
    }
    for (index, slot) in taken.into_iter().enumerate() {
        match (slot, relation) {
            (None, _) => (),
            (Some(slot), Relation::Newcomer) => slots.join(index, slot),
            (Some(slot), Relation::Equal) => slots.reconcile(index, slot, now_ns, idle_ns),
        }
    }
    Ok(())
}

/// The slots whose current owner is not the same in two tables of a service: all, where their sizes differ.
#[must_use]
pub fn differing(one: &Table, other: &Table) -> Vec<u32> {
    let address = |table: &Table, bytes: &[u8; 2]| {
        let place = usize::from(u16::from_le_bytes(*bytes));
        place
            .checked_sub(1)
            .and_then(|place| table.members.get(place).map(|name| name.address))
    };
    let (ours, _) = one.current.as_chunks::<2>();
    let (theirs, _) = other.current.as_chunks::<2>();
    let count = ours.len().max(theirs.len()) as u32;
    (0..count)
        .filter(
            |&slot| match (ours.get(slot as usize), theirs.get(slot as usize)) {
                (Some(ours), Some(theirs)) => address(one, ours) != address(other, theirs),
                _ => true,
            },
        )
        .collect()
}

/// Slots that have begun to move this moment, to be told to the peers; none where there are none. `slots` ascend.
#[must_use]
pub fn starts(service: Service, slots: &[u32]) -> Option<Starts> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &slot in slots {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == slot => *count += 1,
            _ => runs.push((slot, 1)),
        }
    }
    (!runs.is_empty()).then_some(Starts {
        service,
        age_ms: 0,
        runs,
    })
}

/// A peer's slots have begun to move; T is `idle_ns`.
pub fn take_starts(starts: &Starts, slots: &mut SlotTable, now_ns: u64, idle_ns: u64) {
    let since_ns = since_ns(starts.age_ms, now_ns);
    let count = slots.slots().len() as u32;
    for &(first, length) in &starts.runs {
        for slot in first.min(count)..first.saturating_add(length).min(count) {
            slots.extend(slot as usize, since_ns, idle_ns);
        }
    }
}

/// The digest of what this balancer steers a service by: settings (whatever bytes say them), members and each
/// slot's current one.
#[must_use]
pub fn digest(settings: &[u8], slots: &SlotTable, roster: &Roster) -> Digest {
    let (names, places) = roster.names();
    let mut hash = Sha256::new();
    hash.update((settings.len() as u64).to_le_bytes());
    hash.update(settings);
    for name in &names {
        hash.update(name.address.to_string().as_bytes());
        hash.update(name.incarnation.to_le_bytes());
    }
    let mut current = Vec::with_capacity(slots.slots().len() * 2);
    for held in slots.slots() {
        current.extend(places.get(&held.slot.current).copied().unwrap_or(0).to_le_bytes());
    }
    hash.update(&current);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    Digest::from(digest)
}
