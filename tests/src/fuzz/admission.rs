//! Source lists and limits of a world, and sources that are in a list, out of it, or at its edge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dice::Dice;
use crate::model::{Limit, Rate, Served, Service, SourceList};

/// Lists of a world: each is a map to the kernel, which takes its time.
pub(super) const LISTS: usize = 2;

/// An hour: what costs so much is not earned again while an episode lasts.
const NEVER_NS: u64 = 3_600_000_000_000;

/// The lists that services name; none where no service does.
pub(super) fn lists(dice: &mut Dice, services: &[Service]) -> Vec<SourceList> {
    let wanted = services.iter().filter_map(|service| service.list).max();
    (0..wanted.map_or(0, |highest| highest + 1))
        .map(|_| list(dice))
        .collect()
}

/// Prefixes in each other, around the addresses that clients have.
pub(super) fn list(dice: &mut Dice) -> SourceList {
    let served = |dice: &mut Dice| dice.pick(&[Served::Yes, Served::No]);
    let mut prefixes: Vec<(IpAddr, u8, Served)> = Vec::new();
    for _ in 0..dice.below(24) {
        let verdict = served(dice);
        let (address, length) = if dice.percent(50) {
            let length = dice.pick(&[0, 1, 8, 16, 23, 24, 25, 28, 29, 30, 31, 32, 32]);
            let address = Ipv4Addr::new(203, 0, 113, 64 | dice.byte() & 15).to_bits();
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            (Ipv4Addr::from_bits(address & mask).into(), length)
        } else {
            let length = dice.pick(&[3, 16, 32, 47, 48, 49, 62, 63, 64, 65, 127, 128, 128]);
            let last = dice.pick(&[0x4d, 0x4d, 0x4c]);
            let near = u16::from(dice.byte() & 7);
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0xc11e, near, 0, 0, 0, last).to_bits();
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            (Ipv6Addr::from_bits(address & mask).into(), length)
        };
        if !prefixes
            .iter()
            .any(|&(other, of, _)| (other, of) == (address, length))
        {
            prefixes.push((address, length, verdict));
        }
    }
    SourceList {
        others: dice.pick(&[Served::Yes, Served::Yes, Served::No]),
        prefixes,
    }
}

/// A limit: of one kind it depends on no clock, of the other it does.
pub(super) fn limit(dice: &mut Dice, index: u16) -> Limit {
    let rate = |dice: &mut Dice| Rate {
        cost_ns: dice.pick(&[NEVER_NS, NEVER_NS, 250_000, 2_000_000, 20_000_000]),
        burst: 1 + dice.below(12) as u64,
    };
    let (all, source) = (dice.percent(70), dice.percent(70));
    Limit {
        index,
        all: all.then(|| rate(dice)),
        source: source.then(|| rate(dice)),
        bits_v4: dice.pick(&[32, 32, 31, 30, 24, 8]),
        bits_v6: dice.pick(&[64, 64, 63, 48, 128]),
    }
}

/// A source in a prefix of a list, or just outside of one; none where the list has none of that family.
pub(super) fn source(dice: &mut Dice, list: &SourceList, is_v4: bool) -> Option<IpAddr> {
    let own: Vec<_> = list
        .prefixes
        .iter()
        .filter(|(address, ..)| address.is_ipv4() == is_v4)
        .collect();
    if own.is_empty() {
        return None;
    }
    let &(address, length, _) = own[dice.below(own.len())];
    let place = dice.below(4);
    Some(match address {
        IpAddr::V4(first) => {
            let first = first.to_bits();
            let last = first | u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let at = [first, last, first.wrapping_sub(1), last.wrapping_add(1)][place];
            Ipv4Addr::from_bits(at).into()
        }
        IpAddr::V6(first) => {
            let first = first.to_bits();
            let last = first | u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let at = [first, last, first.wrapping_sub(1), last.wrapping_add(1)][place];
            Ipv6Addr::from_bits(at).into()
        }
    })
}
