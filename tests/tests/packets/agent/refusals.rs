//! What the agent leaves to the kernel as it came, and what it drops.

use anyhow::Result;
use foobar_common::agent::AgentCounter::{
    DecapsulatedGue, DecapsulatedIpip, DropMalformed, DropTruncated, PassForeignMac, PassFragment,
    PassNotOwn, PassNotVip, PassOther, PassUnknownGue, PassUntrusted,
};
use foobar_tests::packets::endpoint::{Endpoint, SELF, address, candidates, in_gue, in_ip, taken_out, to};
use foobar_tests::packets::frame::{Flow, IP, L4, OTHER_VIP, STRANGER, seal, who_has};
use foobar_tests::packets::rig::backend_mac;
use foobar_tests::packets::tunnel::gue;

const FLOW: Flow = Flow::new(40_001, 80);

/// Where GUE begins in a frame with an IPv4 outer header.
const GUE: usize = L4 + 8;

fn packet() -> Vec<u8> {
    FLOW.data()[IP..].to_vec()
}

#[test]
fn what_is_in_no_tunnel_stays_as_it_came() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let other_port = {
        let mut frame = in_gue(true, &[], &packet()).frame(backend_mac(SELF), &[]);
        frame[L4 + 2..L4 + 4].copy_from_slice(&6081u16.to_be_bytes());
        frame
    };
    let arp = who_has(OTHER_VIP).frame(backend_mac(SELF), STRANGER);
    for frame in [
        FLOW.syn(),
        FLOW.data(),
        FLOW.datagram(),
        arp,
        other_port,
        vec![0; 14],
    ] {
        endpoint.send(&frame).untouched(PassOther);
    }
    Ok(())
}

#[test]
fn a_program_without_settings_passes_everything() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    endpoint.settings = Default::default();
    endpoint.tell()?;
    let outcome = endpoint.send_outer(&in_gue(true, &[], &packet()));
    outcome.untouched(PassOther);
    endpoint
        .send_outer(&in_ip(true, &packet()))
        .untouched(PassUntrusted);
    Ok(())
}

#[test]
fn only_trusted_sources_get_anything_out() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for (source, trusted) in [
        ("192.0.2.64", true),
        ("192.0.2.127", true),
        ("192.0.2.63", false),
        ("192.0.2.128", false),
        ("203.0.113.77", false),
    ] {
        for mut tunnel in [in_ip(true, &packet()), in_gue(true, &[], &packet())] {
            tunnel.source = source.parse()?;
            let outcome = endpoint.send_outer(&tunnel);
            if trusted {
                assert_eq!(outcome.verdict.frame, taken_out(&packet(), &[]));
            } else {
                outcome.untouched(PassUntrusted);
            }
        }
    }
    for (source, trusted) in [("2001:db8:7f::9", true), ("2001:db8:80::9", false)] {
        let mut tunnel = in_ip(false, &packet());
        tunnel.source = source.parse()?;
        let outcome = endpoint.send_outer(&tunnel);
        if trusted {
            outcome.passed(&taken_out(&packet(), &[]), &[DecapsulatedIpip]);
        } else {
            outcome.untouched(PassUntrusted);
        }
    }
    Ok(())
}

#[test]
fn all_sixteen_prefixes_count() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let good = endpoint.settings.trusted[0];
    endpoint.settings.trusted = [endpoint.settings.trusted[1]; 16];
    endpoint.settings.trusted[15] = good;
    for (count, trusted) in [(16, true), (15, false)] {
        endpoint.settings.trusted_count = count;
        endpoint.tell()?;
        let outcome = endpoint.send_outer(&in_ip(true, &packet()));
        assert_eq!(outcome.counters[0].0 == "decapsulated_ipip", trusted, "{count}");
    }
    Ok(())
}

#[test]
fn another_hosts_frames_and_packets_are_not_touched() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let tunnel = in_ip(true, &packet());
    endpoint
        .send(&tunnel.frame(STRANGER, &[]))
        .untouched(PassForeignMac);
    for destination in [address(2, true), address(2, false)] {
        let tunnel = to(destination, 4, packet());
        endpoint.send_outer(&tunnel).untouched(PassNotOwn);
    }
    endpoint.settings.address_count = 0;
    endpoint.tell()?;
    endpoint
        .send_outer(&to(address(2, true), 4, packet()))
        .passed(&taken_out(&packet(), &[]), &[DecapsulatedIpip]);
    Ok(())
}

