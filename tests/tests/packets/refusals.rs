//! Packets that no member takes: no service, no member. Dropped, or answered with RST as RFC 9293 section
//! 3.10.7.1 says of a connection that does not exist.

use anyhow::Result;
use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use foobar_common::counters::Counter;
use foobar_common::slot::{NONE, Phase, Slot};
use foobar_tests::packets::frame::{CLIENT, Flow, IP, L4, OTHER_VIP, OWN, ROUTER, VIP, ethernet, ipv4};
use foobar_tests::packets::rig::{DNS, DNS_SLOT, Rig, WEB, WEB_SLOT, slot};

const FLOW: Flow = Flow::new(40_001, WEB);
const NOWHERE: Flow = Flow::new(40_001, 9);

/// The numbers of a RST.
#[derive(Clone, Copy)]
enum Reset {
    /// To a segment with ACK: `<SEQ=SEG.ACK><CTL=RST>`.
    Bare(u32),
    /// To one without: `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`.
    Acknowledging(u32),
}

/// The RST that answers a segment of a flow.
fn reset(flow: Flow, numbers: Reset) -> Vec<u8> {
    let mut tcp = TcpHeader::new(flow.port, flow.client_port, 0, 0);
    tcp.rst = true;
    match numbers {
        Reset::Bare(sequence) => tcp.sequence_number = sequence,
        Reset::Acknowledging(number) => (tcp.ack, tcp.acknowledgment_number) = (true, number),
    }
    let mut ip = Ipv4Header::new(20, 64, IpNumber::TCP, flow.vip.octets(), flow.client.octets())
        .expect("a header's payload is short");
    ip.header_checksum = ip.calc_header_checksum();
    tcp.checksum = tcp
        .calc_checksum_ipv4(&ip, &[])
        .expect("a header's payload is short");
    ethernet(
        ROUTER,
        OWN,
        0x0800,
        &[&ip.to_bytes()[..], &tcp.to_bytes()].concat(),
    )
}

/// Segments of a flow, each with the numbers of the RST that answers it.
fn segments(flow: Flow) -> Vec<(&'static str, Vec<u8>, Reset)> {
    let of = |sequence: u32, payload: &[u8], edit: fn(&mut TcpHeader)| {
        flow.segment(payload, |tcp, _| {
            tcp.sequence_number = sequence;
            edit(tcp);
        })
    };
    use Reset::{Acknowledging, Bare};
    vec![
        ("SYN with options", flow.syn(), Acknowledging(0xffff_fff1)),
        (
            "SYN at the wrap",
            of(u32::MAX, &[], |t| t.syn = true),
            Acknowledging(0),
        ),
        (
            "SYN with data",
            of(100, b"early", |t| t.syn = true),
            Acknowledging(106),
        ),
        ("ACK", flow.ack(), Bare(0x8765_4321)),
        (
            "SYN+ACK",
            of(7, &[], |t| (t.syn, t.ack) = (true, true)),
            Bare(0x8765_4321),
        ),
        ("ACK with data", flow.data(), Bare(0x8765_4321)),
        (
            "FIN+ACK with data",
            of(7, b"bye", |t| (t.fin, t.ack) = (true, true)),
            Bare(0x8765_4321),
        ),
        ("FIN", of(7, &[], |t| t.fin = true), Acknowledging(8)),
        (
            "FIN with data",
            of(7, b"bye", |t| t.fin = true),
            Acknowledging(11),
        ),
        (
            "SYN+FIN with data",
            of(7, b"bye", |t| (t.syn, t.fin) = (true, true)),
            Acknowledging(12),
        ),
        (
            "data without a flag",
            of(7, b"bye", |t| t.psh = true),
            Acknowledging(10),
        ),
        ("nothing", of(7, &[], |_| ()), Acknowledging(7)),
        (
            "odd data at the wrap",
            of(0xffff_ff00, &[0xee; 1301], |_| ()),
            Acknowledging(1045),
        ),
        (
            "options and data",
            flow.segment(b"12345", |t, _| {
                t.sequence_number = 1;
                t.set_options_raw(&[1; 12]).expect("options fit");
            }),
            Acknowledging(6),
        ),
    ]
}

#[test]
fn a_segment_to_a_port_without_service_is_reset_by_the_rfcs_numbers() -> Result<()> {
    let mut rig = Rig::resetting()?;
    for flow in [NOWHERE, NOWHERE.to(OTHER_VIP), Flow::new(65_535, DNS)] {
        for (what, segment, numbers) in segments(flow) {
            println!("{what}");
            rig.send(&segment)
                .answered(Counter::AnswerReset, &reset(flow, numbers));
        }
    }
    Ok(())
}

