//! VIPs that read their hot slots in a table that they share, and stop doing so.

use anyhow::Result;
use foobar_common::counters::Counter::SlotMoved;
use foobar_common::slot::{Member, Phase, Slot};
use foobar_common::vip::Lanes;
use foobar_tests::packets::frame::{Flow, VIP};
use foobar_tests::packets::rig::{Rig, WIDE, WIDE_BASE, WIDE_ID, WIDE_SLOTS, slot};

const TWIN: u16 = 8444;
const TWIN_BASE: u32 = WIDE_BASE + WIDE_SLOTS;

/// Who slot n belongs to: members 1 to 3 of [`WIDE`], and 5 to 7 of [`TWIN`], by one pattern.
const fn owner(n: u32) -> Member {
    (n % 3 + 1) as Member
}

const APART: Member = 4;

/// Both services have settled slots, and read a table in which [`TWIN`]'s members stand. Of their own hot slots, those
/// are 8: whoever reads them is seen.
fn rig() -> Result<Rig> {
    let mut rig = Rig::new()?;
    let mut services = rig.services();
    services.push(rig.service(VIP, TWIN, 6, WIDE_ID + 1, TWIN_BASE, WIDE_SLOTS));
    let table = rig.plane.shared_slots().start;
    let owners: Vec<Member> = (0..WIDE_SLOTS).map(|n| owner(n) + APART).collect();
    rig.plane.set_shared_slots(table, &owners);
    for n in 0..2 * WIDE_SLOTS {
        rig.set(WIDE_BASE + n, Slot::settled(8));
    }
    for service in &mut services {
        service.lanes = match service.slot_base {
            WIDE_BASE => Lanes::new(table - WIDE_BASE, 0u16.wrapping_sub(APART)),
            TWIN_BASE => Lanes::new(table - TWIN_BASE, 0),
            _ => Lanes::OWN,
        };
    }
    rig.plane.set_services(&services)?;
    Ok(rig)
}

const fn flow(port: u16, nth: u16) -> Flow {
    Flow::new(20_000 + nth, port)
}

/// The slot that a flow has, counted from its service's first.
fn place(rig: &Rig, flow: Flow) -> u32 {
    flow.hash(rig.plane.flow_seed()) as u32 & (WIDE_SLOTS - 1)
}

#[test]
fn two_vips_read_one_table_each_as_its_own_members() -> Result<()> {
    let mut rig = rig()?;
    for nth in 0..200 {
        for (port, apart) in [(WIDE, 0), (TWIN, APART)] {
            let flow = flow(port, nth);
            let member = owner(place(&rig, flow)) + apart;
            rig.send(&flow.data()).forwarded_to(member, &[]);
            rig.send(&flow.syn()).forwarded_to(member, &[]);
        }
    }
    Ok(())
}

#[test]
fn a_vip_that_changes_reads_its_own_and_leaves_the_other_alone() -> Result<()> {
    let mut rig = rig()?;
    let services = rig.plane.services();
    let key = services.iter().find(|service| service.slot_base == WIDE_BASE);
    let key = key.expect("the service is in force").key;
    let moved = slot(Phase::Moved, 4, 1, 0);
    rig.plane.set_lanes(&key, Lanes::OWN);
    for n in 0..WIDE_SLOTS {
        rig.set(WIDE_BASE + n, if n % 2 == 0 { moved } else { Slot::settled(8) });
    }
    for nth in 0..200 {
        let own = flow(WIDE, nth);
        match place(&rig, own) % 2 {
            0 => rig.send(&own.data()).forwarded_to(4, &[SlotMoved]),
            _ => rig.send(&own.data()).forwarded_to(8, &[]),
        };
        let twin = flow(TWIN, nth);
        let member = owner(place(&rig, twin)) + APART;
        rig.send(&twin.data()).forwarded_to(member, &[]);
    }
    // What is in force says so too, for the daemon that comes next.
    let services = rig.plane.services();
    let own = services.iter().filter(|service| service.lanes == Lanes::OWN);
    assert_eq!(own.count(), services.len() - 1);
    Ok(())
}
