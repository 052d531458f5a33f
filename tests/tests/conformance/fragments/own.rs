//! Fragments with what only one of the families has: IPv4's options, and IPv6's extension headers.

use std::net::IpAddr;

use foobar_common::counters::Counter;
use foobar_tests::packets::frame_v6::{Extension, chained, ipv6};
use foobar_tests::packets::rig::TCP;

use super::{Ids, first_data, follows, later, noted, title};
use crate::case::{Case, Step, dropped, goes_to};
use crate::family::{Family, spoilt, with_header_checksum};

/// What only one of the families has.
pub(super) fn own(family: Family, ids: &mut Ids) -> Vec<Case> {
    match family {
        Family::V4 => optioned(ids),
        Family::V6 => extended(ids),
    }
}

fn optioned(ids: &mut Ids) -> Vec<Case> {
    const FAMILY: Family = Family::V4;
    let with_options = |frame: Vec<u8>, words: usize| {
        with_header_checksum(spoilt(frame, |frame| {
            frame[14] = 0x45 + words as u8;
            frame.splice(34..34, vec![1; words * 4]);
            let total = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
        }))
    };
    let mut cases = Vec::new();
    for words in [1, 10] {
        let id = ids.next();
        let first = with_options(first_data(FAMILY, id), words);
        cases.push(Case::new(
            title(
                FAMILY,
                &format!(
                    "a first one with {words} words of IP options / goes to the slot's member and is noted"
                ),
            ),
            first.clone(),
            noted(goes_to(1)),
        ));
        cases.push(
            Case::new(
                title(
                    FAMILY,
                    &format!("a later one with {words} words of IP options / follows the first one"),
                ),
                with_options(later(FAMILY, id), words),
                follows(3),
            )
            .given([FAMILY.web_at(3), Step::Frame(first)]),
        );
    }
    for (what, flags, expected) in [
        (
            "more fragments and don't fragment at once",
            0x60,
            noted(goes_to(1)),
        ),
        ("more fragments and the reserved flag", 0xa0, noted(goes_to(1))),
    ] {
        let frame = spoilt(first_data(FAMILY, ids.next()), |frame| frame[20] = flags);
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("a first one with {what} / goes to the slot's member and is noted"),
            ),
            with_header_checksum(frame),
            expected,
        ));
    }
    cases
}

fn extended(ids: &mut Ids) -> Vec<Case> {
    use Extension::{Destination, HopByHop, Routing};
    const FAMILY: Family = Family::V6;
    let (IpAddr::V6(client), IpAddr::V6(vip)) = (FAMILY.client(), FAMILY.vip()) else {
        unreachable!("the family is IPv6");
    };
    let data = FAMILY.flow().tcp(&[7; 200], |tcp| tcp.ack = true);
    let behind =
        |before: &[Extension], (offset, more): (u16, bool), id: u32, after: &[Extension], payload: &[u8]| {
            let chain = [before, &[Extension::Fragment { offset, more, id }], after].concat();
            let (first, bytes) = chained(&chain, TCP, payload);
            ipv6(first, client, vip, &bytes, |_| ())
        };
    let mut cases = Vec::new();
    for (what, before, after) in [
        (
            "hop-by-hop options before its fragment header",
            vec![HopByHop(1)],
            vec![],
        ),
        (
            "a routing header before its fragment header",
            vec![Routing(2)],
            vec![],
        ),
        (
            "destination options behind its fragment header",
            vec![],
            vec![Destination(1)],
        ),
        (
            "six extension headers",
            vec![HopByHop(1), Destination(1), Routing(1)],
            vec![Destination(1); 2],
        ),
    ] {
        let id = ids.next();
        let first = behind(&before, (0, true), id, &after, &data);
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("a first one with {what} / goes to the slot's member and is noted"),
            ),
            first.clone(),
            noted(goes_to(1)),
        ));
        cases.push(
            Case::new(
                title(
                    FAMILY,
                    &format!("a later one after a first one with {what} / follows it"),
                ),
                behind(&before, (30, false), id, &[], b"the rest"),
                follows(3),
            )
            .given([FAMILY.web_at(3), Step::Frame(first)]),
        );
    }
    // Behind a later one's fragment header there is data, whatever number it names.
    let id = ids.next();
    let named = |number: u8| {
        let header = Extension::Fragment {
            offset: 30,
            more: false,
            id,
        };
        let (first, bytes) = chained(&[header], number, &[0xff; 40]);
        ipv6(first, client, vip, &bytes, |_| ())
    };
    for (what, number) in [
        ("destination options", 60),
        ("hop-by-hop options", 0),
        ("a fragment header", 44),
    ] {
        cases.push(
            Case::new(
                title(
                    FAMILY,
                    &format!("a later one whose datagram begins with {what} / follows the first one"),
                ),
                named(number),
                follows(3),
            )
            .given([FAMILY.web_at(3), Step::Frame(first_data(FAMILY, id))]),
        );
    }
    cases.push(Case::new(
        title(
            FAMILY,
            "a first one whose destination options run beyond it / dropped as truncated",
        ),
        spoilt(
            behind(&[], (0, true), ids.next(), &[Destination(1)], &data),
            |frame| frame[63] = 255,
        ),
        dropped(Counter::DropTruncated),
    ));
    cases.push(Case::new(
        title(
            FAMILY,
            "a first one with seven extension headers / dropped as an extension",
        ),
        behind(&[], (0, true), ids.next(), &vec![Destination(1); 6], &data),
        dropped(Counter::DropExtension),
    ));
    for bits in [2, 4, 6] {
        cases.push(Case::new(
            title(
                FAMILY,
                &format!("an atomic one with reserved bits {bits} / goes to the slot's member"),
            ),
            spoilt(behind(&[], (0, false), ids.next(), &[], &data), |frame| {
                frame[57] |= bits
            }),
            goes_to(1),
        ));
    }
    cases
}
