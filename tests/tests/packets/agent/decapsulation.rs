//! Every combination of families and tunnels, tags, and what the outer header says about congestion.

use anyhow::Result;
use foobar_common::agent::AgentCounter::{
    CongestionNoted, DecapsulatedGue, DecapsulatedIpip, DropCongestion, PassNotVip,
};
use foobar_tests::packets::endpoint::{Endpoint, SELF, candidates, in_gue, in_ip, taken_out};
use foobar_tests::packets::frame::{Flow, IP, seal};
use foobar_tests::packets::frame_v6::{CLIENT6, Flow6, VIP6, ipv6};
use foobar_tests::packets::rig::{TCP, UDP, backend_mac};

const FLOW: Flow = Flow::new(40_001, 80);
const FLOW6: Flow6 = Flow6 {
    client: CLIENT6,
    client_port: 40_001,
    vip: VIP6,
    port: 80,
};

/// An IPv4 and an IPv6 packet for a VIP, with an ECN field.
fn packets(ecn: u8) -> [Vec<u8>; 2] {
    let mut v4 = FLOW.data();
    v4[IP + 1] = 0xb8 | ecn;
    seal(&mut v4);
    let v6 = ipv6(
        TCP,
        CLIENT6,
        VIP6,
        &FLOW6.tcp(b"data", |tcp| tcp.ack = true),
        |ip| {
            ip.traffic_class = 0xb8 | ecn;
        },
    );
    [v4[IP..].to_vec(), v6[IP..].to_vec()]
}

#[test]
fn every_combination_comes_out_as_it_went_in() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for outer_v4 in [true, false] {
        for packet in packets(0) {
            endpoint
                .send_outer(&in_ip(outer_v4, &packet))
                .passed(&taken_out(&packet, &[]), &[DecapsulatedIpip]);
            endpoint
                .send_outer(&in_gue(outer_v4, &[], &packet))
                .passed(&taken_out(&packet, &[]), &[DecapsulatedGue]);
            // Private data of somebody else's is skipped.
            for words in [1, 5, 31] {
                endpoint
                    .send_outer(&in_gue(outer_v4, &vec![0x5a; 4 * words], &packet))
                    .passed(&taken_out(&packet, &[]), &[DecapsulatedGue]);
            }
            // Candidates that are none.
            endpoint
                .send_outer(&in_gue(outer_v4, &candidates(0, &[], 0), &packet))
                .passed(&taken_out(&packet, &[]), &[DecapsulatedGue]);
        }
    }
    Ok(())
}

#[test]
fn udp_and_a_full_packet_come_out_too() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let question = ipv6(UDP, CLIENT6, VIP6, &FLOW6.udp(b"a question"), |_| ());
    let full = FLOW.segment(&[0x5a; 1416], |tcp, _| tcp.ack = true);
    for packet in [&FLOW.datagram()[IP..], &question[IP..], &full[IP..]] {
        endpoint
            .send_outer(&in_gue(true, &[], packet))
            .passed(&taken_out(packet, &[]), &[DecapsulatedGue]);
    }
    Ok(())
}

#[test]
fn vlan_tags_stay_in_front() -> Result<()> {
    let tags = [0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x20, 0x64];
    let mut endpoint = Endpoint::new()?;
    for kept in [&tags[..4], &tags] {
        for outer_v4 in [true, false] {
            for packet in packets(0) {
                let frame = in_ip(outer_v4, &packet).frame(backend_mac(SELF), kept);
                endpoint
                    .send(&frame)
                    .passed(&taken_out(&packet, kept), &[DecapsulatedIpip]);
            }
        }
    }
    Ok(())
}

#[test]
fn an_outer_header_with_options_is_as_good() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let [packet, _] = packets(0);
    let mut frame = in_gue(true, &[], &packet).frame(backend_mac(SELF), &[]);
    frame.splice(34..34, [1; 8]);
    frame[IP] = 0x47;
    let total = (frame.len() - IP) as u16;
    frame[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
    seal(&mut frame);
    endpoint
        .send(&frame)
        .passed(&taken_out(&packet, &[]), &[DecapsulatedGue]);
    Ok(())
}

/// RFC 6040, figure 4: rows by the packet's own field, columns by the outer header's; `None`: dropped.
const FIGURE: [[Option<u8>; 4]; 4] = [
    // Outer: not ECT, ECT(1), ECT(0), CE.
    [Some(0), Some(0), Some(0), None],
    [Some(1), Some(1), Some(1), Some(3)],
    [Some(2), Some(1), Some(2), Some(3)],
    [Some(3), Some(3), Some(3), Some(3)],
];

#[test]
fn congestion_on_the_way_is_told_as_the_rfc_says() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for (inner, row) in (0u8..).zip(FIGURE) {
        for (outer, expected) in (0u8..).zip(row) {
            for outer_v4 in [true, false] {
                for family in [0, 1] {
                    let mut tunnel = in_ip(outer_v4, &packets(inner)[family]);
                    tunnel.traffic_class = outer;
                    let outcome = endpoint.send_outer(&tunnel);
                    let Some(field) = expected else {
                        outcome.dropped(DropCongestion);
                        continue;
                    };
                    let wanted = taken_out(&packets(field)[family], &[]);
                    if inner != 3 && field == 3 {
                        outcome.passed(&wanted, &[DecapsulatedIpip, CongestionNoted]);
                    } else {
                        outcome.passed(&wanted, &[DecapsulatedIpip]);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_removed_vip_is_none_any_more() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    endpoint.plane.set_vips(&[VIP6.into()].into())?;
    let [v4, v6] = packets(0);
    endpoint.send_outer(&in_ip(true, &v4)).untouched(PassNotVip);
    endpoint
        .send_outer(&in_ip(true, &v6))
        .passed(&taken_out(&v6, &[]), &[DecapsulatedIpip]);
    Ok(())
}
