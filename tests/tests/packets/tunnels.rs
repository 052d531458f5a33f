//! IP in IP and GUE: every byte of the outer headers, for every combination of families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::{IpDscp, IpEcn, IpNumber, TcpHeader};
use foobar::dataplane::OuterSource;
use foobar_common::counters::Counter;
use foobar_common::slot::{Member, NONE, Phase};
use foobar_common::target::{TARGET_GONE, TARGET_GUE, TARGET_IPIP, TARGET_USED};
use foobar_common::vip::{VIP_CANDIDATES, VIP_RESET, VIP_TRACK_NONE};
use foobar_tests::packets::frame::{CLIENT, Flow, IP, OWN, ROUTER, VIP, ethernet, ipv4, seal};
use foobar_tests::packets::frame_v6::{CLIENT6, Flow6, IPV6, VIP6, internet_checksum, ipv6};
use foobar_tests::packets::outcome::Sent;
use foobar_tests::packets::rig::{Rig, TCP, WEB, WEB_SLOT, backend_mac, slot};
use foobar_tests::packets::tunnel::{self, GUE_PORT, IPV6_SLOT, Outer, SOURCE_V4, SOURCE_V6, gue};

const FLOW: Flow = Flow::new(40_001, WEB);
const FLOW6: Flow6 = Flow6 {
    client: CLIENT6,
    client_port: 40_001,
    vip: VIP6,
    port: WEB,
};
const XDP_TX: u32 = 3;
const XDP_DROP: u32 = 1;

/// A backend's address.
fn backend(member: Member, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(203, 0, 113, 100 + member as u8).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x100 + member).into()
    }
}

fn tunnel_to(rig: &Rig, member: Member, v4: bool, how: u16) {
    tunnel::lead(rig, member, backend(member, v4), how, 1500);
}

/// A rig whose web services of both families have `flags`, and whose targets are reached by `how`.
fn rig(v4: bool, how: u16, flags: u32) -> Result<Rig> {
    let rig = tunnel::rig(flags)?;
    for member in 1..=4 {
        tunnel_to(&rig, member, v4, how);
    }
    Ok(rig)
}

/// A segment of the flow by either family, and the protocol number of its IP.
fn both(change: fn(&mut TcpHeader)) -> [(Vec<u8>, u8); 2] {
    let mut v4 = FLOW.segment(b"data", |tcp, _| change(tcp));
    v4[IP + 1] = 0xb9;
    seal(&mut v4);
    let segment = FLOW6.tcp(b"data", change);
    let v6 = ipv6(TCP, CLIENT6, VIP6, &segment, |ip| ip.traffic_class = 0xb9);
    [(v4, 4), (v6, 41)]
}

fn frames() -> [(Vec<u8>, u8, u8); 2] {
    let mut v4 = FLOW.data();
    v4[IP + 1] = 0xb9;
    seal(&mut v4);
    let v6 = ipv6(
        TCP,
        CLIENT6,
        VIP6,
        &FLOW6.tcp(b"data", |tcp| tcp.ack = true),
        |ip| {
            ip.traffic_class = 0xb9;
        },
    );
    [(v4, 4, 0xb9), (v6, 41, 0xb9)]
}

/// The first fragment of a datagram and a later one.
fn fragments() -> [Vec<u8>; 2] {
    let mut first = FLOW.data();
    first[IP + 1] = 0xb9;
    first[IP + 6] = 0x20;
    seal(&mut first);
    let mut later = first.clone();
    (later[IP + 6], later[IP + 7]) = (0, 40);
    seal(&mut later);
    [first, later]
}

/// What the balancer chose freely, read back from the frame: GUE's source port, IPv6's flow label.
fn chosen(frame: &[u8], v4: bool) -> (u16, u32) {
    let behind = 14 + if v4 { 20 } else { 40 };
    let port = u16::from_be_bytes([frame[behind], frame[behind + 1]]);
    let label = if v4 {
        0
    } else {
        u32::from_be_bytes([0, frame[15] & 0x0f, frame[16], frame[17]])
    };
    (port, label)
}

/// The frame that a packet for member 1 has to become; the packet is what follows byte 14 of `frame`.
fn expected(sent: &[u8], frame: &[u8], v4: bool, protocol: u8, private: Option<&[u8]>) -> Vec<u8> {
    expected_for(1, sent, frame, v4, protocol, private)
}

