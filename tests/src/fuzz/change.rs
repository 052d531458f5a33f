//! What happens to a world between two packets.

use std::net::IpAddr;

use foobar_common::slot::{Member, Slot};

use super::dice::Dice;
use super::scene;
use crate::model::{Backend, World};

/// A change of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A slot gets other owners, or another phase.
    Slot(u32, Slot),
    /// A member's state or next hop changes.
    Member(Member, Backend),
    /// A VIP's address comes or goes.
    Owned(IpAddr, bool),
}

impl Change {
    /// Any change.
    pub(super) fn of(dice: &mut Dice, world: &World) -> Self {
        match dice.below(10) {
            0..6 => {
                let index = dice.below(world.slots.len());
                let held = world.slots[index];
                // Most changes are a phase's end or another owner, as the daemon makes them.
                let slot = match dice.below(3) {
                    0 => Slot {
                        phase: scene::slot(dice).phase,
                        ..held
                    },
                    1 => Slot {
                        current: scene::member(dice, 5),
                        previous: held.current,
                        ..held
                    },
                    _ => scene::slot(dice),
                };
                Self::Slot(index as u32, slot)
            }
            6..9 => {
                let member = scene::member(dice, 0);
                Self::Member(member, scene::backend(dice, member))
            }
            _ => {
                let addresses: Vec<_> = world.addresses.keys().copied().collect();
                Self::Owned(dice.pick(&addresses), dice.percent(75))
            }
        }
    }

    /// Makes it.
    pub(super) fn apply(self, world: &mut World) {
        match self {
            Self::Slot(index, slot) => world.slots[index as usize] = slot,
            Self::Member(member, backend) => {
                world.members.insert(member, backend);
            }
            Self::Owned(address, owned) => {
                if let Some(vip) = world.addresses.get_mut(&address) {
                    vip.owned = owned;
                }
            }
        }
    }
}
