//! Fragments that are steered: the first one of a datagram, and later ones behind it.

use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::rig::{TCP, UDP};

use super::{Ids, first_data, first_datagram, follows, noted, of, title};
use crate::case::{Case, Step, goes_to, opens};
use crate::family::Family;

pub(super) fn firsts(family: Family, ids: &mut Ids) -> Vec<Case> {
    let syn = family.flow().tcp(&[], |tcp| tcp.syn = true);
    let fin = family
        .flow()
        .tcp(&[1; 64], |tcp| (tcp.fin, tcp.ack) = (true, true));
    let long = family.flow().tcp(&[1; 64], |tcp| {
        tcp.ack = true;
        tcp.set_options_raw(&[1; 40]).expect("options fit");
    });
    let mut tcp = |payload: &[u8]| of(family, TCP, ids.next(), 0, true, payload);
    let mut cases = vec![
        Case::new(
            title(
                family,
                "a first one that is a SYN / opens a connection and is noted",
            ),
            tcp(&syn),
            noted(opens(3)),
        ),
        Case::new(
            title(
                family,
                "a first one with data / goes to the slot's member and is noted",
            ),
            tcp(&family.flow().tcp(&[7; 1460], |tcp| tcp.ack = true)),
            noted(goes_to(3)),
        ),
        Case::new(
            title(
                family,
                "a first one with FIN / goes to the slot's member and is noted",
            ),
            tcp(&fin),
            noted(goes_to(3)),
        ),
        Case::new(
            title(
                family,
                "a first one with 40 bytes of options / goes to the slot's member and is noted",
            ),
            tcp(&long[..60]),
            noted(goes_to(3)),
        ),
        Case::new(
            title(
                family,
                "a first one of 20 bytes of TCP / goes to the slot's member and is noted",
            ),
            tcp(&family.flow().tcp(&[], |tcp| tcp.ack = true)),
            noted(goes_to(3)),
        ),
    ];
    let datagram = family.question().udp(&[7; 3000]);
    for (what, length) in [("8 bytes", 8), ("16 bytes", 16), ("1480 bytes", 1480)] {
        cases.push(Case::new(
            title(
                family,
                &format!("the first {what} of a long datagram / goes to the slot's member and is noted"),
            ),
            of(family, UDP, ids.next(), 0, true, &datagram[..length]),
            noted(goes_to(4)),
        ));
    }
    for tags in [&[(0x8100, 7)][..], &[(0x88a8, 7), (0x8100, 8)]] {
        cases.push(Case::new(
            title(
                family,
                &format!(
                    "a first one behind {} tags / goes to the slot's member and is noted",
                    tags.len()
                ),
            ),
            tagged(&first_data(family, ids.next()), tags),
            noted(goes_to(3)),
        ));
    }
    cases
        .into_iter()
        .map(|case| case.given([family.web_at(3), family.dns_at(4)]))
        .collect()
}

pub(super) fn laters(family: Family, ids: &mut Ids) -> Vec<Case> {
    let mut cases = Vec::new();
    // A first one goes to member 3 (TCP) or 4 (UDP); then the slots are another's.
    let mut case =
        |what: &str, protocol: u8, before: &[(u16, bool)], offset: u16, more: bool, length: usize| {
            let id = ids.next();
            let (first, member) = if protocol == TCP {
                (first_data(family, id), 3)
            } else {
                (first_datagram(family, id), 4)
            };
            let mut steps = vec![family.web_at(3), family.dns_at(4), Step::Frame(first)];
            for &(offset, more) in before {
                steps.push(Step::Frame(of(family, protocol, id, offset, more, &[1; 800])));
            }
            steps.extend([family.web_at(5), family.dns_at(6)]);
            cases.push(
                Case::new(
                    title(
                        family,
                        &format!("{what} / follows the first one, whosever the slot is now"),
                    ),
                    of(family, protocol, id, offset, more, &vec![0x5a; length]),
                    follows(member),
                )
                .given(steps),
            );
        };
    for (name, protocol) in [("TCP", TCP), ("UDP", UDP)] {
        case(&format!("a second one of {name}"), protocol, &[], 185, true, 1480);
        case(&format!("the last one of {name}"), protocol, &[], 185, false, 64);
        case(
            &format!("a third one of {name}"),
            protocol,
            &[(185, true)],
            285,
            false,
            40,
        );
        case(
            &format!("one of {name} that comes before its turn"),
            protocol,
            &[],
            5000,
            true,
            800,
        );
        case(
            &format!("one of {name} at the highest offset"),
            protocol,
            &[],
            8191,
            false,
            8,
        );
        case(
            &format!("one of {name} at the lowest offset"),
            protocol,
            &[],
            1,
            false,
            8,
        );
        case(
            &format!("one of {name} of a single byte"),
            protocol,
            &[],
            185,
            false,
            1,
        );
        case(
            &format!("one of {name} with no byte"),
            protocol,
            &[],
            185,
            false,
            0,
        );
        case(
            &format!("one of {name} twice"),
            protocol,
            &[(185, false)],
            185,
            false,
            800,
        );
    }
    cases
}
