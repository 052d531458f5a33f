//! Notes without room, flows that resemble one another, and slots caught between two writes.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use aya::maps::{Array, Map, MapData, loaded_maps};
use foobar_common::counters::Counter::{
    self, NoteFollowed, NoteFull, NotePending, NotePendingEvicted, NotePromoted, SlotMoving,
};
use foobar_common::slot::{HOT_LANES, Phase, Slot, UNSETTLED, hot_elements};
use foobar_tests::packets::frame::{CLIENT, Flow, VIP};
use foobar_tests::packets::rig::{DNS_SLOT, Rig, SLOTS, Setup, TCP, UDP, WEB, WEB_ID, WEB_SLOT, slot};

const FLOW: Flow = Flow::new(40_001, WEB);

/// The `n`th of many flows.
fn flow(n: u16) -> Flow {
    Flow::new(50_000 + n, WEB)
}

fn moving(setup: Setup) -> Result<Rig> {
    let rig = Rig::with(setup)?;
    rig.set(WEB_SLOT, slot(Phase::Moving, 1, 2, 3));
    Ok(rig)
}

/// Room for eight pending notes: one set.
const ONE_SET: Setup = Setup {
    policy: foobar_tests::packets::rig::Policy::Drop,
    notes: 64,
    pending_notes: 8,
    note_lifetime: 1 << 20,
};

#[test]
fn the_oldest_pending_note_makes_room_and_is_counted() -> Result<()> {
    let mut rig = moving(ONE_SET)?;
    rig.send(&flow(5).syn())
        .forwarded_to(1, &[SlotMoving, NotePending]);
    thread::sleep(Duration::from_millis(2_300));
    for n in [0, 1, 2, 3, 4, 6, 7] {
        rig.send(&flow(n).syn())
            .forwarded_to(1, &[SlotMoving, NotePending]);
    }
    rig.send(&flow(8).syn())
        .forwarded_to(1, &[SlotMoving, NotePending, NotePendingEvicted]);
    assert_eq!(rig.notes().pending.len(), 8);

    rig.set(WEB_SLOT, slot(Phase::Moving, 4, 2, 3));
    for n in [0, 1, 2, 3, 4, 6, 7, 8] {
        rig.send(&flow(n).syn())
            .forwarded_to(1, &[SlotMoving, NoteFollowed]);
    }
    rig.send(&flow(5).syn())
        .forwarded_to(4, &[SlotMoving, NotePending, NotePendingEvicted]);
    Ok(())
}

/// Ages are known to a second: among equals no way of the set may be the one that always goes, or a flood
/// would push out each newcomer with the next one and keep its own first SYNs.
#[test]
fn among_pending_notes_of_one_age_the_newcomers_do_not_evict_each_other_only() -> Result<()> {
    let mut rig = moving(ONE_SET)?;
    for n in 0..8 {
        rig.send(&flow(n).syn())
            .forwarded_to(1, &[SlotMoving, NotePending]);
    }
    for n in 8..72 {
        drop(rig.send(&flow(n).syn()));
    }
    rig.set(WEB_SLOT, slot(Phase::Moving, 4, 2, 3));
    for n in 0..8 {
        rig.send(&flow(n).syn())
            .forwarded_to(4, &[SlotMoving, NotePending, NotePendingEvicted]);
    }
    Ok(())
}

#[test]
fn an_expired_pending_note_makes_room_without_being_counted() -> Result<()> {
    let mut rig = moving(Setup {
        note_lifetime: 5,
        ..ONE_SET
    })?;
    for n in 0..8 {
        rig.send(&flow(n).syn())
            .forwarded_to(1, &[SlotMoving, NotePending]);
    }
    thread::sleep(Duration::from_millis(2_300));
    for n in 8..16 {
        rig.send(&flow(n).syn())
            .forwarded_to(1, &[SlotMoving, NotePending]);
    }
    rig.send(&flow(16).syn())
        .forwarded_to(1, &[SlotMoving, NotePending, NotePendingEvicted]);
    Ok(())
}

#[test]
fn a_flood_of_syns_leaves_established_notes_alone() -> Result<()> {
    let mut rig = moving(ONE_SET)?;
    rig.send(&FLOW.data()).forwarded_to(3, &[SlotMoving, NotePending]);
    rig.send(&FLOW.data())
        .forwarded_to(3, &[SlotMoving, NoteFollowed, NotePromoted]);
    for n in 0..200 {
        drop(rig.send(&flow(n).syn()));
    }
    assert_eq!(rig.notes().noted.len(), 1);
    rig.send(&FLOW.data())
        .forwarded_to(3, &[SlotMoving, NoteFollowed]);
    Ok(())
}

#[test]
fn where_there_is_no_room_for_notes_those_that_there_are_survive() -> Result<()> {
    let mut rig = moving(Setup {
        notes: 4,
        ..Setup::default()
    })?;
    for n in 0..8 {
        rig.send(&flow(n).syn())
            .forwarded_to(1, &[SlotMoving, NotePending]);
        rig.send(&flow(n).ack())
            .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    }
    rig.set(WEB_SLOT, slot(Phase::Moving, 4, 2, 3));
    rig.send(&flow(8).syn())
        .forwarded_to(4, &[SlotMoving, NotePending]);
    for _ in 0..3 {
        rig.send(&flow(8).ack())
            .forwarded_to(4, &[SlotMoving, NoteFollowed, NoteFull]);
    }
    let notes = rig.notes();
    assert_eq!((notes.noted.len(), notes.pending.len()), (8, 1), "{notes:?}");
    for n in 0..8 {
        rig.send(&flow(n).data())
            .forwarded_to(1, &[SlotMoving, NoteFollowed]);
    }
    Ok(())
}

