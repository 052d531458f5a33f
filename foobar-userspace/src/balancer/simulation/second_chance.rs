//! Second chance: nothing is noted, packets carry their slot's owners, and the agents pass a flow that isn't
//! their own to the next one.
//!
//! Two balancers see the same changes, each after its own delay and at its own ticks, and have no link. The VIP
//! is moved by hand between them in the second after every other change. An agent is modelled by whom
//! its kernel knows: a SYN stays with the first candidate, any other packet goes to the first that has its
//! connection.

mod cluster;

use cluster::{Cluster, Tally, Without, Work};

use super::world::SECOND;

const PACES: [u64; 3] = [SECOND, 5 * SECOND, 40 * SECOND];

fn histories(work: Work, seeds: std::ops::Range<u64>, without: Option<Without>) -> Tally {
    let harm = if without.is_some() { 20 } else { u64::MAX };
    let mut sum = Tally::default();
    for seed in seeds {
        for pace in PACES {
            sum.add(&Cluster::new(seed, work, pace, without).run(900, harm));
        }
    }
    println!("{work:?}, without {without:?}: {sum:?}");
    sum
}

#[test]
fn no_change_and_no_move_of_the_vip_breaks_a_connection_while_three_owners_live() {
    let tally = histories(Work::Anything, 0..2, None);
    assert_eq!((tally.broken, tally.displaced), (0, 0), "{tally:?}");
    // The histories did what they are for.
    assert!(
        tally.packets > 50_000 && tally.second > 1000 && tally.third > 100,
        "{tally:?}"
    );
    assert!(
        tally.moves > 100 && tally.slot_changes > 10_000 && tally.lost > 10,
        "{tally:?}"
    );
    // Half-open connections of clients that vanished answer in the place of a later one on the same tuple.
    assert!(tally.claimed * 1000 < tally.flows, "{tally:?}");
}

#[test]
fn a_fourth_owner_breaks_no_connection_that_ends_within_the_idle_time() {
    let tally = histories(Work::Discretion, 0..2, None);
    assert_eq!(tally.broken, 0, "{tally:?}");
    assert!(tally.displaced > 1000, "{tally:?}");
}

#[test]
fn every_rule_of_second_chance_is_needed() {
    for (work, without) in [
        (Work::Anything, Without::Candidates),
        (Work::Anything, Without::Older),
        (Work::Discretion, Without::Waiting),
    ] {
        let tally = histories(work, 0..2, Some(without));
        assert!(
            tally.broken > 0,
            "without {without:?} nothing was broken: {tally:?}"
        );
    }
}
