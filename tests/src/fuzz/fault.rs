//! Faults that are planted in what the program is given, for the model to find.

use foobar_common::slot::{Member, NONE, Slot};

use super::scene::MEMBERS;
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
    /// The program is one that was compiled without the check of IPv4's total length (the feature
    /// `planted-fault` of its crate).
    MissingLengthCheck,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::WrongSlot,
        Self::SwappedBackendMac,
        Self::SwappedOwnMac,
        Self::WrongSeed,
        Self::MissingLengthCheck,
    ];

    /// The slot that the program gets for the one that the world has at `index`, the first of a service.
    pub(super) fn slot(self, slot: Slot) -> Slot {
        match self {
            Self::WrongSlot if slot.current != NONE => Slot {
                current: 1 + slot.current % MEMBERS,
                ..slot
            },
            _ => slot,
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
