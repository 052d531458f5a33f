//! Admission: source lists, and limits of SYNs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use etherparse::{Icmpv4Type, IpNumber};
use foobar::dataplane::{ListEntry, SourceTrie};
use foobar_common::address::Address;
use foobar_common::admission::{
    FEATURE_LISTS, FEATURE_SYN_LIMITS, FEATURES_ALL, LIST_ALLOW, LIST_DENY, ListVerdict, SynLimit,
};
use foobar_common::counters::Counter::{
    self, DropDenied, DropFragment, DropSourceLimit, DropSynLimit, FragmentNoted, NoteFollowed, NotePromoted,
    SlotMoving,
};
use foobar_common::slot::{Phase, Slot};
use foobar_common::vip::{VIP_LIST, VIP_LIST_ONLY, VIP_SYN_LIMIT, Vip};
use foobar_tests::packets::frame::{CLIENT, Flow, IP, VIP, icmp, ipv4};
use foobar_tests::packets::frame_v6::{CLIENT6, Flow6, VIP6, ipv6};
use foobar_tests::packets::rig::{
    DNS, LEASE, Policy, Rig, Setup, TCP, WEB, WEB_ID, WEB_SLOT, WIDE, WIDE_BASE, WIDE_SLOTS, slot,
};

const FLOW: Flow = Flow::new(40_001, WEB);
const LIST: u16 = 7;
const LIMIT: u16 = 9;
const XDP_TX: u32 = 3;

/// An entry for a prefix; of IPv4, `length` is as it is written.
fn prefix(address: impl Into<IpAddr>, length: u32, verdict: ListVerdict) -> ListEntry {
    let address = address.into();
    ListEntry {
        address: Address::from(address).bytes,
        length: length + if address.is_ipv4() { 96 } else { 0 },
        verdict,
    }
}

/// A rig whose services have changed by `edit`.
fn rig(features: u32, edit: impl Fn(&mut Vip)) -> Result<Rig> {
    let setup = Setup {
        policy: Policy::Reset,
        ..Setup::default()
    };
    let mut rig = Rig::with_features(setup, features)?;
    let mut services = rig.services();
    services.push(rig.service(IpAddr::from(VIP6), WEB, TCP, WEB_ID, WEB_SLOT, 1));
    services.push(rig.address(IpAddr::from(VIP6), LEASE));
    services.iter_mut().for_each(edit);
    rig.plane.set_services(&services)?;
    Ok(rig)
}

/// A rig whose services have a list of these entries.
fn listed(flags: u32, entries: &[ListEntry]) -> Result<Rig> {
    let mut rig = rig(FEATURES_ALL, |vip| {
        (vip.flags, vip.list) = (vip.flags | VIP_LIST | flags, LIST);
    })?;
    rig.plane.set_list(LIST, &SourceTrie::new(entries)?)?;
    Ok(rig)
}

