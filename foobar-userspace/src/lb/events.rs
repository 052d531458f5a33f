//! What happens to the steering state: judgements of checks, next hops, an operator's wishes, and time.

use std::collections::BTreeSet;
use std::net::IpAddr;

use foobar_common::slot::Member as Id;

use super::member::egress;
use super::steering::{Steering, Urgency, deadline, gateway, plan_of};
use crate::health::{HealthEvent, State};
use crate::network::{NextHopEvent, Resolution};

/// Why something that an operator asked for can't be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such VIP.
    #[error("there is no VIP named {0:?}")]
    NoVip(String),
    /// The VIP has no such backend.
    #[error("VIP {vip:?} has no backend {backend}")]
    NoBackend {
        /// The VIP.
        vip: String,
        /// The backend.
        backend: IpAddr,
    },
}

impl Steering {
    /// Judgements of checks, in the order in which they were made. However many there are, each VIP's slots are
    /// planned once.
    pub(super) fn on_health(&mut self, judgements: &[HealthEvent], now_ns: u64) {
        let concerned: BTreeSet<usize> = judgements.iter().filter_map(|event| self.judge(event)).collect();
        for place in concerned {
            self.replan(place, Urgency::Health, now_ns);
        }
    }

    /// Takes a judgement down; the place of the VIP that it concerns.
    fn judge(&mut self, event: &HealthEvent) -> Option<usize> {
        let (id, state, reason) = (event.id as Id, event.state, &event.reason);
        let place = self
            .vips
            .iter()
            .position(|vip| vip.members.iter().any(|member| member.id == id))?;
        let vip = &mut self.vips[place];
        let name = vip.config.name.clone();
        let member = vip.member_mut(id)?;
        match state {
            State::Up => tracing::info!(vip = name, backend = %member.address, reason, "backend is up"),
            State::SoftDown => {
                tracing::warn!(vip = name, backend = %member.address, reason, "backend is down: new flows go elsewhere, established ones stay")
            }
            State::HardDown => {
                tracing::warn!(vip = name, backend = %member.address, reason, "backend is silent: its flows are given up")
            }
            State::Unknown => (),
        }
        member.health = state;
        Some(place)
    }

    /// What the network says of the ways to backends, and to gateways that lead to some. True where another
    /// address's way is to be known from now on.
    pub(super) fn on_next_hops(&mut self, events: &[NextHopEvent], now_ns: u64) -> bool {
        let before = self.neighbours();
        let told: BTreeSet<IpAddr> = events.iter().map(|event| event.address).collect();
        self.resolutions
            .extend(events.iter().map(|event| (event.address, event.state)));
        for place in 0..self.vips.len() {
            let concerned: Vec<(usize, Resolution)> = self.vips[place]
                .members
                .iter()
                .enumerate()
                .filter(|(_, member)| {
                    let held = self.resolutions.get(&member.address);
                    let by = held.and_then(|held| gateway(*held, member.forward));
                    told.contains(&member.address) || by.is_some_and(|by| told.contains(&by))
                })
                .filter_map(|(index, member)| Some((index, self.resolution(member.address, member.forward)?)))
                .collect();
            let mut changed = false;
            for (index, state) in concerned {
                changed |= self.resolve(place, index, state);
            }
            if changed {
                self.replan(place, Urgency::Health, now_ns);
            }
        }
        self.neighbours() != before
    }

    /// Gives a member its next hop; whether that is another one.
    fn resolve(&mut self, place: usize, index: usize, state: Resolution) -> bool {
        let ingress = self.ingress;
        let vip = &mut self.vips[place];
        let member = &mut vip.members[index];
        if !member.resolve(state) {
            return false;
        }
        let (member, name, address) = (member.clone(), vip.config.name.clone(), member.address);
        match (&member.next_hop, &member.trouble) {
            (Some(_), Some(trouble)) => {
                tracing::warn!(vip = name, backend = %address, trouble, "next hop in doubt: established flows still take the last one");
            }
            (Some(hop), None) => {
                tracing::info!(vip = name, backend = %address, next_hop = ?hop, "next hop");
                self.allow_egress(&member);
                self.plane.set_next_hop(
                    member.id,
                    hop.destination_mac,
                    hop.source_mac,
                    egress(*hop, ingress),
                );
            }
            (None, trouble) => {
                tracing::warn!(vip = name, backend = %address, trouble, "no next hop");
                self.plane.clear_next_hop(member.id);
            }
        }
        true
    }

    /// Drains a backend of a VIP, or ends that.
    pub(super) fn drain(
        &mut self,
        vip: &str,
        backend: IpAddr,
        drained: bool,
        now_ns: u64,
    ) -> Result<(), Refusal> {
        let place = self
            .vips
            .iter()
            .position(|have| have.config.name == vip)
            .ok_or_else(|| Refusal::NoVip(vip.to_owned()))?;
        let deadline_ns = deadline(&self.vips[place].config, now_ns);
        let member = self.vips[place]
            .members
            .iter_mut()
            .find(|member| member.address == backend && !member.removed)
            .ok_or_else(|| Refusal::NoBackend {
                vip: vip.to_owned(),
                backend,
            })?;
        if member.drained != drained {
            tracing::info!(vip, %backend, drained, "an operator changed the backend");
            member.drained = drained;
            member.drains = member.drains.saturating_add(1);
            member.cut = false;
            member.deadline_ns = if drained { deadline_ns } else { 0 };
            self.replan(place, Urgency::Discretion, now_ns);
            self.name_members();
        }
        Ok(())
    }

    /// Lets time pass: phases end, and what waited or is overdue is done.
    ///
    /// True where a member got another index, and with it another check.
    pub(super) fn tick(&mut self, now_ns: u64) -> bool {
        let mut renamed = false;
        for place in 0..self.vips.len() {
            let idle_ns = self.vips[place].idle_ns();
            self.vips[place].table.advance(now_ns, idle_ns);
            self.flush(place);
            let overdue: Vec<Id> = self.vips[place]
                .members
                .iter()
                .filter(|member| {
                    member.deadline_ns != 0 && member.deadline_ns <= now_ns && !member.is_wanted()
                })
                .map(|member| member.id)
                .collect();
            for id in overdue {
                self.cut(place, id, now_ns);
                renamed = true;
            }
            if self.vips[place].waiting {
                self.replan(place, Urgency::Discretion, now_ns);
            }
            let vip = &mut self.vips[place];
            if vip.recovered_ns != 0 && now_ns >= vip.grace_ends_ns() {
                vip.recovered_ns = 0;
                self.replan(place, Urgency::Health, now_ns);
                renamed = true;
            }
        }
        renamed
    }

    /// A drained member's time is over: the flows that it still has are cut off.
    fn cut(&mut self, place: usize, id: Id, now_ns: u64) {
        let seed = self.table_seed();
        let vip = &mut self.vips[place];
        let heirs = plan_of(vip, seed).desired;
        vip.table.leave(id, &heirs, now_ns);
        let name = vip.config.name.clone();
        if let Some(member) = vip.member_mut(id) {
            member.deadline_ns = 0;
            member.cut = true;
            tracing::warn!(vip = name, backend = %member.address, "drain deadline: flows that are left are cut");
        }
        self.flush(place);
        self.reincarnate(place, id);
    }
}
