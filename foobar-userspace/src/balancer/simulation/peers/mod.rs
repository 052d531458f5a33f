//! Two and three balancers that agree, in a world where links lose, delay, repeat and reorder messages, are cut and
//! heal, balancers die and come back empty, backends fail, fall silent, are drained and reweighted, and each balancer
//! sees them differently. The automaton ([`SlotTable`](super::super::slots::SlotTable)) and all of the link's code but
//! its socket (`cluster::{agreement, inbox, health, replica, renewals}`) are the product's; the daemon between them is
//! this simulation's, and does what `lb` does.
//!
//! The promise: no packet of a flow that was idle for less than T reaches another member than the flow's owner, who
//! lives, whichever balancer it comes by. But for these windows, which are counted ([`clients::Tally`]) and end a flow's
//! account, for what balancers know of it since then is chance:
//!
//! 1. *On its way*: the flow's note, or that of the flow which its client's port had before, was told, and the
//!    balancer can't have heard it: for a message's time; where one was lost, until the peer has told all again; where
//!    the link is cut or the teller dead, for as long as that note would count. (A slot may settle before the loss is
//!    found: then the note that is lost is never told again, and an older one that the peer has tells of another flow.)
//! 2. *Given up*: the balancer and all that it can hear hear nothing of the owner, and it has not met the balancer by
//!    which the flow came since.
//! 3. *Empty*: the balancer began with nothing, and has met nobody who knows what was before: only others that began
//!    with nothing, or those that met such a one first.
//!
//! Not simulated: a flow's packets on two balancers within the time of a message, a client's port that is used again
//! within a second, UDP, tunnels, full arrays of notes, and a daemon that is killed while its program goes on.

mod balancer;
mod clients;
mod notes;
mod world;

use clients::Tally;
use world::World;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// The idle time T.
const T: u64 = 20 * SECOND;
const SLOTS: usize = 16;
const BACKENDS: usize = 4;
/// Few clients' ports, so that they are used again.
const CLIENTS: usize = 160;
/// Groups of clients that are led to balancers together.
const GROUPS: usize = 4;
/// How long a history is, and its end, in which nothing happens any more.
const HISTORY_SECONDS: u64 = 120;
const CALM_SECONDS: u64 = 20;
/// How many histories every test run plays.
const HISTORIES: u64 = 1000;

/// A rule that crippled balancers leave out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Without {
    /// Peers are not told of slots that have begun to move.
    Starts,
    /// Peers are not told of notes.
    Notes,
    /// A note that its flow has not confirmed isn't followed.
    Pending,
    /// Peers are not told of a use long after the last one that they know of.
    Renewals,
    /// A peer's note doesn't open a settled slot.
    Opening,
    /// Slots settle though a peer can't be heard.
    Holding,
    /// A peer's table is passed over.
    Reconciling,
    /// Who is met is not told of the notes that there are.
    AllNotes,
    /// Owners change while tables are being exchanged.
    HoldingBack,
    /// Each balancer goes by its own checks alone.
    CommonJudgement,
    /// A balancer that comes back takes packets before it has its peers' tables and notes.
    Readiness,
    /// Slots settle without a look at their notes.
    Sweep,
    /// An expired note is no reason not to settle, though a peer's copy may count.
    Lateness,
    /// An heir's flows are not noted from the first.
    Sharing,
}

fn history(seed: u64, without: Option<Without>) -> Tally {
    let harm = if without.is_some() { 1 } else { u64::MAX };
    World::new(seed, without).run(HISTORY_SECONDS, CALM_SECONDS, harm)
}

/// Plays histories; says which ones broke the promise.
fn histories(seeds: std::ops::Range<u64>) -> Tally {
    let (mut sum, mut broken) = (Tally::default(), Vec::new());
    for seed in seeds {
        let tally = history(seed, None);
        if tally.moved + tally.disagreeing > 0 {
            broken.push(seed);
        }
        sum.add(&tally);
    }
    println!("{sum:?}");
    assert!(broken.is_empty(), "histories {broken:?}: {sum:?}");
    sum
}

fn no_flow_leaves(seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let tally = histories(seeds);
    // The histories did what they are for.
    let [settled, open, moving, fresh, moved] = tally.phases;
    assert!(
        settled.min(open).min(moving).min(fresh).min(moved) > 40 * count,
        "{tally:?}"
    );
    assert!(
        tally.packets > 2000 * count && tally.changed_ways > 300 * count,
        "{tally:?}"
    );
    assert!(tally.kills > count && tally.cuts > 2 * count, "{tally:?}");
    // What the windows excuse is no large part.
    assert!(tally.stray * 5 < tally.packets, "{tally:?}");
    let excused = tally.on_way + tally.given_up + tally.empty;
    assert!(excused * 100 < tally.packets, "{tally:?}");
}

// Two tests, for two cores.
#[test]
fn no_flow_leaves_a_living_owner_whichever_balancer_it_comes_by() {
    no_flow_leaves(0..HISTORIES / 2);
}

#[test]
fn no_flow_leaves_a_living_owner_in_as_many_other_histories() {
    no_flow_leaves(HISTORIES / 2..HISTORIES);
}

/// `FOOBAR_HISTORIES=20000 cargo test -p foobar-userspace --lib as_many_histories_as_are_asked_for -- --nocapture`:
/// a longer run, of other seeds.
#[test]
fn no_flow_leaves_a_living_owner_in_as_many_histories_as_are_asked_for() {
    let asked = std::env::var("FOOBAR_HISTORIES").ok();
    if let Some(count) = asked.and_then(|count| count.parse::<u64>().ok()) {
        no_flow_leaves(HISTORIES..HISTORIES + count);
    }
}

#[test]
fn every_rule_of_agreement_is_needed() {
    let mut needless = Vec::new();
    // With each, the history that showed it first: if it does no longer, the others are tried.
    for (without, first) in [
        (Without::Starts, 30),
        (Without::Notes, 0),
        (Without::Pending, 0),
        (Without::Renewals, 103),
        (Without::Opening, 878),
        (Without::Holding, 1),
        (Without::Reconciling, 2),
        (Without::AllNotes, 0),
        (Without::HoldingBack, 939),
        (Without::CommonJudgement, 1),
        (Without::Readiness, 11),
        (Without::Sweep, 0),
        (Without::Lateness, 48),
        (Without::Sharing, 652),
    ] {
        let broken = std::iter::once(first)
            .chain(0..HISTORIES)
            .find(|&seed| history(seed, Some(without)).moved > 0);
        println!("without {without:?}: moved in history {broken:?}");
        if broken.is_none() {
            needless.push(without);
        }
    }
    assert!(needless.is_empty(), "nothing is moved without {needless:?}");
}
