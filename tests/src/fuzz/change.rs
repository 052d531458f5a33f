//! What happens to a world between two packets.

use std::net::IpAddr;

use foobar_common::slot::{Member, Slot};

use super::dice::Dice;
use super::{admission, scene};
use crate::model::{Backend, Limit, SourceList, World};

/// Changes of a hundred that are of lists and limits, where there are any; some of them take the kernel its time.
const ADMISSION: usize = 3;

/// A change of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A slot gets other owners, or another phase.
    Slot(u32, Slot),
    /// A member's state or next hop changes.
    Member(Member, Backend),
    /// A VIP's address comes or goes.
    Owned(IpAddr, bool),
    /// A server id of a service is another member's, or nobody's.
    ServerId(u32, Vec<u8>, Option<Member>),
    /// A source list is another one.
    List(usize, SourceList),
    /// A service's limit has other rates, and a full bucket.
    Limit(usize, Limit),
    /// A service has another source list or none, and another limit or none.
    Admission(usize, Option<usize>, Option<Limit>),
}

impl Change {
    /// Any change.
    pub(super) fn of(dice: &mut Dice, world: &World) -> Self {
        if !world.server_ids.is_empty() && dice.percent(10) {
            return Self::server_id(dice, world);
        }
        if dice.percent(ADMISSION)
            && let Some(change) = Self::admission(dice, world)
        {
            return change;
        }
        match dice.below(10) {
            0..6 => {
                let index = dice.below(world.slots.len());
                let held = world.slots[index];
                let second_chance = world
                    .services
                    .iter()
                    .any(|service| service.second_chance && service.has(index as u32));
                // Most changes are a phase's end or another owner, as the daemon makes them.
                let slot = match dice.below(3) {
                    0 => Slot {
                        phase: scene::slot(dice, second_chance).phase,
                        ..held
                    },
                    1 => Slot {
                        current: scene::member(dice, 5),
                        previous: held.current,
                        ..held
                    },
                    _ => scene::slot(dice, second_chance),
                };
                let slot = if second_chance { scene::compact(slot) } else { slot };
                Self::Slot(index as u32, slot)
            }
            6..9 => {
                let member = scene::member(dice, 0);
                // Where it is stays as it is, but for what the way there takes.
                let held = world.members[&member];
                let mtu = if dice.percent(20) {
                    dice.pick(&[1280, 1500, 9216])
                } else {
                    held.mtu
                };
                let way = (held.forward, held.address, mtu);
                Self::Member(member, scene::backend(dice, member, way))
            }
            _ => {
                let addresses: Vec<_> = world.addresses.keys().copied().collect();
                Self::Owned(dice.pick(&addresses), dice.percent(75))
            }
        }
    }

    fn server_id(dice: &mut Dice, world: &World) -> Self {
        let mut ids: Vec<_> = world.server_ids.keys().collect();
        ids.sort_unstable();
        let (service, id) = ids[dice.below(ids.len())].clone();
        // The last one stays, so that there are more changes.
        let goes = ids.len() > 1 && dice.percent(20);
        Self::ServerId(service, id, (!goes).then(|| scene::member(dice, 0)))
    }

    /// Of the admission that a world has.
    fn admission(dice: &mut Dice, world: &World) -> Option<Self> {
        let lists = world.lists.len();
        if world.services.is_empty() {
            return None;
        }
        let nth = dice.below(world.services.len());
        let service = &world.services[nth];
        match (service.limit, dice.below(3)) {
            (_, 0) if lists > 0 => {
                let place = dice.below(lists);
                // What becomes of sources that it doesn't name is its services' entry.
                let others = world.lists[place].others;
                let list = SourceList {
                    others,
                    ..admission::list(dice)
                };
                Some(Self::List(place, list))
            }
            (Some(limit), 1) => Some(Self::Limit(nth, admission::limit(dice, limit.index))),
            (limit, 2) if lists > 0 || limit.is_some() => Some(Self::Admission(
                nth,
                (lists > 0 && dice.percent(60)).then(|| dice.below(lists)),
                limit
                    .filter(|_| dice.percent(60))
                    .map(|limit| admission::limit(dice, limit.index)),
            )),
            _ => None,
        }
    }

    /// Makes it.
    pub(super) fn apply(&self, world: &mut World) {
        match self {
            &Self::Slot(index, slot) => world.slots[index as usize] = slot,
            &Self::Member(member, backend) => {
                world.members.insert(member, backend);
            }
            Self::Owned(address, owned) => {
                if let Some(vip) = world.addresses.get_mut(address) {
                    vip.owned = *owned;
                }
            }
            Self::ServerId(service, id, Some(member)) => {
                world.server_ids.insert((*service, id.clone()), *member);
            }
            Self::ServerId(service, id, None) => {
                world.server_ids.remove(&(*service, id.clone()));
            }
            Self::List(place, list) => world.lists[*place] = list.clone(),
            &Self::Limit(nth, limit) => {
                world.services[nth].limit = Some(limit);
                world.limits.remove(&limit.index);
            }
            &Self::Admission(nth, list, limit) => {
                let service = &mut world.services[nth];
                (service.list, service.limit) = (list, limit);
                if let Some(limit) = limit {
                    world.limits.remove(&limit.index);
                }
            }
        }
    }
}
