//! To the next candidate: every byte of what is sent, and what becomes of it at the end of the list. Nobody has a
//! socket here; whose flow it is is `sockets`' subject.

use std::net::IpAddr;

use anyhow::Result;
use etherparse::{Icmpv4Type, icmpv4::DestUnreachableHeader};
use foobar_common::agent::AgentCounter::{
    DecapsulatedGue, DropNoNextHop, DropNobody, DropRedirect, DropTtl, GivenOn, KeptLast, KeptOpening,
    KeptUnjudged, SentBack,
};
use foobar_common::agent::NextHop;
use foobar_common::gue::{OPTION_DROP, OPTION_RETURNED};
use foobar_tests::packets::endpoint::{
    Endpoint, LEAVING, SELF, address, candidates, in_gue, protocol, taken_out, to,
};
use foobar_tests::packets::frame::{Flow, IP, icmp, seal};
use foobar_tests::packets::frame_v6::{CLIENT6, Flow6, VIP6, internet_checksum, ipv6};
use foobar_tests::packets::rig::{TCP, UDP, backend_mac};
use foobar_tests::packets::tunnel::{Outer, gue};

const FLOW: Flow = Flow::new(40_001, 80);
const FLOW6: Flow6 = Flow6 {
    client: CLIENT6,
    client_port: 40_001,
    vip: VIP6,
    port: 80,
};

/// Who lists whom: a packet's destination, and its list.
fn listed(backends: [u16; 2], v4: bool) -> [IpAddr; 2] {
    backends.map(|backend| address(backend, v4))
}

/// The frame that goes on to a backend: one hop further, from the interface that leads there.
fn onward(outer: &Outer, backend: u16) -> Vec<u8> {
    let mut frame = outer.frame(backend_mac(backend), &[]);
    frame[6..12].copy_from_slice(&LEAVING);
    if outer.destination.is_ipv4() {
        frame[IP + 8] -= 1;
        seal(&mut frame);
    } else {
        frame[IP + 7] -= 1;
    }
    frame
}

fn segments() -> [Vec<u8>; 2] {
    let v6 = ipv6(
        TCP,
        CLIENT6,
        VIP6,
        &FLOW6.tcp(b"data", |tcp| tcp.ack = true),
        |_| (),
    );
    [FLOW.data()[IP..].to_vec(), v6[IP..].to_vec()]
}

#[test]
fn a_segment_of_nobody_goes_to_one_candidate_after_the_other() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for v4 in [true, false] {
        for packet in segments() {
            let first = in_gue(v4, &candidates(0, &listed([2, 3], v4), OPTION_DROP), &packet);
            let private = candidates(1, &listed([SELF, 3], v4), OPTION_DROP);
            let second = to(address(2, v4), 17, in_gue(v4, &private, &packet).payload);
            endpoint
                .send_outer(&first)
                .transmitted(&onward(&second, 2), &[GivenOn]);
            let first = in_gue(v4, &candidates(1, &listed([2, 3], v4), 0), &packet);
            let private = candidates(2, &listed([2, SELF], v4), 0);
            let last = to(address(3, v4), 17, in_gue(v4, &private, &packet).payload);
            endpoint
                .send_outer(&first)
                .transmitted(&onward(&last, 3), &[GivenOn]);
        }
    }
    Ok(())
}

#[test]
fn vlan_tags_and_further_private_data_go_along() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let tags = [0x81, 0x00, 0x20, 0x64];
    let [packet, _] = segments();
    let with = |next, list: [u16; 1]| {
        let mut private = candidates(next, &list.map(|backend| address(backend, true)), 0);
        private.extend([0xde, 0xad, 0xbe, 0xef]);
        in_gue(true, &private, &packet)
    };
    let second = to(address(2, true), 17, with(1, [SELF]).payload);
    let wanted = onward(&second, 2);
    let wanted = [&wanted[..12], &tags, &wanted[12..]].concat();
    endpoint
        .send(&with(0, [2]).frame(backend_mac(SELF), &tags))
        .transmitted(&wanted, &[GivenOn]);
    Ok(())
}

