//! The automaton driven by hand: two balancers, and the way between them in the test's hands.

use std::net::IpAddr;

use super::*;
use crate::cluster::differences::{Compared, Differences};
use crate::cluster::health::View;
use crate::cluster::message::{Drain, Observed, Seen};
use crate::cluster::name::MemberName;

const SECOND: u64 = 1000 * MS;

fn service(port: u16) -> Service {
    Service {
        address: IpAddr::from([192, 0, 2, 101]),
        first_port: port,
        last_port: port,
        protocol: 6,
    }
}

fn report(port: u16, observed: Observed, digest: u8) -> Report {
    Report {
        service: service(port),
        version: 0,
        members: vec![Seen {
            name: MemberName {
                address: IpAddr::from([192, 0, 2, 21]),
                incarnation: 0,
            },
            observed,
            drain: Drain::default(),
        }],
        crowded: false,
        digest: Digest::from([digest; 16]),
    }
}

fn alone(peer: &str) -> Agreement {
    let mut agreement = Agreement::new([peer.to_owned()], 0);
    agreement.set_reports([report(80, Observed::Up, 1)]);
    agreement
}

/// What one side sends to the other, and what else it has to do.
fn split(changes: Vec<Change>) -> (Vec<Envelope>, Vec<Change>) {
    let mut sent = Vec::new();
    let mut rest = Vec::new();
    for change in changes {
        match change {
            Change::Send(_, envelope) => sent.push(envelope),
            other => rest.push(other),
        }
    }
    (sent, rest)
}

/// Two balancers, and what is on its way from each to the other.
struct Pair {
    sides: [Agreement; 2],
    on_way: [Vec<Envelope>; 2],
    todo: [Vec<Change>; 2],
    now: u64,
}

const NAMES: [&str; 2] = ["lb1", "lb2"];

impl Pair {
    fn new() -> Self {
        Self {
            sides: [alone("lb2"), alone("lb1")],
            on_way: [Vec::new(), Vec::new()],
            todo: [Vec::new(), Vec::new()],
            now: 0,
        }
    }

    fn did(&mut self, side: usize, changes: Vec<Change>) {
        let (sent, rest) = split(changes);
        self.on_way[side].extend(sent);
        for change in &rest {
            if let Change::TellAll(node) = change {
                let complete = self.sides[side].all_told(node);
                self.on_way[side].extend(split(complete.into_iter().collect()).0);
            }
        }
        self.todo[side].extend(rest);
    }

    fn connect(&mut self) {
        for side in [0, 1] {
            let changes = self.sides[side].connected(NAMES[1 - side], self.now);
            self.did(side, changes);
        }
    }

    fn deliver(&mut self) {
        while let Some(side) = [0, 1].into_iter().find(|side| !self.on_way[*side].is_empty()) {
            for envelope in std::mem::take(&mut self.on_way[side]) {
                let changes = self.sides[1 - side].receive(NAMES[side], envelope, self.now);
                self.did(1 - side, changes);
            }
        }
    }

    fn tick(&mut self, by: u64) {
        self.now += by;
        for side in [0, 1] {
            let changes = self.sides[side].tick(self.now);
            self.did(side, changes);
        }
    }

    fn standing(&self, side: usize) -> Standing {
        self.sides[side].standings().next().expect("one peer").1
    }
}

#[test]
fn who_has_no_peers_is_ready_and_who_hears_none_is_after_a_while() {
    let mut single = Agreement::new([], 0);
    single.tick(0);
    assert_eq!(single.readiness(), Readiness::Ready);
    let mut one = alone("lb2");
    one.tick(ALONE_NS - 1);
    assert!(matches!(one.readiness(), Readiness::Waiting(_)));
    one.tick(ALONE_NS);
    assert_eq!(one.readiness(), Readiness::Ready);
}

#[test]
fn both_are_ready_when_they_have_all_of_each_other_and_agree() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    assert!(pair.standing(0).is_complete && pair.standing(1).is_complete);
    assert!(
        matches!(pair.sides[0].readiness(), Readiness::Waiting(_)),
        "no pulse yet"
    );
    pair.tick(PULSE_NS);
    pair.deliver();
    pair.tick(PULSE_NS);
    assert_eq!(pair.sides[0].readiness(), Readiness::Ready);
    assert_eq!(pair.sides[1].readiness(), Readiness::Ready);
}

#[test]
fn tables_go_out_only_when_the_others_names_are_known() {
    let mut pair = Pair::new();
    pair.connect();
    let to_first = std::mem::take(&mut pair.on_way[1]);
    pair.deliver();
    assert!(
        !pair.todo[0]
            .iter()
            .any(|change| matches!(change, Change::TellAll(_))),
        "lb2's reports have not come"
    );
    pair.on_way[1].splice(0..0, to_first);
    pair.deliver();
    let reported = pair.todo[0]
        .iter()
        .position(|change| matches!(change, Change::Reported(_)));
    let told = pair.todo[0]
        .iter()
        .position(|change| matches!(change, Change::TellAll(_)));
    assert!(reported < told && reported.is_some(), "{:?}", pair.todo[0]);
}

