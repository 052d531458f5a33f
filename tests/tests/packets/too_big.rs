//! Packets that don't fit into the tunnel: the balancer's answer to their senders.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header};
use foobar_common::target::{TARGET_GUE, TARGET_IPIP};
use foobar_common::vip::{VIP_CANDIDATES, VIP_TRACK_NONE};
use foobar_tests::packets::frame::{CLIENT, Flow, IP, OWN, ROUTER, VIP};
use foobar_tests::packets::frame_v6::{CLIENT6, Flow6, VIP6, internet_checksum, ipv6};
use foobar_tests::packets::rig::{Rig, TCP, WEB};
use foobar_tests::packets::tunnel;

const QUOTED: usize = 512;
const XDP_TX: u32 = 3;
const XDP_DROP: u32 = 1;

fn rig(backend: IpAddr, how: u16, mtu: u16, flags: u32) -> Result<Rig> {
    let rig = tunnel::rig(flags)?;
    tunnel::lead(&rig, 1, backend, how, mtu);
    Ok(rig)
}

fn v4(length: usize) -> Vec<u8> {
    Flow::new(40_001, WEB).segment(&vec![0x5a; length - 40], |tcp, _| tcp.ack = true)
}

fn v6(length: usize) -> Vec<u8> {
    let flow = Flow6 {
        client: CLIENT6,
        client_port: 40_001,
        vip: VIP6,
        port: WEB,
    };
    ipv6(
        TCP,
        CLIENT6,
        VIP6,
        &flow.tcp(&vec![0x5a; length - 60], |tcp| tcp.ack = true),
        |_| (),
    )
}

fn answer_v4(packet: &[u8], mtu: u16) -> Vec<u8> {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&packet[..QUOTED]);
    let sum = internet_checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut header = Ipv4Header::new(
        message.len() as u16,
        64,
        IpNumber::ICMP,
        VIP.octets(),
        CLIENT.octets(),
    )
    .expect("short");
    header.identification = 0;
    header.dont_fragment = true;
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], &message].concat()
}

fn answer_v6(packet: &[u8], mtu: u16) -> Vec<u8> {
    let mut message = vec![2, 0, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&packet[..QUOTED]);
    let pseudo = [
        &VIP6.octets()[..],
        &CLIENT6.octets(),
        &(message.len() as u32).to_be_bytes(),
        &[0, 0, 0, 58],
    ];
    let sum = internet_checksum(&[&pseudo.concat()[..], &message].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = Ipv6Header {
        payload_length: message.len() as u16,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: 64,
        source: VIP6.octets(),
        destination: CLIENT6.octets(),
        ..Ipv6Header::default()
    };
    [&header.to_bytes()[..], &message].concat()
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 101));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x101));
const CANDIDATES: u32 = VIP_CANDIDATES | VIP_TRACK_NONE;

/// Each way to encapsulate: the backend, how, the VIP's flags, and the bytes that are added at most.
const WAYS: [(IpAddr, u16, u32, usize); 6] = [
    (V4, TARGET_IPIP, 0, 20),
    (V6, TARGET_IPIP, 0, 40),
    (V4, TARGET_GUE, 0, 32),
    (V6, TARGET_GUE, 0, 52),
    (V4, TARGET_GUE, CANDIDATES, 44),
    (V6, TARGET_GUE, CANDIDATES, 88),
];

#[test]
fn the_longest_packet_that_fits_is_sent_and_one_byte_more_is_answered() -> Result<()> {
    for (backend, how, flags, added) in WAYS {
        let mut rig = rig(backend, how, 1500, flags)?;
        let fits = 1500 - added;
        for (frame, answer) in [
            (v4 as fn(usize) -> _, answer_v4 as fn(&[u8], u16) -> _),
            (v6, answer_v6),
        ] {
            let outcome = rig.send(&frame(fits));
            assert_eq!(outcome.verdict.action, XDP_TX);
            assert_eq!(outcome.counters, [], "{backend} {how}");
            assert_eq!(outcome.targets.len(), 1);
            let longer = frame(fits + 1);
            let outcome = rig.send(&longer);
            let wanted = [
                &ROUTER[..],
                &OWN,
                &longer[12..14],
                &answer(&longer[IP..], fits as u16),
            ]
            .concat();
            assert_eq!(outcome.verdict.action, XDP_TX);
            assert_eq!(outcome.verdict.frame, wanted, "{backend} {how}");
            assert_eq!(outcome.counters, [("answer_too_big", 1)]);
            assert_eq!(outcome.targets, []);
        }
    }
    Ok(())
}

#[test]
fn the_answer_keeps_vlan_tags() -> Result<()> {
    let mut rig = rig(V4, TARGET_IPIP, 1400, 0)?;
    let frame = v4(1500);
    let plain = rig.send(&frame).verdict.frame;
    let tags = [0x88, 0xa8, 0, 7, 0x81, 0, 0, 100];
    for tags in [&tags[..4], &tags[4..], &tags[..]] {
        let tagged = [&frame[..12], tags, &frame[12..]].concat();
        let outcome = rig.send(&tagged);
        assert_eq!(outcome.verdict.frame, [&plain[..12], tags, &plain[12..]].concat());
    }
    Ok(())
}

#[test]
fn answers_are_rate_limited_and_all_packets_accounted_for() -> Result<()> {
    let mut rig = rig(V4, TARGET_IPIP, 1400, 0)?;
    let frame = v4(1500);
    let (mut answered, mut dropped) = (0, 0);
    for _ in 0..1_000 {
        let outcome = rig.send(&frame);
        match (outcome.verdict.action, &outcome.counters[..]) {
            (XDP_TX, [("answer_too_big", 1)]) => answered += 1,
            (XDP_DROP, [("drop_too_big", 1)]) => dropped += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(answered >= 100, "a burst of a hundred passes: {answered}");
    assert!(dropped > 0, "and then the rate: {answered} answered");
    assert_eq!(answered + dropped, 1_000);
    Ok(())
}