#[test]
fn a_flow_is_its_client_its_ports_and_its_vip() -> Result<()> {
    let mut rig = moving(Setup::default())?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    rig.send(&FLOW.ack())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    rig.set(WEB_SLOT, slot(Phase::Moving, 4, 2, 3));
    for other in [
        FLOW.from(Ipv4Addr::new(203, 0, 113, 78)),
        FLOW.from(Ipv4Addr::new(77, 113, 0, 203)),
        Flow::new(40_002, WEB),
        Flow::new(0x419c, WEB),
    ] {
        rig.send(&other.syn()).forwarded_to(4, &[SlotMoving, NotePending]);
        rig.send(&other.ack())
            .forwarded_to(4, &[SlotMoving, NoteFollowed, NotePromoted]);
    }
    rig.send(&FLOW.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed]);

    // The same slot as a service of another id: a new life, of which nothing is noted.
    let another = [
        rig.service(VIP, WEB, TCP, WEB_ID + 100, WEB_SLOT, 1),
        rig.address(VIP, 3),
    ];
    rig.plane.set_services(&another)?;
    rig.send(&FLOW.syn()).forwarded_to(4, &[SlotMoving, NotePending]);
    assert_eq!(FLOW.client, CLIENT);
    Ok(())
}

#[test]
fn tcp_and_udp_on_one_port_are_two_services_with_notes_of_their_own() -> Result<()> {
    let mut rig = moving(Setup::default())?;
    let services = [
        rig.service(VIP, WEB, TCP, WEB_ID, WEB_SLOT, 1),
        rig.service(VIP, WEB, UDP, WEB_ID + 1, DNS_SLOT, 1),
        rig.address(VIP, 3),
    ];
    rig.plane.set_services(&services)?;
    rig.set(DNS_SLOT, slot(Phase::Moving, 6, 7, 8));
    rig.send(&FLOW.data()).forwarded_to(3, &[SlotMoving, NotePending]);
    rig.send(&FLOW.datagram())
        .forwarded_to(8, &[SlotMoving, NotePending]);
    for (frame, member) in [(FLOW.data(), 3), (FLOW.datagram(), 8)] {
        rig.send(&frame)
            .forwarded_to(member, &[SlotMoving, NoteFollowed, NotePromoted]);
    }
    assert_eq!(rig.notes().noted.len(), 2);
    Ok(())
}

#[test]
fn a_slot_whose_writer_was_killed_between_its_two_halves_is_seen() -> Result<()> {
    let mut rig = moving(Setup::default())?;
    let mut hot = hot_slots(&rig, WEB_SLOT + 1)?;
    assert!(rig.plane.is_slot_whole(WEB_SLOT));
    let element = WEB_SLOT / HOT_LANES;
    let shift = (WEB_SLOT % HOT_LANES) * 16;
    let lanes = hot.get(&element, 0)?;
    // The slot moves from 1 to 4, and its writer gets no further than the cold entry.
    hot.set(element, lanes & !(0xffff << shift) | 1 << shift, 0)?;
    assert!(!rig.plane.is_slot_whole(WEB_SLOT));
    rig.send(&FLOW.syn()).forwarded_to(1, &[]);
    let (held, since) = rig.plane.slot(WEB_SLOT);
    rig.plane.set_slot(WEB_SLOT, held, since);
    assert!(rig.plane.is_slot_whole(WEB_SLOT));
    Ok(())
}

/// The array of hot entries behind a rig, told from other programs' by what `index` holds.
fn hot_slots(rig: &Rig, index: u32) -> Result<Array<MapData, u64>> {
    let marker = 0x4000 | (std::process::id() as u16 & 0x3fff);
    rig.set(index, Slot::settled(marker));
    for map in loaded_maps() {
        let Ok(info) = map else { continue };
        if info.name_as_str() != Some("HOT_SLOTS") || info.max_entries() != hot_elements(SLOTS) {
            continue;
        }
        let array: Array<MapData, u64> = Map::Array(MapData::from_id(info.id())?).try_into()?;
        if lane(array.get(&(index / HOT_LANES), 0)?, index) == marker {
            return Ok(array);
        }
    }
    anyhow::bail!("no loaded map is the rig's HOT_SLOTS")
}

const fn lane(lanes: u64, index: u32) -> u16 {
    (lanes >> ((index % HOT_LANES) * 16)) as u16
}

/// The daemon writes the cold entry first, then the hot one: a packet in between sees a pair that do not fit.
#[test]
fn between_two_writes_a_packet_acts_as_if_a_moment_earlier_or_later() -> Result<()> {
    const MARKED: u32 = 255;
    let mut rig = Rig::new()?;
    let mut hot = hot_slots(&rig, MARKED)?;
    let mut write_hot = |member: u16| -> Result<()> {
        let shift = (WEB_SLOT % HOT_LANES) * 16;
        let element = WEB_SLOT / HOT_LANES;
        let others = hot.get(&element, 0)? & !(0xffff << shift);
        Ok(hot.set(element, others | u64::from(member) << shift, 0)?)
    };
    rig.set(WEB_SLOT, Slot::settled(4));
    write_hot(1 | UNSETTLED)?;
    for frame in [FLOW.syn(), FLOW.data(), FLOW.fin()] {
        rig.send(&frame).forwarded_to(4, &[]);
    }
    rig.set(WEB_SLOT, slot(Phase::Moving, 4, 2, 3));
    write_hot(1)?;
    rig.send(&FLOW.data()).forwarded_to(1, &[]);
    write_hot(1 | UNSETTLED)?;
    rig.send(&FLOW.syn())
        .forwarded_to(4, &[SlotMoving, Counter::NotePending]);
    Ok(())
}