#[test]
fn tables_that_differ_keep_a_newcomer_waiting_until_they_agree() {
    let mut pair = Pair::new();
    let changes = pair.sides[1].set_reports([report(80, Observed::Up, 2)]);
    pair.did(1, changes);
    pair.connect();
    pair.deliver();
    for _ in 0..50 {
        pair.tick(PULSE_NS);
        pair.deliver();
    }
    assert_eq!(pair.standing(0).differing, [service(80)]);
    let Readiness::Waiting(why) = pair.sides[0].readiness() else {
        panic!("it may not take over");
    };
    assert!(why.contains("tables differ"), "{why}");
    let changes = pair.sides[1].set_reports([report(80, Observed::Up, 1)]);
    pair.did(1, changes);
    pair.deliver();
    assert_eq!(pair.sides[0].readiness(), Readiness::Ready);
}

#[test]
fn a_difference_that_lasts_is_told_again_and_again_until_it_is_over() {
    let mut pair = Pair::new();
    let changes = pair.sides[1].set_reports([report(80, Observed::Up, 2)]);
    pair.did(1, changes);
    let mut differences = Differences::default();
    assert_eq!(differences.look(&pair.sides[0], 0), Compared::default());
    pair.connect();
    pair.deliver();
    let mut told = Vec::new();
    for second in 0..25 {
        let compared = differences.look(&pair.sides[0], second * SECOND);
        assert!(compared.over.is_empty());
        for (node, services) in compared.lasting {
            assert_eq!((node.as_str(), services), ("lb2", vec![service(80)]));
            told.push(second);
        }
        assert_eq!(differences.is_lasting(), second >= 10);
    }
    assert_eq!(told, [10, 20]);
    let changes = pair.sides[1].set_reports([report(80, Observed::Up, 1)]);
    pair.did(1, changes);
    pair.deliver();
    let compared = differences.look(&pair.sides[0], 25 * SECOND);
    assert_eq!(
        (compared.over, compared.lasting),
        (vec!["lb2".to_owned()], Vec::new())
    );
    assert!(!differences.is_lasting());
}

#[test]
fn a_peers_view_counts_once_it_has_told_all_and_no_longer_than_it_is_heard() {
    let mut pair = Pair::new();
    let own: View = [(IpAddr::from([192, 0, 2, 21]), Observed::HardDown)].into();
    let judged = |pair: &Pair| {
        let judged = pair.sides[0].judge(service(80), &own, pair.now);
        judged.values().next().expect("one member").state
    };
    assert_eq!(judged(&pair), Observed::SoftDown, "the peer may hear it");
    pair.now += GRACE_NS;
    assert_eq!(judged(&pair), Observed::HardDown);
    pair.connect();
    pair.deliver();
    assert_eq!(judged(&pair), Observed::Up, "only the peer sees anybody");
    let changes = pair.sides[0].lost("lb2", pair.now);
    assert_eq!(changes, [Change::Reported(service(80))]);
    assert_eq!(
        judged(&pair),
        Observed::SoftDown,
        "it heard the member a moment ago"
    );
    assert!(!pair.sides[0].is_grace_over(pair.now, pair.now + GRACE_NS - 1));
    assert!(pair.sides[0].is_grace_over(pair.now, pair.now + GRACE_NS));
    pair.now += GRACE_NS;
    assert_eq!(judged(&pair), Observed::HardDown);
}

#[test]
fn who_has_not_looked_yet_gives_nobody_up() {
    let silent = View::from([(IpAddr::from([192, 0, 2, 21]), Observed::HardDown)]);
    let unseen = View::from([(IpAddr::from([192, 0, 2, 21]), Observed::Unknown)]);
    let mut pair = Pair::new();
    pair.sides[1].set_reports([report(80, Observed::HardDown, 1)]);
    pair.connect();
    pair.deliver();
    let judged = |own| {
        let judged = pair.sides[0].judge(service(80), own, GRACE_NS);
        judged.values().next().expect("one member").state
    };
    assert_eq!(judged(&silent), Observed::HardDown);
    assert_eq!(judged(&unseen), Observed::SoftDown, "its peers will, if it is so");
}

#[test]
fn what_a_peer_said_last_outlives_a_session_in_which_it_said_nothing() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    pair.sides[0].lost("lb2", pair.now);
    pair.sides[0].connected("lb2", pair.now);
    pair.sides[0].lost("lb2", pair.now);
    let silent = View::from([(IpAddr::from([192, 0, 2, 21]), Observed::HardDown)]);
    let judged = pair.sides[0].judge(service(80), &silent, pair.now + GRACE_NS - 1);
    assert_eq!(
        judged.values().next().expect("one member").state,
        Observed::SoftDown
    );
}

#[test]
fn what_is_lost_is_asked_for_again_until_all_is_here() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    let changes = pair.sides[1].set_reports([report(80, Observed::SoftDown, 9)]);
    pair.did(1, changes);
    assert_eq!(pair.on_way[1].len(), 1);
    pair.on_way[1].clear();
    for round in 0..20 {
        pair.tick(PULSE_NS);
        if round == 4 {
            // The answer is lost as well.
            pair.on_way[1].clear();
        }
        pair.deliver();
    }
    assert_eq!(
        pair.standing(0).differing,
        [service(80)],
        "the new digest is here"
    );
    assert!(pair.standing(0).is_complete);
}

