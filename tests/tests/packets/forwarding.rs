//! Settled slots: a packet goes to its target with new MAC addresses and nothing else changed.

use anyhow::Result;
use etherparse::IpNumber;
use foobar_common::counters::Counter;
use foobar_common::slot::Slot;
use foobar_tests::packets::frame::{
    BROADCAST, CLIENT, Flow, HOST, IP, L4, OWN, PEER, STRANGER, VIP, ipv4, seal,
};
use foobar_tests::packets::rig::{DNS, DNS_SLOT, Rig, WEB, WEB_SLOT, backend_mac};

const FLOW: Flow = Flow::new(40_001, WEB);
const QUESTION: Flow = Flow::new(40_002, DNS);

/// A frame whose MAC addresses are others.
fn between(mut frame: Vec<u8>, destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
    frame
}

#[test]
fn every_kind_of_packet_goes_to_the_slots_target() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.set(WEB_SLOT, Slot::settled(3));
    rig.set(DNS_SLOT, Slot::settled(4));
    for segment in [FLOW.syn(), FLOW.ack(), FLOW.data(), FLOW.fin(), FLOW.rst()] {
        rig.send(&segment).forwarded_to(3, &[]);
    }
    let syn_ack = FLOW.segment(&[], |tcp, _| (tcp.syn, tcp.ack) = (true, true));
    rig.send(&syn_ack).forwarded_to(3, &[]);
    let ecn_syn = FLOW.segment(&[], |tcp, _| (tcp.syn, tcp.ece, tcp.cwr) = (true, true, true));
    rig.send(&ecn_syn).forwarded_to(3, &[]);
    rig.send(&QUESTION.datagram()).forwarded_to(4, &[]);
    Ok(())
}

#[test]
fn a_settled_slot_notes_nothing() -> Result<()> {
    let mut rig = Rig::new()?;
    for frame in [FLOW.syn(), FLOW.data(), FLOW.fin(), QUESTION.datagram()] {
        rig.send(&frame).forwarded_to(1, &[]);
    }
    let notes = rig.notes();
    assert!(notes.noted.is_empty() && notes.pending.is_empty(), "{notes:?}");
    Ok(())
}

#[test]
fn a_packet_of_full_size_is_forwarded_and_counted_by_its_length() -> Result<()> {
    let mut rig = Rig::new()?;
    let full = FLOW.segment(&[0x5a; 1460], |tcp, _| tcp.ack = true);
    assert_eq!(full.len(), 1514);
    rig.send(&full).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn ttl_ip_options_and_tos_stay_as_they_are() -> Result<()> {
    let mut rig = Rig::new()?;
    for ttl in [0, 1, 255] {
        let mut frame = FLOW.data();
        frame[IP + 8] = ttl;
        seal(&mut frame);
        rig.send(&frame).forwarded_to(1, &[]);
    }
    let mut marked = FLOW.data();
    marked[IP + 1] = 0xbb;
    seal(&mut marked);
    rig.send(&marked).forwarded_to(1, &[]);
    for options in [&[0x94, 4, 0, 0][..], &[7, 39, 4], &[1; 40]] {
        let mut padded = options.to_vec();
        padded.resize(padded.len().next_multiple_of(4), 0);
        let frame = FLOW.segment(b"data", |tcp, ip| {
            tcp.syn = true;
            ip.options = padded[..].try_into().expect("options fit");
        });
        rig.send(&frame).forwarded_to(1, &[]);
    }
    Ok(())
}

#[test]
fn the_transport_checksum_is_the_backends_business_and_the_headers_is_not() -> Result<()> {
    let mut rig = Rig::new()?;
    let mut frame = FLOW.data();
    frame[L4 + 16] ^= 0xff;
    rig.send(&frame).forwarded_to(1, &[]);
    frame[IP + 10] ^= 0xff;
    rig.send(&frame).dropped(&[Counter::DropChecksum]);
    Ok(())
}

#[test]
fn a_target_behind_another_interface_is_redirected_to() -> Result<()> {
    const LOOPBACK: u32 = 1;
    let mut rig = Rig::new()?;
    rig.plane.add_tx_port(LOOPBACK)?;
    rig.plane.set_next_hop(1, backend_mac(1), OWN, LOOPBACK);
    rig.send(&FLOW.syn()).redirected_to(1, &[]);
    rig.send(&FLOW.data()).redirected_to(1, &[]);
    Ok(())
}

#[test]
fn a_target_behind_an_interface_without_a_port_is_dropped_and_counted() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.plane.set_next_hop(1, backend_mac(1), OWN, 999);
    rig.send(&FLOW.data()).dropped(&[Counter::DropRedirect]);
    Ok(())
}

