//! What is held to be true of members, by what this balancer and its peers see and say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Agreement, GRACE_NS, HOLD_NS, Peer};
use crate::cluster::health::{self, Judgement, View};
use crate::cluster::message::{Drain, Observed, Seen};
use crate::cluster::name::Service;

impl Agreement {
    /// What all go by, of what this balancer and its peers see of a service's members.
    ///
    /// No member is given up by a balancer that has not heard it be silent itself, nor while a peer may hear it that was
    /// lost a moment ago: what that one said last counts, and of one that has said nothing yet, that it might.
    #[must_use]
    pub fn judge(&self, service: Service, own: &View, now_ns: u64) -> BTreeMap<IpAddr, Judgement> {
        let views: Vec<View> = self
            .reports(service)
            .map(|report| {
                let seen = |seen: &Seen| (seen.name.address, seen.observed);
                report.members.iter().map(seen).collect()
            })
            .collect();
        let mut judged = health::merge(own, &views);
        let is_unheard = self.lately_lost(now_ns).any(|peer| peer.last_reports.is_empty());
        for (address, judgement) in &mut judged {
            let has_own = own.get(address).is_some_and(|seen| *seen != Observed::Unknown);
            let was_heard = || {
                self.lately_lost(now_ns)
                    .filter_map(|peer| peer.last_reports.get(&service))
                    .flat_map(|report| &report.members)
                    .any(|seen| {
                        seen.name.address == *address
                            && matches!(seen.observed, Observed::Up | Observed::SoftDown)
                    })
            };
            if judgement.state == Observed::HardDown && (!has_own || is_unheard || was_heard()) {
                judgement.state = Observed::SoftDown;
            }
        }
        judged
    }

    /// The peers that were lost a moment ago, or were not heard yet since the beginning.
    fn lately_lost(&self, now_ns: u64) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(move |peer| {
            let since = peer.lost_ns.map(|lost_ns| now_ns.saturating_sub(lost_ns));
            peer.session.as_ref().is_none_or(|session| !session.has_told)
                && since.is_some_and(|since| since < GRACE_NS)
        })
    }

    /// Whether the judgement may change by the mere passing of time: a peer was lost a moment ago.
    #[must_use]
    pub fn is_grace_over(&self, before_ns: u64, now_ns: u64) -> bool {
        self.peers.values().any(|peer| {
            peer.lost_ns.is_some_and(|lost_ns| {
                let end = lost_ns + GRACE_NS;
                before_ns < end && end <= now_ns
            })
        })
    }

    fn seen(&self, service: Service, address: IpAddr) -> impl Iterator<Item = &Seen> {
        self.reports(service)
            .filter_map(move |report| report.members.iter().find(|seen| seen.name.address == address))
    }

    /// The highest incarnation that a peer calls a member by.
    #[must_use]
    pub fn incarnation(&self, service: Service, address: IpAddr) -> u64 {
        let incarnations = self.seen(service, address).map(|seen| seen.name.incarnation);
        incarnations.max().unwrap_or(0)
    }

    /// The last word of operators on a member, of those that peers have heard.
    #[must_use]
    pub fn drain(&self, service: Service, address: IpAddr) -> Drain {
        let drains = self.seen(service, address).map(|seen| seen.drain);
        drains.max().unwrap_or_default()
    }

    /// Whether a peer has no room for the notes of a change that can wait.
    #[must_use]
    pub fn is_crowded(&self, service: Service) -> bool {
        self.reports(service).any(|report| report.crowded)
    }

    /// Whether a peer may live and serve that can't be heard: what is noted must stay noted until it can.
    #[must_use]
    pub fn is_held(&self, now_ns: u64) -> bool {
        self.peers.values().any(|peer| {
            let lost = |since: u64| now_ns.saturating_sub(since) < HOLD_NS;
            match &peer.session {
                Some(session) => !session.is_complete,
                None => peer.lost_ns.is_some_and(lost),
            }
        })
    }
}
