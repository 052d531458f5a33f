//! What a table promises: shares, weights, few collateral moves, the same bytes for the same input.

use std::time::Instant;

use proptest::prelude::*;

use super::super::fixed;
use super::{Member, SLOTS, TableKind, fill, mix};

const FULL: usize = 65_536;
const SEEDS: std::ops::Range<u64> = 0..20;

/// Members 192.0.2.1 and on, with ids from 1, as a plain list of backends has them.
fn members(weights: &[u16]) -> Vec<Member> {
    let named = |(i, &weight)| {
        let mut name = [0; 16];
        name[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2 + (i / 250) as u8, (i % 250) as u8 + 1]);
        Member {
            name,
            weight,
            id: i as u16 + 1,
        }
    };
    weights.iter().enumerate().map(named).collect()
}

fn shares(table: &[u16], members: &[Member]) -> Vec<usize> {
    let mut counts = vec![0; usize::from(u16::MAX) + 1];
    table.iter().for_each(|&id| counts[usize::from(id)] += 1);
    members.iter().map(|m| counts[usize::from(m.id)]).collect()
}

/// The greatest share of a member over the mean.
fn imbalance(kind: TableKind, seed: u64, count: usize) -> f64 {
    let members = members(&vec![100; count]);
    let shares = shares(&fill(kind, mix(seed), FULL, &members), &members);
    *shares.iter().max().unwrap() as f64 * count as f64 / FULL as f64
}

/// The part of the others' slots that moves when each member in turn is removed: mean and maximum.
fn collateral(kind: TableKind, weights: &[u16]) -> (f64, f64) {
    let all = members(weights);
    let (mut sum, mut greatest) = (0.0, 0.0f64);
    for seed in SEEDS {
        let before = fill(kind, mix(seed), FULL, &all);
        for gone in &all {
            let rest: Vec<Member> = all.iter().filter(|m| m.id != gone.id).copied().collect();
            let after = fill(kind, mix(seed), FULL, &rest);
            let others = before.iter().zip(&after).filter(|(was, _)| **was != gone.id);
            let (moved, of) = others.fold((0, 0), |(moved, of), (was, is)| {
                (moved + u32::from(was != is), of + 1)
            });
            let part = f64::from(moved) / f64::from(of);
            sum += part;
            greatest = greatest.max(part);
        }
    }
    (sum / (SEEDS.end as f64 * all.len() as f64), greatest)
}

#[test]
fn equal_weights_share_equally() {
    for (kind, count, limit) in [
        (TableKind::Maglev, 3, 1.01),
        (TableKind::Maglev, 10, 1.01),
        (TableKind::Maglev, 100, 1.01),
        (TableKind::Rendezvous, 10, 1.05),
        (TableKind::Rendezvous, 100, 1.20),
    ] {
        let worst = SEEDS.map(|seed| imbalance(kind, seed, count)).fold(0.0, f64::max);
        println!("{kind:?}, {count} members: max/mean {worst:.4}");
        assert!(worst <= limit, "{kind:?} {count}");
    }
}

#[test]
fn a_removal_hardly_moves_the_others() {
    let (mean, max) = collateral(TableKind::Maglev, &[100; 10]);
    println!(
        "maglev, 10 equal: collateral mean {:.3} %, max {:.3} %",
        mean * 100.0,
        max * 100.0
    );
    assert!(mean < 0.003, "{mean}");
    assert!(max < 0.01, "{max}");
    let (mean, max) = collateral(TableKind::Maglev, &[10, 50, 100, 100, 200, 256, 1, 30, 70, 140]);
    println!(
        "maglev, 10 weighted: collateral mean {:.3} %, max {:.3} %",
        mean * 100.0,
        max * 100.0
    );
    assert!(mean < 0.01, "{mean}");
}

#[test]
fn rendezvous_moves_none_of_the_others() {
    assert_eq!(
        collateral(TableKind::Rendezvous, &[100, 100, 50, 7, 256]),
        (0.0, 0.0)
    );
}

