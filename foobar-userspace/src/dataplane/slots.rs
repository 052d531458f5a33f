//! The slot arrays, hot and cold.

use std::mem::{offset_of, size_of};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use foobar_common::slot::{ColdSlot, HOT_LANES, Member, Slot};

use super::load::DataPlane;

impl DataPlane {
    /// The number of slots that there is room for.
    pub fn slot_capacity(&self) -> u32 {
        self.cold.len().min(self.hot.len() * HOT_LANES)
    }

    /// The indexes of the hot slots that are no VIP's own: room for tables that VIPs share.
    pub fn shared_slots(&self) -> Range<u32> {
        self.slot_capacity()..self.hot.len() * HOT_LANES
    }

    fn lane(&self, index: u32) -> &AtomicU16 {
        self.hot
            .u16(index / HOT_LANES, (index % HOT_LANES) as usize * size_of::<u16>())
    }

    /// Writes hot slots of a table that VIPs will share, from the index on: before any of them reads it. A settled slot's
    /// is its owner.
    pub fn set_shared_slots(&self, base: u32, lanes: &[Member]) {
        for (index, &lane) in (base..).zip(lanes) {
            self.lane(index).store(lane, Ordering::Release);
        }
    }

    /// A slot, and when its phase began (CLOCK_MONOTONIC, nanoseconds).
    pub fn slot(&self, index: u32) -> (Slot, u64) {
        let cold = self.cold.get(index);
        (cold.slot, cold.since_ns)
    }

    /// Whether the hot entry says the same as the cold one: a daemon that was killed between the two stores
    /// left packets with the old one.
    pub fn is_slot_whole(&self, index: u32) -> bool {
        let hot = self.lane(index).load(Ordering::Acquire);
        hot == self.cold.get(index).slot.hot()
    }

    /// Writes a slot of a VIP that reads its own: the cold entry first, then the hot one, each as one word. A packet in between acts as
    /// if it had come a moment earlier or later.
    pub fn set_slot(&self, index: u32, slot: Slot, since_ns: u64) {
        self.cold
            .u64(index, offset_of!(ColdSlot, since_ns))
            .store(since_ns, Ordering::Release);
        self.cold
            .u64(index, offset_of!(ColdSlot, slot))
            .store(slot.to_word(), Ordering::Release);
        self.lane(index).store(slot.hot(), Ordering::Release);
    }
}