fn from6(client: Ipv6Addr) -> Vec<u8> {
    let flow = Flow6 {
        client,
        client_port: 40_001,
        vip: VIP6,
        port: WEB,
    };
    let segment = flow.tcp(b"data", |tcp| tcp.ack = true);
    ipv6(TCP, client, VIP6, &segment, |_| ())
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

#[test]
fn the_longest_prefix_decides() -> Result<()> {
    let mut rig = listed(
        0,
        &[
            prefix(Ipv4Addr::new(203, 0, 0, 0), 16, LIST_DENY),
            prefix(Ipv4Addr::new(203, 0, 113, 0), 24, LIST_ALLOW),
            prefix(Ipv4Addr::new(203, 0, 113, 77), 32, LIST_DENY),
            prefix(v6("2001:db8:c11e::"), 48, LIST_DENY),
            prefix(v6("2001:db8:c11e:77::"), 64, LIST_ALLOW),
        ],
    )?;
    let cases = [
        (Ipv4Addr::new(203, 0, 113, 77), false),
        (Ipv4Addr::new(203, 0, 113, 78), true),
        (Ipv4Addr::new(203, 0, 112, 77), false),
        (Ipv4Addr::new(203, 1, 113, 77), true),
        (Ipv4Addr::new(198, 18, 0, 1), true),
    ];
    for (client, served) in cases {
        let outcome = rig.send(&FLOW.from(client).data());
        if served {
            outcome.forwarded_to(1, &[]);
        } else {
            outcome.dropped(&[DropDenied]);
        }
    }
    rig.send(&from6(CLIENT6)).forwarded_to(1, &[]);
    rig.send(&from6(v6("2001:db8:c11e:78::1"))).dropped(&[DropDenied]);
    rig.send(&from6(v6("2001:db8:c11f::1"))).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn a_list_of_those_who_are_served_denies_all_others() -> Result<()> {
    let office = prefix(Ipv4Addr::new(203, 0, 113, 64), 27, LIST_ALLOW);
    let mut rig = listed(VIP_LIST_ONLY, &[office])?;
    rig.send(&FLOW.data()).forwarded_to(1, &[]);
    rig.send(&FLOW.from(Ipv4Addr::new(203, 0, 113, 96)).data())
        .dropped(&[DropDenied]);
    rig.send(&from6(CLIENT6)).dropped(&[DropDenied]);
    Ok(())
}

/// Neither is told anything, whatever the VIP's policy, and whatever way the packet goes.
#[test]
fn a_denied_source_gets_no_answer_to_any_kind_of_packet() -> Result<()> {
    let mut rig = listed(0, &[prefix(CLIENT, 32, LIST_DENY)])?;
    let mut first = FLOW.data();
    first[IP + 6] |= 0x20;
    foobar_tests::packets::frame::seal(&mut first);
    let with_options = FLOW.segment(b"data", |_, ip| ip.options = [1; 4].into());
    for phase in [Phase::Settled, Phase::Moving] {
        for current in [1, 0] {
            rig.set(WEB_SLOT, slot(phase, current, 0, 0));
            for frame in [FLOW.syn(), FLOW.data(), FLOW.fin(), FLOW.rst()] {
                rig.send(&frame).dropped(&[DropDenied]);
            }
            rig.send(&first).dropped(&[DropDenied]);
            rig.send(&with_options).dropped(&[DropDenied]);
        }
    }
    rig.send(&Flow::new(40_001, DNS).datagram())
        .dropped(&[DropDenied]);
    let notes = rig.notes();
    assert!(notes.noted.is_empty() && notes.pending.is_empty(), "{notes:?}");
    Ok(())
}

#[test]
fn fragments_follow_their_first_one_which_is_looked_up() -> Result<()> {
    let later = |client: Ipv4Addr| {
        let mut frame = ipv4(IpNumber::TCP, client, VIP, &[0x55; 64], |_| ());
        frame[IP + 7] = 4;
        foobar_tests::packets::frame::seal(&mut frame);
        frame
    };
    let first = |client: Ipv4Addr| {
        let mut frame = FLOW.from(client).data();
        frame[IP + 6] |= 0x20;
        foobar_tests::packets::frame::seal(&mut frame);
        frame
    };
    let friend = Ipv4Addr::new(203, 0, 113, 78);
    let mut rig = listed(0, &[prefix(CLIENT, 32, LIST_DENY)])?;
    rig.send(&first(CLIENT)).dropped(&[DropDenied]);
    rig.send(&later(CLIENT)).dropped(&[DropFragment]);
    rig.send(&first(friend)).forwarded_to(1, &[FragmentNoted]);
    rig.send(&later(friend))
        .forwarded_to(1, &[Counter::FragmentFollowed]);
    Ok(())
}

/// The error's source is a router on the way; of the client that it is about, the VIP sent the packet itself.
#[test]
fn an_icmp_errors_source_is_not_looked_up() -> Result<()> {
    let mut rig = listed(VIP_LIST_ONLY, &[])?;
    let quoted = {
        let client = FLOW.to(CLIENT).from(VIP).segment(b"", |tcp, _| tcp.ack = true);
        let mut quoted = client[IP..].to_vec();
        quoted[20..24].copy_from_slice(&[&WEB.to_be_bytes()[..], &40_001u16.to_be_bytes()].concat());
        quoted
    };
    let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0];
    message.extend(quoted);
    let sum = foobar_tests::packets::frame_v6::internet_checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let error = ipv4(
        IpNumber::ICMP,
        Ipv4Addr::new(203, 0, 113, 1),
        VIP,
        &message,
        |_| (),
    );
    let outcome = rig.send(&error);
    assert_eq!(outcome.verdict.action, XDP_TX, "{outcome:?}");
    rig.send(&FLOW.data()).dropped(&[DropDenied]);
    Ok(())
}

#[test]
fn a_list_is_replaced_as_a_whole_under_the_running_program() -> Result<()> {
    let other = Ipv4Addr::new(203, 0, 113, 78);
    let lists = [CLIENT, other].map(|client| SourceTrie::new(&[prefix(client, 32, LIST_DENY)]));
    let [first, second] = lists;
    let (first, second) = (first?, second?);
    let mut rig = listed(0, &[])?;
    for _ in 0..100 {
        rig.plane.set_list(LIST, &first)?;
        rig.send(&FLOW.data()).dropped(&[DropDenied]);
        rig.send(&FLOW.from(other).data()).forwarded_to(1, &[]);
        rig.plane.set_list(LIST, &second)?;
        rig.send(&FLOW.data()).forwarded_to(1, &[]);
        rig.send(&FLOW.from(other).data()).dropped(&[DropDenied]);
    }
    Ok(())
}

#[test]
fn of_equal_prefixes_the_last_one_counts() -> Result<()> {
    let both = [LIST_DENY, LIST_ALLOW].map(|verdict| prefix(CLIENT, 32, verdict));
    listed(VIP_LIST_ONLY, &both)?
        .send(&FLOW.data())
        .forwarded_to(1, &[]);
    Ok(())
}

/// Its time is reported only: what a shared machine takes says little.
#[test]
fn a_million_prefixes_are_loaded_and_found() -> Result<()> {
    let entries: Vec<ListEntry> = (0..1_000_000u32)
        .map(|n| match n % 4 {
            0 => prefix(
                Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(n) << 64),
                64,
                LIST_DENY,
            ),
            _ => prefix(
                Ipv4Addr::from_bits(0x0100_0000 + n.wrapping_mul(2_654_435) % 0xc000_0000),
                32,
                LIST_DENY,
            ),
        })
        .collect();
    let mut rig = listed(0, &[])?;
    let mut sorted = entries.clone();
    sorted.sort_unstable_by_key(|entry| (entry.address, entry.length));
    let begin = Instant::now();
    let list = SourceTrie::new(&sorted)?;
    let filled = begin.elapsed();
    rig.plane.set_list(LIST, &list)?;
    println!(
        "a million prefixes: filled in {filled:?}, in force after {:?}",
        begin.elapsed()
    );
    for entry in entries.iter().step_by(99_991) {
        match IpAddr::from(Address { bytes: entry.address }) {
            IpAddr::V4(client) if !client.is_multicast() && !client.is_loopback() => {
                rig.send(&FLOW.from(client).data()).dropped(&[DropDenied]);
            }
            IpAddr::V4(_) => (),
            IpAddr::V6(client) => {
                rig.send(&from6(client)).dropped(&[DropDenied]);
            }
        }
    }
    rig.send(&from6(v6("2001:db9::1"))).forwarded_to(1, &[]);
    let begin = Instant::now();
    rig.plane.set_list(LIST, &SourceTrie::new(&[])?)?;
    println!("emptied in {:?}", begin.elapsed());
    rig.send(&from6(v6("2001:db8::1"))).forwarded_to(1, &[]);
    Ok(())
}