#[test]
fn a_segment_to_a_service_without_members_is_reset_in_every_phase() -> Result<()> {
    let mut rig = Rig::resetting()?;
    rig.set(WEB_SLOT, Slot::settled(NONE));
    for (what, segment, numbers) in segments(FLOW) {
        println!("{what}");
        rig.send(&segment)
            .answered(Counter::AnswerReset, &reset(FLOW, numbers));
    }
    rig.set(WEB_SLOT, slot(Phase::Moving, NONE, NONE, NONE));
    let outcome = rig.send(&FLOW.syn());
    assert_eq!(
        outcome.verdict.frame,
        reset(FLOW, Reset::Acknowledging(0xffff_fff1))
    );
    assert_eq!(outcome.verdict.action, 3);
    let mut moved = outcome.counters;
    moved.sort_unstable();
    assert_eq!(
        moved,
        [(Counter::AnswerReset.name(), 1), (Counter::SlotMoving.name(), 1)]
    );
    assert!(rig.notes().pending.is_empty(), "nobody is never noted");
    Ok(())
}

#[test]
fn padding_counts_for_nothing_in_a_reset() -> Result<()> {
    let mut rig = Rig::resetting()?;
    let padded = [NOWHERE.segment(&[], |t, _| t.fin = true), vec![0; 6]].concat();
    rig.send(&padded).answered(
        Counter::AnswerReset,
        &reset(NOWHERE, Reset::Acknowledging(0xffff_fff1)),
    );
    Ok(())
}

#[test]
fn a_reset_is_never_answered() -> Result<()> {
    let mut rig = Rig::resetting()?;
    rig.set(WEB_SLOT, Slot::settled(NONE));
    for (flow, reason) in [(NOWHERE, Counter::DropNoService), (FLOW, Counter::DropNoMember)] {
        rig.send(&flow.rst()).dropped(&[reason]);
        let acked = flow.segment(&[], |t, _| (t.rst, t.ack) = (true, true));
        rig.send(&acked).dropped(&[reason]);
        let odd = flow.segment(b"x", |t, _| (t.rst, t.syn, t.fin) = (true, true, true));
        rig.send(&odd).dropped(&[reason]);
    }
    Ok(())
}

#[test]
fn a_segment_with_ip_options_is_dropped_instead_of_reset() -> Result<()> {
    let mut rig = Rig::resetting()?;
    rig.set(WEB_SLOT, Slot::settled(NONE));
    for (flow, reason) in [(NOWHERE, Counter::DropNoService), (FLOW, Counter::DropNoMember)] {
        let segment = flow.segment(b"data", |t, ip| {
            t.syn = true;
            ip.options = [1; 4].into();
        });
        rig.send(&segment).dropped(&[reason]);
    }
    Ok(())
}

#[test]
fn udp_is_dropped_whatever_the_policy() -> Result<()> {
    for mut rig in [Rig::new()?, Rig::resetting()?] {
        rig.set(DNS_SLOT, Slot::settled(NONE));
        rig.send(&NOWHERE.datagram()).dropped(&[Counter::DropNoService]);
        rig.send(&FLOW.datagram()).dropped(&[Counter::DropNoService]);
        rig.send(&Flow::new(40_000, DNS).datagram())
            .dropped(&[Counter::DropNoMember]);
    }
    Ok(())
}

#[test]
fn other_protocols_are_dropped_whatever_the_policy() -> Result<()> {
    for mut rig in [Rig::new()?, Rig::resetting()?] {
        for protocol in [
            IpNumber::GRE,
            IpNumber::IGMP,
            IpNumber::SCTP,
            IpNumber::IPV4,
            IpNumber(0),
            IpNumber(255),
        ] {
            // A header that would name a service, were it TCP's.
            let frame = ipv4(protocol, CLIENT, VIP, &FLOW.data()[L4..], |_| ());
            rig.send(&frame).dropped(&[Counter::DropNoService]);
            let empty = ipv4(protocol, CLIENT, VIP, &[], |_| ());
            assert_eq!(empty.len(), IP + 20);
            rig.send(&empty).dropped(&[Counter::DropNoService]);
        }
    }
    Ok(())
}

#[test]
fn a_vip_that_drops_answers_nothing() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.set(WEB_SLOT, Slot::settled(NONE));
    for (what, segment, _) in segments(NOWHERE) {
        println!("{what}");
        rig.send(&segment).dropped(&[Counter::DropNoService]);
    }
    for (what, segment, _) in segments(FLOW) {
        println!("{what}");
        rig.send(&segment).dropped(&[Counter::DropNoMember]);
    }
    Ok(())
}
