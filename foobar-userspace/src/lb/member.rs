//! A backend as member of one VIP: what the daemon knows of it, and how the data plane hears of it.

use std::net::IpAddr;

use foobar_common::address::Address;
use foobar_common::slot::Member as Id;
use foobar_common::target::{
    TARGET_CUT, TARGET_DOWN, TARGET_DRAINED, TARGET_GUE, TARGET_IPIP, TARGET_JUDGED, TARGET_REMOVED,
    TARGET_RESOLVED, TARGET_USED, Target,
};

use crate::balancer::plan::Health;
use crate::balancer::table;
use crate::config::{Forward, ServerId};
use crate::health::State;
use crate::network::{NextHop, Resolution};

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its index in the target array.
    pub(super) id: Id,
    /// The backend.
    pub(super) address: IpAddr,
    /// Its weight in the configuration.
    pub(super) weight: u16,
    /// What its checks say.
    pub(super) health: State,
    /// What this balancer and its peers hold to be true of it, where there are peers.
    pub(super) common: Option<State>,
    /// Came with its VIP: counts as up until it is judged.
    pub(super) founding: bool,
    /// It has left its slots since it went silent; it has an index that no old note names.
    pub(super) left: bool,
    /// An operator drains it.
    pub(super) drained: bool,
    /// How often an operator has said whether.
    pub(super) drains: u16,
    /// It is no longer in the configuration.
    pub(super) removed: bool,
    /// The time that its drain had is over: what is left of its flows was cut.
    pub(super) cut: bool,
    /// What QUIC connection ids call it.
    pub(super) server_id: Option<ServerId>,
    /// How many packets it had been sent when that was last seen to change, and when that was, CLOCK_MONOTONIC
    /// in nanoseconds.
    pub(super) sent: (u64, u64),
    /// When flows that are left are cut, CLOCK_MONOTONIC in nanoseconds; 0: never.
    pub(super) deadline_ns: u64,
    /// How its packets get there.
    pub(super) forward: Forward,
    /// The longest packet that the way to it takes, where that is a tunnel; else 0.
    pub(super) mtu: u16,
    /// Where its frames go.
    pub(super) next_hop: Option<NextHop>,
    /// Why they can't be sent there, where the network says so.
    pub(super) trouble: Option<String>,
    /// Tells two lives of one address apart, on all balancers of a cluster: the first is 0.
    pub(super) incarnation: u64,
    /// The first name of the life that it leads; a peer may have known it by a later one all along.
    pub(super) born: u64,
}

impl Member {
    /// Whether it may get new flows as far as the operator is concerned.
    pub(super) const fn is_wanted(&self) -> bool {
        !self.drained && !self.removed
    }

    /// What this balancer itself sees of it.
    pub(super) fn observed(&self) -> State {
        if self.trouble.is_some() && self.health != State::HardDown {
            State::SoftDown
        } else {
            self.health
        }
    }

    /// What is held to be true of it.
    pub(super) fn state(&self) -> State {
        self.common.unwrap_or_else(|| self.observed())
    }

    /// What the plan makes of it.
    pub(super) fn planned(&self) -> (table::Member, Health) {
        let health = match self.state() {
            State::Up => Health::Up,
            State::SoftDown => Health::SoftDown,
            State::HardDown => Health::HardDown,
            State::Unknown if self.founding => Health::Up,
            State::Unknown => Health::Unknown,
        };
        let wanted = self.is_wanted();
        let health = match health {
            Health::Up | Health::Unknown if !wanted => Health::Draining,
            health => health,
        };
        let weight = if wanted { self.weight } else { 0 };
        (
            table::Member {
                name: Address::from(self.address).bytes,
                weight,
                id: self.id,
            },
            health,
        )
    }

    /// The target's flags.
    pub(super) fn flags(&self) -> u16 {
        let mut flags = TARGET_USED;
        if self.next_hop.is_some() {
            flags |= TARGET_RESOLVED;
        }
        let health = self.common.unwrap_or(self.health);
        if matches!(health, State::SoftDown | State::HardDown) {
            flags |= TARGET_DOWN;
        }
        if !matches!(self.health, State::Unknown) {
            flags |= TARGET_JUDGED;
        }
        match self.forward {
            Forward::L2 => (),
            Forward::Ipip => flags |= TARGET_IPIP,
            Forward::Gue => flags |= TARGET_GUE,
        }
        if self.drained {
            flags |= TARGET_DRAINED;
        }
        if self.removed {
            flags |= TARGET_REMOVED;
        }
        if self.cut {
            flags |= TARGET_CUT;
        }
        flags
    }

    /// Whether it has got no packet for so long, now that it has been sent `packets`.
    pub(super) const fn is_quiet(&mut self, packets: u64, now_ns: u64, idle_ns: u64) -> bool {
        if self.sent.0 != packets {
            self.sent = (packets, now_ns);
        }
        now_ns.saturating_sub(self.sent.1) >= idle_ns
    }

    /// The whole target, for an index that begins a new life. `ingress` is the interface that packets come
    /// in by.
    pub(super) fn target(&self, vip: u32, ingress: u32) -> Target {
        let hop = self.next_hop;
        Target {
            destination_mac: hop.map_or([0; 6], |hop| hop.destination_mac),
            source_mac: hop.map_or([0; 6], |hop| hop.source_mac),
            ifindex: hop.map_or(0, |hop| egress(hop, ingress)),
            flags: self.flags(),
            weight: self.weight,
            vip,
            address: self.address.into(),
            incarnation: self.incarnation,
            deadline_ns: self.deadline_ns,
            mtu: self.mtu,
            drains: self.drains,
            reserved: [0; 2],
        }
    }

