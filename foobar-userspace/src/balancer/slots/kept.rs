//! One slot that keeps its earlier owners as candidates: the rules by which it takes a new one.
//!
//! Invariants: a slot names each member once; `older` is only there behind a `previous`; it is kept where it
//! has a history, else settled.

use foobar_common::slot::{Member, NONE, Phase, Slot};

/// The slot of `current` with these earlier owners, the latest first; all but two of them are left out.
fn of(current: Member, earlier: impl IntoIterator<Item = Member>) -> Slot {
    let (mut previous, mut older) = (NONE, NONE);
    for member in earlier {
        if [NONE, current, previous, older].contains(&member) {
            continue;
        }
        if previous == NONE {
            previous = member;
        } else if older == NONE {
            older = member;
        }
    }
    let phase = if previous == NONE {
        Phase::Settled
    } else {
        Phase::Kept
    };
    Slot {
        current,
        previous,
        older,
        phase: phase as u16,
    }
}

/// A slot of any phase with all that it names.
pub(super) fn named(slot: Slot) -> Slot {
    of(slot.current, [slot.previous, slot.older])
}

/// Whether `slot` names `member`.
pub(super) fn names(slot: Slot, member: Member) -> bool {
    [slot.current, slot.previous, slot.older].contains(&member)
}

/// Whether `slot` can be given to `member` without losing an owner.
pub(super) fn fits(slot: Slot, member: Member) -> bool {
    [slot.current, slot.previous, slot.older]
        .into_iter()
        .filter(|&owner| owner != NONE && owner != member)
        .count()
        <= 2
}

/// The slot given to `member`, who [`fits`].
pub(super) fn given(slot: Slot, member: Member) -> Slot {
    of(member, [slot.current, slot.previous, slot.older])
}

/// The slot without the earlier owner that is missed least: one that fails, else the oldest. Never `current`,
/// which has most of the flows.
pub(super) fn relieved(slot: Slot, fails: impl Fn(Member) -> bool) -> Slot {
    let earlier = if fails(slot.previous) && !fails(slot.older) {
        slot.older
    } else {
        slot.previous
    };
    of(slot.current, [earlier])
}

/// The slot without `member`; where that is current, its heir takes over.
pub(super) fn without(slot: Slot, member: Member, heir: Member) -> Slot {
    let current = if slot.current == member {
        heir
    } else {
        slot.current
    };
    let earlier = [slot.previous, slot.older].into_iter().filter(|&m| m != member);
    of(current, earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(current: Member, previous: Member, older: Member) -> Slot {
        Slot {
            current,
            previous,
            older,
            phase: Phase::Kept as u16,
        }
    }

    #[test]
    fn a_new_owner_pushes_the_others_back() {
        let slot = given(Slot::settled(1), 2);
        assert_eq!(slot, kept(2, 1, 0));
        let slot = given(slot, 3);
        assert_eq!(slot, kept(3, 2, 1));
        assert!(!fits(slot, 4), "that would be a fourth");
    }

    #[test]
    fn an_owner_that_is_back_comes_to_the_front_and_nobody_is_lost() {
        for member in [1, 2, 3] {
            assert!(fits(kept(3, 2, 1), member));
        }
        assert_eq!(given(kept(3, 2, 1), 2), kept(2, 3, 1));
        assert_eq!(given(kept(3, 2, 1), 1), kept(1, 3, 2));
    }

    #[test]
    fn a_slot_that_loses_its_last_owner_keeps_two_as_well() {
        assert_eq!(given(Slot::settled(1), NONE), kept(NONE, 1, 0));
        assert_eq!(given(kept(NONE, 2, 1), 3), kept(3, 2, 1));
        assert!(fits(kept(2, 1, 0), NONE) && !fits(kept(3, 2, 1), NONE));
        assert_eq!(given(Slot::settled(NONE), 1), Slot::settled(1));
    }

    #[test]
    fn the_one_who_makes_room_fails_or_is_the_oldest_and_never_current() {
        let room = |failing: &[Member]| relieved(kept(3, 2, 1), |member| failing.contains(&member));
        assert_eq!(room(&[]), kept(3, 2, 0));
        assert_eq!(room(&[1]), kept(3, 2, 0));
        assert_eq!(room(&[2]), kept(3, 1, 0));
        assert_eq!(room(&[1, 2]), kept(3, 2, 0));
        assert_eq!(room(&[3]), kept(3, 2, 0));
    }

    #[test]
    fn who_leaves_is_not_named_and_a_slot_without_history_is_settled() {
        assert_eq!(without(kept(3, 2, 1), 3, 9), kept(9, 2, 1));
        assert_eq!(without(kept(3, 2, 1), 3, 1), kept(1, 2, 0));
        assert_eq!(without(kept(3, 2, 1), 2, 9), kept(3, 1, 0));
        assert_eq!(without(kept(3, 2, 0), 2, 9), Slot::settled(3));
        assert_eq!(without(Slot::settled(3), 3, 9), Slot::settled(9));
    }

    #[test]
    fn whatever_a_slot_went_through_its_names_are_kept() {
        let moving = Slot {
            phase: Phase::Moving as u16,
            ..kept(1, 4, 1)
        };
        assert_eq!(named(moving), kept(1, 4, 0));
        let moving = Slot {
            phase: Phase::Moving as u16,
            ..kept(2, 0, 1)
        };
        assert_eq!(named(moving), kept(2, 1, 0));
    }
}
