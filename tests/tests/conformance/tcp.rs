//! TCP (RFC 9293): which flags open a connection, offsets, ports.

use foobar_common::counters::Counter;
use foobar_tests::packets::rig::{DNS, TCP, WEB};

use crate::case::{Case, Step, dropped, goes_to, opens};
use crate::family::{Ends, Family, spoilt};

const FLAGS: [(&str, u8); 6] = [
    ("FIN", 0x01),
    ("SYN", 0x02),
    ("RST", 0x04),
    ("PSH", 0x08),
    ("ACK", 0x10),
    ("URG", 0x20),
];

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| [flags(family), offsets(family), lengths(family), others(family)].concat())
        .collect()
}

/// A segment with these flags; its checksum is the backend's business.
fn flagged(family: Family, flags: u8) -> Vec<u8> {
    spoilt(family.flow().segment(&[], |_| ()), |frame| {
        frame[family.transport() + 13] = flags;
    })
}

fn named(flags: u8) -> String {
    let set: Vec<_> = FLAGS
        .iter()
        .filter(|(_, bit)| flags & bit != 0)
        .map(|&(name, _)| name)
        .collect();
    if set.is_empty() {
        "no flag".to_owned()
    } else {
        set.join("+")
    }
}

/// SYN without ACK, RST and FIN opens a connection, whatever else is set.
fn flags(family: Family) -> Vec<Case> {
    let name = family.name();
    let mut cases = Vec::new();
    for flags in 0..64u8 {
        let (what, expected) = if flags & 0x17 == 0x02 {
            ("opens a connection", opens(1))
        } else {
            ("belongs to one", goes_to(1))
        };
        cases.push(Case::new(
            format!("{name} / tcp / {} / {what}", named(flags)),
            flagged(family, flags),
            expected,
        ));
    }
    for ecn in [0x40u8, 0x80, 0xc0] {
        cases.push(Case::new(
            format!("{name} / tcp / SYN with ECN bits {ecn:02x} / opens a connection"),
            flagged(family, 0x02 | ecn),
            opens(1),
        ));
        cases.push(Case::new(
            format!("{name} / tcp / ACK with ECN bits {ecn:02x} / belongs to one"),
            flagged(family, 0x10 | ecn),
            goes_to(1),
        ));
    }
    cases.push(Case::new(
        format!("{name} / tcp / SYN with accurate ECN / opens a connection"),
        spoilt(flagged(family, 0xc2), |frame| frame[family.transport() + 12] |= 1),
        opens(1),
    ));
    cases
}

fn at_offset(family: Family, payload: usize, words: u8) -> Vec<u8> {
    let payload = vec![1; payload];
    spoilt(family.flow().segment(&payload, |tcp| tcp.ack = true), |frame| {
        frame[family.transport() + 12] = words << 4;
    })
}

fn offsets(family: Family) -> Vec<Case> {
    let name = family.name();
    let mut cases = Vec::new();
    for words in 0..5u8 {
        cases.push(Case::new(
            format!("{name} / tcp / a data offset of {words} words / dropped as malformed"),
            at_offset(family, 40, words),
            dropped(Counter::DropMalformed),
        ));
    }
    for words in 5..=15u8 {
        let options = usize::from(words) * 4 - 20;
        cases.push(Case::new(
            format!("{name} / tcp / a data offset of {words} words, just in the packet / goes to the slot's member"),
            at_offset(family, options, words),
            goes_to(1),
        ));
        if words > 5 {
            cases.push(Case::new(
                format!("{name} / tcp / a data offset of {words} words, a byte beyond the packet / dropped as malformed"),
                at_offset(family, options - 1, words),
                dropped(Counter::DropMalformed),
            ));
        }
    }
    cases.push(Case::new(
        format!("{name} / tcp / a data offset into the frame's padding / dropped as malformed"),
        [at_offset(family, 0, 6), vec![0; 40]].concat(),
        dropped(Counter::DropMalformed),
    ));
    cases
}

fn lengths(family: Family) -> Vec<Case> {
    let name = family.name();
    let flow = family.flow();
    let segment = flow.tcp(&[], |tcp| tcp.syn = true);
    let mut cases = Vec::new();
    for length in [0, 1, 3, 4, 8, 12, 13, 14, 19] {
        cases.push(Case::new(
            format!("{name} / tcp / {length} bytes of a header / dropped as truncated"),
            flow.packet(TCP, &segment[..length]),
            dropped(Counter::DropTruncated),
        ));
        cases.push(Case::new(
            format!(
                "{name} / tcp / {length} bytes of a header and the rest as padding / dropped as truncated"
            ),
            [flow.packet(TCP, &segment[..length]), segment[length..].to_vec()].concat(),
            dropped(Counter::DropTruncated),
        ));
    }
    for length in [0usize, 1, 536, 1400] {
        cases.push(Case::new(
            format!("{name} / tcp / {length} bytes of data / goes to the slot's member"),
            flow.segment(&vec![0x5a; length], |tcp| tcp.ack = true),
            goes_to(1),
        ));
    }
    cases
}

fn others(family: Family) -> Vec<Case> {
    let name = family.name();
    let flow = family.flow();
    let port = |client_port: u16, port: u16| Ends {
        client_port,
        port,
        ..flow
    };
    let of =
        |what: &str, frame: Vec<u8>, expected| Case::new(format!("{name} / tcp / {what}"), frame, expected);
    vec![
        of(
            "a wrong checksum / goes to the slot's member, which has to look itself",
            spoilt(flow.data(), |frame| frame[family.transport() + 16] ^= 0xff),
            goes_to(1),
        ),
        of(
            "from port 0 / goes to the slot's member",
            port(0, WEB).data(),
            goes_to(1),
        ),
        of(
            "from the service's own port / goes to the slot's member",
            port(WEB, WEB).data(),
            goes_to(1),
        ),
        of(
            "to port 0 / dropped for want of a service",
            port(40_001, 0).data(),
            dropped(Counter::DropNoService),
        ),
        of(
            "to the port that its client has / dropped for want of a service",
            port(WEB, 40_001).data(),
            dropped(Counter::DropNoService),
        ),
        of(
            "to the service's port in the other byte order / dropped for want of a service",
            port(40_001, WEB.swap_bytes()).data(),
            dropped(Counter::DropNoService),
        ),
        of(
            "to the UDP service's port / dropped for want of a service",
            port(40_001, DNS).syn(),
            dropped(Counter::DropNoService),
        ),
        of(
            "to the service's port of another VIP / dropped for want of a service",
            flow.to(family.other_vip()).syn(),
            dropped(Counter::DropNoService),
        ),
        of(
            "a VIP that another balancer owns / goes to the slot's member all the same",
            flow.data(),
            goes_to(1),
        )
        .given([Step::Lease(family.lease(), 0)]),
        of(
            "a member whose next hop is not known / dropped for want of it",
            flow.data(),
            dropped(Counter::DropNoNextHop),
        )
        .given([Step::Unresolved(1)]),
        of(
            "a slot whose target is not there / an internal error",
            flow.data(),
            dropped(Counter::DropInternal),
        )
        .given([family.web_at(0x7fff)]),
    ]
}
