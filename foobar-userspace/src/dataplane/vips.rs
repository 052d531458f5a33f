//! The two-choice VIP table, built collision-free in the idle half and put in force by one store; and where an entry
//! in force reads its hot slots, which alone changes in place.

use std::io;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use aya::maps::MapData;
use foobar_common::flow::vip_positions;
use foobar_common::settings::{FILTER_WORDS, Settings, filter_bit};
use foobar_common::vip::{
    Lanes, Lease, MAX_LEASES, MAX_RANGES, PORT_RANGE_ENTRIES, PortRange, VIP_TABLE_ENTRIES, Vip, VipKey,
    VipKind,
};

use super::counters::Value;
use super::load::{DataPlane, GRACE};
use super::region::Region;

/// Entries for the VIP table: services, and an address entry for each of their addresses.
pub type Services = Vec<Vip>;

/// No seed was found with which all entries of the VIP table find a place, or an address has too many ranges
/// of ports.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{entries} VIP services and addresses don't fit into the table of {VIP_TABLE_ENTRIES}")]
pub struct VipTableFull {
    /// How many there are.
    pub entries: usize,
}

/// The entries of a VIP table, for who reads it beside its daemon: it is too large a value to be handed about.
#[derive(Debug)]
pub struct VipEntries(Region<Vip>);

impl VipEntries {
    /// Those of the map `VIPS`.
    ///
    /// # Errors
    /// Where the map can't be mapped.
    pub fn of(map: &MapData) -> io::Result<Self> {
        Region::of(map).map(Self)
    }

    /// The entry at a place in the whole table.
    pub fn get(&self, position: u32) -> Vip {
        self.0.get(position)
    }

    /// Lets the entry at a place in the whole table read its hot slots elsewhere.
    pub fn set_lanes(&self, position: u32, lanes: Lanes) {
        set_lanes(&self.0, position, lanes);
    }
}

fn set_lanes(vips: &Region<Vip>, position: u32, lanes: Lanes) {
    vips.u64(position, offset_of!(Vip, lanes))
        .store(lanes.to_word(), Ordering::Release);
}

/// Gives each entry one of its two positions, moving others to their second one where need be (cuckoo
/// hashing); `None` where that leads nowhere with this seed.
fn place(entries: &[Vip], seed: u64) -> Option<Vec<Option<usize>>> {
    let mut table: Vec<Option<usize>> = vec![None; VIP_TABLE_ENTRIES as usize];
    let positions = |entry: &Vip| {
        vip_positions(
            seed,
            entry.key.address.words(),
            entry.key.tail(),
            VIP_TABLE_ENTRIES - 1,
        )
        .map(|p| p as usize)
    };
    for first in 0..entries.len() {
        let mut homeless = first;
        let mut position = positions(&entries[homeless])[0];
        for _ in 0..64 {
            match table[position].replace(homeless) {
                None => {
                    homeless = usize::MAX;
                    break;
                }
                Some(evicted) => {
                    homeless = evicted;
                    let [a, b] = positions(&entries[evicted]);
                    position = if position == a { b } else { a };
                }
            }
        }
        if homeless != usize::MAX {
            return None;
        }
    }
    Some(table)
}

/// A seed of this half with which all entries find a place, and the table that results.
fn build(entries: &[Vip], half: u32) -> Result<(u64, Vec<Option<usize>>), VipTableFull> {
    if entries.len() <= VIP_TABLE_ENTRIES as usize {
        for number in 1..=64u64 {
            let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !1 | u64::from(half & 1);
            if let Some(table) = place(entries, seed) {
                return Ok((seed, table));
            }
        }
    }
    Err(VipTableFull {
        entries: entries.len(),
    })
}

