//! What the program tells of notes, for peers to hear: an event for each step of a flow's life and none besides.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use foobar::dataplane::{Heard, HeardNote, NoteEvent, NoteEvents, NoteStage, NotedFlow, monotonic_ns};
use foobar_common::address::Address;
use foobar_common::admission::{FEATURE_NOTE_EVENTS, FEATURES_ALL, Features};
use foobar_common::counters::Counter::{
    NoteFollowed, NoteFull, NoteOverwritten, NotePending, NotePromoted, NoteUntold, NoteUntoldPending,
    SlotMoved, SlotMoving,
};
use foobar_common::note::{FlowKey, PendingNote, pending_set};
use foobar_common::note_event::{NOTE_EVENT_RING_BYTES, NOTE_EVENT_RING_CROWDED};
use foobar_common::slot::{Member, Phase, Slot};
use foobar_common::time::{age, ticks};
use foobar_tests::packets::frame::{CLIENT, Flow};
use foobar_tests::packets::rig::{DNS, DNS_ID, DNS_SLOT, Rig, Setup, WEB, WEB_ID, WEB_SLOT, slot};

/// A ring's record: its header and what it holds.
const RECORD: u32 = 48;

const TOLD: Features = FEATURES_ALL | FEATURE_NOTE_EVENTS;

const FLOW: Flow = Flow::new(40_001, WEB);

/// A rig whose slots move from member 3 to 1, with room for so many notes.
fn told(notes: u32, features: Features) -> Result<(Rig, NoteEvents)> {
    let setup = Setup {
        notes,
        pending_notes: 1 << 20,
        ..Setup::default()
    };
    let mut rig = Rig::with_features(setup, features)?;
    rig.set(WEB_SLOT, slot(Phase::Moving, 1, 2, 3));
    rig.set(DNS_SLOT, slot(Phase::Moving, 1, 2, 3));
    let events = rig.plane.note_events()?;
    Ok((rig, events))
}

fn drained(events: &mut NoteEvents) -> Vec<NoteEvent> {
    let mut out = Vec::new();
    events.drain(&mut out);
    out
}

/// Just this was told, and just now.
#[track_caller]
fn tells(events: &mut NoteEvents, flow: Flow, (id, slot): (u32, u32), expected: &[(Member, NoteStage)]) {
    let now = ticks(monotonic_ns());
    let mut seen = Vec::new();
    for event in drained(events) {
        let key = FlowKey {
            source: Address::from(flow.client),
            source_port_be: flow.client_port.to_be(),
            destination_port_be: flow.port.to_be(),
            vip: id,
        };
        assert_eq!((event.key, event.slot), (key, slot));
        // The program's clock is that of the last timer tick.
        assert!(age(now, event.used) < 1_000, "{event:?} at {now}");
        seen.push((event.member, event.stage));
    }
    assert_eq!(seen, expected);
}

const IN_WEB: (u32, u32) = (WEB_ID, WEB_SLOT);

use NoteStage::{Ended, Established, Overwritten, Pending};

#[test]
fn each_step_of_a_connections_life_is_told_once_and_each_syn() -> Result<()> {
    for features in [TOLD, FEATURE_NOTE_EVENTS] {
        let (mut rig, mut events) = told(64, features)?;
        rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
        tells(&mut events, FLOW, IN_WEB, &[(1, Pending)]);
        // A client that sends it again has no answer, and may have it by another balancer.
        rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NoteFollowed]);
        tells(&mut events, FLOW, IN_WEB, &[(1, Pending)]);
        rig.send(&FLOW.ack())
            .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
        tells(&mut events, FLOW, IN_WEB, &[(1, Established)]);
        for frame in [FLOW.data(), FLOW.data()] {
            rig.send(&frame).forwarded_to(1, &[SlotMoving, NoteFollowed]);
        }
        tells(&mut events, FLOW, IN_WEB, &[]);
        rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NoteFollowed]);
        tells(&mut events, FLOW, IN_WEB, &[(1, Established)]);
        rig.send(&FLOW.fin()).forwarded_to(1, &[SlotMoving, NoteFollowed]);
        tells(&mut events, FLOW, IN_WEB, &[(1, Ended)]);
        for frame in [FLOW.fin(), FLOW.data()] {
            rig.send(&frame).forwarded_to(1, &[SlotMoving, NoteFollowed]);
        }
        tells(&mut events, FLOW, IN_WEB, &[]);
        rig.set(WEB_SLOT, slot(Phase::Moving, 4, 2, 3));
        rig.send(&FLOW.syn())
            .forwarded_to(4, &[SlotMoving, NoteOverwritten]);
        tells(&mut events, FLOW, IN_WEB, &[(4, Overwritten)]);
        rig.send(&FLOW.ack()).forwarded_to(4, &[SlotMoving, NoteFollowed]);
        tells(&mut events, FLOW, IN_WEB, &[(4, Established)]);
    }
    Ok(())
}

