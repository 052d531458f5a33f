//! The sweep: reads all notes, settles the slots in which none names anybody but the current owner, and frees
//! the members that nothing names any more.

use std::collections::{BTreeMap, HashSet};
use std::io;

use foobar_common::flow::{flow_hash, ports_be};
use foobar_common::fragment::{FRAGMENT_LIFETIME, FragmentNote};
use foobar_common::slot::{Member as Id, NONE, Phase};
use foobar_common::target::TARGET_GONE;
use foobar_common::time::{Ticks, age, note_lifetime, ticks};

use super::steering::{Steering, Vip, history};
use crate::balancer::slots::History;
use crate::config::{FlowHash, Tracking};
use crate::dataplane::{NoteEntry, Sweep};

/// A VIP, as the sweep needs it.
struct Swept {
    id: u32,
    base: u32,
    mask: u32,
    lifetime: u32,
    /// T, in ticks.
    idle: u32,
    hash: FlowHash,
    /// Notes count in settled slots too.
    notes_all: bool,
    /// By slot: its owner, whether no note counts in it, whether a live note names somebody else.
    slots: Vec<(Id, bool, bool)>,
    ready: Vec<u32>,
}

fn notes_all(vip: &Vip) -> bool {
    match vip.config.tracking {
        Tracking::All | Tracking::AllStrict => true,
        Tracking::Transitions | Tracking::None => false,
    }
}

impl Steering {
    /// Whether a sweep has anything to do.
    pub(super) fn needs_sweep(&self) -> bool {
        self.pool.retired().next().is_some()
            || self.vips.iter().any(|vip| {
                notes_all(vip)
                    || vip.table.count(Phase::Settled) + vip.table.count(Phase::Kept)
                        != vip.config.slots as usize
                    || vip.members.iter().any(|member| member.removed)
            })
            || self.notes > 0
    }

    /// Sweeps the notes.
    ///
    /// # Errors
    /// Where the fragments' notes can't be read; nothing is freed then.
    pub(super) fn sweep(&mut self, now_ns: u64) -> io::Result<()> {
        let now = ticks(now_ns);
        let seed = self.seed;
        let (mut swept, by_id) = self.swept(now_ns);
        let gone: HashSet<Id> = self
            .pool
            .retired()
            .filter(|&id| self.plane.target(id).flags & TARGET_GONE != 0)
            .collect();
        let crowded = self.notes as u64 * 2 > u64::from(self.plane.note_capacity());
        let mut named: HashSet<Id> = HashSet::new();
        let mut renewals = self.renewals.take();
        if let Some(renewals) = &mut renewals {
            renewals.begin(now);
        }

        self.notes = self.plane.sweep_notes(|entry| {
            let Some((place, slot)) = locate(&entry, seed, &swept, &by_id) else {
                return Sweep::Delete;
            };
            let (member, idle) = said(&entry, now);
            let vip = &mut swept[place];
            let (current, unnoted, foreign) = &mut vip.slots[slot as usize];
            // The notes of a settled or kept slot are not looked at; only this task could change that.
            if *unnoted || gone.contains(&member) {
                return Sweep::Delete;
            }
            // Where peers have copies, one of these may count for another T/4 there: the slot does not settle, and a SYN
            // must find the note, and tell that it is overwritten.
            let is_late = renewals.is_some() && idle <= vip.lifetime / 5 * 6;
            if idle > vip.lifetime && (crowded || !is_late) {
                // Stale notes go with their slot's settling, unless room is short.
                return if vip.notes_all || crowded || matches!(entry, NoteEntry::Pending { .. }) {
                    Sweep::Delete
                } else {
                    named.insert(member);
                    Sweep::Keep
                };
            }
            named.insert(member);
            if member != *current {
                *foreign = true;
            }
            if idle > vip.lifetime {
                return Sweep::Keep;
            }
            if let (Some(renewals), NoteEntry::Noted { place, key, note }) = (&mut renewals, entry)
                && renewals.due(place, &key, note.used, vip.idle)
            {
                self.renewed.push((key, note));
            }
            Sweep::Keep
        });
        self.renewals = renewals;

        for (place, swept) in swept.into_iter().enumerate() {
            for slot in swept.ready {
                if !swept.slots[slot as usize].2 {
                    self.vips[place].table.settle(slot as usize, now_ns);
                }
            }
            self.flush(place);
        }
        if self.pool.retired().next().is_some() {
            let fragments = self.plane.fragments()?;
            named.extend(followed(fragments.iter().map(|(_, note)| note), now));
        }
        self.free(&named, now_ns);
        self.name_members();
        Ok(())
    }

    /// The VIPs, and their places by their ids.
    fn swept(&self, now_ns: u64) -> (Vec<Swept>, BTreeMap<u32, usize>) {
        let swept: Vec<Swept> = self
            .vips
            .iter()
            .map(|vip| Swept {
                id: vip.id,
                base: vip.base,
                mask: vip.config.slots - 1,
                lifetime: note_lifetime(vip.idle_ns()),
                idle: ticks(vip.idle_ns()),
                hash: vip.config.hash,
                notes_all: notes_all(vip),
                slots: vip
                    .table
                    .slots()
                    .iter()
                    .map(|held| {
                        let unnoted = match held.slot.phase() {
                            Phase::Settled => !notes_all(vip),
                            Phase::Kept => true,
                            Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved => false,
                        };
                        (held.slot.current, unnoted, false)
                    })
                    .collect(),
                ready: vip.table.may_settle(now_ns),
            })
            .collect();
        let by_id: BTreeMap<u32, usize> = swept
            .iter()
            .enumerate()
            .map(|(place, vip)| (vip.id, place))
            .collect();
        (swept, by_id)
    }