const MINUTE: u64 = 60_000_000_000;

/// SYNs a minute and at once, of the VIP and of a source, where they are not 0.
fn limit(vip: (u64, u64), source: (u64, u64)) -> SynLimit {
    let cost = |rate: u64| MINUTE.checked_div(rate).unwrap_or(0);
    SynLimit {
        bucket: 0,
        cost_ns: cost(vip.0),
        depth_ns: cost(vip.0) * vip.1,
        source_cost_ns: cost(source.0),
        source_depth_ns: cost(source.0) * source.1,
        source_mask_v4: [u64::MAX; 2],
        source_mask_v6: [u64::MAX, 0],
    }
}

fn limited(limit: SynLimit) -> Result<Rig> {
    let rig = rig(FEATURES_ALL, |vip| {
        (vip.flags, vip.limit) = (vip.flags | VIP_SYN_LIMIT, LIMIT);
    })?;
    rig.plane.set_limit(LIMIT, limit);
    Ok(rig)
}

/// SYNs of clients that are all different.
fn strangers() -> impl Iterator<Item = Vec<u8>> {
    (0..).map(|n: u32| {
        let client = Ipv4Addr::from_bits(0x0a00_0001 + n);
        Flow::new(10_000 + (n % 50_000) as u16, WEB).from(client).syn()
    })
}