#[test]
fn an_old_flow_of_a_slot_that_moves_is_told_with_its_owner_from_before() -> Result<()> {
    let (mut rig, mut events) = told(64, TOLD)?;
    rig.send(&FLOW.data()).forwarded_to(3, &[SlotMoving, NotePending]);
    tells(&mut events, FLOW, IN_WEB, &[(3, Pending)]);
    rig.send(&FLOW.fin())
        .forwarded_to(3, &[SlotMoving, NoteFollowed, NotePromoted]);
    tells(&mut events, FLOW, IN_WEB, &[(3, Ended)]);
    let flow = Flow::new(40_002, DNS);
    for stage in [Pending, Established] {
        drop(rig.send(&flow.datagram()));
        tells(&mut events, flow, (DNS_ID, DNS_SLOT), &[(3, stage)]);
    }
    Ok(())
}

#[test]
fn where_nothing_is_written_nothing_is_told() -> Result<()> {
    let (mut rig, mut events) = told(64, TOLD)?;
    for frame in [FLOW.fin(), FLOW.rst()] {
        rig.send(&frame).forwarded_to(3, &[SlotMoving]);
    }
    rig.set(WEB_SLOT, slot(Phase::Moved, 1, 2, 3));
    for frame in [FLOW.syn(), FLOW.data()] {
        rig.send(&frame).forwarded_to(1, &[SlotMoved]);
    }
    rig.set(WEB_SLOT, Slot::settled(1));
    for frame in [FLOW.syn(), FLOW.data(), FLOW.fin()] {
        rig.send(&frame).forwarded_to(1, &[]);
    }
    tells(&mut events, FLOW, IN_WEB, &[]);
    Ok(())
}

#[test]
fn a_note_that_finds_no_room_is_told_as_pending_and_no_more() -> Result<()> {
    let (mut rig, mut events) = told(4, TOLD)?;
    for n in 0..8 {
        drop(rig.send(&Flow::new(50_000 + n, WEB).syn()));
        drop(rig.send(&Flow::new(50_000 + n, WEB).ack()));
    }
    assert_eq!(drained(&mut events).len(), 16);
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    rig.send(&FLOW.ack())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NoteFull]);
    tells(&mut events, FLOW, IN_WEB, &[(1, Pending)]);
    Ok(())
}

#[test]
fn a_program_that_is_not_asked_to_tells_of_nothing() -> Result<()> {
    for features in [FEATURES_ALL, 0] {
        let (mut rig, mut events) = told(64, features)?;
        for frame in [FLOW.syn(), FLOW.ack(), FLOW.fin(), FLOW.syn()] {
            drop(rig.send(&frame));
        }
        assert_eq!(drained(&mut events), []);
        assert!(!rig.plane.translation()?.maps.contains("NOTE_EVENTS"));
    }
    Ok(())
}

/// Flows of many clients, no two of which a pending note would take for one another.
fn clients(rig: &Rig, count: u32) -> Vec<Flow> {
    let (seed, sets) = (rig.plane.flow_seed(), rig.plane.notes().pending_sets());
    let mut seen = HashSet::new();
    let is_new = |flow: &Flow| {
        let hash = flow.hash(seed);
        seen.insert((pending_set(hash, sets - 1), PendingNote::identity(WEB_SLOT, hash)))
    };
    let client = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        Flow::new(2_000, WEB).from([10, a, b, c].into())
    };
    (0..).map(client).filter(is_new).take(count as usize).collect()
}

