//! The sweep: reads all notes, settles the slots in which none names anybody but the current owner, and frees
//! the members that nothing names any more.

use std::collections::{BTreeMap, HashSet};
use std::io;

use foobar_common::flow::{flow_hash, ports_be};
use foobar_common::slot::{Member as Id, Phase};
use foobar_common::target::TARGET_GONE;
use foobar_common::time::{age, note_lifetime, ticks};

use super::steering::Steering;
use crate::dataplane::{NoteEntry, Sweep};

/// A VIP, as the sweep needs it.
struct Swept {
    id: u32,
    base: u32,
    mask: u32,
    lifetime: u32,
    /// By slot: its owner, whether it is settled, whether a live note names somebody else.
    slots: Vec<(Id, bool, bool)>,
    ready: Vec<u32>,
}

impl Steering {
    /// Whether a sweep has anything to do.
    pub(super) fn needs_sweep(&self) -> bool {
        self.pool.retired().next().is_some()
            || self.vips.iter().any(|vip| {
                vip.table.count(Phase::Settled) != vip.config.slots as usize
                    || vip.members.iter().any(|member| member.removed)
            })
            || self.notes > 0
    }

    /// Sweeps the notes.
    ///
    /// # Errors
    /// Where the notes can't be read; nothing is settled or freed then.
    pub(super) fn sweep(&mut self, now_ns: u64) -> io::Result<()> {
        let now = ticks(now_ns);
        let seed = self.seed;
        let mut swept: Vec<Swept> = self
            .vips
            .iter()
            .map(|vip| Swept {
                id: vip.id,
                base: vip.base,
                mask: vip.config.slots - 1,
                lifetime: note_lifetime(vip.idle_ns()),
                slots: vip
                    .table
                    .slots()
                    .iter()
                    .map(|held| (held.slot.current, held.slot.phase() == Phase::Settled, false))
                    .collect(),
                ready: vip.table.may_settle(now_ns),
            })
            .collect();
        let by_id: BTreeMap<u32, usize> = swept
            .iter()
            .enumerate()
            .map(|(place, vip)| (vip.id, place))
            .collect();
        let gone: HashSet<Id> = self
            .pool
            .retired()
            .filter(|&id| self.plane.target(id).flags & TARGET_GONE != 0)
            .collect();
        let crowded = self.notes as u64 * 2 > u64::from(self.plane.note_capacity());
        let mut named: HashSet<Id> = HashSet::new();

        self.notes = self.plane.sweep_notes(|entry| {
            let (place, slot, member, idle) = match entry {
                NoteEntry::Noted(key, note) => {
                    let Some(&place) = by_id.get(&key.vip) else {
                        return Sweep::Delete;
                    };
                    let ports = ports_be(key.source_port_be, key.destination_port_be);
                    let hash = flow_hash(seed, key.source.words(), ports);
                    (
                        place,
                        hash as u32 & swept[place].mask,
                        note.member,
                        age(now, note.used),
                    )
                }
                NoteEntry::Pending(note) => {
                    let Some(place) = swept
                        .iter()
                        .position(|vip| note.slot().wrapping_sub(vip.base) <= vip.mask)
                    else {
                        return Sweep::Delete;
                    };
                    (
                        place,
                        note.slot() - swept[place].base,
                        note.member(),
                        note.age(now),
                    )
                }
            };
            let vip = &mut swept[place];
            let (current, settled, foreign) = &mut vip.slots[slot as usize];
            // A settled slot's notes are not looked at; only this task could unsettle it.
            if *settled || gone.contains(&member) {
                return Sweep::Delete;
            }
            if idle > vip.lifetime {
                // Stale notes go with their slot's settling, unless room is short.
                return if crowded || matches!(entry, NoteEntry::Pending(_)) {
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
            Sweep::Keep
        })?;

        for (place, swept) in swept.into_iter().enumerate() {
            for slot in swept.ready {
                if !swept.slots[slot as usize].2 {
                    self.vips[place].table.settle(slot as usize, now_ns);
                }
            }
            self.flush(place);
        }
        self.free(&named);
        Ok(())
    }

    /// Lets go of members on their way out, and of indices, that neither slots nor notes name, at two sweeps
    /// in a row: a packet that was under way at the first has long been written down at the second.
    fn free(&mut self, noted: &HashSet<Id>) {
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
            let name = &vip.config.name;
            vip.members.retain(|member| {
                let done = member.removed && is_free(member.id);
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