/// As [`expected`], for any member.
fn expected_for(
    member: Member,
    sent: &[u8],
    frame: &[u8],
    v4: bool,
    protocol: u8,
    private: Option<&[u8]>,
) -> Vec<u8> {
    let (port, label) = chosen(sent, v4);
    let inner = &frame[IP..];
    let (payload, protocol) = match private {
        None => (inner.to_vec(), protocol),
        Some(private) => {
            assert!(port >= 49_152, "source port {port}");
            (gue(port, protocol, private, inner), 17)
        }
    };
    let (source, destination) = (
        if v4 { SOURCE_V4.into() } else { SOURCE_V6.into() },
        backend(member, v4),
    );
    Outer {
        source,
        destination,
        traffic_class: 0xb9,
        flow_label: label,
        payload,
        protocol,
    }
    .frame(backend_mac(member), &[])
}

#[test]
fn ip_in_ip_of_every_combination_is_whole() -> Result<()> {
    for over_v4 in [true, false] {
        let mut rig = rig(over_v4, TARGET_IPIP, 0)?;
        for (frame, protocol, _) in frames() {
            let outcome = rig.send(&frame);
            let wanted = expected(&outcome.verdict.frame, &frame, over_v4, protocol, None);
            assert_eq!(outcome.verdict.action, XDP_TX);
            assert_eq!(outcome.verdict.frame, wanted, "{protocol} over v4: {over_v4}");
            assert_eq!(outcome.counters, [], "no counter but the target's");
            let bytes = wanted.len() as u64;
            let sent = Sent {
                member: 1,
                packets: 1,
                bytes,
                connections: 0,
            };
            assert_eq!(outcome.targets, [sent]);
        }
    }
    Ok(())
}

#[test]
fn gue_of_every_combination_is_whole() -> Result<()> {
    for over_v4 in [true, false] {
        let mut rig = rig(over_v4, TARGET_GUE, 0)?;
        for (frame, protocol, _) in frames() {
            let outcome = rig.send(&frame);
            let wanted = expected(&outcome.verdict.frame, &frame, over_v4, protocol, Some(&[]));
            assert_eq!(outcome.verdict.action, XDP_TX);
            assert_eq!(outcome.verdict.frame, wanted, "{protocol} over v4: {over_v4}");
        }
    }
    Ok(())
}

#[test]
fn vlan_tags_stay_in_front_of_the_outer_header() -> Result<()> {
    let tags = [0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x20, 0x64];
    for (how, over_v4) in [
        (TARGET_IPIP, true),
        (TARGET_IPIP, false),
        (TARGET_GUE, true),
        (TARGET_GUE, false),
    ] {
        let mut rig = rig(over_v4, how, 0)?;
        for count in [1, 2] {
            let kept = &tags[..4 * count];
            let packet = FLOW.data();
            let tagged = [&packet[..12], kept, &packet[12..]].concat();
            let plain = rig.send(&packet).verdict.frame;
            let outcome = rig.send(&tagged);
            let wanted = [&plain[..12], kept, &plain[12..]].concat();
            assert_eq!(
                (outcome.verdict.action, &outcome.verdict.frame),
                (XDP_TX, &wanted)
            );
        }
    }
    Ok(())
}

#[test]
fn source_and_port_vary_by_flow_within_their_bounds() -> Result<()> {
    let source = OuterSource {
        v4: (Ipv4Addr::new(192, 0, 2, 77), 26),
        v6: (SOURCE_V6, 112),
        gue_port: GUE_PORT,
    };
    for over_v4 in [true, false] {
        let mut seen = std::collections::BTreeSet::new();
        let mut ports = std::collections::BTreeSet::new();
        let mut rig = rig(over_v4, TARGET_GUE, 0)?;
        rig.plane.set_outer_source(&source);
        for port in 0..200 {
            let frame = Flow::new(40_000 + port, WEB).data();
            let (first, again) = (rig.send(&frame).verdict.frame, rig.send(&frame).verdict.frame);
            assert_eq!(first, again, "a flow stays on its queue");
            ports.insert(chosen(&first, over_v4).0);
            if over_v4 {
                assert_eq!(first[26..29], [192, 0, 2]);
                assert_eq!(first[29] & 0xc0, 64);
                seen.insert(u16::from(first[29]));
            } else {
                let fixed = SOURCE_V6.octets();
                assert_eq!(first[22..36], fixed[..14]);
                seen.insert(u16::from_be_bytes([first[36], first[37]]));
            }
        }
        assert!(seen.len() > 40, "{} sources of 200 flows", seen.len());
        assert!(ports.len() > 150, "{} ports of 200 flows", ports.len());
    }
    Ok(())
}

