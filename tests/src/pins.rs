//! The balancer's pinned maps, read as an operator's `bpftool` would, and spoilt for the control.
//!
//! It relies on foobar-common for every layout; it knows nothing about the daemon that wrote them.

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use foobar::dataplane::VipEntries;
use foobar_common::address::Address;
use foobar_common::counters::{Counter, Counters};
use foobar_common::flow::{flow_hash, ports_be, vip_positions};
use foobar_common::note::{FlowKey, NOTE_WAYS, Note, NoteEntry, NoteSet, PendingSet};
use foobar_common::settings::Settings;
use foobar_common::slot::{ColdSlot, HOT_LANES, HotSlots, Member, NONE, Phase, Slot};
use foobar_common::target::Target;
use foobar_common::vip::{Lanes, VIP_TABLE_ENTRIES, VipKey};

use crate::world::{Backend, backend_of};

const TCP: u8 = 6;
const COUNTER_BYTES: usize = size_of::<Counters>();

/// The pinned maps of one balancer.
pub struct Pins {
    settings: Array<MapData, [u8; size_of::<Settings>()]>,
    vips: VipEntries,
    hot: Array<MapData, [u8; size_of::<HotSlots>()]>,
    cold: Array<MapData, [u8; size_of::<ColdSlot>()]>,
    targets: Array<MapData, [u8; size_of::<Target>()]>,
    counters: PerCpuArray<MapData, [u8; COUNTER_BYTES]>,
    notes: Array<MapData, [u8; size_of::<NoteSet>()]>,
    pending: Array<MapData, [u8; size_of::<PendingSet>()]>,
}

/// Where a VIP's slots are, and how flows are hashed to them.
#[derive(Clone, Copy, Debug)]
pub struct SlotRange {
    /// Index of the first.
    pub base: u32,
    /// Their number, less one.
    pub mask: u32,
    /// The flow hash's.
    pub seed: [u64; 2],
    /// The place of the service's entry in the VIP table.
    pub position: u32,
}

impl SlotRange {
    /// The index of the slot that a flow from `client` to `port` belongs to.
    pub fn of_flow(&self, client: SocketAddr, port: u16) -> u32 {
        self.base + (self.hash_of(client, port) as u32 & self.mask)
    }

    /// The flow's hash.
    pub fn hash_of(&self, client: SocketAddr, port: u16) -> u64 {
        let ports = ports_be(client.port().to_be(), port.to_be());
        flow_hash(self.seed, Address::from(client.ip()).words(), ports)
    }

    /// The indexes of all slots.
    pub fn all(&self) -> impl Iterator<Item = u32> + use<> {
        self.base..=self.base + self.mask
    }
}

impl Pins {
    /// Opens the maps pinned anywhere below a directory.
    pub fn open(directory: &Path) -> Result<Self> {
        let place = find(directory, "COLD_SLOTS")
            .with_context(|| format!("no map is pinned below {}", directory.display()))?;
        let map = |name: &str| -> Result<MapData> {
            MapData::from_pin(place.join(name)).with_context(|| format!("open the pinned map {name}"))
        };
        Ok(Self {
            settings: Array::try_from(Map::Array(map("SETTINGS")?))?,
            vips: VipEntries::of(&map("VIPS")?)?,
            hot: Array::try_from(Map::Array(map("HOT_SLOTS")?))?,
            cold: Array::try_from(Map::Array(map("COLD_SLOTS")?))?,
            targets: Array::try_from(Map::Array(map("TARGETS")?))?,
            counters: PerCpuArray::try_from(Map::PerCpuArray(map("COUNTERS")?))?,
            notes: Array::try_from(Map::Array(map("NOTES")?))?,
            pending: Array::try_from(Map::Array(map("PENDING_NOTES")?))?,
        })
    }

    /// Where the slots of a TCP service are.
    pub fn range_of(&self, service: impl Into<SocketAddr>) -> Result<SlotRange> {
        let service = service.into();
        let settings = self.settings.get(&0, 0)?;
        let long = |at| u64::from_ne_bytes(part(&settings, at));
        let seed = long(offset_of!(Settings, vip_seed));
        let half = seed as u32 & 1;
        let address = Address::from(service.ip());
        let key = VipKey::service(address, service.port().to_be(), TCP);
        for position in vip_positions(seed, address.words(), key.tail(), VIP_TABLE_ENTRIES - 1) {
            let position = half * VIP_TABLE_ENTRIES + position;
            let vip = self.vips.get(position);
            if vip.key.address == address && vip.key.tail() == key.tail() {
                return Ok(SlotRange {
                    base: vip.slot_base,
                    mask: vip.slot_mask,
                    seed: [
                        long(offset_of!(Settings, flow_seed)),
                        long(offset_of!(Settings, flow_seed) + 8),
                    ],
                    position,
                });
            }
        }
        bail!("the VIP table has no service {service}")
    }

