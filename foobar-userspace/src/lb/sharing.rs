//! Which VIPs read their hot slots in one place, at the moment: those whose slots are all settled, and have the same
//! pattern of owners. A VIP that is about to change reads its own again first, by one store and without a wait.

use std::collections::BTreeMap;

use foobar_common::slot::{Member as Id, Phase};
use foobar_common::vip::Lanes;

use super::entry;
use super::steering::{Steering, Vip};
use crate::balancer::plan::Serving;
use crate::balancer::sharing::pattern;
use crate::dataplane::GRACE;

/// Slots that are looked at in a call, of VIPs that have changed: there may be a million.
const AT_ONCE: usize = 1 << 17;

impl Steering {
    /// Lets VIPs that may share a table do so: called now and then.
    pub(super) fn share_slots(&mut self, now_ns: u64) {
        self.shared.tidy(now_ns, GRACE.as_nanos() as u64);
        let mut alike: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut budget = AT_ONCE;
        for (place, vip) in self.vips.iter_mut().enumerate() {
            if vip.lanes != Lanes::OWN || !is_sharable(vip) {
                continue;
            }
            let revision = vip.table.revision();
            let pattern = match vip.pattern {
                Some((of, pattern)) if of == revision => pattern,
                _ if budget < vip.table.slots().len() && budget < AT_ONCE => continue,
                _ => {
                    let owners = owners(vip);
                    budget = budget.saturating_sub(owners.len());
                    pattern(&owners)
                }
            };
            vip.pattern = Some((revision, pattern));
            alike.entry(pattern).or_default().push(place);
        }
        for (pattern, places) in alike {
            if places.len() > 1 || self.shared.has(pattern) {
                places.into_iter().for_each(|place| self.share(place));
            }
        }
    }

    fn share(&mut self, place: usize) {
        let vip = &mut self.vips[place];
        let owners = owners(vip);
        let write = |at, owners: &[Id]| self.plane.set_shared_slots(at, owners);
        if let Some(lanes) = self.shared.share(vip.base, &owners, write) {
            vip.lanes = lanes;
            self.plane.set_lanes(&entry::of(&vip.config).key, lanes);
        }
    }

    /// Lets a VIP read its own slots.
    pub(super) fn unshare(&mut self, place: usize) {
        let vip = &mut self.vips[place];
        if vip.lanes != Lanes::OWN {
            self.plane.set_lanes(&entry::of(&vip.config).key, Lanes::OWN);
            self.shared.leave(vip.base, std::mem::take(&mut vip.lanes));
        }
    }
}

fn is_sharable(vip: &Vip) -> bool {
    let slots = vip.table.slots().len();
    vip.serving != Serving::Nobody && vip.table.count(Phase::Settled) == slots
}

fn owners(vip: &Vip) -> Vec<Id> {
    vip.table.slots().iter().map(|held| held.slot.current).collect()
}
