//! The world that an episode begins with.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use foobar_common::slot::{Member, NONE, Phase, Slot};

use super::dice::Dice;
use crate::model::{Backend, Notes, Policy, Service, State, Table, Tracking, VipAddress, World};
use crate::packets::frame::{OTHER_VIP, OWN, PEER, STRANGER, VIP};
use crate::packets::frame_v6::{OTHER_VIP6, VIP6};
use crate::packets::rig::{TCP, UDP, backend_mac};

/// Members, from 1 on.
pub(super) const MEMBERS: Member = 10;
/// Slots that there is room for.
pub(super) const SLOTS: u32 = 1024;
/// Room for notes.
pub(super) const NOTES: u32 = 128;
/// Sets of pending notes.
pub(super) const SETS: u32 = 16;
/// The interface, besides the one that packets come in by, that frames can be redirected to: the loopback.
pub(super) const PORT: u32 = 1;
/// An interface that they can't be redirected to.
const NO_PORT: u32 = 999;

/// First and last port, protocol, table, tracking.
type Template = (u16, u16, u8, Table, Tracking);

const TEMPLATES: [Template; 15] = [
    (80, 80, TCP, Table::Flow, Tracking::Transitions),
    (443, 443, TCP, Table::Source, Tracking::Transitions),
    (53, 53, UDP, Table::Flow, Tracking::Transitions),
    (443, 443, UDP, Table::Source, Tracking::Transitions),
    (8443, 8443, TCP, Table::Flow, Tracking::All),
    (8444, 8444, TCP, Table::Flow, Tracking::Strict),
    (5353, 5353, UDP, Table::Flow, Tracking::All),
    (5354, 5354, UDP, Table::Source, Tracking::Strict),
    (9000, 9000, TCP, Table::Flow, Tracking::None),
    (9000, 9000, UDP, Table::Source, Tracking::None),
    (10_000, 10_099, TCP, Table::Flow, Tracking::Transitions),
    (10_050, 10_050, TCP, Table::Flow, Tracking::All),
    (10_100, 10_199, TCP, Table::Source, Tracking::Strict),
    (10_000, 10_099, UDP, Table::Source, Tracking::All),
    (65_000, 65_535, TCP, Table::Flow, Tracking::Transitions),
];

/// A world.
pub(super) fn world(dice: &mut Dice) -> World {
    let vips: [IpAddr; 4] = [VIP.into(), OTHER_VIP.into(), VIP6.into(), OTHER_VIP6.into()];
    let addresses: BTreeMap<_, _> = vips.iter().map(|&vip| (vip, address(dice))).collect();
    let services = services(dice, &vips);
    let used: u32 = services.iter().map(|service| service.slots).sum();
    World {
        own: OWN,
        peers: [PEER, [0x02, 0xba, 0x1a, 0, 0, 3], STRANGER][..1 + dice.below(2)].to_vec(),
        seed: [dice.word(), dice.word()],
        ports: vec![PORT],
        addresses,
        services,
        slots: (0..used).map(|_| slot(dice)).collect(),
        members: (1..=MEMBERS)
            .map(|member| (member, backend(dice, member)))
            .collect(),
        notes: Notes::new(NOTES as usize, SETS as usize),
        fragments: HashMap::new(),
    }
}

fn address(dice: &mut Dice) -> VipAddress {
    VipAddress {
        owned: dice.percent(75),
        policy: dice.pick(&[Policy::Drop, Policy::Reset]),
    }
}

fn services(dice: &mut Dice, vips: &[IpAddr]) -> Vec<Service> {
    let mut services = Vec::new();
    let mut base = 0;
    for &address in vips {
        for (first, last, protocol, table, tracking) in TEMPLATES {
            if dice.percent(20) {
                continue;
            }
            let slots = 1 << dice.below(5);
            services.push(Service {
                id: 100 + services.len() as u32,
                address,
                ports: first..=last,
                protocol,
                base,
                slots,
                table,
                tracking,
            });
            base += slots;
        }
    }
    services
}

/// Any member, or now and then nobody.
pub(super) fn member(dice: &mut Dice, nobody: usize) -> Member {
    if dice.percent(nobody) {
        NONE
    } else {
        1 + dice.below(usize::from(MEMBERS)) as Member
    }
}

/// Any slot.
pub(super) fn slot(dice: &mut Dice) -> Slot {
    let phase = match dice.below(10) {
        0..4 => Phase::Settled,
        4 => Phase::Open,
        5 | 6 => Phase::Moving,
        7 => Phase::Fresh,
        8 => Phase::Moved,
        _ => Phase::Kept,
    };
    Slot {
        current: member(dice, 5),
        previous: member(dice, 40),
        older: member(dice, 50),
        phase: phase as u16,
    }
}

/// Any state of a member.
pub(super) fn backend(dice: &mut Dice, member: Member) -> Backend {
    Backend {
        destination: backend_mac(member),
        source: OWN,
        resolved: dice.percent(93),
        interface: match dice.below(20) {
            0 | 1 => PORT,
            2 => NO_PORT,
            _ => 0,
        },
        state: match dice.below(10) {
            0 => State::Down,
            1 => State::Gone,
            2 => State::Drained,
            _ => State::Up,
        },
    }
}