#[test]
fn what_is_for_no_vip_is_not_touched() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let other = FLOW.to(OTHER_VIP).data()[IP..].to_vec();
    for tunnel in [
        in_ip(true, &other),
        in_gue(false, &candidates(0, &[address(2, false)], 0), &other),
    ] {
        endpoint.send_outer(&tunnel).untouched(PassNotVip);
    }
    Ok(())
}

#[test]
fn pieces_of_outer_packets_are_the_kernels() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for word in [[0x20, 0], [0x20, 5], [0, 5]] {
        let mut frame = in_ip(true, &packet()).frame(backend_mac(SELF), &[]);
        frame[IP + 6..IP + 8].copy_from_slice(&word);
        seal(&mut frame);
        endpoint.send(&frame).untouched(PassFragment);
    }
    Ok(())
}

#[test]
fn gue_of_another_kind_is_the_kernels() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let frame = in_gue(true, &[], &packet()).frame(backend_mac(SELF), &[]);
    for (place, byte) in [(0, 0x40), (0, 0x80), (0, 0x20), (1, 6), (1, 0), (2, 0x80), (3, 1)] {
        let mut other = frame.clone();
        other[GUE + place] = byte;
        endpoint.send(&other).untouched(PassUnknownGue);
    }
    Ok(())
}

#[test]
fn lengths_have_to_fit_into_each_other() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    // The inner packet is longer than its tunnel; the tunnel's padding doesn't count.
    let mut tunnel = in_ip(true, &packet());
    tunnel.payload.truncate(packet().len() - 1);
    let mut padded = tunnel.frame(backend_mac(SELF), &[]);
    padded.extend([0; 20]);
    endpoint.send(&padded).dropped(DropTruncated);
    // The outer packet is longer than the frame.
    let mut short = in_ip(true, &packet()).frame(backend_mac(SELF), &[]);
    short.pop();
    endpoint.send(&short).dropped(DropTruncated);
    // The UDP length: beyond the IP packet, shorter than GUE's own headers, shorter than the inner packet.
    let frame = in_gue(true, &[0; 8], &packet()).frame(backend_mac(SELF), &[]);
    let whole = u16::from_be_bytes([frame[L4 + 4], frame[L4 + 5]]);
    for (length, reason) in [
        (whole + 1, DropMalformed),
        (19, DropMalformed),
        (whole - 1, DropTruncated),
    ] {
        let mut other = frame.clone();
        other[L4 + 4..L4 + 6].copy_from_slice(&length.to_be_bytes());
        endpoint.send(&other).dropped(reason);
    }
    // Private data that reaches into the packet leaves none.
    let mut other = frame;
    other[GUE] = 31;
    endpoint.send(&other).dropped(DropMalformed);
    Ok(())
}

#[test]
fn a_broken_inner_header_is_dropped() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    for (place, byte) in [(0, 0x44), (0, 0x65), (10, 0), (2, 0)] {
        let mut broken = packet();
        broken[place] = byte;
        broken[3] = if place == 2 { 10 } else { broken[3] };
        endpoint
            .send_outer(&to(address(SELF, true), 4, broken.clone()))
            .dropped(DropMalformed);
    }
    // A frame that ends within the inner header.
    for length in [0, 10, 19] {
        let tunnel = to(address(SELF, true), 4, packet()[..length].to_vec());
        endpoint.send_outer(&tunnel).dropped(DropTruncated);
    }
    // An outer header that contradicts itself.
    let mut frame = in_ip(true, &packet()).frame(backend_mac(SELF), &[]);
    frame[IP] = 0x44;
    endpoint.send(&frame).dropped(DropMalformed);
    Ok(())
}

#[test]
fn candidates_have_to_make_sense() -> Result<()> {
    let mut endpoint = Endpoint::new()?;
    let two = [address(2, true), address(3, true)];
    let good = candidates(0, &two, 0);
    let mut too_many = candidates(0, &two, 0);
    too_many[2] = 3;
    too_many.extend([192, 0, 2, 9]);
    let mut too_short = good.clone();
    too_short.truncate(8);
    let beyond = candidates(3, &two, 0);
    for bad in [too_many, too_short, beyond] {
        endpoint
            .send_outer(&in_gue(true, &bad, &packet()))
            .dropped(DropMalformed);
    }
    let mut magic = good;
    magic[1] = 0xb2;
    let payload = gue(50_000, 4, &magic, &packet());
    endpoint
        .send_outer(&to(address(SELF, true), 17, payload))
        .passed(&taken_out(&packet(), &[]), &[DecapsulatedGue]);
    Ok(())
}