/// How many of a client's SYNs pass within a time, of as many as the machine can send.
fn passing(rig: &mut Rig, time: Duration, mut frames: impl Iterator<Item = Vec<u8>>) -> (u64, Duration) {
    let before = rig.plane.target_counters(1).connections;
    let begin = Instant::now();
    while begin.elapsed() < time {
        for frame in frames.by_ref().take(64) {
            rig.plane.test_run(&frame).expect("the program runs");
        }
    }
    let took = begin.elapsed();
    let after = rig.plane.target_counters(1).connections;
    (after - before, took)
}

/// What passes in a time is the burst and the rate's share, and no more than the last SYN and a tick of the clock
/// besides. It is less where the machine has no time to send: a full bucket takes nothing in.
#[track_caller]
fn assert_rate(passed: u64, took: Duration, rate: u64, burst: u64) {
    let expected = burst as f64 + rate as f64 * took.as_secs_f64();
    let most = expected + 2.0 + rate as f64 * 0.011;
    let least = burst as f64 + rate as f64 * took.as_secs_f64() / 3.0;
    let passed = passed as f64;
    assert!(
        least <= passed && passed <= most,
        "{passed} passed in {took:?}, expected {expected:.0}"
    );
}

#[test]
fn a_burst_passes_at_once_and_then_the_rate() -> Result<()> {
    let mut rig = limited(limit((30_000, 200), (0, 0)))?;
    let (passed, took) = passing(&mut rig, Duration::from_millis(1_500), strangers());
    assert_rate(passed, took, 500, 200);
    assert!(rig.plane.counters()?.drop_syn_limit > passed);
    Ok(())
}

#[test]
fn a_source_above_its_limit_takes_nothing_from_others() -> Result<()> {
    let mut rig = limited(limit((60_000_000, 1_000_000), (12_000, 50)))?;
    let greedy = (1..u16::MAX).cycle().map(|port| Flow::new(port, WEB).syn());
    let (passed, took) = passing(&mut rig, Duration::from_millis(1_000), greedy);
    assert_rate(passed, took, 200, 50);
    assert!(rig.plane.counters()?.drop_source_limit > passed);
    for n in 100..140 {
        rig.send(&FLOW.from(Ipv4Addr::new(203, 0, 113, n)).syn())
            .forwarded_to(1, &[]);
    }
    Ok(())
}

#[test]
fn a_source_that_is_refused_takes_nothing_from_the_vip() -> Result<()> {
    let mut rig = limited(limit((1, 10), (1, 3)))?;
    for n in 0..50 {
        drop(rig.send(&Flow::new(41_000 + n, WEB).syn()));
    }
    for n in 1..=7 {
        rig.send(&FLOW.from(Ipv4Addr::new(198, 18, 0, n)).syn())
            .forwarded_to(1, &[]);
    }
    rig.send(&FLOW.from(Ipv4Addr::new(198, 18, 0, 8)).syn())
        .dropped(&[DropSynLimit]);
    Ok(())
}