    /// Whether the service reads its hot slots in a table that it shares with others.
    pub fn is_sharing(&self, range: SlotRange) -> bool {
        self.vips.get(range.position).lanes != Lanes::OWN
    }

    /// A slot's owners and phase.
    pub fn slot(&self, index: u32) -> Result<Slot> {
        let cold = self.cold.get(&index, 0)?;
        Ok(Slot::from_word(u64::from_ne_bytes(part(
            &cold,
            offset_of!(ColdSlot, slot),
        ))))
    }

    /// The backend that new flows of a slot go to, if it has one.
    pub fn owner(&self, index: u32) -> Result<Option<Backend>> {
        self.backend(self.slot(index)?.current)
    }

    /// The backends that a slot names: who gets new flows, and the earlier owners, the latest first.
    pub fn owners(&self, index: u32) -> Result<[Option<Backend>; 3]> {
        let slot = self.slot(index)?;
        Ok([
            self.backend(slot.current)?,
            self.backend(slot.previous)?,
            self.backend(slot.older)?,
        ])
    }

    fn backend(&self, member: Member) -> Result<Option<Backend>> {
        let target = self.targets.get(&u32::from(member), 0)?;
        let address = Address {
            bytes: part(&target, offset_of!(Target, address)),
        };
        Ok(backend_of(IpAddr::from(address)))
    }

    /// All slots of a range.
    pub fn slots(&self, range: SlotRange) -> Result<Vec<Slot>> {
        range.all().map(|index| self.slot(index)).collect()
    }

    /// A counter of the data plane, over all CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64> {
        let values = self.counters.get(&0, 0)?;
        Ok(values
            .iter()
            .map(|cpu| u64::from_ne_bytes(part(cpu, 8 * counter as usize)))
            .sum())
    }

    /// Whose flows' notes are in the array of notes.
    pub fn notes(&self) -> Result<Vec<FlowKey>> {
        let mut keys = Vec::new();
        for set in self.notes.iter() {
            let set = set?;
            for at in (0..NOTE_WAYS).map(|way| way * size_of::<NoteEntry>()) {
                let word = |offset| u64::from_ne_bytes(part(&set, at + offset));
                let note = Note::from_word(word(offset_of!(NoteEntry, note)));
                if note.member != NONE {
                    keys.push(FlowKey::from_words([0, 8, 16].map(word)));
                }
            }
        }
        Ok(keys)
    }

    /// The array of pending notes.
    pub fn pending_notes(&self) -> Result<Vec<PendingSet>> {
        let words = |set: [u8; size_of::<PendingSet>()]| PendingSet {
            words: std::array::from_fn(|way| u64::from_ne_bytes(part(&set, way * 8))),
        };
        Ok(self
            .pending
            .iter()
            .map(|set| set.map(words))
            .collect::<Result<_, _>>()?)
    }

    /// Makes every slot that has a history a settled slot of its current owner, and says how many it were:
    /// what a balancer that forgets would do.
    pub fn forget_history(&mut self, range: SlotRange) -> Result<u32> {
        let mut forgotten = 0;
        for index in range.all() {
            let slot = self.slot(index)?;
            if slot.phase() == Phase::Settled {
                continue;
            }
            self.put(range, index, Slot::settled(slot.current))?;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    /// Writes slots behind the daemon's back.
    pub fn put_all(&mut self, range: SlotRange, slots: &[Slot]) -> Result<()> {
        range
            .all()
            .zip(slots)
            .try_for_each(|(index, slot)| self.put(range, index, *slot))
    }

    fn put(&mut self, range: SlotRange, index: u32, slot: Slot) -> Result<()> {
        self.vips.set_lanes(range.position, Lanes::OWN);
        let mut cold = self.cold.get(&index, 0)?;
        cold[..8].copy_from_slice(&slot.to_word().to_ne_bytes());
        self.cold.set(index, cold, 0)?;
        let lane = (index % HOT_LANES) as usize * 2;
        let mut hot = self.hot.get(&(index / HOT_LANES), 0)?;
        hot[lane..lane + 2].copy_from_slice(&slot.hot().to_ne_bytes());
        self.hot.set(index / HOT_LANES, hot, 0)?;
        Ok(())
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

/// The directory below `directory` that has an entry called `name`.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    if directory.join(name).exists() {
        return Some(directory.to_owned());
    }
    let entries = std::fs::read_dir(directory).ok()?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .find_map(|path| find(&path, name))
}
