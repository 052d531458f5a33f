//! The steering table of one VIP: which member each slot should belong to.
//!
//! A table is a function of the cluster's seed, the number of slots and the set of members (name and weight).
//! It uses integers and IEEE 754's exactly rounded operations only, so that every balancer of a cluster gets
//! the same bytes, whatever its libc and whatever the order in which it learnt of the members. It knows
//! nothing of health, history or notes.

mod maglev;
mod rendezvous;

/// The smallest and the largest number of slots of a VIP; it is a power of two.
pub const SLOTS: std::ops::RangeInclusive<usize> = 256..=65_536;

/// How a table is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// Weighted Maglev: shares exact to a slot; a removal also moves about 0.3 % of the others' slots (ten members).
    #[default]
    Maglev,
    /// Weighted rendezvous: a removal moves none of the others' slots; shares vary by a few percent.
    Rendezvous,
}

/// A member that may own slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// What the member's slots depend on: its address, 16 bytes, IPv4 as IPv4-mapped. Unique in a list.
    pub name: [u8; 16],
    /// Its share relative to the others'; 0 gets nothing.
    pub weight: u16,
    /// What is written into the slots that it owns; not 0, which means nobody.
    pub id: u16,
}

/// The owner's id of every slot, 0 where there is no member with a weight.
///
/// # Panics
/// Where `slots` is not a power of two within [`SLOTS`]; the configuration has refused that before.
#[must_use]
pub fn fill(kind: TableKind, seed: u64, slots: usize, members: &[Member]) -> Vec<u16> {
    assert!(
        slots.is_power_of_two() && SLOTS.contains(&slots),
        "a table of {slots} slots"
    );
    let mut named: Vec<Named> = members
        .iter()
        .filter(|m| m.weight > 0)
        .map(|m| Named::new(seed, m))
        .collect();
    named.sort_unstable_by_key(|n| (n.keys, n.id));
    if named.is_empty() {
        return vec![0; slots];
    }
    match kind {
        TableKind::Maglev => maglev::fill(slots, &named),
        TableKind::Rendezvous => rendezvous::fill(slots, &named),
    }
}

/// A member whose name has become its keys under the cluster's seed.
struct Named {
    keys: [u64; 2],
    weight: u16,
    id: u16,
}

impl Named {
    fn new(seed: u64, member: &Member) -> Self {
        let name = u128::from_be_bytes(member.name);
        let (high, low) = ((name >> 64) as u64, name as u64);
        let first = mix(mix(mix(seed).wrapping_add(high)).wrapping_add(low));
        Self {
            keys: [first, mix(!first)],
            weight: member.weight,
            id: member.id,
        }
    }
}

/// A bijection of 64 bits in which every input bit reaches every output bit (multiply, xor-shift).
fn mix(mut x: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    x = x.wrapping_add(ODD);
    for multiplier in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        x = (x ^ (x >> 31)).wrapping_mul(multiplier);
    }
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
