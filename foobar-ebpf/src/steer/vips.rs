//! The look-up in the two-choice VIP table.

use foobar_common::flow::vip_positions;
use foobar_common::settings::{Settings, filter_bit};
use foobar_common::vip::{MAX_RANGES, VIP_TABLE_ENTRIES, Vip, VipKey, VipKind};

use crate::maps::{self, RANGES, within};

/// Whether an address, as [`foobar_common::address::Address::words`], may be a VIP's: what is none passes with
/// a glance at a line that is in the cache anyway.
#[inline(always)]
pub fn may_be(settings: &Settings, address: [u64; 2]) -> bool {
    let (word, bit) = filter_bit(address);
    match settings.filter.get(word) {
        Some(bits) => bits & bit != 0,
        None => true,
    }
}

/// The entry with this key and its place in the whole VIP array, if the active half of the table has it.
#[inline(always)]
pub fn find(settings: &Settings, key: &VipKey) -> Option<(u32, &'static Vip)> {
    let [first, second] = positions(settings, key);
    match matching(first, key) {
        Some(entry) => Some((first, entry)),
        None => Some((second, matching(second, key)?)),
    }
}

/// The place alone of [`find`].
#[inline(always)]
pub fn position(settings: &Settings, key: &VipKey) -> Option<u32> {
    Some(find(settings, key)?.0)
}

#[inline(always)]
fn positions(settings: &Settings, key: &VipKey) -> [u32; 2] {
    let seed = settings.vip_seed;
    let [first, second] = vip_positions(seed, key.address.words(), key.tail(), VIP_TABLE_ENTRIES - 1);
    let base = (seed as u32 & 1) * VIP_TABLE_ENTRIES;
    [base + first, base + second]
}

/// The entry at a place in the whole VIP array.
#[inline(always)]
pub fn at(position: u32) -> &'static Vip {
    let entry = maps::vip_table()
        .cast::<Vip>()
        .wrapping_add(within::<{ 2 * VIP_TABLE_ENTRIES - 1 }>(position));
    // SAFETY: a pointer into an array map, inside of the table by the mask; the map lives as long as the program; the
    // daemon writes only to the half that is not active, and waits for running programs before it does so again. What
    // it writes to an active entry, `lanes`, is only read as a word of its own, by `place`.
    unsafe { &*entry }
}

#[inline(always)]
fn matching(position: u32, key: &VipKey) -> Option<&'static Vip> {
    let entry = at(position);
    let (have, want) = (entry.key.address.words(), key.address.words());
    (have[1] == want[1] && have[0] == want[0] && entry.key.tail() == key.tail()).then_some(entry)
}

/// The place of the service of a port and a protocol of a VIP address: its own, else one of a range of ports.
#[inline(always)]
pub fn service(settings: &Settings, address: &Vip, port_be: u16, protocol: u8) -> Option<u32> {
    let key = VipKey::service(address.key.address, port_be, protocol);
    position(settings, &key).or_else(|| range(address, u16::from_be(port_be), protocol))
}

#[inline(always)]
fn range(address: &Vip, port: u16, protocol: u8) -> Option<u32> {
    let count = u32::from(address.range_count);
    for nth in 0..MAX_RANGES as u32 {
        if nth >= count {
            break;
        }
        let range = RANGES.get(u32::from(address.ranges) + nth)?;
        if range.protocol == protocol && range.first <= port && port <= range.last {
            // Ranges change with the half that names them.
            return (at(range.position).key.kind == VipKind::Range as u8).then_some(range.position);
        }
    }
    None
}
