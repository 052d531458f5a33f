//! Tables of hot slots that several VIPs read together.
//!
//! A table of slots is a function of the members' names, so VIPs that have one pool of backends have the same one, but
//! for the members themselves: each VIP has its own. As a VIP's members are a block of ids, that is a constant in every
//! slot ([`foobar_common::vip::Lanes`]), and one table in the caches can do for all of them.
//!
//! A shared table never changes. Who is about to change a slot leaves first; the room of a table that everybody left
//! is used again when no packet reads it any more. Nothing is written to a map here.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use std::ops::Range;

use foobar_common::slot::Member;
use foobar_common::vip::Lanes;

use super::first_gap;

/// What tables must have in common to be shared: equal where the tables are the same but for a constant.
pub fn pattern(owners: &[Member]) -> u64 {
    let first = owners.first().copied().unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(owners.len());
    for &owner in owners {
        hasher.write_u16(owner.wrapping_sub(first));
    }
    hasher.finish()
}

/// The shared tables, in the room that there is for them.
#[derive(Debug)]
pub struct SharedTables {
    room: Range<u32>,
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    base: u32,
    slots: u32,
    pattern: u64,
    owners: Vec<Member>,
    users: usize,
    /// Since when it is known that nobody uses it.
    left_ns: Option<u64>,
}

impl SharedTables {
    /// None yet, in a room that nobody reads; indexes of hot slots.
    #[must_use]
    pub const fn new(room: Range<u32>) -> Self {
        Self {
            room,
            tables: Vec::new(),
        }
    }

    /// As [`Self::new`], where an earlier daemon's tables may still be read by packets under way.
    #[must_use]
    pub fn adopt(room: Range<u32>) -> Self {
        let left = Table {
            base: room.start,
            slots: room.len() as u32,
            pattern: pattern(&[]),
            owners: Vec::new(),
            users: 0,
            left_ns: None,
        };
        Self {
            tables: vec![left],
            room,
        }
    }

    /// How many tables are in use.
    #[cfg(test)]
    fn in_use(&self) -> usize {
        self.tables.iter().filter(|table| table.users > 0).count()
    }

    /// Whether there may be a table for a [`pattern`].
    #[must_use]
    pub fn has(&self, pattern: u64) -> bool {
        self.tables
            .iter()
            .any(|table| table.pattern == pattern && table.users > 0)
    }

    /// The lanes of a VIP with these owners of its slots, the first of which is slot `base`; none where there is neither
    /// such a table nor room for it. What a new one has to hold, from an index on, `write` writes. The VIP uses the table
    /// until it [leaves](Self::leave).
    pub fn share(
        &mut self,
        base: u32,
        owners: &[Member],
        write: impl FnOnce(u32, &[Member]),
    ) -> Option<Lanes> {
        if let Some(lanes) = self.join(base, owners) {
            return Some(lanes);
        }
        write(self.found(owners)?, owners);
        self.join(base, owners)
    }

    /// As [`Self::share`], of a table that there is.
    fn join(&mut self, base: u32, owners: &[Member]) -> Option<Lanes> {
        let first = *owners.first()?;
        self.tables.iter_mut().find_map(|table| {
            let members = first.wrapping_sub(*table.owners.first()?);
            let is_same = table.left_ns.is_none()
                && table.owners.len() == owners.len()
                && owners
                    .iter()
                    .zip(&table.owners)
                    .all(|(&owner, &held)| owner == held.wrapping_add(members));
            is_same.then(|| {
                table.users += 1;
                Lanes::new(table.base.wrapping_sub(base), members)
            })
        })
    }

    /// A new table with these owners, for VIPs to [join](Self::join) when they are written from the index on that is
    /// given back; none where there is no room.
    fn found(&mut self, owners: &[Member]) -> Option<u32> {
        let slots = owners.len() as u32;
        let taken = self
            .tables
            .iter()
            .map(|table| table.base..table.base + table.slots);
        let base = first_gap(self.room.clone(), taken, slots)?;
        self.tables.push(Table {
            base,
            slots,
            pattern: pattern(owners),
            owners: owners.to_vec(),
            users: 0,
            left_ns: None,
        });
        Some(base)
    }

    /// A VIP, the first of whose slots is slot `base`, does not read what these lanes lead to any more.
    pub fn leave(&mut self, base: u32, lanes: Lanes) {
        let base = lanes.index(base);
        if let Some(table) = self.tables.iter_mut().find(|table| table.base == base) {
            table.users = table.users.saturating_sub(1);
        }
    }

