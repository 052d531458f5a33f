//! Slots that are not settled: who gets a packet, and what is noted, phase by phase.
//!
//! Every slot here has current 1, previous 2 and older 3, unless a test says otherwise: 3 owns flows without
//! a note while the slot moves.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use foobar_common::address::Address;
use foobar_common::counters::Counter::{
    self, NoteFollowed, NoteOverwritten, NotePending, NotePromoted, SlotKept, SlotMoved, SlotMoving, SlotOpen,
};
use foobar_common::note::{FlowKey, NOTE_ENDED, NOTE_PENDING, Note};
use foobar_common::slot::{Member, NONE, Phase};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_tests::packets::frame::{CLIENT, Flow};
use foobar_tests::packets::rig::{DNS, DNS_SLOT, Rig, Setup, WEB, WEB_ID, WEB_SLOT, slot};

const FLOW: Flow = Flow::new(40_001, WEB);
const QUESTION: Flow = Flow::new(40_002, DNS);

/// A rig whose slots are in a phase.
fn rig(phase: Phase) -> Result<Rig> {
    rig_of(phase, Setup::default())
}

fn rig_of(phase: Phase, setup: Setup) -> Result<Rig> {
    let rig = Rig::with(setup)?;
    enter(&rig, phase, 1);
    Ok(rig)
}

/// Puts the slots into a phase, with a current owner.
fn enter(rig: &Rig, phase: Phase, current: Member) {
    for index in [WEB_SLOT, DNS_SLOT] {
        rig.set(index, slot(phase, current, 2, 3));
    }
}

/// Makes the flow an established one of `member`, by its SYN and an ACK while `member` is current; the slots
/// are moving with current 1 again afterwards.
fn establish(rig: &mut Rig, flow: Flow, member: Member) {
    enter(rig, Phase::Moving, member);
    rig.send(&flow.syn())
        .forwarded_to(member, &[SlotMoving, NotePending]);
    rig.send(&flow.ack())
        .forwarded_to(member, &[SlotMoving, NoteFollowed, NotePromoted]);
    enter(rig, Phase::Moving, 1);
}

/// The only note in the map, which has to be [`FLOW`]'s.
fn note(rig: &mut Rig) -> Note {
    let notes = rig.notes();
    let [(key, note)] = notes.noted[..] else {
        panic!("one note expected: {notes:?}");
    };
    let expected = FlowKey {
        source: Address::from(CLIENT),
        source_port_be: FLOW.client_port.to_be(),
        destination_port_be: WEB.to_be(),
        vip: WEB_ID,
    };
    assert_eq!(key, expected);
    note
}

fn counter_of(phase: Phase) -> Counter {
    match phase {
        Phase::Open => SlotOpen,
        Phase::Moving => SlotMoving,
        Phase::Fresh | Phase::Moved => SlotMoved,
        Phase::Kept => SlotKept,
        Phase::Settled => panic!("a settled slot counts nothing"),
    }
}

const UNSETTLED: [Phase; 4] = [Phase::Open, Phase::Moving, Phase::Fresh, Phase::Moved];

#[test]
fn a_packet_without_a_note_goes_where_the_table_of_phases_says() -> Result<()> {
    use Phase::{Fresh, Moved, Moving, Open};
    // Phase; SYN, data, datagram: who gets it, and whether it is noted; FIN and RST: who gets them.
    for (phase, syn, data, datagram, end) in [
        (Open, (1, true), (1, false), (1, false), 1),
        (Moving, (1, true), (3, true), (3, true), 3),
        (Fresh, (1, true), (1, false), (1, true), 1),
        (Moved, (1, false), (1, false), (1, false), 1),
    ] {
        for (frame, (member, noted)) in [
            (FLOW.syn(), syn),
            (FLOW.ack(), data),
            (FLOW.data(), data),
            (FLOW.segment(&[], |t, _| (t.syn, t.ack) = (true, true)), data),
            (QUESTION.datagram(), datagram),
            (FLOW.fin(), (end, false)),
            (FLOW.rst(), (end, false)),
        ] {
            let mut rig = rig(phase)?;
            let counters: &[_] = if noted {
                &[counter_of(phase), NotePending]
            } else {
                &[counter_of(phase)]
            };
            rig.send(&frame).forwarded_to(member, counters);
            let notes = rig.notes();
            assert_eq!(notes.pending.len(), usize::from(noted), "{phase:?}");
            assert_eq!(notes.noted, []);
        }
    }
    Ok(())
}