    /// Takes over what the network says; whether that changes anything.
    pub(super) fn resolve(&mut self, state: Resolution) -> bool {
        let (next_hop, trouble) = match state {
            Resolution::Resolved(hop) => (Some(hop), None),
            // The last MAC address goes on for established flows: whether the host is gone is for its checks
            // to say, which need it too.
            Resolution::NotOnLink { gateway } => (
                self.next_hop,
                Some(format!(
                    "is behind the gateway {gateway}: an L2 backend must be on the same segment"
                )),
            ),
            Resolution::NoRoute => (self.next_hop, Some("has no route".to_owned())),
            Resolution::Balancer => (
                None,
                Some("resolves to a balancer's own MAC address: that would be a loop".to_owned()),
            ),
            Resolution::Unresolved { failed: true, .. } => {
                let question = if self.address.is_ipv4() {
                    "ARP"
                } else {
                    "neighbour discovery"
                };
                (self.next_hop, Some(format!("does not answer {question}")))
            }
            // The kernel is asking: what was known goes on.
            Resolution::Unresolved { failed: false, .. } => (self.next_hop, self.trouble.clone()),
        };
        let changed = self.next_hop != next_hop || self.trouble != trouble;
        self.next_hop = next_hop;
        self.trouble = trouble;
        changed
    }
}

/// The interface index that a target holds: 0 for the one that packets come in by.
pub(super) const fn egress(hop: NextHop, ingress: u32) -> u32 {
    if hop.ifindex == ingress { 0 } else { hop.ifindex }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            id: 3,
            address: IpAddr::from([192, 0, 2, 21]),
            weight: 100,
            health: State::Unknown,
            common: None,
            founding: false,
            left: false,
            drained: false,
            drains: 0,
            removed: false,
            cut: false,
            server_id: None,
            sent: (0, 0),
            deadline_ns: 0,
            forward: Forward::L2,
            mtu: 0,
            next_hop: None,
            trouble: None,
            incarnation: 1,
            born: 1,
        }
    }

    #[test]
    fn a_founding_member_counts_as_up_until_it_is_judged() {
        let mut founding = Member {
            founding: true,
            ..member()
        };
        assert_eq!(founding.planned().1, Health::Up);
        assert_eq!(member().planned().1, Health::Unknown);
        founding.health = State::SoftDown;
        assert_eq!(founding.planned().1, Health::SoftDown);
    }

    #[test]
    fn a_drained_member_has_no_weight_and_a_dead_one_is_dead_all_the_same() {
        let drained = Member {
            drained: true,
            health: State::Up,
            ..member()
        };
        let (planned, health) = drained.planned();
        assert_eq!((planned.weight, health), (0, Health::Draining));
        let dead = Member {
            health: State::HardDown,
            ..drained
        };
        assert_eq!(dead.planned().1, Health::HardDown);
        let failing = Member {
            health: State::SoftDown,
            ..dead
        };
        let (planned, health) = failing.planned();
        assert_eq!((planned.weight, health), (0, Health::SoftDown));
    }

    #[test]
    fn a_member_is_quiet_when_nothing_was_sent_for_long_enough() {
        let mut member = member();
        assert!(member.is_quiet(0, 50, 10), "nothing was ever sent");
        assert!(!member.is_quiet(7, 100, 10));
        assert!(!member.is_quiet(7, 109, 10));
        assert!(!member.is_quiet(8, 110, 10), "one more packet");
        assert!(!member.is_quiet(8, 119, 10));
        assert!(member.is_quiet(8, 120, 10));
    }

    #[test]
    fn a_cut_member_says_so() {
        let cut = Member {
            cut: true,
            removed: true,
            ..member()
        };
        assert_eq!(cut.flags(), TARGET_USED | TARGET_REMOVED | TARGET_CUT);
    }

    #[test]
    fn a_next_hop_outlives_the_kernels_asking_again() {
        let hop = NextHop {
            destination_mac: [2; 6],
            source_mac: [4; 6],
            ifindex: 7,
        };
        let mut member = member();
        assert!(member.resolve(Resolution::Resolved(hop)));
        let asking = Resolution::Unresolved {
            since: std::time::Instant::now(),
            failed: false,
        };
        assert!(!member.resolve(asking));
        assert_eq!(member.next_hop, Some(hop));
        let silent = Resolution::Unresolved {
            since: std::time::Instant::now(),
            failed: true,
        };
        assert!(member.resolve(silent));
        assert_eq!(
            member.next_hop,
            Some(hop),
            "established flows and checks still need it"
        );
        assert_eq!(member.planned().1, Health::SoftDown);
        assert_eq!(member.trouble.as_deref(), Some("does not answer ARP"));
        assert!(member.resolve(Resolution::Resolved(hop)));
        assert_eq!(member.trouble, None);
        member.address = "2001:db8::21".parse().unwrap();
        assert!(member.resolve(silent));
        assert_eq!(
            member.trouble.as_deref(),
            Some("does not answer neighbour discovery")
        );
        assert!(member.resolve(Resolution::Balancer));
        assert_eq!(member.next_hop, None);
        assert_eq!(member.planned().1, Health::SoftDown);
        assert_eq!((egress(hop, 7), egress(hop, 8)), (0, 7));
    }
}
