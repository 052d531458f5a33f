//! The world that an episode begins with.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foobar_common::admission::{
    FEATURE_LISTS, FEATURE_QUIC, FEATURE_SYN_LIMITS, FEATURE_TRACKING, FEATURE_TUNNELS, Features,
};
use foobar_common::slot::{Member, NONE, Phase, Slot};

use super::dice::Dice;
use super::{admission, quic};
use crate::model::{
    Backend, Bucket, Forward, Moment, Notes, OuterSource, Policy, Service, State, Table, Tracking,
    VipAddress, World,
};
use crate::packets::frame::{OTHER_VIP, OWN, PEER, STRANGER, VIP};
use crate::packets::frame_v6::{OTHER_VIP6, VIP6};
use crate::packets::rig::{TCP, UDP, backend_mac};

/// Members, from 1 on.
pub(super) const MEMBERS: Member = 10;
/// Slots that there is room for.
pub(super) const SLOTS: u32 = 1024;
/// Notes that there is room for, as a rule.
pub(super) const NOTES: u32 = 32;
/// Sets of pending notes.
pub(super) const SETS: u32 = 16;
/// The interface, besides the one that packets come in by, that frames can be redirected to: the loopback.
pub(super) const PORT: u32 = 1;
/// An interface that they can't be redirected to.
const NO_PORT: u32 = 999;
/// Buckets that sources share.
pub(super) const SOURCE_BUCKETS: u32 = 64;

/// What a world is about: of a hundred members or services, how many have something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Theme {
    /// Services that may note all flows or none.
    tracking: usize,
    /// Members that are reached through tunnels.
    tunnels: usize,
    /// Services with second chance.
    chances: usize,
    /// UDP services that look at connection ids.
    quic: usize,
    /// Services with a source list.
    lists: usize,
    /// Services that limit new connections.
    limits: usize,
}

/// Nothing but frames and notes.
const PLAIN: Theme = Theme {
    tracking: 100,
    tunnels: 0,
    chances: 0,
    quic: 0,
    lists: 0,
    limits: 0,
};

const THEMES: [Theme; 6] = [
    PLAIN,
    Theme { tunnels: 85, ..PLAIN },
    Theme {
        tunnels: 90,
        chances: 75,
        ..PLAIN
    },
    Theme {
        quic: 90,
        tunnels: 20,
        ..PLAIN
    },
    Theme {
        lists: 60,
        limits: 60,
        ..PLAIN
    },
    Theme {
        tracking: 100,
        tunnels: 50,
        chances: 40,
        quic: 70,
        lists: 30,
        limits: 30,
    },
];

impl Theme {
    /// One of them, as far as a program with these features knows it.
    fn of(dice: &mut Dice, features: Features) -> Self {
        let theme = dice.pick(&THEMES);
        let with = |feature: Features, percent: usize| {
            if features & feature == feature { percent } else { 0 }
        };
        Self {
            tracking: with(FEATURE_TRACKING, theme.tracking),
            tunnels: with(FEATURE_TUNNELS, theme.tunnels),
            chances: with(FEATURE_TUNNELS | FEATURE_TRACKING, theme.chances),
            quic: with(FEATURE_QUIC, theme.quic),
            lists: with(FEATURE_LISTS, theme.lists),
            limits: with(FEATURE_SYN_LIMITS, theme.limits),
        }
    }
}

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

/// A world that a program with these features can have.
pub(super) fn world(dice: &mut Dice, features: Features) -> World {
    let theme = Theme::of(dice, features);
    let vips: [IpAddr; 4] = [VIP.into(), OTHER_VIP.into(), VIP6.into(), OTHER_VIP6.into()];
    let addresses: BTreeMap<_, _> = vips.iter().map(|&vip| (vip, address(dice))).collect();
    let services = services(dice, &vips, theme);
    let slots = services
        .iter()
        .flat_map(|service| (0..service.slots).map(|_| service.second_chance))
        .map(|second_chance| slot(dice, second_chance))
        .collect();
    let ways = ways(dice, theme);
    World {
        own: OWN,
        peers: [PEER, [0x02, 0xba, 0x1a, 0, 0, 3], STRANGER][..1 + dice.below(2)].to_vec(),
        seed: [dice.word(), dice.word()],
        ports: vec![PORT],
        addresses,
        slots,
        members: (1..=MEMBERS)
            .zip(ways)
            .map(|(member, way)| (member, backend(dice, member, way)))
            .collect(),
        notes: Notes::new(NOTES as usize / 4, SETS as usize),
        fragments: HashMap::new(),
        outer: outer(dice),
        server_ids: quic::server_ids(dice, &services),
        lists: admission::lists(dice, &services),
        services,
        limits: BTreeMap::new(),
        source_buckets: vec![Bucket::default(); SOURCE_BUCKETS as usize],
        answers: Bucket::default(),
        moment: Moment::default(),
    }
}

fn address(dice: &mut Dice) -> VipAddress {
    VipAddress {
        owned: dice.percent(75),
        policy: dice.pick(&[Policy::Drop, Policy::Reset]),
    }
}