#[test]
fn what_opens_a_connection_or_has_no_socket_stays() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let private = candidates(0, &listed([2, 3], true), OPTION_DROP);
    let syn6 = ipv6(TCP, CLIENT6, VIP6, &FLOW6.tcp(b"", |tcp| tcp.syn = true), |_| ());
    for packet in [&FLOW.syn()[IP..], &syn6[IP..]] {
        endpoint
            .send_outer(&in_gue(true, &private, packet))
            .passed(&taken_out(packet, &[]), &[KeptOpening, DecapsulatedGue]);
    }
    let question = ipv6(UDP, CLIENT6, VIP6, &FLOW6.udp(b"a question"), |_| ());
    let echo = icmp(
        FLOW.vip,
        Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 1 }),
        |_| (),
    );
    let mut piece = FLOW.data();
    piece[IP + 6] = 0x20;
    seal(&mut piece);
    for packet in [&FLOW.datagram()[IP..], &question[IP..], &echo[IP..], &piece[IP..]] {
        endpoint
            .send_outer(&in_gue(true, &private, packet))
            .passed(&taken_out(packet, &[]), &[KeptUnjudged, DecapsulatedGue]);
    }
    Ok(())
}

#[test]
fn every_other_segment_is_judged() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let private = candidates(0, &listed([2, 3], true), 0);
    let syn_ack = FLOW.segment(&[], |tcp, _| (tcp.syn, tcp.ack) = (true, true));
    for packet in [FLOW.ack(), FLOW.fin(), FLOW.rst(), syn_ack] {
        let outcome = endpoint.send_outer(&in_gue(true, &private, &packet[IP..]));
        assert_eq!(outcome.counters, [("given_on", 1)]);
    }
    Ok(())
}

#[test]
fn an_icmp_error_is_judged_by_what_it_quotes() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let private = candidates(0, &listed([2, 3], true), 0);
    // The VIP's own segment to the client.
    let answer = Flow {
        client: FLOW.vip,
        client_port: FLOW.port,
        vip: FLOW.client,
        port: FLOW.client_port,
    };
    let error = |quoted: &[u8]| {
        let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
            next_hop_mtu: 1400,
        });
        let header = etherparse::Icmpv4Header::with_checksum(kind, quoted);
        let message = [&header.to_bytes()[..], quoted].concat();
        foobar_tests::packets::frame::ipv4(
            etherparse::IpNumber::ICMP,
            [203, 0, 113, 9].into(),
            FLOW.vip,
            &message,
            |_| (),
        )
    };
    let about_tcp = error(&answer.data()[IP..IP + 28]);
    let outcome = endpoint.send_outer(&in_gue(true, &private, &about_tcp[IP..]));
    assert_eq!(outcome.counters, [("given_on", 1)]);
    let about_udp = error(&answer.datagram()[IP..IP + 28]);
    endpoint
        .send_outer(&in_gue(true, &private, &about_udp[IP..]))
        .passed(
            &taken_out(&about_udp[IP..], &[]),
            &[KeptUnjudged, DecapsulatedGue],
        );
    Ok(())
}

#[test]
fn the_last_candidate_answers_or_drops() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for v4 in [true, false] {
        for packet in segments() {
            let last = |options| in_gue(v4, &candidates(2, &listed([2, 3], v4), options), &packet);
            endpoint
                .send_outer(&last(0))
                .passed(&taken_out(&packet, &[]), &[KeptLast, DecapsulatedGue]);
            endpoint.send_outer(&last(OPTION_DROP)).dropped(DropNobody);
        }
    }
    Ok(())
}

#[test]
fn the_last_candidate_sends_back_to_who_waits() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for v4 in [true, false] {
        for packet in segments() {
            for (place, waiter) in [(0, 2), (1, 3)] {
                let marked = (place as u8 + 1) << 1 | OPTION_DROP;
                let last = in_gue(v4, &candidates(2, &listed([2, 3], v4), marked), &packet);
                let mut list = listed([2, 3], v4);
                list[place] = address(SELF, v4);
                let private = candidates(2, &list, marked | OPTION_RETURNED);
                let back = to(address(waiter, v4), 17, in_gue(v4, &private, &packet).payload);
                endpoint
                    .send_outer(&last)
                    .transmitted(&onward(&back, waiter), &[SentBack]);
            }
        }
    }
    Ok(())
}

