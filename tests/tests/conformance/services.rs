//! Services besides the two of [`crate::family`]: ranges of ports, and other ways of choosing a slot and of
//! noting flows. Every VIP has them all, each service with slots of its own.

use foobar_common::slot::{Member, Slot};
use foobar_common::vip::{
    MAX_RANGES, VIP_CANDIDATES, VIP_LIST, VIP_LIST_ONLY, VIP_QUIC, VIP_SOURCE_HASH, VIP_STRICT,
    VIP_SYN_LIMIT, VIP_TRACK_ALL, VIP_TRACK_NONE, Vip, VipKey,
};
use foobar_tests::packets::rig::{Rig, TARGETS, TCP, UDP};

use crate::case::Step;
use crate::family::{Ends, Family};
use crate::{limits, lists, quic};

/// Ports of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// One port.
    One(u16),
    /// All from the first to the last.
    Range(u16, u16),
}

/// Slots of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slots {
    /// One, settled at this member.
    One(Member),
    /// [`MANY`], which name all members in turn.
    Many,
}

/// Slots of a service with [`Slots::Many`].
pub(crate) const MANY: u32 = 16;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its ports.
    pub(crate) ports: Ports,
    /// Its protocol number.
    pub(crate) protocol: u8,
    /// Its `VIP_*` bits.
    flags: u32,
    /// Its slots.
    slots: Slots,
    /// The first of them, counted from the family's first.
    first_slot: u32,
}

const fn one(port: u16, protocol: u8, flags: u32, slots: Slots, first_slot: u32) -> Service {
    Service {
        ports: Ports::One(port),
        protocol,
        flags,
        slots,
        first_slot,
    }
}

const fn range(first: u16, last: u16, protocol: u8, member: Member, first_slot: u32) -> Service {
    Service {
        ports: Ports::Range(first, last),
        protocol,
        flags: 0,
        slots: Slots::One(member),
        first_slot,
    }
}

/// Many slots; a flow's ports and source choose one.
pub(crate) const SPREAD: Service = one(8000, TCP, 0, Slots::Many, 0);
/// Many slots; a flow's source alone chooses one.
pub(crate) const BY_SOURCE: Service = one(8001, TCP, VIP_SOURCE_HASH, Slots::Many, 16);
/// As [`BY_SOURCE`], for UDP.
pub(crate) const BY_SOURCE_UDP: Service = one(8001, UDP, VIP_SOURCE_HASH, Slots::Many, 32);
/// Tracking none.
pub(crate) const UNTRACKED: Service = one(8002, TCP, VIP_TRACK_NONE, Slots::One(1), 48);
/// Tracking none, for UDP.
pub(crate) const UNTRACKED_UDP: Service = one(8002, UDP, VIP_TRACK_NONE, Slots::One(1), 49);
/// Tracking all.
pub(crate) const TRACKED: Service = one(8003, TCP, VIP_TRACK_ALL, Slots::One(1), 50);
/// Tracking all, for UDP.
pub(crate) const TRACKED_UDP: Service = one(8003, UDP, VIP_TRACK_ALL, Slots::One(1), 51);
/// Tracking all, and strict.
pub(crate) const STRICT: Service = one(8004, TCP, VIP_TRACK_ALL | VIP_STRICT, Slots::One(1), 52);
/// Tracking all, and strict, for UDP.
pub(crate) const STRICT_UDP: Service = one(8004, UDP, VIP_TRACK_ALL | VIP_STRICT, Slots::One(1), 53);
/// A range.
pub(crate) const RANGE: Service = range(30_000, 30_009, TCP, 2, 54);
/// A range of the same ports, for UDP.
pub(crate) const RANGE_UDP: Service = range(30_000, 30_009, UDP, 3, 55);
/// The range behind it.
pub(crate) const NEXT_RANGE: Service = range(30_010, 30_019, TCP, 4, 56);
/// A port in the midst of [`RANGE`] that has a service of its own.
pub(crate) const INSIDE: Service = one(30_005, TCP, 0, Slots::One(5), 57);
/// A range of a single port.
pub(crate) const NARROW: Service = range(31_000, 31_000, TCP, 6, 58);
/// The range of the highest ports.
pub(crate) const HIGHEST: Service = range(65_530, 65_535, TCP, 7, 59);
/// The last range that an address can have.
pub(crate) const SIXTEENTH: Service = range(4990, 4999, TCP, 8, 60);