    /// Gives up the room of tables that nobody has used since `grace_ns` before `now_ns`: called now and then.
    pub fn tidy(&mut self, now_ns: u64, grace_ns: u64) {
        self.tables.retain_mut(|table| {
            if table.users > 0 {
                return true;
            }
            let left_ns = *table.left_ns.get_or_insert(now_ns);
            now_ns.saturating_sub(left_ns) < grace_ns
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_that_differ_by_a_constant_are_shared() {
        let mut tables = SharedTables::new(100..200);
        assert_eq!(tables.join(0, &[5, 6, 5, 7]), None);
        assert_eq!(tables.found(&[5, 6, 5, 7]), Some(100));
        let own = tables.join(0, &[5, 6, 5, 7]).unwrap();
        assert_eq!((own.index(2), own.hot(6)), (102, 6));
        let other = tables.join(4, &[15, 16, 15, 17]).unwrap();
        assert_eq!((other.index(4 + 3), other.hot(7)), (103, 17));
        let lower = tables.join(8, &[1, 2, 1, 3]).unwrap();
        assert_eq!((lower.index(8), lower.hot(5)), (100, 1));
        // Not where one slot differs, nor half of the slots.
        assert_eq!(tables.join(0, &[5, 6, 5, 8]), None);
        assert_eq!(tables.join(0, &[5, 6]), None);
        assert_eq!(tables.in_use(), 1);
    }

    #[test]
    fn what_was_left_is_used_again_only_after_a_while() {
        let mut tables = SharedTables::new(8..12);
        assert_eq!(tables.found(&[1, 1, 2, 2]), Some(8));
        let lanes = tables.join(0, &[1, 1, 2, 2]).unwrap();
        tables.tidy(0, 5);
        tables.tidy(100, 5);
        assert_eq!(tables.found(&[3, 4, 3, 3]), None, "it is in use");
        tables.leave(0, lanes);
        tables.tidy(100, 5);
        assert_eq!(tables.join(0, &[1, 1, 2, 2]), None, "it is on its way out");
        tables.tidy(104, 5);
        assert_eq!(tables.found(&[3, 4, 3, 3]), None, "packets may still read it");
        tables.tidy(105, 5);
        assert_eq!(tables.found(&[3, 4, 3, 3]), Some(8));
    }

    #[test]
    fn what_an_earlier_daemon_wrote_is_not_overwritten_at_once() {
        let mut tables = SharedTables::adopt(4..8);
        tables.tidy(10, 5);
        assert_eq!(tables.found(&[1, 2]), None);
        tables.tidy(15, 5);
        assert_eq!(tables.found(&[1, 2]), Some(4));
    }

    proptest! {
        #![proptest_config(super::super::fixed(64))]

        /// VIPs come, change and go, and packets that began before read on for the time of a grace.
        #[test]
        fn a_packet_reads_its_own_slots(steps in prop::collection::vec((0..6usize, 0..4u16, 0..3u8), 1..200)) {
            const GRACE: u64 = 2;
            let mut tables = SharedTables::new(64..96);
            let mut hot: BTreeMap<u32, Member> = BTreeMap::new();
            // By VIP: its owners and lanes.
            let mut vips: [([Member; 8], Lanes); 6] = [([1; 8], Lanes::OWN); 6];
            // Packets under way: until when, VIP's base, lanes, owners.
            let mut under_way: Vec<(u64, u32, Lanes, [Member; 8])> = Vec::new();
            for (now, (vip, block, step)) in (0u64..).zip(steps) {
                let base = vip as u32 * 8;
                let (owners, lanes) = vips[vip];
                under_way.push((now + GRACE, base, lanes, owners));
                match step {
                    0 => {
                        if lanes != Lanes::OWN {
                            tables.leave(base, lanes);
                        }
                        let changed = std::array::from_fn(|i| 100 * (vip as u16 + 1) + (i as u16 * block) % 3);
                        vips[vip] = (changed, Lanes::OWN);
                    }
                    1 if lanes == Lanes::OWN => {
                        let shared = tables.share(base, &owners, |at, _| hot.extend((at..).zip(owners)));
                        vips[vip].1 = shared.unwrap_or_default();
                    }
                    _ => tables.tidy(now, GRACE),
                }
                under_way.retain(|&(until, ..)| until > now);
                for &(_, base, lanes, owners) in &under_way {
                    for (index, owner) in (base..).zip(owners) {
                        if lanes != Lanes::OWN {
                            prop_assert_eq!(lanes.hot(hot[&lanes.index(index)]), owner);
                        }
                    }
                }
            }
        }
    }
}
