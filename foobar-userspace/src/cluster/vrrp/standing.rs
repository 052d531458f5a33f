//! What the reasons to want a router less make of it. Pure.
//!
//! A new reason gets its place in [`Reason`] and its effect in [`standing`]; everything else follows.

use std::collections::BTreeSet;

use crate::config::{Lowering, Vrrp};

/// Why a router contends for its addresses less than it is configured to, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No frame passes the interface.
    LinkDown,
    /// The interface has no address that advertisements of the family can come from.
    NoAddress,
    /// The socket can't be opened.
    NoSocket,
    /// No program is attached to the interface.
    Detached,
    /// A service of the group has no healthy backend.
    NoBackend,
    /// The canary's connections to a service of the group fail, though it has healthy backends.
    Canary,
    /// This balancer has steered by other tables than a peer for long.
    Differing,
    /// A backend that was there from the beginning has not been judged yet, or the canary.
    Unchecked,
    /// The peers' tables and notes are not here yet, or what this balancer steers by is not what they do.
    Joining,
    /// An operator drains the balancer.
    Drained,
}

impl Reason {
    /// Its name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkDown => "link_down",
            Self::NoAddress => "no_address",
            Self::NoSocket => "no_socket",
            Self::Detached => "detached",
            Self::NoBackend => "no_backend",
            Self::Canary => "canary",
            Self::Differing => "differing",
            Self::Unchecked => "unchecked",
            Self::Joining => "joining",
            Self::Drained => "drained",
        }
    }
}

/// How a router takes part in the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It can't be heard.
    Mute,
    /// It gives up in an orderly way, and stays out.
    Out,
    /// It contends.
    Contends {
        /// 1 to 254.
        priority: u8,
        /// Whether it may take over from a living router.
        ready: bool,
    },
}

/// What a group's reasons come to.
pub(super) fn standing(group: &Vrrp, reasons: &BTreeSet<Reason>) -> Standing {
    let mut priority = group.priority;
    let mut ready = true;
    let mut out = false;
    for reason in reasons {
        let lowering = match reason {
            Reason::LinkDown | Reason::NoAddress | Reason::NoSocket => return Standing::Mute,
            Reason::Detached => group.track.detached,
            Reason::NoBackend => group.track.no_backend,
            Reason::Canary => group.track.canary,
            Reason::Differing => group.track.differing,
            Reason::Unchecked | Reason::Joining => {
                ready = false;
                Lowering::By(0)
            }
            Reason::Drained => {
                ready = false;
                // Behind everybody, and in their stead if there is nobody.
                Lowering::By(u8::MAX)
            }
        };
        match lowering {
            Lowering::By(amount) => priority = priority.saturating_sub(amount).max(1),
            Lowering::Resign => out = true,
        }
    }
    if out {
        Standing::Out
    } else {
        Standing::Contends { priority, ready }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::vrrp::example;

    fn of(reasons: &[Reason]) -> Standing {
        standing(&example(), &reasons.iter().copied().collect())
    }

    #[test]
    fn reasons_lower_the_priority_down_to_1_or_take_the_router_out() {
        let contends = |priority, ready| Standing::Contends { priority, ready };
        assert_eq!(of(&[]), contends(200, true));
        assert_eq!(of(&[Reason::NoBackend]), contends(150, true));
        assert_eq!(of(&[Reason::Canary]), contends(150, true));
        assert_eq!(of(&[Reason::NoBackend, Reason::Canary]), contends(100, true));
        assert_eq!(of(&[Reason::Differing]), contends(200, true));
        assert_eq!(of(&[Reason::Unchecked]), contends(200, false));
        assert_eq!(of(&[Reason::Joining]), contends(200, false));
        assert_eq!(of(&[Reason::Drained]), contends(1, false));
        assert_eq!(of(&[Reason::NoBackend, Reason::Drained]), contends(1, false));
        assert_eq!(of(&[Reason::Detached, Reason::NoBackend]), Standing::Out);
    }

    #[test]
    fn a_router_that_cannot_be_heard_is_mute_whatever_else_is_wrong() {
        for reason in [Reason::LinkDown, Reason::NoAddress, Reason::NoSocket] {
            assert_eq!(of(&[reason, Reason::Detached]), Standing::Mute);
        }
    }
}
