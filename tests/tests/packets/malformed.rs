//! Packets whose headers lie: for a VIP they are dropped, for anyone else they are the kernel's.

use std::net::Ipv4Addr;

use anyhow::Result;
use etherparse::{Icmpv4Type, IpNumber};
use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{CLIENT, Flow, HOST, IP, L4, VIP, ethernet, icmp, ipv4, seal};
use foobar_tests::packets::frame::{OWN, ROUTER};
use foobar_tests::packets::rig::{DNS, Rig, WEB};

const FLOW: Flow = Flow::new(40_001, WEB);
const QUESTION: Flow = Flow::new(40_002, DNS);

/// A spoilt frame: what it claims, the frame to spoil, how it is spoilt, and what it is dropped as.
type Case = (&'static str, Vec<u8>, fn(&mut Vec<u8>), Counter);

fn set_total(frame: &mut [u8], total: usize) {
    frame[IP + 2..IP + 4].copy_from_slice(&(total as u16).to_be_bytes());
}

fn cases(vip: Ipv4Addr) -> Vec<Case> {
    let (tcp, udp) = (FLOW.to(vip).data(), QUESTION.to(vip).datagram());
    let with_options = FLOW.to(vip).segment(b"data", |_, ip| ip.options = [1; 4].into());
    let ping = icmp(
        vip,
        Icmpv4Type::Unknown {
            type_u8: 8,
            code_u8: 0,
            bytes5to8: [0; 4],
        },
        |_| (),
    );
    let gre = ipv4(IpNumber::GRE, CLIENT, vip, &[0; 24], |_| ());
    vec![
        (
            "version 6 in a packet of IPv4's type",
            tcp.clone(),
            |f| f[IP] = 0x65,
            Counter::DropMalformed,
        ),
        ("version 0", tcp.clone(), |f| f[IP] = 0x05, Counter::DropMalformed),
        (
            "a header of no words",
            tcp.clone(),
            |f| f[IP] = 0x40,
            Counter::DropMalformed,
        ),
        (
            "a header of four words",
            tcp.clone(),
            |f| f[IP] = 0x44,
            Counter::DropMalformed,
        ),
        (
            "a header longer than the packet",
            tcp.clone(),
            |f| {
                f[IP] = 0x4f;
                set_total(f, 59)
            },
            Counter::DropMalformed,
        ),
        (
            "a header that leaves too little for TCP",
            udp.clone(),
            |f| {
                f[IP] = 0x4f;
                f[IP + 9] = 6;
                f.resize(80, 0);
                set_total(f, 66)
            },
            Counter::DropTruncated,
        ),
        (
            "a total length below the header's",
            tcp.clone(),
            |f| set_total(f, 19),
            Counter::DropMalformed,
        ),
        (
            "no total length",
            tcp.clone(),
            |f| set_total(f, 0),
            Counter::DropMalformed,
        ),
        (
            "a total length of the header alone",
            tcp.clone(),
            |f| set_total(f, 20),
            Counter::DropTruncated,
        ),
        (
            "a total length of part of the TCP header",
            tcp.clone(),
            |f| set_total(f, 39),
            Counter::DropTruncated,
        ),
        (
            "a total length one above the frame's",
            tcp.clone(),
            |f| {
                let n = f.len() - IP + 1;
                set_total(f, n)
            },
            Counter::DropTruncated,
        ),
        (
            "the greatest total length",
            tcp.clone(),
            |f| set_total(f, 65_535),
            Counter::DropTruncated,
        ),
        (
            "a fragment between",
            tcp.clone(),
            |f| {
                f[IP + 6] = 0x20;
                f[IP + 7] = 185
            },
            Counter::DropFragment,
        ),
        (
            "the last fragment",
            tcp.clone(),
            |f| {
                f[IP + 6] = 0;
                f[IP + 7] = 185
            },
            Counter::DropFragment,
        ),
        (
            "a fragment at the greatest offset",
            udp.clone(),
            |f| {
                f[IP + 6] = 0x1f;
                f[IP + 7] = 0xff
            },
            Counter::DropFragment,
        ),
        (
            "a TCP header of no words",
            tcp.clone(),
            |f| f[L4 + 12] = 0x00,
            Counter::DropMalformed,
        ),
        (
            "a TCP header of four words",
            tcp.clone(),
            |f| f[L4 + 12] = 0x40,
            Counter::DropMalformed,
        ),
        (
            "a TCP header longer than the segment",
            FLOW.to(vip).ack(),
            |f| f[L4 + 12] = 0x60,
            Counter::DropMalformed,
        ),
        (
            "a TCP header longer than its data",
            tcp.clone(),
            |f| f[L4 + 12] = 0xf0,
            Counter::DropMalformed,
        ),
        (
            "a TCP header longer than the packet, behind options",
            with_options,
            |f| f[IP + 24 + 12] = 0x70,
            Counter::DropMalformed,
        ),
        (
            "a UDP length of nothing",
            udp.clone(),
            |f| f[L4 + 5] = 0,
            Counter::DropMalformed,
        ),
        (
            "a UDP length below the header's",
            udp.clone(),
            |f| f[L4 + 5] = 7,
            Counter::DropMalformed,
        ),
        (
            "a UDP length above the packet's",
            udp.clone(),
            |f| f[L4 + 5] = 19,
            Counter::DropMalformed,
        ),
        (
            "the greatest UDP length",
            udp.clone(),
            |f| {
                f[L4 + 4] = 0xff;
                f[L4 + 5] = 0xff
            },
            Counter::DropMalformed,
        ),
        (
            "a UDP packet of seven bytes",
            udp,
            |f| set_total(f, 27),
            Counter::DropTruncated,
        ),
        (
            "a ping's fragment",
            ping.clone(),
            |f| f[IP + 6] = 0x20,
            Counter::DropFragment,
        ),
        (
            "a ping of version 5",
            ping,
            |f| f[IP] = 0x55,
            Counter::DropMalformed,
        ),
        (
            "another protocol's fragment",
            gre,
            |f| f[IP + 7] = 1,
            Counter::DropFragment,
        ),
    ]
}

#[test]
fn malformed_packets_for_a_vip_are_dropped_by_their_reason() -> Result<()> {
    for mut rig in [Rig::new()?, Rig::resetting()?] {
        for (what, mut frame, spoil, reason) in cases(VIP) {
            println!("{what}");
            spoil(&mut frame);
            seal(&mut frame);
            rig.send(&frame).dropped(&[reason]);
        }
    }
    Ok(())
}

#[test]
fn malformed_packets_for_others_pass_untouched() -> Result<()> {
    let mut rig = Rig::new()?;
    for (what, mut frame, spoil, _) in cases(HOST) {
        println!("{what}");
        spoil(&mut frame);
        rig.send(&frame).passed();
    }
    Ok(())
}

/// Shorter than an IPv4 header nobody can say whom a packet is for: the kernel drops it.
#[test]
fn a_packet_for_a_vip_that_is_cut_off_anywhere_is_never_forwarded() -> Result<()> {
    for mut rig in [Rig::new()?, Rig::resetting()?] {
        let with_options = FLOW.segment(b"data", |_, ip| ip.options = [1; 8].into());
        let ping = icmp(
            VIP,
            Icmpv4Type::Unknown {
                type_u8: 8,
                code_u8: 0,
                bytes5to8: [0; 4],
            },
            |_| (),
        );
        for frame in [FLOW.syn(), FLOW.data(), QUESTION.datagram(), with_options, ping] {
            for length in 14..frame.len() {
                let outcome = rig.send(&frame[..length]);
                if length < L4 {
                    outcome.passed();
                } else {
                    outcome.dropped(&[Counter::DropTruncated]);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_packet_for_others_that_is_cut_off_anywhere_passes() -> Result<()> {
    let mut rig = Rig::new()?;
    for frame in [FLOW.to(HOST).data(), QUESTION.to(HOST).datagram()] {
        for length in 14..=frame.len() {
            rig.send(&frame[..length]).passed();
        }
    }
    Ok(())
}

/// The IP length may be consistent with a cut-off frame while TCP's or UDP's is not.
#[test]
fn a_packet_whose_total_length_was_cut_as_well_is_judged_by_its_transport_header() -> Result<()> {
    let mut rig = Rig::new()?;
    let (syn, datagram) = (FLOW.syn(), QUESTION.datagram());
    for length in L4..syn.len() {
        let mut frame = syn[..length].to_vec();
        set_total(&mut frame, length - IP);
        seal(&mut frame);
        let reason = if length < L4 + 20 {
            Counter::DropTruncated
        } else {
            Counter::DropMalformed
        };
        rig.send(&frame).dropped(&[reason]);
    }
    for length in L4..datagram.len() {
        let mut frame = datagram[..length].to_vec();
        set_total(&mut frame, length - IP);
        seal(&mut frame);
        let reason = if length < L4 + 8 {
            Counter::DropTruncated
        } else {
            Counter::DropMalformed
        };
        rig.send(&frame).dropped(&[reason]);
    }
    Ok(())
}

#[test]
fn padding_behind_the_packet_is_forwarded_with_it() -> Result<()> {
    let mut rig = Rig::new()?;
    for (frame, padding) in [(FLOW.ack(), 6), (FLOW.data(), 1), (QUESTION.datagram(), 100)] {
        let padded = [&frame[..], &vec![0xa5; padding]].concat();
        rig.send(&padded).forwarded_to(1, &[]);
    }
    // Several buffers, the first of which has all of the packet.
    let padded = [FLOW.ack(), vec![0; 4_000]].concat();
    rig.send(&padded).forwarded_to(1, &[]);
    let mut short = QUESTION.datagram();
    short[L4 + 5] = 8;
    rig.send(&short).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn dont_fragment_and_the_reserved_bit_are_no_fragment() -> Result<()> {
    let mut rig = Rig::new()?;
    for bits in [0x00, 0x40, 0x80, 0xc0] {
        let mut frame = FLOW.data();
        frame[IP + 6] = bits;
        seal(&mut frame);
        rig.send(&frame).forwarded_to(1, &[]);
    }
    Ok(())
}

#[test]
fn what_is_neither_arp_nor_ip_passes_untouched() -> Result<()> {
    let mut rig = Rig::new()?;
    let packet = FLOW.syn();
    let tags = [
        &[0, 100, 0x81, 0][..],
        &[0, 100, 0x81, 0],
        &[0, 100, 8, 0],
        &packet[IP..],
    ]
    .concat();
    for (what, ether_type, payload) in [
        ("IPv4 by IPv6's type", 0x86dd, &packet[IP..]),
        ("three tags", 0x88a8, &tags),
        ("a tag and nothing", 0x8100, &[0x00, 0x64]),
        ("LLDP", 0x88cc, &[2, 7, 4, 0, 1, 2, 3, 4, 5, 0, 0]),
        ("802.3 with a length", 0x0026, &packet[IP..]),
        ("IPv4's type with its bytes swapped", 0x0008, &packet[IP..]),
        ("nothing", 0x0800, &[]),
    ] {
        println!("{what}");
        rig.send(&ethernet(OWN, ROUTER, ether_type, payload)).passed();
    }
    Ok(())
}

#[test]
fn vlan_tags_are_kept() -> Result<()> {
    let mut rig = Rig::new()?;
    let packet = FLOW.data();
    let one = [&[0x20, 0x64, 8, 0][..], &packet[IP..]].concat();
    let two = [&[0x00, 0x07, 0x81, 0][..], &one].concat();
    for (ether_type, payload) in [(0x8100, &one), (0x88a8, &one), (0x88a8, &two)] {
        rig.send(&ethernet(OWN, ROUTER, ether_type, payload))
            .forwarded_to(1, &[]);
    }
    Ok(())
}
