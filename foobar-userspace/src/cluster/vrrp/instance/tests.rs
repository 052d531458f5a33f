//! An instance upon a made outside: what is sent, which leases end when, what is announced.

use std::net::Ipv4Addr;

use super::*;
use crate::cluster::vrrp::example;
use crate::cluster::vrrp::packet::{Envelope, HOP_LIMIT, group};

#[derive(Debug, Default)]
struct Made {
    /// Priorities and addresses.
    sent: Vec<(u8, Vec<IpAddr>)>,
    announced: Vec<Vec<IpAddr>>,
    leases: BTreeMap<u32, Duration>,
    is_deaf: bool,
}

impl Outside for Made {
    fn send(&mut self, source: IpAddr, message: &[u8]) -> io::Result<()> {
        if self.is_deaf {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        let envelope = Envelope {
            source,
            destination: group(true),
            hop_limit: HOP_LIMIT,
        };
        let read = Advertisement::decode(message, &envelope).expect("sound");
        self.sent.push((read.priority, read.addresses));
        Ok(())
    }

    fn announce(&mut self, addresses: &[IpAddr]) {
        self.announced.push(addresses.to_vec());
    }

    fn set_lease(&mut self, index: u32, until: Duration) {
        self.leases.insert(index, until);
    }
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn owned(lasts: &[u8]) -> Vec<Owned> {
    lasts
        .iter()
        .map(|&last| Owned {
            address: address(last),
            lease: u32::from(last),
        })
        .collect()
}

const START: Duration = Duration::from_secs(100);
const TAKEN_OVER: Duration = Duration::from_secs(101);

fn update(
    instance: &mut Instance,
    lasts: &[u8],
    reasons: &[Reason],
    outside: &mut Made,
    now: Duration,
    resumes: bool,
) {
    let reasons = reasons.iter().copied().collect();
    let wanted = Wanted {
        group: &example(),
        addresses: &owned(lasts),
        reasons,
        own: Some(address(11)),
        resumes,
    };
    instance.update(wanted, outside, now);
}

/// An instance that has been Active since [`TAKEN_OVER`].
fn active(lasts: &[u8]) -> (Instance, Made) {
    let (mut instance, mut outside) = (
        Instance::new(example(), true, address(11), START),
        Made::default(),
    );
    update(&mut instance, lasts, &[], &mut outside, START, false);
    assert_eq!(instance.snapshot(START).state, State::Backup);
    instance.timer(&mut outside, TAKEN_OVER);
    assert_eq!(instance.snapshot(TAKEN_OVER).state, State::Active);
    (instance, outside)
}

fn heard(priority: u8) -> Advertisement {
    Advertisement {
        router_id: 51,
        priority,
        interval: example().interval,
        addresses: vec![address(101)],
    }
}

const LEASE: Duration = Duration::from_millis(290);

#[test]
fn taking_over_owns_advertises_and_announces_in_one_step() {
    let (_, outside) = active(&[101, 102]);
    assert_eq!(outside.sent, [(200, vec![address(101), address(102)])]);
    let until = TAKEN_OVER + LEASE;
    assert_eq!(outside.leases, BTreeMap::from([(101, until), (102, until)]));
    assert_eq!(outside.announced, [vec![address(101), address(102)]]);
}

#[test]
fn a_backup_owns_nothing_whatever_was_owned_before() {
    let (mut instance, mut outside) = (
        Instance::new(example(), true, address(11), START),
        Made::default(),
    );
    outside.leases.insert(101, Duration::MAX);
    update(&mut instance, &[101], &[], &mut outside, START, false);
    assert_eq!(outside.leases[&101], Duration::ZERO);
}

#[test]
fn one_that_resumes_advertises_at_once_but_not_if_it_is_drained() {
    let (mut instance, mut outside) = (
        Instance::new(example(), true, address(11), START),
        Made::default(),
    );
    update(&mut instance, &[101], &[], &mut outside, START, true);
    assert_eq!(outside.sent.len(), 1);
    assert_eq!(outside.leases[&101], START + LEASE);

    let (mut instance, mut outside) = (
        Instance::new(example(), true, address(11), START),
        Made::default(),
    );
    update(
        &mut instance,
        &[101],
        &[Reason::Drained],
        &mut outside,
        START,
        true,
    );
    assert_eq!(instance.snapshot(START).state, State::Backup);
    assert_eq!((outside.sent.len(), outside.leases[&101]), (0, Duration::ZERO));
}

#[test]
fn announcements_are_repeated_and_end() {
    let (mut instance, mut outside) = active(&[101]);
    let mut now = TAKEN_OVER;
    while now < TAKEN_OVER + Duration::from_secs(20) {
        now = instance.deadline().unwrap();
        instance.timer(&mut outside, now);
    }
    assert_eq!(outside.announced.len(), 1 + REPEATS.len());
}

#[test]
fn two_that_contradict_each_other_do_not_flood_the_segment() {
    let (mut instance, mut outside) = active(&[101]);
    for millisecond in 0..1_000 {
        let now = TAKEN_OVER + Duration::from_millis(millisecond);
        instance.heard(&heard(100), address(12), &mut outside, now);
        instance.timer(&mut outside, now);
    }
    assert!(
        (5..=11).contains(&outside.announced.len()),
        "{}",
        outside.announced.len()
    );
}

#[test]
fn what_could_not_be_sent_renews_nothing_and_is_announced_once_it_could() {
    let (mut instance, mut outside) = (
        Instance::new(example(), true, address(11), START),
        Made::default(),
    );
    update(&mut instance, &[101], &[], &mut outside, START, false);
    outside.is_deaf = true;
    let mut now = TAKEN_OVER;
    for _ in 0..10 {
        instance.timer(&mut outside, now);
        now = now.max(instance.deadline().unwrap());
    }
    assert_eq!(
        (outside.leases[&101], outside.announced.len()),
        (Duration::ZERO, 0)
    );
    assert!(instance.snapshot(now).trouble.is_some());
    outside.is_deaf = false;
    let end = now + Duration::from_millis(500);
    while now < end {
        instance.timer(&mut outside, now);
        now = now.max(instance.deadline().unwrap());
    }
    assert!(outside.leases[&101] > end && !outside.announced.is_empty());
    assert_eq!(instance.snapshot(now).trouble, None);
}

#[test]
fn losing_ends_ownership_and_announcements_at_once() {
    let (mut instance, mut outside) = active(&[101]);
    instance.heard(&heard(201), address(12), &mut outside, TAKEN_OVER);
    assert_eq!(outside.leases[&101], Duration::ZERO);
    assert_eq!(instance.snapshot(TAKEN_OVER).active, Some(address(12)));
    instance.timer(&mut outside, TAKEN_OVER + Duration::from_millis(250));
    assert_eq!(outside.announced.len(), 1);
}

#[test]
fn stopping_answers_until_the_successor_is_heard() {
    let (mut instance, mut outside) = active(&[101]);
    let stopped = TAKEN_OVER + Duration::from_millis(90);
    instance.stop(&mut outside, stopped);
    assert_eq!(outside.sent.last(), Some(&(0, vec![address(101)])));
    assert_eq!(outside.leases[&101], stopped + LEASE);
    assert_eq!(instance.lingers_until(), Some(stopped + LEASE));
    instance.heard(&heard(100), address(12), &mut outside, stopped);
    assert_eq!(outside.leases[&101], Duration::ZERO);
    assert_eq!(instance.lingers_until(), None);
}

#[test]
fn draining_hands_over_and_comes_back_when_it_ends() {
    let (mut instance, mut outside) = active(&[101]);
    let mut now = TAKEN_OVER;
    update(
        &mut instance,
        &[101],
        &[Reason::Drained],
        &mut outside,
        now,
        false,
    );
    assert_eq!(outside.sent.last(), Some(&(0, vec![address(101)])));
    for _ in 0..100 {
        now += Duration::from_millis(100);
        instance.heard(&heard(100), address(12), &mut outside, now);
        instance.timer(&mut outside, now);
    }
    let told = instance.snapshot(now);
    assert_eq!((told.state, told.priority), (State::Backup, 1));
    update(&mut instance, &[101], &[], &mut outside, now, false);
    for _ in 0..5 {
        now += Duration::from_millis(100);
        instance.heard(&heard(100), address(12), &mut outside, now);
        instance.timer(&mut outside, now);
    }
    assert_eq!(instance.snapshot(now).state, State::Active);
}

#[test]
fn a_reason_that_resigns_gives_up_and_starts_anew_when_it_is_gone() {
    let (mut instance, mut outside) = active(&[101]);
    update(
        &mut instance,
        &[101],
        &[Reason::Detached],
        &mut outside,
        TAKEN_OVER,
        false,
    );
    let told = instance.snapshot(TAKEN_OVER);
    assert_eq!((told.state, told.priority), (State::Initialize, 0));
    assert_eq!(outside.sent.last(), Some(&(0, vec![address(101)])));
    update(&mut instance, &[101], &[], &mut outside, TAKEN_OVER, false);
    assert_eq!(instance.snapshot(TAKEN_OVER).state, State::Backup);
}

#[test]
fn a_dead_link_ends_ownership_at_once() {
    let (mut instance, mut outside) = active(&[101]);
    let sent = outside.sent.len();
    update(
        &mut instance,
        &[101],
        &[Reason::LinkDown],
        &mut outside,
        TAKEN_OVER,
        false,
    );
    assert_eq!((outside.sent.len(), outside.leases[&101]), (sent, Duration::ZERO));
}

#[test]
fn an_address_that_comes_at_run_time_is_owned_advertised_and_announced() {
    let (mut instance, mut outside) = active(&[101]);
    let now = TAKEN_OVER + Duration::from_millis(50);
    update(&mut instance, &[101, 102], &[], &mut outside, now, false);
    let both = vec![address(101), address(102)];
    assert_eq!(outside.sent.last(), Some(&(200, both.clone())));
    assert_eq!(outside.leases[&102], now + LEASE);
    assert_eq!(outside.announced.last(), Some(&both));
}

#[test]
fn a_lower_priority_is_advertised_at_once_and_what_differs_is_counted() {
    let (mut instance, mut outside) = active(&[101]);
    update(
        &mut instance,
        &[101],
        &[Reason::NoBackend],
        &mut outside,
        TAKEN_OVER,
        false,
    );
    assert_eq!(outside.sent.last(), Some(&(150, vec![address(101)])));
    let other = Advertisement {
        addresses: vec![address(102)],
        ..heard(100)
    };
    instance.heard(&other, address(12), &mut outside, TAKEN_OVER);
    instance.refuse(Invalid::HopLimit, address(12));
    let told = instance.snapshot(TAKEN_OVER);
    assert_eq!(told.mismatched, BTreeMap::from([("addresses", 1)]));
    assert_eq!(told.invalid, BTreeMap::from([("hop_limit", 1)]));
    assert_eq!(told.received, 1);
}