fn services(dice: &mut Dice, vips: &[IpAddr], theme: Theme) -> Vec<Service> {
    let mut services = Vec::new();
    let mut base = 0;
    for &address in vips {
        for (first, last, protocol, table, tracking) in TEMPLATES {
            if dice.percent(20) {
                continue;
            }
            let slots = 1 << dice.below(5);
            let second_chance = dice.percent(theme.chances);
            let nth = services.len();
            services.push(Service {
                id: 100 + nth as u32,
                address,
                ports: first..=last,
                protocol,
                base,
                slots,
                table,
                tracking: match tracking {
                    _ if second_chance => Tracking::None,
                    tracking if dice.percent(theme.tracking) => tracking,
                    _ => Tracking::Transitions,
                },
                second_chance,
                quic: (protocol == UDP && dice.percent(theme.quic)).then(|| quic::connection_ids(dice)),
                list: dice.percent(theme.lists).then(|| dice.below(admission::LISTS)),
                limit: (protocol == TCP && dice.percent(theme.limits))
                    .then(|| admission::limit(dice, nth as u16)),
            });
            base += slots;
        }
    }
    services
}

/// How a member is reached: what packets go to it in, its address, and the longest packet on the way.
pub(super) type Way = (Forward, IpAddr, u16);

/// The ways to all members. Most of a world's outer headers are of one family: candidates have to be.
fn ways(dice: &mut Dice, theme: Theme) -> Vec<Way> {
    let over_v4 = dice.pick(&[0, 10, 50, 90, 100]);
    let mtu = dice.pick(&[1280, 1400, 1500, 1500, 9216]);
    let with_chances = theme.chances != 0;
    (1..=MEMBERS)
        .map(|member| {
            let forward = match dice.below(10) {
                _ if !dice.percent(theme.tunnels) => Forward::Frame,
                0..8 if with_chances => Forward::Gue,
                0..5 => Forward::Gue,
                _ => Forward::IpInIp,
            };
            let address: IpAddr = if dice.percent(over_v4) {
                Ipv4Addr::new(203, 0, 113, 128 + member as u8).into()
            } else {
                Ipv6Addr::new(0x2001, 0xdb8, 0xb, member, 0xfedc, 0, 0, 0x100 + member).into()
            };
            let mtu = if dice.percent(80) {
                mtu
            } else {
                dice.pick(&[1280, 1281, 1499])
            };
            (forward, address, mtu)
        })
        .collect()
}

/// Sources of every breadth.
fn outer(dice: &mut Dice) -> OuterSource {
    OuterSource {
        v4: (
            Ipv4Addr::new(192, 0, 2, 64 | dice.byte() & 63),
            dice.pick(&[24, 26, 27, 31, 32, 32]),
        ),
        v6: (
            Ipv6Addr::new(0x2001, 0xdb8, 0x7f, 0x80, 0, 0, 0, 0x77),
            dice.pick(&[48, 57, 64, 65, 96, 112, 127, 128, 128]),
        ),
        gue_port: dice.pick(&[6080, 6080, 6081, 65_535]),
    }
}

/// Any member, or now and then nobody.
pub(super) fn member(dice: &mut Dice, nobody: usize) -> Member {
    if dice.percent(nobody) {
        NONE
    } else {
        1 + dice.below(usize::from(MEMBERS)) as Member
    }
}

/// Any slot; of a service with second chance, one that the daemon may leave.
pub(super) fn slot(dice: &mut Dice, second_chance: bool) -> Slot {
    let phase = match dice.below(10) {
        0..7 if second_chance => Phase::Kept,
        0..4 => Phase::Settled,
        4 => Phase::Open,
        5 | 6 => Phase::Moving,
        7 => Phase::Fresh,
        8 if second_chance => Phase::Settled,
        8 => Phase::Moved,
        _ => Phase::Kept,
    };
    let nobody = if second_chance { 15 } else { 40 };
    let slot = Slot {
        current: member(dice, 5),
        previous: member(dice, nobody),
        older: member(dice, nobody + 10),
        phase: phase as u16,
    };
    if second_chance { compact(slot) } else { slot }
}

/// The slot with `older` only behind a `previous`, as slots with second chance have it.
pub(super) const fn compact(slot: Slot) -> Slot {
    if slot.previous == NONE {
        Slot {
            previous: slot.older,
            older: NONE,
            ..slot
        }
    } else {
        slot
    }
}

/// Any state of a member that is reached in this way.
pub(super) fn backend(dice: &mut Dice, member: Member, (forward, address, mtu): Way) -> Backend {
    Backend {
        destination: backend_mac(member),
        source: OWN,
        resolved: dice.percent(93),
        interface: match dice.below(20) {
            0 | 1 => PORT,
            2 => NO_PORT,
            _ => 0,
        },
        state: match dice.below(20) {
            0 | 1 => State::Down,
            2 | 3 => State::Gone,
            4 | 5 => State::Drained,
            6 => State::Removed,
            7 => State::Cut,
            _ => State::Up,
        },
        forward,
        address,
        mtu,
    }
}