#[test]
fn a_target_without_a_next_hop_gets_nothing() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.plane.clear_next_hop(1);
    for frame in [FLOW.syn(), FLOW.data(), QUESTION.datagram()] {
        rig.send(&frame).dropped(&[Counter::DropNoNextHop]);
    }
    rig.plane.set_next_hop(1, backend_mac(1), OWN, 0);
    rig.send(&FLOW.data()).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn a_new_next_hop_counts_from_the_next_packet_on() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.plane.set_next_hop(1, backend_mac(7), OWN, 0);
    let outcome = rig.send(&FLOW.data());
    assert_eq!(outcome.verdict.frame, outcome.rewritten(7));
    assert_eq!(outcome.targets, [outcome.sent_to(1)]);
    Ok(())
}

#[test]
fn a_target_that_is_not_there_is_an_internal_error() -> Result<()> {
    let mut rig = Rig::new()?;
    let beyond = rig.plane.highest_target() + 1;
    rig.set(WEB_SLOT, Slot::settled(beyond));
    rig.send(&FLOW.data()).dropped(&[Counter::DropInternal]);
    Ok(())
}

#[test]
fn frames_for_a_vip_are_for_the_balancers_mac_only() -> Result<()> {
    let mut rig = Rig::new()?;
    for destination in [STRANGER, BROADCAST, [0x01, 0, 0x5e, 0, 0, 1], PEER] {
        for frame in [FLOW.data(), QUESTION.datagram(), Flow::new(1, 9).syn()] {
            rig.send(&between(frame, destination, STRANGER))
                .dropped(&[Counter::DropForeignMac]);
        }
    }
    Ok(())
}

#[test]
fn a_frame_that_differs_from_the_own_mac_in_one_bit_is_foreign() -> Result<()> {
    let mut rig = Rig::new()?;
    for bit in 0..48 {
        let mut mac = OWN;
        mac[bit / 8] ^= 1 << (bit % 8);
        rig.send(&between(FLOW.data(), mac, STRANGER))
            .dropped(&[Counter::DropForeignMac]);
    }
    Ok(())
}

#[test]
fn frames_for_a_vip_from_a_balancer_are_a_loop() -> Result<()> {
    let mut rig = Rig::new()?;
    for source in [OWN, PEER] {
        for frame in [FLOW.data(), QUESTION.datagram(), Flow::new(1, 9).syn()] {
            rig.send(&between(frame, OWN, source))
                .dropped(&[Counter::DropLoop]);
        }
    }
    // What is in the places of peers that there are not.
    rig.send(&between(FLOW.data(), OWN, [0; 6])).forwarded_to(1, &[]);
    let mut nearly = PEER;
    nearly[5] ^= 1;
    rig.send(&between(FLOW.data(), OWN, nearly)).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn every_one_of_eight_peers_is_known_and_a_former_one_is_not() -> Result<()> {
    let mut rig = Rig::new()?;
    let peers: Vec<_> = (1..=8).map(|n| [0x02, 0xba, 0x1a, 0, 1, n]).collect();
    rig.plane.set_macs(OWN, &peers);
    for &peer in &peers {
        rig.send(&between(FLOW.data(), OWN, peer))
            .dropped(&[Counter::DropLoop]);
    }
    rig.send(&between(FLOW.data(), OWN, PEER)).forwarded_to(1, &[]);
    rig.plane.set_macs(OWN, &[]);
    rig.send(&between(FLOW.data(), OWN, peers[0]))
        .forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn frames_for_other_addresses_pass_whatever_their_macs() -> Result<()> {
    let mut rig = Rig::new()?;
    for (destination, source) in [(STRANGER, PEER), (BROADCAST, STRANGER), (OWN, OWN), (OWN, PEER)] {
        rig.send(&between(FLOW.to(HOST).data(), destination, source))
            .passed();
    }
    let gre = ipv4(IpNumber::GRE, CLIENT, HOST, &[0; 24], |_| ());
    rig.send(&gre).passed();
    let from_the_vip = ipv4(IpNumber::TCP, VIP, HOST, &FLOW.syn()[L4..], |_| ());
    rig.send(&from_the_vip).passed();
    Ok(())
}
