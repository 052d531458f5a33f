//! The one judgement that balancers make together of what each of them sees. Pure, and the same on every balancer
//! that has heard the same reports.
//!
//! The rule, for a service:
//! 1. An observer who sees no member up is not asked while another sees one: its own link is the likelier cause.
//! 2. Of the observers that are asked, those who have no judgement yet have no voice.
//! 3. A member is up if all of them see it up, silent (hard down) if all of them hear nothing, else failing (soft
//!    down): it takes no new flows, and keeps those that it has. It is not silent while any observer, asked or not,
//!    hears it fail.
//!
//! So one balancer that can't reach a backend keeps new flows away from it on all, for clients come by any; and no
//! backend's flows are given up while anybody hears it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::message::Observed;

/// What one observer sees of a service's members.
pub type View = BTreeMap<IpAddr, Observed>;

/// The common judgement of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What all go by.
    pub state: Observed,
    /// Some see it up, others don't.
    pub is_disputed: bool,
}

/// The common judgement of every member that `own` has, of what this balancer and its peers see.
#[must_use]
pub fn merge<'a>(own: &'a View, peers: impl IntoIterator<Item = &'a View>) -> BTreeMap<IpAddr, Judgement> {
    let observers: Vec<&View> = std::iter::once(own).chain(peers).collect();
    let sees_one = |view: &&View| view.values().any(|seen| *seen == Observed::Up);
    let somebody = observers.iter().any(sees_one);
    let asked: Vec<&View> = observers
        .iter()
        .copied()
        .filter(|view| !somebody || sees_one(view))
        .collect();
    own.keys()
        .map(|address| {
            let voices: Vec<Observed> = asked
                .iter()
                .filter_map(|view| view.get(address).copied())
                .filter(|seen| *seen != Observed::Unknown)
                .collect();
            let is_heard = observers
                .iter()
                .any(|view| view.get(address) == Some(&Observed::SoftDown));
            (*address, judge(&voices, is_heard))
        })
        .collect()
}

fn judge(voices: &[Observed], is_heard: bool) -> Judgement {
    let all = |state| voices.iter().all(|voice| *voice == state);
    let state = if voices.is_empty() {
        Observed::Unknown
    } else if all(Observed::Up) {
        Observed::Up
    } else if all(Observed::HardDown) && !is_heard {
        Observed::HardDown
    } else {
        Observed::SoftDown
    };
    Judgement {
        state,
        is_disputed: state == Observed::SoftDown && voices.contains(&Observed::Up),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Observed::{HardDown, SoftDown, Unknown, Up};
    use super::*;

    fn view(states: &[Observed]) -> View {
        (1..)
            .map(|last| IpAddr::from([192, 0, 2, last]))
            .zip(states.iter().copied())
            .collect()
    }

    fn states(own: &[Observed], peers: &[&[Observed]]) -> Vec<Observed> {
        let peers: Vec<View> = peers.iter().map(|states| view(states)).collect();
        merge(&view(own), &peers)
            .values()
            .map(|judgement| judgement.state)
            .collect()
    }

    #[test]
    fn alone_one_goes_by_what_one_sees() {
        let own = [Up, SoftDown, HardDown, Unknown];
        assert_eq!(states(&own, &[]), own);
    }

    #[test]
    fn a_member_that_one_cannot_reach_takes_no_new_flows_and_keeps_its_own() {
        assert_eq!(states(&[Up, Up], &[&[HardDown, Up]]), [SoftDown, Up]);
        assert_eq!(states(&[SoftDown, Up], &[&[Up, Up]]), [SoftDown, Up]);
        let views = [view(&[Up, Up]), view(&[HardDown, Up])];
        let judged = merge(&views[0], [&views[1]]);
        assert!(judged.values().next().unwrap().is_disputed);
    }

    #[test]
    fn flows_are_given_up_only_when_all_hear_nothing() {
        assert_eq!(states(&[HardDown, Up], &[&[SoftDown, Up]]), [SoftDown, Up]);
        assert_eq!(states(&[HardDown, Up], &[&[HardDown, Up]]), [HardDown, Up]);
    }

    #[test]
    fn who_reaches_nobody_is_not_asked_while_another_does() {
        assert_eq!(states(&[HardDown, HardDown], &[&[Up, SoftDown]]), [Up, SoftDown]);
        assert_eq!(states(&[Up, SoftDown], &[&[HardDown, Unknown]]), [Up, SoftDown]);
        assert_eq!(
            states(&[HardDown, HardDown], &[&[HardDown, SoftDown]]),
            [HardDown, SoftDown],
            "nobody reaches any"
        );
    }

    #[test]
    fn flows_are_kept_while_one_hears_their_member_who_is_not_asked() {
        assert_eq!(states(&[HardDown, Up], &[&[SoftDown, SoftDown]]), [SoftDown, Up]);
        assert_eq!(states(&[SoftDown, HardDown], &[&[HardDown, Up]]), [SoftDown, Up]);
    }

    #[test]
    fn who_has_not_judged_yet_has_no_voice() {
        assert_eq!(states(&[Unknown, Up], &[&[Up, Up]]), [Up, Up]);
        assert_eq!(states(&[Unknown, Up], &[&[HardDown, Up]]), [HardDown, Up]);
        assert_eq!(states(&[Up, Unknown], &[&[Up, Unknown]]), [Up, Unknown]);
    }

    fn any_view() -> impl Strategy<Value = Vec<Observed>> {
        proptest::collection::vec(
            prop_oneof![Just(Unknown), Just(Up), Just(SoftDown), Just(HardDown)],
            4,
        )
    }

    proptest! {
        #[test]
        fn all_come_to_the_same_judgement(a in any_view(), b in any_view(), c in any_view()) {
            let (a, b, c) = (view(&a), view(&b), view(&c));
            let judged = merge(&a, [&b, &c]);
            prop_assert_eq!(&judged, &merge(&b, [&c, &a]));
            prop_assert_eq!(&judged, &merge(&c, [&a, &b]));
        }
    }
}
