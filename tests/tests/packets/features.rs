//! The program is loaded with what is asked for, and has nothing of the rest in it.

use anyhow::Result;
use foobar_common::admission::{FEATURE_TRACKING, FEATURES_ALL};
use foobar_common::counters::Counter::{
    DropNoMember, NoteFollowed, NotePending, NotePromoted, SlotMoved, SlotMoving,
};
use foobar_common::slot::{NONE, Phase, Slot};
use foobar_common::vip::VIP_TRACK_NONE;
use foobar_tests::packets::frame::Flow;
use foobar_tests::packets::rig::{Rig, Setup, WEB, WEB_SLOT, slot};

#[test]
fn what_is_not_asked_for_is_not_in_the_program() -> Result<()> {
    let mut all = Rig::with_features(Setup::default(), FEATURES_ALL)?;
    let mut none = Rig::with_features(Setup::default(), 0)?;
    let (all, none) = (all.plane.translation()?, none.plane.translation()?);
    println!(
        "instructions: {} with all features, {} with none",
        all.instructions, none.instructions
    );
    assert!(none.instructions < all.instructions);
    assert!(none.maps.is_subset(&all.maps));
    let tunnels = "TOO_BIG_BUCKET";
    assert!(all.maps.contains(tunnels) && !none.maps.contains(tunnels));
    for map in ["SETTINGS", "VIPS", "HOT_SLOTS", "NOTES"] {
        assert!(none.maps.contains(map), "{map} is not among {:?}", none.maps);
    }
    Ok(())
}

#[test]
fn a_program_without_features_steers_all_the_same() -> Result<()> {
    let mut rig = Rig::with_features(Setup::default(), FEATURES_ALL & !FEATURE_TRACKING)?;
    rig.set(WEB_SLOT, Slot::settled(3));
    let mut services = rig.services();
    services[0].flags |= VIP_TRACK_NONE;
    rig.plane.set_services(&services)?;
    rig.send(&Flow::new(40_001, WEB).data()).forwarded_to(3, &[]);
    Ok(())
}

/// There the common way looks up notes itself.
#[test]
fn a_program_without_features_notes_flows_and_follows_the_notes() -> Result<()> {
    let mut rig = Rig::with_features(Setup::default(), 0)?;
    let (old, new, late) = (
        Flow::new(40_001, WEB),
        Flow::new(40_002, WEB),
        Flow::new(40_003, WEB),
    );
    rig.set(WEB_SLOT, slot(Phase::Moving, 1, 2, 3));
    rig.send(&old.data()).forwarded_to(3, &[SlotMoving, NotePending]);
    rig.send(&old.data())
        .forwarded_to(3, &[SlotMoving, NoteFollowed, NotePromoted]);
    rig.send(&new.syn()).forwarded_to(1, &[SlotMoving, NotePending]);
    rig.send(&new.ack())
        .forwarded_to(1, &[SlotMoving, NoteFollowed, NotePromoted]);
    rig.set(WEB_SLOT, slot(Phase::Moved, 4, 1, 3));
    rig.send(&old.data()).forwarded_to(3, &[SlotMoved, NoteFollowed]);
    rig.send(&new.data()).forwarded_to(1, &[SlotMoved, NoteFollowed]);
    rig.send(&late.data()).forwarded_to(4, &[SlotMoved]);
    rig.set(WEB_SLOT, slot(Phase::Moved, NONE, 1, 3));
    rig.send(&late.data()).dropped(&[SlotMoved, DropNoMember]);
    Ok(())
}
