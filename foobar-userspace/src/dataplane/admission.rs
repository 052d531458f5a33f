//! Source lists and SYN limits.
//!
//! A list is a trie of its own, filled before anything can look it up, then put in its place by one store: a
//! packet sees the old list or the new one as a whole.

use std::io;

use aya::maps::lpm_trie::Key;
use aya::maps::{IterableMap as _, LpmTrie, MapData};
use foobar_common::admission::{ListKey, ListVerdict, SynLimit};

use super::batch;
use super::load::DataPlane;

/// A prefix of sources, IPv4 in its mapped form, and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The address; bits beyond the length don't count.
    pub address: ListKey,
    /// The prefix's length in bits, 0 to 128; of an IPv4 prefix 96 more than it is written with.
    pub length: u32,
    /// A verdict.
    pub verdict: ListVerdict,
}

/// A filled source list.
#[derive(Debug)]
pub struct SourceTrie(LpmTrie<MapData, ListKey, ListVerdict>);

const BPF_F_NO_PREALLOC: u32 = 1;

/// Entries that the kernel is given at a time.
const PORTION: usize = 1 << 16;

impl SourceTrie {
    /// Makes a list of these entries; of equal prefixes the last one counts. In the order of their addresses
    /// they take the kernel a quarter of the time.
    ///
    /// # Errors
    /// Where the kernel has no memory for it.
    pub fn new(entries: &[ListEntry]) -> io::Result<Self> {
        let capacity = u32::try_from(entries.len()).map_err(io::Error::other)?;
        let trie = LpmTrie::create(capacity.max(1), BPF_F_NO_PREALLOC).map_err(io::Error::other)?;
        let trie = Self(trie);
        for portion in entries.chunks(PORTION) {
            trie.fill(portion)?;
        }
        Ok(trie)
    }

    fn fill(&self, entries: &[ListEntry]) -> io::Result<()> {
        let keys: Vec<Key<ListKey>> = entries
            .iter()
            .map(|entry| Key::new(entry.length, entry.address))
            .collect();
        let values: Vec<ListVerdict> = entries.iter().map(|entry| entry.verdict).collect();
        batch::write(self.0.map(), &keys, &values)
    }
}

impl DataPlane {
    /// Puts a list in the place of the one with this index.
    ///
    /// # Errors
    /// Where there is no such index.
    pub fn set_list(&mut self, index: u16, list: &SourceTrie) -> io::Result<()> {
        self.lists
            .set(u32::from(index), &list.0, 0)
            .map_err(io::Error::other)
    }

    /// The limit with this index.
    pub fn limit(&self, index: u16) -> SynLimit {
        self.limits.get(u32::from(index))
    }

    /// Fills the limit with this index, which no VIP in force names.
    pub fn set_limit(&self, index: u16, limit: SynLimit) {
        self.limits.set(u32::from(index), limit);
    }

    /// Forgets what sources have used up of their limits.
    pub fn forget_sources(&self) {
        for place in 0..self.source_buckets.len() {
            self.source_buckets.set(place, 0);
        }
    }
}