#[test]
fn sources_of_one_prefix_share_a_limit() -> Result<()> {
    let mask = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    let mut rig = limited(SynLimit {
        source_mask_v4: [u64::MAX, mask],
        ..limit((0, 0), (1, 4))
    })?;
    for n in 1..=4 {
        rig.send(&FLOW.from(Ipv4Addr::new(203, 0, 113, n)).syn())
            .forwarded_to(1, &[]);
    }
    rig.send(&FLOW.from(Ipv4Addr::new(203, 0, 113, 5)).syn())
        .dropped(&[DropSourceLimit]);
    rig.send(&FLOW.from(Ipv4Addr::new(203, 0, 114, 5)).syn())
        .forwarded_to(1, &[]);

    let syn6 = |client: Ipv6Addr| {
        let flow = Flow6 {
            client,
            client_port: 40_001,
            vip: VIP6,
            port: WEB,
        };
        ipv6(TCP, client, VIP6, &flow.tcp(&[], |tcp| tcp.syn = true), |_| ())
    };
    for n in 1..=5u128 {
        let outcome = rig.send(&syn6(Ipv6Addr::from_bits(
            v6("2001:db8:5::").to_bits() + (n << 60) + n,
        )));
        assert_eq!(
            outcome.counters,
            if n < 5 {
                vec![]
            } else {
                vec![("drop_source_limit", 1)]
            }
        );
    }
    Ok(())
}

#[test]
fn only_segments_that_open_a_connection_are_limited() -> Result<()> {
    let mut rig = limited(limit((1, 1), (1, 1)))?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[]);
    rig.send(&FLOW.syn()).dropped(&[DropSourceLimit]);
    let syn_ack = FLOW.segment(&[], |tcp, _| (tcp.syn, tcp.ack) = (true, true));
    for frame in [FLOW.data(), FLOW.ack(), FLOW.fin(), FLOW.rst(), syn_ack] {
        rig.send(&frame).forwarded_to(1, &[]);
    }
    rig.send(&Flow::new(40_001, DNS).datagram()).forwarded_to(1, &[]);
    // Also where there is nobody to take it, a SYN too many gets no RST.
    rig.set(WEB_SLOT, Slot::settled(0));
    rig.send(&FLOW.syn()).dropped(&[DropSourceLimit]);
    Ok(())
}

/// The limit is there before the notes: what it refuses makes none, and evicts none.
#[test]
fn a_flood_of_syns_is_cut_down_before_it_reaches_the_notes() -> Result<()> {
    let setup = Setup {
        pending_notes: 64,
        ..Setup::default()
    };
    let mut rig = Rig::with(setup)?;
    rig.set(WEB_SLOT, slot(Phase::Moving, 1, 2, 3));
    rig.plane.set_limit(LIMIT, limit((1, 20), (0, 0)));
    let mut services = rig.services();
    (services[0].flags, services[0].limit) = (services[0].flags | VIP_SYN_LIMIT, LIMIT);
    rig.plane.set_services(&services)?;
    drop(rig.send(&FLOW.syn()));
    rig.send(&FLOW.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    for frame in strangers().take(5_000) {
        rig.plane.test_run(&frame)?;
    }
    let counters = rig.plane.counters()?;
    assert!(counters.note_pending <= 30, "{} notes", counters.note_pending);
    assert!(counters.drop_syn_limit > 4_900, "{}", counters.drop_syn_limit);
    rig.send(&FLOW.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed]);
    Ok(())
}

/// What pending notes are for: neither a SYN nor a stray ACK of a tuple that is never seen again takes
/// anything from a flow that is established.
#[test]
fn a_flood_of_single_packets_takes_nothing_from_established_flows() -> Result<()> {
    let mut rig = Rig::with(Setup {
        notes: 64,
        pending_notes: 64,
        ..Setup::default()
    })?;
    let moving = |rig: &Rig, current| {
        for index in WIDE_BASE..WIDE_BASE + WIDE_SLOTS {
            rig.set(index, slot(Phase::Moving, current, 2, 3));
        }
    };
    moving(&rig, 1);
    let established = Flow::new(60_000, WIDE);
    drop(rig.send(&established.syn()));
    rig.send(&established.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    for n in 0..4_000u32 {
        let flow = Flow::new(20_000, WIDE);
        rig.plane
            .test_run(&flow.from(Ipv4Addr::from_bits(0x0a00_0001 + n)).syn())?;
        rig.plane
            .test_run(&flow.from(Ipv4Addr::from_bits(0x0b00_0001 + n)).ack())?;
    }
    moving(&rig, 4);
    rig.send(&established.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed]);
    // Slot and fingerprint together tell flows apart: one in many thousands is taken for another's.
    let noted = rig.notes().noted.len();
    assert!(noted <= 3, "{noted} notes");
    Ok(())
}