#[test]
fn the_owner_of_flows_without_a_note_is_the_oldest_that_is_known() -> Result<()> {
    let mut rig = Rig::new()?;
    for (previous, older, owner) in [(2, 3, 3), (2, NONE, 2), (NONE, NONE, 1), (NONE, 3, 3)] {
        rig.set(WEB_SLOT, slot(Phase::Moving, 1, previous, older));
        rig.send(&FLOW.fin()).forwarded_to(owner, &[SlotMoving]);
    }
    Ok(())
}

#[test]
fn a_syn_is_noted_pending_and_its_flows_next_packet_promotes_the_note() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    let notes = rig.notes();
    assert_eq!(notes.noted, []);
    let [pending] = notes.pending[..] else {
        panic!("one pending note expected: {notes:?}");
    };
    assert_eq!((pending.member(), pending.slot()), (1, WEB_SLOT));

    rig.send(&FLOW.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    assert_eq!(rig.notes().pending, []);
    let noted = note(&mut rig);
    assert_eq!((noted.member, noted.flags), (1, 0));
    rig.send(&FLOW.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed]);
    Ok(())
}

#[test]
fn a_flow_that_is_older_than_the_change_stays_and_is_noted_so() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    rig.send(&FLOW.data()).forwarded_to(3, &[SlotMoving, NotePending]);
    rig.send(&FLOW.data())
        .forwarded_to(3, &[SlotMoving, NoteFollowed, NotePromoted]);
    enter(&rig, Phase::Moved, 1);
    rig.send(&FLOW.data()).forwarded_to(3, &[SlotMoved, NoteFollowed]);
    Ok(())
}

#[test]
fn a_retransmitted_syn_follows_its_pending_note_without_promoting_it() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    for phase in UNSETTLED {
        enter(&rig, phase, 4);
        rig.send(&FLOW.syn())
            .forwarded_to(1, &[counter_of(phase), NoteFollowed]);
    }
    let notes = rig.notes();
    assert_eq!((notes.pending.len(), notes.noted.len()), (1, 0));
    Ok(())
}

#[test]
fn a_noted_flow_stays_in_every_phase() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    establish(&mut rig, FLOW, 5);
    for phase in UNSETTLED {
        enter(&rig, phase, 1);
        for segment in [FLOW.ack(), FLOW.data(), FLOW.syn()] {
            rig.send(&segment)
                .forwarded_to(5, &[counter_of(phase), NoteFollowed]);
        }
    }
    Ok(())
}

#[test]
fn a_settled_slot_does_not_look_its_notes_up() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    establish(&mut rig, FLOW, 5);
    enter(&rig, Phase::Settled, 1);
    rig.send(&FLOW.data()).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn after_fin_or_rst_a_syn_on_the_tuple_goes_to_current_and_overwrites_the_note() -> Result<()> {
    for end in [FLOW.fin(), FLOW.rst()] {
        let mut rig = rig(Phase::Moving)?;
        establish(&mut rig, FLOW, 5);
        rig.send(&end).forwarded_to(5, &[SlotMoving, NoteFollowed]);
        assert_eq!(note(&mut rig).flags, NOTE_ENDED);
        rig.send(&FLOW.ack()).forwarded_to(5, &[SlotMoving, NoteFollowed]);
        assert_eq!(
            note(&mut rig).flags,
            NOTE_ENDED,
            "the last ACK does not reopen it"
        );

        rig.send(&FLOW.syn())
            .forwarded_to(1, &[SlotMoving, NoteOverwritten]);
        let noted = note(&mut rig);
        assert_eq!((noted.member, noted.flags), (1, NOTE_PENDING));
        enter(&rig, Phase::Moving, 4);
        rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NoteFollowed]);
        assert_eq!(note(&mut rig).flags, NOTE_PENDING);
        rig.send(&FLOW.ack()).forwarded_to(1, &[SlotMoving, NoteFollowed]);
        assert_eq!(note(&mut rig).flags, 0);
    }
    Ok(())
}

#[test]
fn a_fin_that_follows_a_pending_note_promotes_it_as_ended() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    rig.send(&FLOW.fin())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    assert_eq!(note(&mut rig).flags, NOTE_ENDED);
    Ok(())
}

#[test]
fn a_member_that_is_down_keeps_its_flows_and_loses_the_next_syn() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    establish(&mut rig, FLOW, 5);
    rig.set_target_flags(5, TARGET_DOWN);
    rig.send(&FLOW.data())
        .forwarded_to(5, &[SlotMoving, NoteFollowed]);
    rig.send(&FLOW.syn())
        .forwarded_to(1, &[SlotMoving, NoteOverwritten]);
    rig.send(&FLOW.ack()).forwarded_to(1, &[SlotMoving, NoteFollowed]);
    Ok(())
}

