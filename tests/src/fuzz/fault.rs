//! Faults that are planted in the program or in what it is given, for the model to find.

use foobar::dataplane::ListEntry;
use foobar_common::admission::{
    Features, LIST_ALLOW, LIST_DENY, PLANTED_DEAD_SERVER_ID, PLANTED_LENGTH_CHECK, PLANTED_OUTER_LENGTH,
};
use foobar_common::slot::{Member, NONE, Slot};

use super::scene::MEMBERS;
use crate::model::Service;
use crate::packets::frame::Mac;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One slot of each service names another member.
    WrongSlot,
    /// Two bytes of a backend's MAC address are swapped.
    SwappedBackendMac,
    /// Two bytes of the balancer's own MAC address are swapped.
    SwappedOwnMac,
    /// One bit of the flow hash's seed is another.
    WrongSeed,
    /// A service whose slots change goes on reading those that it shared.
    StaleSlots,
    /// The earlier owners of slots with second chance are in the wrong order.
    CandidateOrder,
    /// A source list serves whom one of its prefixes denies.
    DeniedSource,
    /// The program is one that was compiled without the check of IPv4's total length (as the following: the feature
    /// `planted-fault` of its crate).
    MissingLengthCheck,
    /// An outer header's length is one byte too much.
    OuterLength,
    /// Server ids are followed to members that don't live.
    DeadServerId,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::WrongSlot,
        Self::SwappedBackendMac,
        Self::SwappedOwnMac,
        Self::WrongSeed,
        Self::StaleSlots,
        Self::CandidateOrder,
        Self::DeniedSource,
        Self::MissingLengthCheck,
        Self::OuterLength,
        Self::DeadServerId,
    ];

    /// What has to be among the features of the program that has it; 0, where the program is sound.
    pub(super) const fn planted(self) -> Features {
        match self {
            Self::MissingLengthCheck => PLANTED_LENGTH_CHECK,
            Self::OuterLength => PLANTED_OUTER_LENGTH,
            Self::DeadServerId => PLANTED_DEAD_SERVER_ID,
            Self::WrongSlot
            | Self::SwappedBackendMac
            | Self::SwappedOwnMac
            | Self::WrongSeed
            | Self::StaleSlots
            | Self::CandidateOrder
            | Self::DeniedSource => 0,
        }
    }

    /// The slot that the program gets for the one that the world has at `index`, one of a service's.
    pub(super) const fn slot(self, service: &Service, index: u32, slot: Slot) -> Slot {
        match self {
            Self::WrongSlot if service.base == index && slot.current != NONE => Slot {
                current: 1 + slot.current % MEMBERS,
                ..slot
            },
            Self::CandidateOrder if service.second_chance && slot.older != NONE => Slot {
                previous: slot.older,
                older: slot.previous,
                ..slot
            },
            _ => slot,
        }
    }

    /// What becomes of a source list on its way to the program.
    pub(super) fn list(self, entries: &mut [ListEntry]) {
        let mut denying = entries.iter_mut().filter(|entry| entry.verdict == LIST_DENY);
        if let (Self::DeniedSource, Some(entry)) = (self, denying.next()) {
            entry.verdict = LIST_ALLOW;
        }
    }

    /// The MAC address that the program gets for a member's.
    pub(super) fn backend(self, member: Member, mac: Mac) -> Mac {
        match (self, member) {
            (Self::SwappedBackendMac, 1) => swapped(mac),
            _ => mac,
        }
    }

    /// The MAC address that the program gets for its own.
    pub(super) fn own(self, mac: Mac) -> Mac {
        match self {
            Self::SwappedOwnMac => swapped(mac),
            _ => mac,
        }
    }

    /// The seed that the program gets.
    pub(super) fn seed(self, seed: [u64; 2]) -> [u64; 2] {
        match self {
            Self::WrongSeed => [seed[0] ^ 1, seed[1]],
            _ => seed,
        }
    }
}

fn swapped(mut mac: Mac) -> Mac {
    mac.swap(4, 5);
    mac
}
