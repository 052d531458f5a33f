//! The look-up in the two-choice VIP table.

use foobar_common::flow::vip_positions;
use foobar_common::settings::Settings;
use foobar_common::vip::{VIP_TABLE_ENTRIES, Vip, VipKey};

use crate::maps::VIPS;

/// The entry with this key, if the active half of the table has it.
#[inline(always)]
pub fn find(settings: &Settings, key: &VipKey) -> Option<&'static Vip> {
    let half = settings.active_half & 1;
    let seed = if half == 0 {
        settings.vip_seed[0]
    } else {
        settings.vip_seed[1]
    };
    let [first, second] = vip_positions(seed, key.address.words(), key.tail(), VIP_TABLE_ENTRIES - 1);
    let base = half * VIP_TABLE_ENTRIES;
    at(base + first, key).or_else(|| at(base + second, key))
}

#[inline(always)]
fn at(position: u32, key: &VipKey) -> Option<&'static Vip> {
    let entry = VIPS.get_ptr(position)?;
    // SAFETY: a pointer into an array map, which lives as long as the program; the daemon writes only to the
    // half that is not active, and waits for running programs before it does so again.
    let entry: &'static Vip = unsafe { &*entry };
    let (have, want) = (entry.key.address.words(), key.address.words());
    (have[1] == want[1] && have[0] == want[0] && entry.key.tail() == key.tail()).then_some(entry)
}
