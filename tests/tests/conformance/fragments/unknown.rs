//! Later fragments whose first one is not known, and what becomes of the member of one that is.

use foobar_common::counters::Counter;
use foobar_common::slot::NONE;
use foobar_common::target::{TARGET_DOWN, TARGET_DRAINED, TARGET_GONE};
use foobar_tests::packets::rig::{TCP, UDP};

use super::{Ids, first_data, follows, fragment, later, title};
use crate::case::{Case, Expected, Step, dropped, passes};
use crate::family::Family;

/// Later fragments whose first one is not known.
pub(super) fn strangers(family: Family, ids: &mut Ids) -> Vec<Case> {
    let mut cases = vec![Case::new(
        title(family, "a later one without a first one / dropped as a fragment"),
        later(family, ids.next()),
        dropped(Counter::DropFragment),
    )];
    cases.push({
        let id = ids.next();
        Case::new(
            title(
                family,
                "a later one after another later one / dropped as a fragment",
            ),
            later(family, id),
            dropped(Counter::DropFragment),
        )
        .given([Step::Frame(later(family, id))])
    });
    let (client, vip) = (family.client(), family.vip());
    let other_protocol = match family {
        Family::V4 => dropped(Counter::DropFragment),
        // The protocol is no part of a datagram's identity (RFC 8200 section 4.5).
        Family::V6 => follows(1),
    };
    for (what, ends, protocol, step, expected) in [
        (
            "of another identification",
            (client, vip),
            TCP,
            1,
            dropped(Counter::DropFragment),
        ),
        (
            "of another client",
            (family.other_client(), vip),
            TCP,
            0,
            dropped(Counter::DropFragment),
        ),
        (
            "to another VIP",
            (client, family.other_vip()),
            TCP,
            0,
            dropped(Counter::DropFragment),
        ),
        ("of another protocol", (client, vip), UDP, 0, other_protocol),
    ] {
        let id = ids.next();
        ids.next();
        cases.push(
            Case::new(
                title(
                    family,
                    &format!(
                        "a later one {what} than the first one / {}",
                        if expected == follows(1) {
                            "follows it"
                        } else {
                            "dropped as a fragment"
                        }
                    ),
                ),
                fragment(ends, protocol, id + step, 185, false, &[1; 64]),
                expected,
            )
            .given([Step::Frame(first_data(family, id))]),
        );
    }
    if family == Family::V6 {
        for (what, bit) in [("first byte", 24), ("last byte", 0)] {
            let id = ids.next() | 0x5500_0000;
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!(
                            "a later one whose identification differs in its {what} / dropped as a fragment"
                        ),
                    ),
                    later(family, id ^ 1 << bit),
                    dropped(Counter::DropFragment),
                )
                .given([Step::Frame(first_data(family, id))]),
            );
            ids.next();
        }
    }
    let id = ids.next();
    cases.push(Case::new(
        title(family, "a later one to no VIP / the kernel's"),
        fragment((client, family.host()), TCP, id, 185, false, &[1; 64]),
        passes(),
    ));
    cases.push(Case::new(
        title(family, "a first one to no VIP / the kernel's"),
        fragment((client, family.host()), TCP, id, 0, true, &[1; 64]),
        passes(),
    ));
    cases
}

/// What becomes of the member meanwhile.
pub(super) fn members(family: Family, ids: &mut Ids) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |what: &str, then: Vec<Step>, expected: Expected| {
        let id = ids.next();
        let mut steps = vec![family.web_at(3), Step::Frame(first_data(family, id))];
        steps.extend(then.into_iter().map(|step| match step {
            // A frame of the case's own: the first one once more.
            Step::Frame(_) => Step::Frame(first_data(family, id)),
            step => step,
        }));
        cases.push(Case::new(title(family, what), later(family, id), expected).given(steps));
    };
    case(
        "a later one whose member is gone / dropped as a fragment",
        vec![Step::Flags(3, TARGET_GONE)],
        dropped(Counter::DropFragment),
    );
    case(
        "a later one whose member is down / follows the first one",
        vec![Step::Flags(3, TARGET_DOWN)],
        follows(3),
    );
    case(
        "a later one whose member is drained / follows the first one",
        vec![Step::Flags(3, TARGET_DRAINED)],
        follows(3),
    );
    case(
        "a later one whose service has no member any more / follows the first one",
        vec![family.web_at(NONE)],
        follows(3),
    );
    case(
        "a later one of a VIP that another balancer owns / follows the first one",
        vec![Step::Lease(family.lease(), 0)],
        follows(3),
    );
    case(
        "a later one after two first ones / follows the second",
        vec![family.web_at(4), Step::Frame(Vec::new())],
        follows(4),
    );
    case(
        "a later one whose member has no next hop / dropped for want of it",
        vec![Step::Unresolved(3)],
        dropped(Counter::DropNoNextHop).and(&[Counter::FragmentFollowed]),
    );
    cases
}
