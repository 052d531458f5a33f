//! Who may use which member id: an id is reused only when nothing names it any more.
//!
//! An id is the index of a target in the data plane. Slots and notes name members by it, and outlive the
//! member: an id given out too early would hand the old member's flows to the new one. The pool does not look
//! for names itself; the caller, who reads slots and notes, says which are left.
//!
//! Each VIP has a block of ids, if there is room for one, that its members' ids are from as far as they suffice: VIPs of
//! one pool of backends then have ids that differ by a constant ([`super::sharing`]).

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::first_gap;

/// The greatest id: the top bit of 16 is the data plane's.
pub const MAX_ID: u16 = 32_767;

/// The ids `1..=capacity`, each free, a member's, or retired.
#[derive(Debug)]
pub struct MemberPool {
    /// Longest free first, so that the latest freed comes last.
    free: VecDeque<u16>,
    members: BTreeSet<u16>,
    /// Of members that are gone; slots or notes may still name them.
    retired: BTreeSet<u16>,
}

impl MemberPool {
    /// A pool of `capacity` ids, at most [`MAX_ID`].
    #[must_use]
    pub fn new(capacity: u16) -> Self {
        Self {
            free: (1..=capacity.min(MAX_ID)).collect(),
            members: BTreeSet::new(),
            retired: BTreeSet::new(),
        }
    }

    /// What a restarted daemon found: `members` keep their ids, `named` ones wait until nothing names them.
    #[must_use]
    pub fn adopt(
        capacity: u16,
        members: impl IntoIterator<Item = u16>,
        named: impl IntoIterator<Item = u16>,
    ) -> Self {
        let mut pool = Self::new(capacity);
        pool.members.extend(members.into_iter().filter(|&id| id != 0));
        pool.retired.extend(
            named
                .into_iter()
                .filter(|id| *id != 0 && !pool.members.contains(id)),
        );
        pool.free
            .retain(|id| !pool.members.contains(id) && !pool.retired.contains(id));
        pool
    }

    /// An id for a new member, never the one freed last while another is left; none where all are taken.
    pub fn allocate(&mut self) -> Option<u16> {
        let id = self.free.pop_front()?;
        self.members.insert(id);
        Some(id)
    }

    /// As [`Self::allocate`], of a block as long as that has a free one.
    pub fn allocate_in(&mut self, block: &Range<u16>) -> Option<u16> {
        let Some(place) = self.free.iter().position(|id| block.contains(id)) else {
            return self.allocate();
        };
        let id = self.free.remove(place)?;
        self.members.insert(id);
        Some(id)
    }

    /// The first `length` ids in a row that are free and in none of the blocks; an empty block where there are none.
    #[must_use]
    pub fn free_block<'a>(&self, length: u16, blocks: impl Iterator<Item = &'a Range<u16>>) -> Range<u16> {
        let ids = 1..self.capacity() as u32 + 1;
        let others = self.members.iter().chain(&self.retired).map(|&id| id..id + 1);
        let taken = others
            .chain(blocks.cloned())
            .map(|range| range.start.into()..range.end.into());
        first_gap(ids, taken, length.into()).map_or(0..0, |first| first as u16..first as u16 + length)
    }

    /// How many ids there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.free.len() + self.members.len() + self.retired.len()
    }

    /// The member is gone; its id waits for [`MemberPool::reclaim`]. False where it was no member's.
    pub fn release(&mut self, id: u16) -> bool {
        let known = self.members.remove(&id);
        if known {
            self.retired.insert(id);
        }
        known
    }

    /// Frees the retired ids for which `named` (by a slot or a note) is false, and returns them, lowest first.
    pub fn reclaim(&mut self, named: impl Fn(u16) -> bool) -> Vec<u16> {
        let unnamed: Vec<u16> = self.retired.iter().copied().filter(|&id| !named(id)).collect();
        for id in &unnamed {
            self.retired.remove(id);
        }
        self.free.extend(&unnamed);
        unnamed
    }

    /// The retired ids, lowest first: those that the caller must look for in slots and notes.
    pub fn retired(&self) -> impl Iterator<Item = u16> {
        self.retired.iter().copied()
    }

    /// How many ids can be allocated now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_named_id_is_not_reused_and_the_latest_freed_comes_last() {
        let mut pool = MemberPool::new(3);
        let ids: Vec<u16> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert!(pool.release(2) && pool.release(1) && !pool.release(1));
        assert_eq!(pool.allocate(), None);
        assert_eq!(pool.reclaim(|id| id == 1), [2]);
        assert_eq!(pool.reclaim(|_| false), [1]);
        assert_eq!(
            (pool.allocate(), pool.allocate(), pool.allocate()),
            (Some(2), Some(1), None)
        );
    }

    #[test]
    fn blocks_are_of_free_ids_in_a_row() {
        let mut pool = MemberPool::adopt(20, [4, 12], []);
        assert_eq!(pool.free_block(3, [].iter()), 1..4);
        assert_eq!(pool.free_block(4, [].iter()), 5..9);
        let blocks = [5..9, 13..15, 0..0];
        assert_eq!(pool.free_block(3, blocks.iter()), 1..4);
        assert_eq!(pool.free_block(4, blocks.iter()), 15..19);
        assert!(pool.free_block(7, blocks.iter()).is_empty());
        // Ids of the block, then any.
        let ids = [(); 4].map(|()| pool.allocate_in(&(15..18)));
        assert_eq!(ids, [Some(15), Some(16), Some(17), Some(1)]);
        assert_eq!(pool.capacity(), 20);
        // Of a block, too, the latest freed comes last.
        assert!(pool.release(16) && pool.release(15));
        assert_eq!(pool.reclaim(|id| id == 15), [16]);
        assert_eq!(pool.reclaim(|_| false), [15]);
        assert_eq!(
            [(); 2].map(|()| pool.allocate_in(&(15..18))),
            [Some(16), Some(15)]
        );
    }

    #[test]
    fn an_adopted_pool_gives_out_neither_members_nor_what_is_named() {
        let mut pool = MemberPool::adopt(5, [2, 4], [0, 2, 5]);
        assert_eq!(pool.retired().collect::<Vec<_>>(), [5]);
        assert_eq!(
            (pool.allocate(), pool.allocate(), pool.allocate()),
            (Some(1), Some(3), None)
        );
    }

    proptest! {
        #![proptest_config(super::super::fixed(64))]

        /// Random lives of members; a released id stays named for a random while.
        #[test]
        fn nothing_ever_names_two_members(steps in prop::collection::vec((0..3u8, 0..40u16), 1..400)) {
            let mut pool = MemberPool::new(24);
            let (mut members, mut named) = (BTreeSet::new(), BTreeSet::new());
            for (step, pick) in steps {
                match step {
                    0 => if let Some(id) = pool.allocate() {
                        prop_assert!(members.insert(id) && !named.contains(&id));
                        named.insert(id);
                    },
                    1 => if members.remove(&pick) { prop_assert!(pool.release(pick)) },
                    _ => {
                        if !members.contains(&pick) { named.remove(&pick); }
                        for id in pool.reclaim(|id| named.contains(&id)) {
                            prop_assert!(!named.contains(&id));
                        }
                    }
                }
                prop_assert_eq!(pool.available() + members.len() + pool.retired().count(), 24);
            }
        }
    }
}
