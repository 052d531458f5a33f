//! What the election of VIPs' owners is told: the groups with their addresses, and the reasons that the daemon's loop
//! sees to want them less. The election itself is `cluster::vrrp`'s, in a thread of its own.

use std::collections::BTreeSet;

use super::steering::{Steering, Vip};
use crate::balancer::plan::Serving;
use crate::cluster::vrrp::{Group, Reason};
use crate::config::{Config, Ownership};
use crate::health::State;

/// Whether the program is on the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    Yes,
    No,
}

/// Whether a VIP's backends were never checked by this balancer: it may send flows to dead ones.
fn is_new(vip: &Vip) -> bool {
    let mut members = vip.members.iter();
    members.any(|member| member.founding && member.health == State::Unknown && !member.removed)
}

impl Steering {
    /// Why these services should be another balancer's, as far as the steering knows.
    pub(super) fn reasons(&self, services: &[&Vip], attached: Attached) -> BTreeSet<Reason> {
        let any = |is_so: &dyn Fn(&Vip) -> bool| services.iter().any(|vip| is_so(vip));
        let reasons = [
            (self.plane.is_drained(), Reason::Drained),
            (attached == Attached::No, Reason::Detached),
            (any(&|vip| vip.serving != Serving::Healthy), Reason::NoBackend),
            (any(&|vip| self.is_cut_off(vip)), Reason::Canary),
            (any(&|vip| is_new(vip) || self.is_untried(vip)), Reason::Unchecked),
            (self.is_differing(), Reason::Differing),
            (self.is_joining(), Reason::Joining),
        ];
        let hold = reasons.into_iter().filter(|(holds, _)| *holds);
        hold.map(|(_, reason)| reason).collect()
    }

    /// The groups of a configuration that is in force.
    pub(super) fn groups(&self, config: &Config, attached: Attached) -> Vec<Group> {
        let groups = config.vrrp.iter().map(|group| {
            let is_member = |vip: &&Vip| vip.config.ownership == Ownership::Vrrp(group.name.clone());
            let members: Vec<&Vip> = self.vips.iter().filter(is_member).collect();
            let addresses: BTreeSet<_> = members.iter().map(|vip| vip.config.address).collect();
            let reasons = self.reasons(&members, attached);
            Group {
                config: group.clone(),
                addresses: addresses
                    .into_iter()
                    .filter_map(|address| Some((address, *self.leases.get(&address)?)))
                    .collect(),
                reasons,
            }
        });
        groups.collect()
    }
}
