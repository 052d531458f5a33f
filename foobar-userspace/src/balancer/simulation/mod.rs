//! The promise of the whole: no sequence of changes moves a flow off a living member unless the flow was idle
//! for longer than T. Long random histories on the product's code; and each rule left out, to see that the
//! promise breaks and that this test would notice.

mod daemon;
mod notes;
mod peers;
mod second_chance;
mod traffic;
mod world;

use world::{Protocol, SECOND, Tally, Without, World};

/// Mean times between events: from slots that hardly ever settle to slots that mostly do.
const PACES: [u64; 4] = [SECOND, 5 * SECOND, 20 * SECOND, 90 * SECOND];
const HISTORY_SECONDS: u64 = 900;

fn histories(protocol: Protocol, seeds: std::ops::Range<u64>, without: Option<Without>) -> Tally {
    let harm = if without.is_some() { 20 } else { u64::MAX };
    let mut sum = Tally::default();
    for seed in seeds {
        for pace in PACES {
            let tally = World::new(seed, protocol, pace, without).run(HISTORY_SECONDS, harm);
            sum.packets += tally.packets;
            sum.moved += tally.moved;
            sum.refused += tally.refused;
            sum.moved_after_end += tally.moved_after_end;
            sum.flows += tally.flows;
            sum.retransmissions += tally.retransmissions;
            sum.slot_changes += tally.slot_changes;
            sum.reused_ids += tally.reused_ids;
            sum.evicted += tally.evicted;
            sum.phases
                .iter_mut()
                .zip(tally.phases)
                .for_each(|(sum, packets)| *sum += packets);
        }
    }
    println!("{protocol:?}, without {without:?}: {sum:?}");
    sum
}

fn nothing_is_moved(protocol: Protocol) {
    let tally = histories(protocol, 0..2, None);
    assert_eq!((tally.moved, tally.refused), (0, 0), "{tally:?}");
    assert!(tally.moved_after_end * 1000 < tally.flows, "{tally:?}");
    // The histories did what they are for: packets in each phase that one balancer has, ids used again.
    let [settled, _open, moving, fresh, moved] = tally.phases;
    assert!(
        settled.min(moving).min(moved) > 50_000 && fresh > 1000,
        "{tally:?}"
    );
    assert!(
        tally.reused_ids > 20 && tally.slot_changes > 10_000 && tally.evicted == 0,
        "{tally:?}"
    );
    assert_eq!(
        tally.retransmissions > 1000,
        protocol == Protocol::Tcp,
        "{tally:?}"
    );
}

#[test]
fn no_change_moves_a_connection_off_a_living_member() {
    nothing_is_moved(Protocol::Tcp);
}

#[test]
fn no_change_moves_a_udp_flow_off_a_member_that_is_up() {
    nothing_is_moved(Protocol::Udp);
}

#[test]
fn a_flood_moves_no_connection_but_those_whose_first_note_it_pushed_out() {
    let mut moved_without_note = 0;
    for pace in [PACES[1], PACES[2]] {
        let world = World::new(0, Protocol::Tcp, pace, None).flooded();
        let tally = world.run(HISTORY_SECONDS, u64::MAX);
        println!("flooded: {tally:?}");
        assert_eq!((tally.moved, tally.refused), (0, 0), "{tally:?}");
        assert!(tally.evicted > 1000, "{tally:?}");
        assert!(tally.moved_without_note * 20 < tally.flows, "{tally:?}");
        moved_without_note += tally.moved_without_note;
    }
    assert!(moved_without_note > 0, "the flood was none");
}

#[test]
fn every_rule_is_needed_for_connections() {
    for without in [
        Without::History,
        Without::Adoption,
        Without::NewNotes,
        Without::Pending,
        Without::NoteLifetime,
        Without::IdleTime,
        Without::UnnotedOwner,
        Without::Sweep,
        Without::Names,
    ] {
        let tally = histories(Protocol::Tcp, 0..1, Some(without));
        assert!(
            tally.moved > 0,
            "without {without:?} nothing was moved: {tally:?}"
        );
    }
}

#[test]
fn every_rule_is_needed_for_udp_flows() {
    for without in [
        Without::History,
        Without::Adoption,
        Without::NoteLifetime,
        Without::UnnotedOwner,
    ] {
        let tally = histories(Protocol::Udp, 0..1, Some(without));
        assert!(
            tally.moved > 0,
            "without {without:?} nothing was moved: {tally:?}"
        );
    }
}