    /// Before notes stop counting in a VIP whose packets are about to carry candidates: who is noted in a slot
    /// becomes one of them.
    pub(super) fn recall_notes(&mut self, now_ns: u64) {
        let is_leaving: Vec<bool> = self
            .vips
            .iter()
            .map(|vip| vip.table.history() == History::Noted && history(&vip.config) == History::Kept)
            .collect();
        if !is_leaving.contains(&true) {
            return;
        }
        let (seed, now) = (self.seed, ticks(now_ns));
        let (swept, by_id) = self.swept(now_ns);
        let mut noted: HashSet<(usize, u32, Id)> = HashSet::new();
        self.notes = self.plane.sweep_notes(|entry| {
            if let Some((place, slot)) = locate(&entry, seed, &swept, &by_id)
                && is_leaving[place]
            {
                let (member, idle) = said(&entry, now);
                if idle <= swept[place].lifetime {
                    noted.insert((place, slot, member));
                }
            }
            Sweep::Keep
        });
        let mut forgotten = 0;
        for (place, slot, member) in noted {
            let vip = &mut self.vips[place];
            let is_member = vip.members.iter().any(|have| have.id == member);
            forgotten += u32::from(is_member && !vip.table.recall(slot as usize, member));
        }
        if forgotten > 0 {
            tracing::warn!(
                forgotten,
                "slots with flows of more than three backends: those of some are lost"
            );
        }
    }

    /// Lets go of members on their way out, and of indices, that neither slots nor notes name, at two sweeps
    /// in a row: a packet that was under way at the first has long been written down at the second.
    ///
    /// Of a VIP with QUIC server ids, packets that follow one leave no note: there a member on its way out goes
    /// when it has got none for as long as a flow may be idle.
    fn free(&mut self, noted: &HashSet<Id>, now_ns: u64) {
        let mut named = noted.clone();
        for vip in &self.vips {
            named.extend(vip.table.usage().into_keys());
        }
        let before = std::mem::take(&mut self.unnamed);
        let is_free = |id: Id| !named.contains(&id) && before.contains(&id);
        for id in self.pool.reclaim(|id| !is_free(id)) {
            // Still gone, so that no note that names it counts until it begins a new life.
            self.plane.set_target_state(id, TARGET_GONE, 0, 0);
        }
        for vip in &mut self.vips {
            let (name, idle_ns, quic) = (&vip.config.name, vip.idle_ns(), vip.config.quic);
            vip.members.retain_mut(|member| {
                let followed = quic.is_some() && member.removed && !member.cut && {
                    let sent = self.plane.target_counters(member.id);
                    !member.is_quiet(sent.packets, now_ns, idle_ns)
                };
                let done = member.removed && !followed && is_free(member.id);
                if done {
                    tracing::info!(vip = name, backend = %member.address, "removed backend has drained");
                    self.plane.set_target_state(member.id, TARGET_GONE, 0, 0);
                    self.pool.release(member.id);
                }
                !done
            });
        }
        let removed = self
            .vips
            .iter()
            .flat_map(|vip| &vip.members)
            .filter(|member| member.removed);
        let candidates: HashSet<Id> = self
            .pool
            .retired()
            .chain(removed.map(|member| member.id))
            .collect();
        self.unnamed = candidates.into_iter().filter(|id| !named.contains(id)).collect();
    }
}

/// The members that later fragments may still follow a first one to.
fn followed<'a>(notes: impl Iterator<Item = &'a FragmentNote>, now: Ticks) -> HashSet<Id> {
    notes
        .filter(|note| age(now, note.seen) <= FRAGMENT_LIFETIME)
        .flat_map(|note| [note.slot.current, note.slot.previous, note.slot.older])
        .filter(|&member| member != NONE)
        .collect()
}

/// The VIP and the slot, from the VIP's first, of an entry; none where there is no such VIP.
fn locate(
    entry: &NoteEntry,
    seed: [u64; 2],
    swept: &[Swept],
    by_id: &BTreeMap<u32, usize>,
) -> Option<(usize, u32)> {
    match entry {
        NoteEntry::Noted { key, .. } => {
            let place = *by_id.get(&key.vip)?;
            let ports = match swept[place].hash {
                FlowHash::FiveTuple => ports_be(key.source_port_be, key.destination_port_be),
                FlowHash::Source => 0,
            };
            let hash = flow_hash(seed, key.source.words(), ports);
            Some((place, hash as u32 & swept[place].mask))
        }
        NoteEntry::Pending { note, .. } => {
            let place = swept
                .iter()
                .position(|vip| note.slot().wrapping_sub(vip.base) <= vip.mask)?;
            Some((place, note.slot() - swept[place].base))
        }
    }
}

/// The member that an entry names, and how long it has been idle, in ticks.
fn said(entry: &NoteEntry, now: Ticks) -> (Id, u32) {
    match entry {
        NoteEntry::Noted { note, .. } => (note.member, age(now, note.used)),
        NoteEntry::Pending { note, .. } => (note.member(), note.age(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foobar_common::slot::Slot;

    #[test]
    fn fragments_name_members_for_as_long_as_they_are_followed() {
        let note = |slot, seen| FragmentNote {
            slot,
            vip_flags: 0,
            seen,
        };
        let candidates = Slot {
            current: 1,
            previous: 2,
            older: 3,
            phase: Phase::Kept as u16,
        };
        let now = FRAGMENT_LIFETIME + 10;
        let notes = [
            note(candidates, 10),
            note(Slot::settled(4), now),
            note(Slot::settled(5), 9),
            note(Slot::settled(NONE), now),
        ];
        assert_eq!(followed(notes.iter(), now), HashSet::from([1, 2, 3, 4]));
    }
}