/// Packets carry their slot's earlier owners.
pub(crate) const CHANCE: Service = one(8010, TCP, SECOND_CHANCE, Slots::One(1), 62);
/// As [`CHANCE`], for UDP.
pub(crate) const CHANCE_UDP: Service = one(8010, UDP, SECOND_CHANCE, Slots::One(1), 63);
/// As [`CHANCE`], a range.
pub(crate) const CHANCE_RANGE: Service = range(32_000, 32_009, TCP, 1, 64).with(SECOND_CHANCE);
/// Connection ids of QUIC are followed: server ids of 4 bytes.
pub(crate) const QUIC: Service = one(4430, UDP, VIP_QUIC, Slots::One(1), 65);
/// The same with server ids of a single byte.
pub(crate) const QUIC_SHORT: Service = one(4431, UDP, VIP_QUIC, Slots::One(1), 66);
/// The same with the longest ones.
pub(crate) const QUIC_LONG: Service = one(4438, UDP, VIP_QUIC, Slots::One(1), 67);
/// As [`QUIC`], a range.
pub(crate) const QUIC_RANGE: Service = range(33_000, 33_009, UDP, 1, 68).with(VIP_QUIC);
/// As [`QUIC`]; a flow's source alone chooses its slot.
pub(crate) const QUIC_BY_SOURCE: Service = one(4432, UDP, VIP_QUIC | VIP_SOURCE_HASH, Slots::One(1), 69);
/// As [`QUIC`] and [`CHANCE`].
pub(crate) const QUIC_CHANCE: Service = one(4433, UDP, VIP_QUIC | SECOND_CHANCE, Slots::One(1), 70);
/// As [`QUIC`] and [`LISTED`].
pub(crate) const QUIC_LISTED: Service = one(4434, UDP, VIP_QUIC | VIP_LIST, Slots::One(1), 71);
/// A source list that names whom it denies, and exceptions.
pub(crate) const LISTED: Service = one(8020, TCP, VIP_LIST, Slots::One(1), 72);
/// As [`LISTED`], for UDP.
pub(crate) const LISTED_UDP: Service = one(8020, UDP, VIP_LIST, Slots::One(1), 73);
/// A source list that names whom it serves.
pub(crate) const ONLY: Service = one(8021, TCP, VIP_LIST | VIP_LIST_ONLY, Slots::One(1), 74);
/// As [`ONLY`], for UDP.
pub(crate) const ONLY_UDP: Service = one(8021, UDP, VIP_LIST | VIP_LIST_ONLY, Slots::One(1), 75);
/// As [`LISTED`], a range.
pub(crate) const LISTED_RANGE: Service = range(34_000, 34_009, TCP, 1, 76).with(VIP_LIST);
/// As [`LISTED`] and [`CHANCE`].
pub(crate) const LISTED_CHANCE: Service = one(8022, TCP, VIP_LIST | SECOND_CHANCE, Slots::One(1), 77);
/// New connections of all sources together are limited.
pub(crate) const LIMITED: Service = one(8030, TCP, VIP_SYN_LIMIT, Slots::One(1), 78);
/// Those of each source are.
pub(crate) const SOURCE_LIMITED: Service = one(8031, TCP, VIP_SYN_LIMIT, Slots::One(1), 79);
/// Both are.
pub(crate) const BOTH_LIMITED: Service = one(8032, TCP, VIP_SYN_LIMIT, Slots::One(1), 80);
/// As [`LIMITED`], a range.
pub(crate) const LIMITED_RANGE: Service = range(35_000, 35_009, TCP, 1, 81).with(VIP_SYN_LIMIT);
/// As [`LIMITED`] and [`LISTED`].
pub(crate) const LIMITED_LISTED: Service = one(8033, TCP, VIP_SYN_LIMIT | VIP_LIST, Slots::One(1), 82);

/// What second chance asks for.
const SECOND_CHANCE: u32 = VIP_CANDIDATES | VIP_TRACK_NONE;

const FIRST_SLOT: u32 = 128;
const SLOTS_OF_A_FAMILY: u32 = 128;
const FIRST_ID: u32 = 1000;