#[test]
fn what_came_back_stays() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let [packet, _] = segments();
    for next in [0, 1, 2] {
        let options = OPTION_RETURNED | OPTION_DROP | 2;
        let private = candidates(next, &listed([2, 3], true), options);
        let outcome = endpoint.send_outer(&in_gue(true, &private, &packet));
        assert_eq!(outcome.verdict.frame, taken_out(&packet, &[]));
        assert_eq!(outcome.verdict.action, 2);
    }
    Ok(())
}

/// The UDP checksum of a GUE packet over IPv4 or IPv6, computed anew.
fn udp_sum(outer: &Outer) -> u16 {
    let mut covered = Vec::new();
    for address in [outer.source, outer.destination] {
        match address {
            IpAddr::V4(address) => covered.extend(address.octets()),
            IpAddr::V6(address) => covered.extend(address.octets()),
        }
    }
    covered.extend([0, 17]);
    covered.extend((outer.payload.len() as u16).to_be_bytes());
    covered.extend(&outer.payload);
    covered[outer_length(outer) + 6..outer_length(outer) + 8].fill(0);
    match internet_checksum(&covered) {
        0 => u16::MAX,
        sum => sum,
    }
}

fn outer_length(outer: &Outer) -> usize {
    if outer.destination.is_ipv4() { 12 } else { 36 }
}

#[test]
fn an_outer_udp_checksum_stays_right() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for v4 in [true, false] {
        for packet in segments() {
            for source_port in [49_152, 50_001, 65_535] {
                let sealed = |destination, private: &[u8]| {
                    let payload = gue(source_port, protocol(&packet), private, &packet);
                    let mut outer = to(destination, 17, payload);
                    let sum = udp_sum(&outer);
                    outer.payload[6..8].copy_from_slice(&sum.to_be_bytes());
                    outer
                };
                let first = sealed(address(SELF, v4), &candidates(0, &listed([2, 3], v4), 0));
                let second = sealed(address(2, v4), &candidates(1, &listed([SELF, 3], v4), 0));
                endpoint
                    .send_outer(&first)
                    .transmitted(&onward(&second, 2), &[GivenOn]);
            }
        }
    }
    Ok(())
}

#[test]
fn a_used_up_ttl_ends_it() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let [packet, _] = segments();
    for v4 in [true, false] {
        let place = if v4 { IP + 8 } else { IP + 7 };
        for (ttl, dropped) in [(0, true), (1, true), (2, false)] {
            let private = candidates(0, &listed([2, 3], v4), 0);
            let mut frame = in_gue(v4, &private, &packet).frame(backend_mac(SELF), &[]);
            frame[place] = ttl;
            if v4 {
                seal(&mut frame);
            }
            let outcome = endpoint.send(&frame);
            if dropped {
                outcome.dropped(DropTtl);
            } else {
                assert_eq!(outcome.verdict.frame[place], 1);
            }
        }
    }
    Ok(())
}

#[test]
fn a_candidate_without_a_next_hop_is_wanted() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let [packet, _] = segments();
    for v4 in [true, false] {
        let private = candidates(0, &listed([9, 3], v4), 0);
        endpoint
            .send_outer(&in_gue(v4, &private, &packet))
            .dropped(DropNoNextHop);
    }
    let wanted = [address(9, true), address(9, false)];
    assert_eq!(endpoint.plane.take_wanted()?, wanted.into());
    assert_eq!(endpoint.plane.take_wanted()?, [].into(), "taken once");
    Ok(())
}

#[test]
fn a_candidate_behind_another_interface_is_redirected_to() -> Result<()> {
    const LOOPBACK: u32 = 1;
    const XDP_REDIRECT: u32 = 4;
    let mut endpoint = Endpoint::new()?;
    let [packet, _] = segments();
    let hop = NextHop {
        destination_mac: backend_mac(2),
        source_mac: LEAVING,
        ifindex: LOOPBACK,
    };
    endpoint.plane.set_next_hop(address(2, true), hop)?;
    let first = in_gue(true, &candidates(0, &listed([2, 3], true), 0), &packet);
    endpoint.send_outer(&first).dropped(DropRedirect);
    endpoint.plane.add_tx_port(LOOPBACK)?;
    let outcome = endpoint.send_outer(&first);
    assert_eq!(
        (outcome.verdict.action, &outcome.counters[..]),
        (XDP_REDIRECT, &[("given_on", 1)][..])
    );
    Ok(())
}