#[test]
fn a_flood_of_first_notes_is_shed_before_anything_else() -> Result<()> {
    const CROWDED: u32 = NOTE_EVENT_RING_CROWDED / RECORD + 1;
    const FULL: u32 = NOTE_EVENT_RING_BYTES / RECORD;
    const FLOOD: u32 = CROWDED + 500;
    let (mut rig, mut events) = told(2 * FULL, TOLD)?;
    let clients = clients(&rig, FLOOD);
    for client in &clients {
        rig.plane.test_run(&client.syn())?;
    }
    let counters = rig.plane.counters()?;
    assert_eq!(counters.note_untold_pending, u64::from(FLOOD - CROWDED));
    assert_eq!(
        (counters.note_pending, counters.note_untold),
        (u64::from(FLOOD), 0)
    );
    rig.send(&FLOW.syn())
        .forwarded_to(1, &[SlotMoving, NotePending, NoteUntoldPending]);
    // Flows that go on are told all the same, those of the flood's as well.
    for client in &clients[..(FULL - CROWDED) as usize] {
        rig.plane.test_run(&client.ack())?;
    }
    assert_eq!(rig.plane.counters()?.note_untold, 0);
    rig.send(&FLOW.ack())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted, NoteUntold]);

    let mut seen = Vec::new();
    while seen.len() < FULL as usize {
        let before = seen.len();
        events.drain(&mut seen);
        assert!(seen.len() > before, "{before} of {FULL} events");
    }
    assert_eq!(drained(&mut events), []);
    let (first, others) = seen.split_at(CROWDED as usize);
    assert!(first.iter().all(|event| event.stage == Pending));
    assert!(others.iter().all(|event| event.stage == Established));
    for (client, event) in clients.iter().zip(others) {
        assert_eq!(event.key.source, Address::from(client.client));
    }
    // There is room again.
    rig.send(&FLOW.fin()).forwarded_to(1, &[SlotMoving, NoteFollowed]);
    tells(&mut events, FLOW, IN_WEB, &[(1, Ended)]);
    Ok(())
}

#[test]
fn a_reader_that_waits_is_woken_within_milliseconds() -> Result<()> {
    let (mut rig, mut events) = told(64, TOLD)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut waits = Vec::new();
    for n in 0..40 {
        let flow = Flow::new(41_000 + n, WEB);
        let (sent, came) = runtime.block_on(async {
            // It waits already when the packet comes, or begins to afterwards.
            let packet = thread::scope(|scope| {
                let packet = scope.spawn(|| rig.plane.test_run(&flow.syn()).map(|_| Instant::now()));
                packet.join().expect("no test run panics")
            });
            tokio::time::timeout(Duration::from_secs(5), events.ready()).await??;
            anyhow::Ok((packet?, Instant::now()))
        })?;
        waits.push(came - sent);
        tells(&mut events, flow, IN_WEB, &[(1, Pending)]);
    }
    waits.sort_unstable();
    println!("from the packet to the reader: {:?} to {:?}", waits[0], waits[39]);
    let quiet =
        runtime.block_on(async { tokio::time::timeout(Duration::from_millis(20), events.ready()).await });
    assert!(quiet.is_err(), "there is nothing to be read");
    Ok(())
}

#[test]
fn what_a_peer_told_of_is_followed() -> Result<()> {
    let (mut rig, mut events) = told(64, TOLD)?;
    let now = ticks(monotonic_ns());
    let noted = |rig: &Rig| {
        let key = FlowKey {
            source: Address::from(CLIENT),
            source_port_be: FLOW.client_port.to_be(),
            destination_port_be: WEB.to_be(),
            vip: WEB_ID,
        };
        NotedFlow::new(rig.plane.flow_seed(), key, WEB_SLOT)
    };
    let said = |member, stage| HeardNote {
        member,
        used: now,
        stage,
    };
    let notes = rig.plane.notes();
    let flow = noted(&rig);
    assert_eq!(notes.hear(&flow, said(5, Pending), now).heard, Heard::New);
    rig.send(&FLOW.syn()).forwarded_to(5, &[SlotMoving, NoteFollowed]);
    assert_eq!(notes.hear(&flow, said(5, Established), now).heard, Heard::Renewed);
    rig.send(&FLOW.data())
        .forwarded_to(5, &[SlotMoving, NoteFollowed]);
    tells(&mut events, FLOW, IN_WEB, &[(5, Pending)]);
    assert_eq!(
        notes
            .hear(
                &flow,
                HeardNote {
                    used: now + 9_000,
                    ..said(6, Ended)
                },
                now
            )
            .heard,
        Heard::Renewed
    );
    rig.send(&FLOW.data())
        .forwarded_to(6, &[SlotMoving, NoteFollowed]);
    rig.send(&FLOW.syn())
        .forwarded_to(1, &[SlotMoving, NoteOverwritten]);
    assert_eq!(rig.notes().noted.len(), 1);
    Ok(())
}