/// All services, in the order in which an address names its ranges.
pub(crate) fn all() -> Vec<Service> {
    let mut all = vec![
        SPREAD,
        BY_SOURCE,
        BY_SOURCE_UDP,
        UNTRACKED,
        UNTRACKED_UDP,
        TRACKED,
        TRACKED_UDP,
        STRICT,
        STRICT_UDP,
        RANGE,
        RANGE_UDP,
        NEXT_RANGE,
        INSIDE,
        NARROW,
        HIGHEST,
        CHANCE,
        CHANCE_UDP,
        CHANCE_RANGE,
        QUIC,
        QUIC_SHORT,
        QUIC_LONG,
        QUIC_RANGE,
        QUIC_BY_SOURCE,
        QUIC_CHANCE,
        QUIC_LISTED,
        LISTED,
        LISTED_UDP,
        ONLY,
        ONLY_UDP,
        LISTED_RANGE,
        LISTED_CHANCE,
        LIMITED,
        SOURCE_LIMITED,
        BOTH_LIMITED,
        LIMITED_RANGE,
        LIMITED_LISTED,
    ];
    let is_range = |service: &&Service| matches!(service.ports, Ports::Range(..));
    for nth in all.iter().filter(is_range).count()..MAX_RANGES - 1 {
        let first = 4000 + nth as u16 * 20;
        all.push(range(first, first + 9, TCP, 1, 61));
    }
    all.push(SIXTEENTH);
    all
}

impl Service {
    /// The index of its first slot.
    pub(crate) const fn slot(self, family: Family) -> u32 {
        FIRST_SLOT
            + self.first_slot
            + match family {
                Family::V4 => 0,
                Family::V6 => SLOTS_OF_A_FAMILY,
            }
    }

    /// A flow of the client's to its first port.
    pub(crate) const fn flow(self, family: Family) -> Ends {
        family.flow_to(match self.ports {
            Ports::One(port) | Ports::Range(port, _) => port,
        })
    }

    /// Its first slot is settled at a member.
    pub(crate) const fn at(self, family: Family, member: Member) -> Step {
        Step::Slot(self.slot(family), Slot::settled(member))
    }

    /// The same with `VIP_*` bits.
    const fn with(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    /// Whether it has one of some `VIP_*` bits.
    pub(crate) const fn has(self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Its id.
    pub(crate) fn id(self, family: Family) -> u32 {
        let place = all().iter().position(|&service| service == self);
        first_id(family) + place.expect("one of all") as u32
    }

    /// Its entry in the VIP table.
    fn entry(self, family: Family, rig: &Rig, id: u32) -> Vip {
        let address = family.vip();
        let count = match self.slots {
            Slots::One(_) => 1,
            Slots::Many => MANY,
        };
        let port = match self.ports {
            Ports::One(port) | Ports::Range(port, _) => port,
        };
        let mut entry = rig.service(address, port, self.protocol, id, self.slot(family), count);
        entry.flags |= self.flags;
        (entry.server_id_length, entry.quic_config) = (quic::length(self) as u8, quic::CONFIG);
        (entry.list, entry.limit) = (lists::of(self), limits::of(self, family));
        if let Ports::Range(first, last) = self.ports {
            entry.key = VipKey::range(address.into(), first.to_be(), last.to_be(), self.protocol);
        }
        entry
    }

    fn settle(self, family: Family, rig: &Rig) {
        let first = self.slot(family);
        match self.slots {
            Slots::One(member) => rig.set(first, Slot::settled(member)),
            Slots::Many => {
                for nth in 0..MANY {
                    let member = (nth % u32::from(TARGETS)) as Member + 1;
                    rig.set(first + nth, Slot::settled(member));
                }
            }
        }
    }
}

const fn first_id(family: Family) -> u32 {
    match family {
        Family::V4 => FIRST_ID,
        Family::V6 => FIRST_ID + 100,
    }
}

/// The entries of a VIP's services.
pub(crate) fn entries(family: Family, rig: &Rig) -> Vec<Vip> {
    all()
        .into_iter()
        .zip(first_id(family)..)
        .map(|(service, id)| service.entry(family, rig, id))
        .collect()
}

/// Settles every slot at the member that its service names.
pub(crate) fn settle(family: Family, rig: &Rig) {
    for service in all() {
        service.settle(family, rig);
    }
}