/// Private data as [`foobar_common::gue`] has it.
fn private(listed: &[IpAddr], options: u8) -> Vec<u8> {
    let mut bytes = vec![0xf0, 0xb1, listed.len() as u8, options];
    for address in listed {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes
}

#[test]
fn a_kept_slot_lists_its_earlier_owners() -> Result<()> {
    let flags = VIP_CANDIDATES | VIP_TRACK_NONE;
    for over_v4 in [true, false] {
        for (policy, options) in [(0, 1), (VIP_RESET, 0)] {
            let mut rig = rig(over_v4, TARGET_GUE, flags | policy)?;
            let at = |member| backend(member, over_v4);
            for (previous, older, listed) in [
                (2, 3, vec![at(2), at(3)]),
                (2, 0, vec![at(2)]),
                (0, 3, vec![at(3)]),
                (1, 3, vec![at(3)]),
                (2, 2, vec![at(2)]),
                (2, 1, vec![at(2)]),
            ] {
                for index in [WEB_SLOT, IPV6_SLOT] {
                    rig.set(index, slot(Phase::Kept, 1, previous, older));
                }
                for (frame, protocol, _) in frames() {
                    let outcome = rig.send(&frame);
                    let private = private(&listed, options);
                    let wanted = expected(&outcome.verdict.frame, &frame, over_v4, protocol, Some(&private));
                    assert_eq!(outcome.verdict.action, XDP_TX);
                    assert_eq!(outcome.verdict.frame, wanted, "{previous} {older}");
                    assert_eq!(outcome.counters, [("slot_kept", 1)]);
                }
            }
        }
    }
    Ok(())
}

/// All backends are drained: whoever owned the slot goes on with the flows that it has.
#[test]
fn a_kept_slot_without_a_current_owner_serves_known_flows_and_no_new_ones() -> Result<()> {
    let flags = VIP_CANDIDATES | VIP_TRACK_NONE;
    let segments: [fn(&mut TcpHeader); 4] = [
        |tcp| tcp.ack = true,
        |tcp| (tcp.ack, tcp.fin) = (true, true),
        |tcp| tcp.rst = true,
        |tcp| (tcp.ack, tcp.syn) = (true, true),
    ];
    for over_v4 in [true, false] {
        for (policy, options) in [(0, 1), (VIP_RESET, 0)] {
            let mut rig = rig(over_v4, TARGET_GUE, flags | policy)?;
            for (previous, older, first, listed) in [
                (2, 3, 2, vec![backend(3, over_v4)]),
                (2, 0, 2, vec![]),
                (3, 3, 3, vec![]),
            ] {
                for index in [WEB_SLOT, IPV6_SLOT] {
                    rig.set(index, slot(Phase::Kept, NONE, previous, older));
                }
                let private = match (&listed[..], options) {
                    ([], 0) => vec![],
                    _ => private(&listed, options),
                };
                for segment in segments {
                    for (frame, protocol) in both(segment) {
                        let outcome = rig.send(&frame);
                        let sent = &outcome.verdict.frame;
                        let wanted = expected_for(first, sent, &frame, over_v4, protocol, Some(&private));
                        assert_eq!(outcome.verdict.action, XDP_TX);
                        assert_eq!(sent, &wanted, "{previous} {older}");
                        assert_eq!(outcome.counters, [("slot_kept", 1)]);
                    }
                }
                for (frame, _) in both(|tcp| tcp.syn = true) {
                    let mut outcome = rig.send(&frame);
                    outcome.counters.sort_unstable();
                    let (action, told) = if policy == VIP_RESET {
                        (XDP_TX, "answer_reset")
                    } else {
                        (XDP_DROP, "drop_no_member")
                    };
                    assert_eq!(outcome.counters, [(told, 1), ("slot_kept", 1)]);
                    assert_eq!(outcome.verdict.action, action);
                    assert_eq!(outcome.targets, [], "no target counts it");
                }
            }
        }
    }
    Ok(())
}

/// What a kept slot without a current owner does with the packets that cannot say whether they open anything.
#[test]
fn errors_and_fragments_of_a_kept_slot_without_a_current_owner_follow_its_flows() -> Result<()> {
    let mut rig = rig(true, TARGET_GUE, VIP_CANDIDATES | VIP_TRACK_NONE)?;
    rig.set(WEB_SLOT, slot(Phase::Kept, NONE, 2, 3));
    let listed = private(&[backend(3, true)], 1);
    let [first, later] = fragments();
    let answer = Flow {
        client: VIP,
        client_port: WEB,
        vip: CLIENT,
        port: 40_001,
    };
    let router = Ipv4Addr::new(203, 0, 113, 1);
    let mut message = vec![3, 1, 0, 0, 0, 0, 0, 0];
    message.extend(&answer.ack()[IP..]);
    let sum = internet_checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let error = ipv4(IpNumber::ICMP, router, VIP, &message, |ip| {
        (ip.dscp, ip.ecn) = (
            IpDscp::try_new(0xb9 >> 2).expect("6 bits"),
            IpEcn::try_new(0xb9 & 3).expect("2 bits"),
        );
    });
    for (frame, counters) in [
        (first, vec![("fragment_noted", 1), ("slot_kept", 1)]),
        (later, vec![("fragment_followed", 1)]),
        (error, vec![("icmp_steered", 1), ("slot_kept", 1)]),
    ] {
        let mut outcome = rig.send(&frame);
        outcome.counters.sort_unstable();
        let sent = &outcome.verdict.frame;
        assert_eq!(sent, &expected_for(2, sent, &frame, true, 4, Some(&listed)));
        assert_eq!(outcome.counters, counters);
    }
    Ok(())
}

#[test]
fn a_settled_slot_lists_nobody_and_says_only_what_its_policy_needs() -> Result<()> {
    for (policy, private) in [(0, private(&[], 1)), (VIP_RESET, vec![])] {
        let mut rig = rig(true, TARGET_GUE, VIP_CANDIDATES | VIP_TRACK_NONE | policy)?;
        for (frame, protocol, _) in frames() {
            let outcome = rig.send(&frame);
            let wanted = expected(&outcome.verdict.frame, &frame, true, protocol, Some(&private));
            assert_eq!(outcome.verdict.frame, wanted);
        }
    }
    Ok(())
}

#[test]
fn who_is_gone_or_of_the_other_family_is_no_candidate() -> Result<()> {
    let mut rig = rig(true, TARGET_GUE, VIP_CANDIDATES | VIP_TRACK_NONE)?;
    rig.set(WEB_SLOT, slot(Phase::Kept, 1, 2, 3));
    tunnel_to(&rig, 2, false, TARGET_GUE);
    tunnel_to(&rig, 3, true, TARGET_GUE | TARGET_GONE);
    let frame = frames()[0].0.clone();
    let outcome = rig.send(&frame);
    let wanted = expected(&outcome.verdict.frame, &frame, true, 4, Some(&private(&[], 1)));
    assert_eq!(outcome.verdict.frame, wanted);
    Ok(())
}

#[test]
fn fragments_follow_through_the_tunnel() -> Result<()> {
    let mut rig = rig(true, TARGET_GUE, VIP_CANDIDATES | VIP_TRACK_NONE)?;
    rig.set(WEB_SLOT, slot(Phase::Kept, 1, 2, 3));
    let [first, later] = fragments();
    let listed = private(&[backend(2, true), backend(3, true)], 1);
    for (frame, counters) in [
        (first, vec![("fragment_noted", 1), ("slot_kept", 1)]),
        (later, vec![("fragment_followed", 1)]),
    ] {
        let mut outcome = rig.send(&frame);
        outcome.counters.sort_unstable();
        let wanted = expected(&outcome.verdict.frame, &frame, true, 4, Some(&listed));
        assert_eq!(outcome.verdict.frame, wanted);
        assert_eq!(outcome.counters, counters);
    }
    Ok(())
}

#[test]
fn a_tunnel_without_a_next_hop_drops_the_packet_as_it_came() -> Result<()> {
    let mut rig = rig(true, TARGET_IPIP, 0)?;
    rig.plane.set_target_state(1, TARGET_USED | TARGET_IPIP, 1, 0);
    let frame = FLOW.data();
    let outcome = rig.send(&frame);
    assert_eq!(
        (outcome.verdict.action, &outcome.verdict.frame),
        (XDP_DROP, &frame)
    );
    assert_eq!(outcome.counters, [(Counter::DropNoNextHop.name(), 1)]);
    Ok(())
}

#[test]
fn padding_goes_through_the_tunnel_behind_the_packet() -> Result<()> {
    let mut rig = rig(true, TARGET_IPIP, 0)?;
    let packet = FLOW.ack();
    let padded = [&packet[..], &[0; 6]].concat();
    let (bare, whole) = (rig.send(&packet).verdict.frame, rig.send(&padded).verdict.frame);
    assert_eq!(whole, [&bare[..], &[0; 6]].concat());
    let other = ethernet(OWN, ROUTER, IPV6, &packet[IP..]);
    assert_eq!(
        rig.send(&other).verdict.frame,
        other,
        "IPv4 by IPv6's type passes"
    );
    assert_eq!(CLIENT.octets()[0], 203);
    Ok(())
}