/// The ranges of all addresses, those of each together, for a half of the array; and the address entries that
/// name them. `position` gives the place of an entry in the half of the VIP table.
fn ranges(
    entries: &mut [Vip],
    half: u32,
    position: impl Fn(usize) -> u32,
) -> Result<Vec<PortRange>, VipTableFull> {
    let full = VipTableFull {
        entries: entries.len(),
    };
    let is = |entry: &Vip, kind: VipKind| entry.key.kind == kind as u8;
    let mut all = Vec::new();
    for index in 0..entries.len() {
        if !is(&entries[index], VipKind::Address) {
            continue;
        }
        let first = all.len();
        for (place, range) in entries.iter().enumerate() {
            if is(range, VipKind::Range) && range.key.address == entries[index].key.address {
                all.push(PortRange {
                    first: u16::from_be(range.key.port_be),
                    last: u16::from_be(range.key.last_port_be),
                    protocol: range.key.protocol,
                    reserved: [0; 3],
                    position: half * VIP_TABLE_ENTRIES + position(place),
                });
            }
        }
        let count = all.len() - first;
        if count > MAX_RANGES || all.len() > PORT_RANGE_ENTRIES as usize {
            return Err(full);
        }
        entries[index].ranges = (half * PORT_RANGE_ENTRIES) as u16 + first as u16;
        entries[index].range_count = count as u16;
    }
    Ok(all)
}

/// The leases of the VIPs' addresses; its copies are of the same words.
#[derive(Clone, Debug)]
pub struct Leases(Arc<Region<Lease>>);

impl Leases {
    pub(super) fn of(region: Region<Lease>) -> Self {
        Self(Arc::new(region))
    }

    /// When the lease with this index ends: CLOCK_MONOTONIC in nanoseconds, 0 not owned, `u64::MAX` never.
    pub fn get(&self, index: u32) -> u64 {
        self.0
            .u64(index % MAX_LEASES, offset_of!(Lease, until_ns))
            .load(Ordering::Acquire)
    }

    /// Sets when a lease ends.
    pub fn set(&self, index: u32, until_ns: u64) {
        self.0
            .u64(index % MAX_LEASES, offset_of!(Lease, until_ns))
            .store(until_ns, Ordering::Release);
    }
}

impl DataPlane {
    /// Whether an operator drains this balancer: it outlives the daemon.
    pub fn is_drained(&self) -> bool {
        self.settings
            .u16(0, offset_of!(Settings, drained))
            .load(Ordering::Acquire)
            != 0
    }

    /// Says whether an operator drains this balancer.
    pub fn set_drained(&self, drained: bool) {
        self.settings
            .u16(0, offset_of!(Settings, drained))
            .store(u16::from(drained), Ordering::Release);
    }

    /// The seed of the table in force; its lowest bit names the half.
    fn vip_seed(&self) -> u64 {
        self.settings
            .u64(0, offset_of!(Settings, vip_seed))
            .load(Ordering::Acquire)
    }

    fn active_half(&self) -> u32 {
        self.vip_seed() as u32 & 1
    }

    /// The entries in force, as they were given to [`Self::set_services`].
    pub fn services(&self) -> Services {
        let base = self.active_half() * VIP_TABLE_ENTRIES;
        (base..base + VIP_TABLE_ENTRIES)
            .map(|element| self.vips.get(element))
            .filter(|entry| entry.key.kind != VipKind::Empty as u8)
            .map(|entry| Vip {
                ranges: 0,
                range_count: 0,
                ..entry
            })
            .collect()
    }

    /// Whether entries with these keys find a place.
    ///
    /// # Errors
    /// Where they don't.
    pub fn fits(&self, entries: &[Vip]) -> Result<(), VipTableFull> {
        // It may be either half's turn.
        build(entries, 0)?;
        build(entries, 1)?;
        ranges(&mut entries.to_vec(), 0, |_| 0).map(drop)
    }

