//! From weights and health to the table that a VIP should have.
//!
//! Pure: the health checker says what it sees, this says who gets new flows and who must leave. Established
//! flows are the slots' business ([`super::slots`]).

use super::table::{self, Member, TableKind};

/// What is known of a member's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Its checks pass.
    Up,
    /// Its checks fail, its host still answers: no new flows, established ones stay.
    SoftDown,
    /// Silence: its flows are lost, it leaves its slots.
    HardDown,
    /// Healthy, and told to take no new flows. A drained member that is down: its health, with weight 0.
    Draining,
    /// Not checked yet.
    Unknown,
}

/// How the desired table came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Serving {
    /// Members that are up share the slots.
    Healthy,
    /// None is up, so all that are not drained go on serving: the operator must hear of it.
    NoneUp,
    /// There is no member that may take a flow; the slots have no owner.
    Nobody,
}

/// What a VIP's slots should become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The owner of each slot, 0 for none.
    pub desired: Vec<u16>,
    /// Why these.
    pub serving: Serving,
    /// Ids that can't take new flows though others can: a slot of theirs can't wait. Those that are only drained
    /// are none of them.
    pub failing: Vec<u16>,
    /// Ids that leave their slots at once, `desired` naming the heirs. Empty unless somebody is up: while all
    /// are down none leaves.
    pub leaving: Vec<u16>,
}

/// The table for members in the given health, as [`table::fill`] makes it.
///
/// # Panics
/// As [`table::fill`], where `slots` is not a size of a table.
#[must_use]
pub fn desired(kind: TableKind, seed: u64, slots: usize, members: &[(Member, Health)]) -> Plan {
    let serving = if members
        .iter()
        .any(|(m, health)| m.weight > 0 && *health == Health::Up)
    {
        Serving::Healthy
    } else if members
        .iter()
        .any(|(m, health)| m.weight > 0 && *health != Health::Draining)
    {
        Serving::NoneUp
    } else {
        Serving::Nobody
    };
    let takes_new = |health| match serving {
        Serving::Healthy => health == Health::Up,
        Serving::NoneUp => health != Health::Draining,
        Serving::Nobody => false,
    };
    let takers: Vec<Member> = members
        .iter()
        .filter(|(_, h)| takes_new(*h))
        .map(|(m, _)| *m)
        .collect();
    let ids_in = |wanted: &[Health]| -> Vec<u16> {
        let found = members
            .iter()
            .filter(|(_, health)| serving == Serving::Healthy && wanted.contains(health));
        found.map(|(member, _)| member.id).collect()
    };
    Plan {
        desired: table::fill(kind, seed, slots, &takers),
        serving,
        failing: ids_in(&[Health::SoftDown, Health::HardDown, Health::Unknown]),
        leaving: ids_in(&[Health::HardDown]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const HEALTH: [Health; 5] = [
        Health::Up,
        Health::SoftDown,
        Health::HardDown,
        Health::Draining,
        Health::Unknown,
    ];

    fn plan(members: &[(u16, Health)]) -> (BTreeSet<u16>, Serving, Vec<u16>) {
        let named = |(i, &(weight, health)): (usize, &(u16, Health))| {
            let id = i as u16 + 1;
            (
                Member {
                    name: [id as u8; 16],
                    weight,
                    id,
                },
                health,
            )
        };
        let members: Vec<_> = members.iter().enumerate().map(named).collect();
        let plan = desired(TableKind::Maglev, 1, 4096, &members);
        assert_eq!(plan.desired.len(), 4096);
        (plan.desired.into_iter().collect(), plan.serving, plan.leaving)
    }

    #[test]
    fn only_members_that_are_up_and_weigh_something_get_new_flows() {
        let members = [
            (100, Health::Up),
            (100, Health::SoftDown),
            (100, Health::HardDown),
            (100, Health::Draining),
            (100, Health::Unknown),
            (0, Health::Up),
            (1, Health::Up),
        ];
        assert_eq!(
            plan(&members),
            (BTreeSet::from([1, 7]), Serving::Healthy, vec![3])
        );
    }

    #[test]
    fn who_fails_while_others_serve_cannot_wait_and_who_is_drained_can() {
        let failing = |members: &[(u16, Health)]| {
            let members: Vec<_> = (1..)
                .zip(members)
                .map(|(id, &(weight, health))| {
                    let name = [id as u8; 16];
                    (Member { name, weight, id }, health)
                })
                .collect();
            desired(TableKind::Maglev, 1, 4096, &members).failing
        };
        let others = [
            (100, Health::SoftDown),
            (0, Health::SoftDown),
            (100, Health::HardDown),
            (100, Health::Unknown),
            (100, Health::Draining),
            (0, Health::Up),
        ];
        assert_eq!(failing(&others), Vec::<u16>::new());
        assert_eq!(
            failing(&[&others[..], &[(100, Health::Up)]].concat()),
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn where_none_is_up_all_but_the_drained_go_on_serving() {
        let members = [
            (100, Health::SoftDown),
            (100, Health::HardDown),
            (100, Health::Draining),
            (100, Health::Unknown),
            (0, Health::Up),
            (0, Health::HardDown),
        ];
        assert_eq!(
            plan(&members),
            (BTreeSet::from([1, 2, 4]), Serving::NoneUp, vec![])
        );
    }

    #[test]
    fn nobody_is_left_where_all_are_drained() {
        assert_eq!(
            plan(&[(0, Health::Up), (9, Health::Draining)]),
            (BTreeSet::from([0]), Serving::Nobody, vec![])
        );
        assert_eq!(plan(&[]), (BTreeSet::from([0]), Serving::Nobody, vec![]));
    }

    proptest! {
        #![proptest_config(super::super::fixed(256))]

        #[test]
        fn the_drained_never_serve_and_somebody_does_where_anybody_may(
            members in prop::collection::vec((prop_oneof![Just(0u16), 1..=256u16], prop::sample::select(&HEALTH[..])), 0..8),
        ) {
            let (owners, serving, leaving) = plan(&members);
            let may = |(weight, health): &(u16, Health)| *weight > 0 && *health != Health::Draining;
            prop_assert_eq!(serving == Serving::Nobody, !members.iter().any(may));
            prop_assert_eq!(owners.contains(&0), serving == Serving::Nobody);
            for &id in owners.iter().filter(|&&id| id != 0) {
                prop_assert!(may(&members[usize::from(id) - 1]) && !leaving.contains(&id));
            }
        }
    }
}