/// The limit of it: a second packet of the tuple makes a spoofed flow as good as an established one. It takes
/// no note from anybody, but all the room that is left, so that the next flow goes un-noted.
#[test]
fn two_packets_a_spoofed_tuple_fill_the_notes() -> Result<()> {
    let mut rig = Rig::with(Setup {
        notes: 64,
        ..Setup::default()
    })?;
    rig.set(WEB_SLOT, slot(Phase::Moving, 1, 2, 3));
    let (early, late) = (Flow::new(60_000, WEB), Flow::new(60_001, WEB));
    for frame in [early.syn(), early.data()] {
        drop(rig.send(&frame));
    }
    for n in 0..1_000u32 {
        let spoofed = FLOW.from(Ipv4Addr::from_bits(0x0b00_0001 + n));
        rig.plane.test_run(&spoofed.syn())?;
        rig.plane.test_run(&spoofed.ack())?;
    }
    assert!(rig.plane.counters()?.note_full > 0);
    rig.send(&early.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed]);
    drop(rig.send(&late.syn()));
    let outcome = rig.send(&late.data());
    assert!(outcome.counters.contains(&("note_full", 1)), "{outcome:?}");
    Ok(())
}

#[test]
fn flags_of_a_feature_that_the_program_lacks_mean_nothing() -> Result<()> {
    let all = |vip: &mut Vip| {
        vip.flags |= VIP_LIST | VIP_LIST_ONLY | VIP_SYN_LIMIT;
        (vip.list, vip.limit) = (LIST, LIMIT);
    };
    let mut without = rig(FEATURES_ALL & !(FEATURE_LISTS | FEATURE_SYN_LIMITS), all)?;
    without.plane.set_limit(LIMIT, limit((1, 1), (1, 1)));
    for _ in 0..10 {
        without.send(&FLOW.syn()).forwarded_to(1, &[]);
    }
    let mut with = rig(FEATURES_ALL, all)?;
    with.send(&FLOW.syn()).dropped(&[DropDenied]);
    Ok(())
}

#[test]
fn without_admission_the_program_refers_to_none_of_its_maps() -> Result<()> {
    let maps = ["LISTS", "SYN_LIMITS", "SYN_BUCKETS"];
    let mut sizes = Vec::new();
    for features in [
        0,
        FEATURE_LISTS,
        FEATURE_SYN_LIMITS,
        FEATURE_LISTS | FEATURE_SYN_LIMITS,
    ] {
        let translation = Rig::with_features(Setup::default(), features)?
            .plane
            .translation()?;
        let expected = [
            features & FEATURE_LISTS != 0,
            features & FEATURE_SYN_LIMITS != 0,
            features & FEATURE_SYN_LIMITS != 0,
        ];
        assert_eq!(
            maps.map(|map| translation.maps.contains(map)),
            expected,
            "{features}"
        );
        sizes.push(translation.instructions);
    }
    println!(
        "instructions: none {}, lists {}, SYN limits {}, both {}",
        sizes[0], sizes[1], sizes[2], sizes[3]
    );
    // One without any feature has its notes' code twice over instead: it is no measure.
    assert!(sizes[1].max(sizes[2]) < sizes[3]);
    Ok(())
}

#[test]
fn a_ping_of_a_denied_source_is_answered() -> Result<()> {
    let echo = Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 1 });
    let outcome = listed(VIP_LIST_ONLY, &[])?.send(&icmp(VIP, echo, |_| ()));
    assert_eq!(outcome.counters, [("answer_echo", 1)]);
    Ok(())
}