    /// Puts a whole new set of entries in force, by one store.
    ///
    /// # Errors
    /// Where they don't fit; what was in force stays.
    pub fn set_services(&mut self, entries: &[Vip]) -> Result<(), VipTableFull> {
        let half = 1 - self.active_half();
        let (seed, table) = build(entries, half)?;
        let mut entries = entries.to_vec();
        let mut positions = vec![0; entries.len()];
        for (position, index) in table.iter().enumerate() {
            if let Some(index) = *index {
                positions[index] = position as u32;
            }
        }
        let ranges = ranges(&mut entries, half, |index| positions[index])?;
        if let Some(flip) = self.last_flip {
            // A program that began before the last change may still read what is idle now.
            thread::sleep(GRACE.saturating_sub(flip.elapsed()));
        }
        for (range, place) in ranges.into_iter().zip(half * PORT_RANGE_ENTRIES..) {
            self.ranges
                .set(place, Value(range), 0)
                .expect("the array has an element for each range, and is ours to write");
        }
        // What is in force until the next store, and what is after it: neither may be missed meanwhile.
        let mut filter = [0; FILTER_WORDS];
        for entry in self.services().iter().chain(&entries) {
            let (word, bit) = filter_bit(entry.key.address.words());
            filter[word] |= bit;
        }
        for (word, bits) in filter.into_iter().enumerate() {
            self.settings
                .u64(0, offset_of!(Settings, filter) + word * 8)
                .store(bits, Ordering::Release);
        }
        for (position, entry) in table.iter().enumerate() {
            let entry = entry.map_or_else(Vip::default, |index| entries[index]);
            self.vips.set(half * VIP_TABLE_ENTRIES + position as u32, entry);
        }
        self.settings
            .u64(0, offset_of!(Settings, vip_seed))
            .store(seed, Ordering::Release);
        self.last_flip = Some(Instant::now());
        Ok(())
    }

    /// Lets the service of this key in force, if there is one, read its hot slots elsewhere, by one store.
    pub fn set_lanes(&self, key: &VipKey, lanes: Lanes) {
        let seed = self.vip_seed();
        let words = key.address.words();
        for position in vip_positions(seed, words, key.tail(), VIP_TABLE_ENTRIES - 1) {
            let element = (seed as u32 & 1) * VIP_TABLE_ENTRIES + position;
            if self.vips.get(element).key == *key {
                set_lanes(&self.vips, element, lanes);
            }
        }
    }

    /// The leases, for who renews them beside the daemon's loop.
    pub fn leases(&self) -> Leases {
        self.leases.clone()
    }

    /// When the lease with this index ends: CLOCK_MONOTONIC in nanoseconds, 0 not owned, `u64::MAX` never.
    pub fn lease(&self, index: u32) -> u64 {
        self.leases.get(index)
    }

    /// Sets when a lease ends.
    pub fn set_lease(&self, index: u32, until_ns: u64) {
        self.leases.set(index, until_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foobar_common::address::Address;
    use std::net::Ipv4Addr;

    fn entries(count: u32) -> Services {
        (0..count)
            .map(|n| Vip {
                key: VipKey::service(
                    Address::from(Ipv4Addr::from(0xc633_6400 + n / 16)),
                    (n % 16) as u16,
                    6,
                ),
                id: n,
                ..Vip::default()
            })
            .collect()
    }

    #[test]
    fn every_entry_stands_where_the_data_plane_looks() {
        for count in [0, 1, 100, 1_900] {
            let entries = entries(count);
            let (seed, table) = build(&entries, count & 1).expect("room enough");
            assert_eq!(seed & 1, u64::from(count & 1), "it names its half");
            for (index, entry) in entries.iter().enumerate() {
                let found = vip_positions(
                    seed,
                    entry.key.address.words(),
                    entry.key.tail(),
                    VIP_TABLE_ENTRIES - 1,
                )
                .iter()
                .any(|&position| table[position as usize] == Some(index));
                assert!(found, "entry {index} of {count}");
            }
            assert_eq!(table.iter().flatten().count(), count as usize);
        }
    }

    #[test]
    fn too_many_entries_are_refused() {
        assert_eq!(
            build(&entries(4_097), 0).err(),
            Some(VipTableFull { entries: 4_097 })
        );
    }
}