#[test]
fn a_message_that_comes_twice_or_late_changes_nothing() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    let mut on_way = Vec::new();
    for digest in 2..10 {
        let changes = pair.sides[1].set_reports([report(80, Observed::Up, digest)]);
        on_way.extend(split(changes).0);
    }
    on_way.reverse();
    on_way.extend(on_way.clone());
    pair.todo[0].clear();
    pair.on_way[1] = on_way;
    pair.deliver();
    let reported = |change: &&Change| **change == Change::Reported(service(80));
    assert_eq!(pair.todo[0].iter().filter(reported).count(), 8);
    let last = pair.sides[0].reports(service(80)).next().expect("a report");
    assert_eq!(last.digest, Digest::from([9; 16]));
}

#[test]
fn nonsense_and_silence_end_a_session() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    let far = Envelope {
        sequence: 1 << 50,
        message: Message::Pull,
    };
    let changes = pair.sides[0].receive("lb2", far, pair.now);
    assert!(matches!(&changes[..], [Change::Cut(node, _)] if node == "lb2"));
    pair.now += SILENCE_NS + 1;
    let changes = pair.sides[1].tick(pair.now);
    assert!(
        changes
            .iter()
            .any(|change| matches!(change, Change::Cut(node, _) if node == "lb1"))
    );
}

#[test]
fn notes_are_held_while_a_peer_may_live_and_can_not_be_heard() {
    let mut pair = Pair::new();
    assert!(pair.sides[0].is_held(0), "nobody knows what it has");
    assert!(!pair.sides[0].is_held(HOLD_NS));
    pair.connect();
    assert!(pair.sides[0].is_held(0), "its notes are not here yet");
    pair.deliver();
    assert!(!pair.sides[0].is_held(0));
    pair.sides[0].lost("lb2", SECOND);
    assert!(pair.sides[0].is_held(HOLD_NS));
    assert!(!pair.sides[0].is_held(SECOND + HOLD_NS));
}

#[test]
fn who_said_goodbye_is_not_waited_for() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    let changes = pair.sides[1].farewell();
    pair.did(1, changes);
    pair.deliver();
    pair.sides[0].lost("lb2", SECOND);
    assert!(!pair.sides[0].is_held(SECOND));
}

#[test]
fn operators_and_incarnations_go_by_the_highest_number() {
    let mut pair = Pair::new();
    let mut of_peer = report(80, Observed::Up, 1);
    of_peer.members[0].name.incarnation = 4;
    of_peer.members[0].drain = Drain {
        count: 2,
        drained: true,
    };
    of_peer.crowded = true;
    let changes = pair.sides[1].set_reports([of_peer]);
    pair.did(1, changes);
    pair.connect();
    pair.deliver();
    let address = IpAddr::from([192, 0, 2, 21]);
    let first = &pair.sides[0];
    assert_eq!(first.incarnation(service(80), address), 4);
    assert!(first.drain(service(80), address).drained);
    assert!(first.is_crowded(service(80)) && !first.is_crowded(service(81)));
}

#[test]
fn a_peer_is_met_once_in_a_session_before_what_it_reports_counts() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    let met = |changes: &[Change]| {
        let is_met = |change: &&Change| **change == Change::Met("lb2".to_owned());
        changes.iter().filter(is_met).count()
    };
    let place = |wanted: &Change| pair.todo[0].iter().position(|change| change == wanted);
    assert_eq!(met(&pair.todo[0]), 1);
    assert!(place(&Change::Met("lb2".to_owned())) < place(&Change::Reported(service(80))));
    let asked = pair.sides[1].ask("lb1");
    pair.did(1, asked.into_iter().collect());
    pair.deliver();
    assert_eq!(met(&pair.todo[0]), 1, "it has told all again");
    assert!(pair.standing(1).is_complete);
}

#[test]
fn a_peer_that_is_new_is_not_waited_for_and_one_that_is_gone_counts_no_more() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    let first = &mut pair.sides[0];
    first.set_peers(["lb2".to_owned(), "lb3".to_owned()]);
    assert!(!first.is_held(0), "it has had no flows");
    first.set_peers(["lb3".to_owned()]);
    assert_eq!(first.standings().count(), 1);
    let far = Envelope {
        sequence: 0,
        message: Message::Pull,
    };
    assert_eq!(first.receive("lb2", far, 0), []);
}

#[test]
fn another_configuration_is_told_at_once() {
    let mut pair = Pair::new();
    pair.connect();
    pair.deliver();
    let digest = Digest::from([9; 16]);
    assert!(pair.sides[0].set_configuration(digest, 0));
    assert!(!pair.sides[0].set_configuration(digest, 0), "it is the same");
    let pulse = pair.sides[0].pulse();
    pair.did(0, pulse);
    pair.deliver();
    assert!(!pair.standing(1).has_equal_configuration);
    pair.sides[1].set_configuration(digest, 0);
    assert!(pair.standing(1).has_equal_configuration);
}
