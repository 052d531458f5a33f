//! ARP (RFC 826, RFC 5227): answered for an owned VIP.

use std::net::Ipv4Addr;

use foobar::dataplane::monotonic_ns;
use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{
    Arp, BROADCAST, HOST, OTHER_VIP, OWN, PEER, ROUTER, STRANGER, VIP, who_has,
};
use foobar_tests::packets::frame_v6::tagged;
use foobar_tests::packets::rig::{LEASE, OTHER_LEASE};

use crate::case::{Case, Step, answered, dropped, passes};
use crate::ethernet::TAGS;
use crate::family::spoilt;

/// The reply to a request.
fn is_at(request: Arp) -> Vec<u8> {
    let reply = Arp {
        operation: 2,
        sender_mac: OWN,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    reply.frame(request.sender_mac, OWN)
}

pub(crate) fn cases() -> Vec<Case> {
    [answers(), refusals(), kernels()].concat()
}

fn answers() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |what: &str, frame: Vec<u8>, answer: Vec<u8>| {
        cases.push(Case::new(
            format!("arp / {what} / answered"),
            frame,
            answered(Counter::AnswerArp, answer),
        ));
    };
    for (whose, vip) in [("a VIP", VIP), ("a VIP without services", OTHER_VIP)] {
        let request = who_has(vip);
        case(
            &format!("who has {whose}, asked of everybody"),
            request.frame(BROADCAST, ROUTER),
            is_at(request),
        );
        case(
            &format!("who has {whose}, asked of the balancer"),
            request.frame(OWN, ROUTER),
            is_at(request),
        );
    }
    let request = who_has(VIP);
    let probe = Arp {
        sender: Ipv4Addr::UNSPECIFIED,
        ..request
    };
    case("a probe", probe.frame(BROADCAST, ROUTER), is_at(probe));
    let peers = Arp {
        sender_mac: PEER,
        sender: HOST,
        ..request
    };
    case(
        "another balancer asks",
        peers.frame(BROADCAST, PEER),
        is_at(peers),
    );
    let about_other = Arp {
        sender: OTHER_VIP,
        ..request
    };
    case(
        "one who has another VIP asks",
        about_other.frame(BROADCAST, ROUTER),
        is_at(about_other),
    );
    let known = Arp {
        target_mac: OWN,
        ..request
    };
    case(
        "one who knows the answer asks",
        known.frame(OWN, ROUTER),
        is_at(known),
    );
    // To the frame's sender, with the packet's in it.
    let relayed = Arp {
        sender_mac: STRANGER,
        ..request
    };
    let mut answer = is_at(relayed);
    answer[..6].copy_from_slice(&ROUTER);
    case(
        "a sender's address that is not the frame's",
        relayed.frame(BROADCAST, ROUTER),
        answer,
    );
    for padding in [1usize, 18, 100] {
        let pad = |frame: Vec<u8>| [frame, vec![0xee; padding]].concat();
        case(
            &format!("{padding} bytes behind the packet"),
            pad(request.frame(BROADCAST, ROUTER)),
            pad(is_at(request)),
        );
    }
    for &(what, tags) in TAGS {
        case(
            &format!("behind {what}"),
            tagged(&request.frame(BROADCAST, ROUTER), tags),
            tagged(&is_at(request), tags),
        );
    }
    cases.push(
        Case::new(
            "arp / a lease that ends in an hour / answered",
            request.frame(BROADCAST, ROUTER),
            answered(Counter::AnswerArp, is_at(request)),
        )
        .given([Step::Lease(LEASE, monotonic_ns() + 3_600_000_000_000)]),
    );
    cases
}

fn refusals() -> Vec<Case> {
    let request = who_has(VIP).frame(BROADCAST, ROUTER);
    let claim = |mac| {
        Arp {
            sender: VIP,
            sender_mac: mac,
            ..who_has(VIP)
        }
        .frame(BROADCAST, mac)
    };
    let mut cases = vec![
        Case::new(
            "arp / somebody else announces an owned VIP / dropped as a conflict",
            claim(STRANGER),
            dropped(Counter::DropConflict),
        ),
        Case::new(
            "arp / another balancer announces an owned VIP / dropped as a conflict",
            claim(PEER),
            dropped(Counter::DropConflict),
        ),
        Case::new(
            "arp / somebody else announces an owned VIP behind a tag / dropped as a conflict",
            tagged(&claim(STRANGER), &[(0x8100, 5)]),
            dropped(Counter::DropConflict),
        ),
        Case::new(
            "arp / another balancer announces the VIP that it owns / dropped, for it is not ours",
            claim(PEER),
            dropped(Counter::DropNotOwner),
        )
        .given([Step::Lease(LEASE, 0)]),
        Case::new(
            "arp / who has a VIP, while another VIP's lease has ended / answered",
            request.clone(),
            answered(Counter::AnswerArp, is_at(who_has(VIP))),
        )
        .given([Step::Lease(OTHER_LEASE, 0)]),
    ];
    for (what, until_ns) in [("no lease", 0), ("a lease that has ended", 1)] {
        cases.push(
            Case::new(
                format!("arp / {what} / dropped, its owner answers"),
                request.clone(),
                dropped(Counter::DropNotOwner),
            )
            .given([Step::Lease(LEASE, until_ns)]),
        );
    }
    cases
}

/// Requests that are none, or not the balancer's business.
fn kernels() -> Vec<Case> {
    let request = who_has(VIP);
    let whole = request.frame(BROADCAST, ROUTER);
    let mut cases = Vec::new();
    let mut case = |what: &str, frame: Vec<u8>| {
        cases.push(Case::new(format!("arp / {what} / the kernel's"), frame, passes()));
    };
    case(
        "who has the balancer's own address",
        who_has(HOST).frame(BROADCAST, ROUTER),
    );
    case(
        "who has a VIP, asked of another host",
        request.frame(STRANGER, ROUTER),
    );
    case(
        "who has a VIP, asked of another balancer",
        request.frame(PEER, ROUTER),
    );
    case(
        "who has a VIP, asked of a group",
        request.frame([1, 0, 0x5e, 0, 0, 1], ROUTER),
    );
    for operation in [0, 2, 3, 4, 0x0101, 0xffff] {
        let other = Arp { operation, ..request };
        case(&format!("operation {operation:04x}"), other.frame(OWN, ROUTER));
    }
    for (what, offset, value) in [
        ("another hardware type", 15, 6),
        ("another protocol type", 16, 0x86),
        ("another protocol type's low byte", 17, 1),
        ("hardware addresses of 8 bytes", 18, 8),
        ("protocol addresses of 16 bytes", 19, 16),
    ] {
        case(what, spoilt(whole.clone(), |frame| frame[offset] = value));
    }
    for length in [14, 21, 28, 41] {
        case(&format!("{length} bytes of a frame"), whole[..length].to_vec());
    }
    case(
        "three tags",
        tagged(&whole, &[(0x8100, 1), (0x8100, 2), (0x8100, 3)]),
    );
    case("cut behind a tag", tagged(&whole, &[(0x8100, 1)])[..45].to_vec());
    cases
}