#[test]
fn a_use_late_in_a_notes_life_is_told_at_once() -> Result<()> {
    const LIFETIME: u32 = 1 << 20;
    // T/8 is a tenth of a note's lifetime.
    for (idle, stage, told) in [
        (LIFETIME / 8, Established, true),
        (LIFETIME / 12, Established, false),
        (LIFETIME / 8, Ended, true),
    ] {
        let (mut rig, mut events) = self::told(64, TOLD)?;
        let now = ticks(monotonic_ns());
        let key = FlowKey {
            source: Address::from(CLIENT),
            source_port_be: FLOW.client_port.to_be(),
            destination_port_be: WEB.to_be(),
            vip: WEB_ID,
        };
        let flow = NotedFlow::new(rig.plane.flow_seed(), key, WEB_SLOT);
        let said = HeardNote {
            member: 5,
            used: now.wrapping_sub(idle),
            stage,
        };
        assert_eq!(rig.plane.notes().hear(&flow, said, now).heard, Heard::New);
        rig.send(&FLOW.data())
            .forwarded_to(5, &[SlotMoving, NoteFollowed]);
        let expected: &[_] = if told { &[(5, stage)] } else { &[] };
        tells(&mut events, FLOW, IN_WEB, expected);
        rig.send(&FLOW.data())
            .forwarded_to(5, &[SlotMoving, NoteFollowed]);
        tells(&mut events, FLOW, IN_WEB, &[]);
    }
    Ok(())
}

/// Two CPUs: on one the program notes flows and follows their notes, on the other a peer's notes of the same flows are
/// heard. Each flow has its member at the end, whoever wrote it down.
#[test]
fn notes_are_heard_while_the_program_writes_its_own() -> Result<()> {
    const FLOWS: u16 = 1_000;
    let (mut rig, _events) = told(u32::from(FLOWS), TOLD)?;
    let (notes, seed, done) = (rig.plane.notes(), rig.plane.flow_seed(), AtomicBool::new(false));
    let flow = |n: u16| Flow::new(10_000 + n, WEB);
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for n in 0..FLOWS {
                    let now = ticks(monotonic_ns());
                    let key = FlowKey {
                        source: Address::from(CLIENT),
                        source_port_be: flow(n).client_port.to_be(),
                        destination_port_be: WEB.to_be(),
                        vip: WEB_ID,
                    };
                    let said = HeardNote {
                        member: 3,
                        used: now,
                        stage: Established,
                    };
                    notes.hear(&NotedFlow::new(seed, key, WEB_SLOT), said, now);
                }
            }
        });
        let sent = (|| {
            for _ in 0..20 {
                for n in 0..FLOWS {
                    rig.plane.test_run(&flow(n).data())?;
                    rig.plane.test_run(&flow(FLOWS - 1 - n).ack())?;
                }
            }
            anyhow::Ok(())
        })();
        done.store(true, Ordering::Relaxed);
        sent
    })?;
    rig.set(WEB_SLOT, slot(Phase::Moving, 4, 2, 6));
    for n in 0..FLOWS {
        rig.send(&flow(n).data())
            .forwarded_to(3, &[SlotMoving, NoteFollowed]);
    }
    let found = rig.notes();
    let twice = found.noted.len() - usize::from(FLOWS);
    println!("{twice} of {FLOWS} flows have two notes");
    assert!(twice < 10 && found.noted.iter().all(|(_, note)| note.member == 3));
    Ok(())
}