#[test]
fn a_syn_without_an_answer_leaves_a_member_that_goes_down() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    rig.set_target_flags(1, TARGET_DOWN);
    enter(&rig, Phase::Moving, 4);
    // What had an answer stays.
    rig.send(&FLOW.data())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    let mut rig = self::rig(Phase::Moving)?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    rig.set_target_flags(1, TARGET_DOWN);
    enter(&rig, Phase::Moving, 4);
    rig.send(&FLOW.syn())
        .forwarded_to(4, &[SlotMoving, NoteOverwritten]);
    rig.set_target_flags(1, 0);
    rig.send(&FLOW.syn()).forwarded_to(4, &[SlotMoving, NoteFollowed]);
    Ok(())
}

#[test]
fn notes_of_a_member_that_is_gone_do_not_count() -> Result<()> {
    for (phase, frame, member, counters) in [
        (Phase::Moving, FLOW.syn(), 1, &[SlotMoving, NoteOverwritten][..]),
        (Phase::Moved, FLOW.syn(), 1, &[SlotMoved, NoteOverwritten]),
        (Phase::Moving, FLOW.data(), 3, &[SlotMoving, NoteOverwritten]),
        (Phase::Moving, FLOW.fin(), 3, &[SlotMoving]),
        (Phase::Moved, FLOW.data(), 1, &[SlotMoved]),
        (Phase::Open, FLOW.data(), 1, &[SlotOpen]),
    ] {
        let mut rig = rig(Phase::Moving)?;
        establish(&mut rig, FLOW, 5);
        rig.set_target_flags(5, TARGET_GONE);
        enter(&rig, phase, 1);
        rig.send(&frame).forwarded_to(member, counters);
    }
    Ok(())
}

#[test]
fn a_pending_note_of_a_member_that_is_gone_is_overwritten() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    rig.set_target_flags(1, TARGET_GONE);
    enter(&rig, Phase::Moving, 4);
    rig.send(&FLOW.syn())
        .forwarded_to(4, &[SlotMoving, NoteOverwritten]);
    let notes = rig.notes();
    assert_eq!((notes.pending.len(), notes.pending[0].member()), (1, 4));
    Ok(())
}

#[test]
fn a_note_that_is_used_lives_and_one_that_is_idle_expires() -> Result<()> {
    const TICK: Duration = Duration::from_nanos(1 << 20);
    let setup = Setup {
        note_lifetime: 600,
        ..Setup::default()
    };
    let mut rig = rig_of(Phase::Moving, setup)?;
    establish(&mut rig, FLOW, 5);
    enter(&rig, Phase::Moved, 1);
    for _ in 0..8 {
        thread::sleep(TICK * 150);
        rig.send(&FLOW.data()).forwarded_to(5, &[SlotMoved, NoteFollowed]);
    }
    thread::sleep(TICK * 630);
    rig.send(&FLOW.data()).forwarded_to(1, &[SlotMoved]);
    rig.send(&FLOW.syn())
        .forwarded_to(1, &[SlotMoved, NoteOverwritten]);
    rig.send(&FLOW.data()).forwarded_to(1, &[SlotMoved, NoteFollowed]);
    Ok(())
}

/// A pending note knows its time to about a second, to its advantage.
#[test]
fn a_pending_note_expires_as_well() -> Result<()> {
    let setup = Setup {
        note_lifetime: 5,
        ..Setup::default()
    };
    let mut rig = rig_of(Phase::Moving, setup)?;
    rig.send(&FLOW.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    enter(&rig, Phase::Moving, 4);
    thread::sleep(Duration::from_millis(2_300));
    rig.send(&FLOW.syn())
        .forwarded_to(4, &[SlotMoving, NoteOverwritten]);
    Ok(())
}

#[test]
fn datagrams_are_noted_followed_and_promoted_like_segments() -> Result<()> {
    let mut rig = rig(Phase::Moving)?;
    rig.send(&QUESTION.datagram())
        .forwarded_to(3, &[SlotMoving, NotePending]);
    rig.send(&QUESTION.datagram())
        .forwarded_to(3, &[SlotMoving, NoteFollowed, NotePromoted]);
    for phase in UNSETTLED {
        enter(&rig, phase, 1);
        rig.send(&QUESTION.datagram())
            .forwarded_to(3, &[counter_of(phase), NoteFollowed]);
    }
    Ok(())
}

#[test]
fn a_member_that_is_down_or_gone_is_never_the_unnoted_owner_of_datagrams() -> Result<()> {
    for flag in [TARGET_DOWN, TARGET_GONE] {
        let mut rig = rig(Phase::Moving)?;
        rig.set_target_flags(3, flag);
        rig.send(&QUESTION.datagram())
            .forwarded_to(1, &[SlotMoving, NotePending]);
        rig.send(&FLOW.data()).forwarded_to(3, &[SlotMoving, NotePending]);
    }
    Ok(())
}