#[test]
fn rendezvous_follows_weights_in_the_mean() {
    let members = members(&[100, 200, 50, 150]);
    let mut sums = [0; 4];
    for seed in SEEDS {
        shares(&fill(TableKind::Rendezvous, mix(seed), FULL, &members), &members)
            .iter()
            .zip(&mut sums)
            .for_each(|(share, sum)| *sum += share);
    }
    let slots = FULL * SEEDS.end as usize;
    for (member, sum) in members.iter().zip(sums) {
        let error = sum as f64 * 500.0 / (slots as f64 * f64::from(member.weight)) - 1.0;
        assert!(error.abs() < 0.01, "weight {}: {error}", member.weight);
    }
}

#[test]
fn a_thousand_members_are_filled_in_milliseconds() {
    let members = members(&[100; 1000]);
    for kind in [TableKind::Maglev, TableKind::Rendezvous] {
        let started = Instant::now();
        let table = fill(kind, 1, FULL, &members);
        println!("{kind:?}, 1000 members: {:?}", started.elapsed());
        assert!(shares(&table, &members).iter().all(|&share| share > 0));
    }
}

fn kinds() -> impl Strategy<Value = TableKind> {
    prop_oneof![Just(TableKind::Maglev), Just(TableKind::Rendezvous)]
}

fn sizes() -> impl Strategy<Value = usize> {
    (8..=16u32).prop_map(|bits| 1 << bits)
}

proptest! {
    #![proptest_config(fixed(64))]

    #[test]
    fn the_order_of_the_list_does_not_matter(
        kind in kinds(), slots in sizes(), seed: u64,
        weights in prop::collection::vec(0..=256u16, 0..20), turn in 0..20usize,
    ) {
        let mut members = members(&weights);
        let table = fill(kind, seed, slots, &members);
        members.reverse();
        prop_assert_eq!(&table, &fill(kind, seed, slots, &members));
        let middle = turn % members.len().max(1);
        members.rotate_left(middle);
        prop_assert_eq!(&table, &fill(kind, seed, slots, &members));
    }

    #[test]
    fn maglev_honours_weights(seed: u64, weights in prop::collection::vec(0..=256u16, 1..20)) {
        let members = members(&weights);
        let total: u32 = weights.iter().copied().map(u32::from).sum();
        let table = fill(TableKind::Maglev, seed, FULL, &members);
        for (member, share) in members.iter().zip(shares(&table, &members)) {
            if member.weight == 0 {
                prop_assert_eq!(share, 0);
                continue;
            }
            let ideal = FULL as f64 * f64::from(member.weight) / f64::from(total);
            // One slot is the rounding that a small share cannot avoid.
            prop_assert!((share as f64 - ideal).abs() <= (ideal * 0.01).max(1.0), "{share} for {ideal}");
        }
    }

    #[test]
    fn every_slot_has_an_owner_where_there_is_one(
        kind in kinds(), slots in sizes(), seed: u64, weights in prop::collection::vec(0..=256u16, 0..20),
    ) {
        let members = members(&weights);
        let table = fill(kind, seed, slots, &members);
        prop_assert_eq!(table.len(), slots);
        prop_assert!(SLOTS.contains(&table.len()));
        let nobody = weights.iter().all(|&w| w == 0);
        prop_assert!(table.iter().all(|&id| (id == 0) == nobody));
    }

    #[test]
    fn ids_are_labels_only(kind in kinds(), seed: u64, count in 1..10usize) {
        let members = members(&vec![100; count]);
        let renamed: Vec<Member> = members.iter().map(|m| Member { id: m.id + 1000, ..*m }).collect();
        let table = fill(kind, seed, 1024, &members);
        let expected: Vec<u16> = table.iter().map(|id| id + 1000).collect();
        prop_assert_eq!(expected, fill(kind, seed, 1024, &renamed));
    }
}
