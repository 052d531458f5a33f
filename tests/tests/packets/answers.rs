//! What the data plane answers for a VIP that it owns: ARP and ping; and what it refuses.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Ipv4Header};
use foobar::dataplane::monotonic_ns;
use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{
    Arp, BROADCAST, CLIENT, HOST, IP, L4, Mac, OTHER_VIP, OWN, PEER, ROUTER, STRANGER, VIP, ethernet, icmp,
    who_has,
};
use foobar_tests::packets::rig::{LEASE, OTHER_LEASE, Rig};

const ECHO: IcmpEchoHeader = IcmpEchoHeader { id: 0x1234, seq: 9 };

fn ping(destination: Ipv4Addr) -> Vec<u8> {
    icmp(destination, Icmpv4Type::EchoRequest(ECHO), |_| ())
}

/// The reply to a ping: the same packet turned round with a TTL of its own, and type 0 for 8.
fn pong(request: &[u8]) -> Vec<u8> {
    let (mut ip, rest) = Ipv4Header::from_slice(&request[IP..]).expect("an IPv4 packet");
    std::mem::swap(&mut ip.source, &mut ip.destination);
    ip.time_to_live = 64;
    ip.header_checksum = ip.calc_header_checksum();
    let payload = &rest[8..];
    let icmp = Icmpv4Header::with_checksum(Icmpv4Type::EchoReply(ECHO), payload);
    let packet = [&ip.to_bytes()[..], &icmp.to_bytes(), payload].concat();
    ethernet(ROUTER, OWN, 0x0800, &packet)
}

/// The reply to an ARP request of `who_has`, for whoever sent it by `sender_mac`.
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

#[test]
fn a_ping_to_an_owned_vip_is_answered() -> Result<()> {
    let mut rig = Rig::new()?;
    for vip in [VIP, OTHER_VIP] {
        let request = ping(vip);
        rig.send(&request).answered(Counter::AnswerEcho, &pong(&request));
    }
    Ok(())
}

#[test]
fn a_pings_checksums_are_right_for_every_ttl_and_identifier() -> Result<()> {
    let mut rig = Rig::new()?;
    for ttl in [0, 1, 63, 64, 65, 128, 255] {
        for identification in [0x0000, 0x4242, 0xffff] {
            let request = icmp(VIP, Icmpv4Type::EchoRequest(ECHO), |ip| {
                (ip.time_to_live, ip.identification) = (ttl, identification);
            });
            rig.send(&request).answered(Counter::AnswerEcho, &pong(&request));
        }
    }
    Ok(())
}

#[test]
fn a_ping_of_every_checksum_near_the_wrap_is_answered_rightly() -> Result<()> {
    let mut rig = Rig::new()?;
    for seq in (0..=0xffff).step_by(251).chain([0xf7fe, 0xf7ff, 0xf800]) {
        let echo = IcmpEchoHeader { id: 0, seq };
        let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &[]);
        let request = foobar_tests::packets::frame::ipv4(
            etherparse::IpNumber::ICMP,
            CLIENT,
            VIP,
            &header.to_bytes(),
            |_| (),
        );
        let verdict = rig.send(&request).verdict;
        let (reply, rest) = Icmpv4Header::from_slice(&verdict.frame[L4..])?;
        assert_eq!(reply.icmp_type, Icmpv4Type::EchoReply(echo));
        let right = Icmpv4Header::with_checksum(reply.icmp_type.clone(), rest);
        // All ones and all zeros are the same number of one's complement.
        assert_eq!(reply.checksum % 0xffff, right.checksum % 0xffff, "sequence {seq}");
    }
    Ok(())
}

#[test]
fn a_ping_with_ip_options_is_answered_with_them() -> Result<()> {
    let mut rig = Rig::new()?;
    let request = icmp(VIP, Icmpv4Type::EchoRequest(ECHO), |ip| {
        ip.options = [1; 8].into()
    });
    rig.send(&request).answered(Counter::AnswerEcho, &pong(&request));
    Ok(())
}

#[test]
fn a_ping_to_a_vip_of_another_balancer_is_dropped() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.plane.set_lease(LEASE, 0);
    rig.send(&ping(VIP)).dropped(&[Counter::DropNotOwner]);
    rig.send(&ping(OTHER_VIP))
        .answered(Counter::AnswerEcho, &pong(&ping(OTHER_VIP)));
    Ok(())
}

#[test]
fn answers_end_with_the_lease() -> Result<()> {
    let mut rig = Rig::new()?;
    let request = who_has(VIP);
    let asked = request.frame(BROADCAST, ROUTER);
    rig.plane.set_lease(LEASE, monotonic_ns() + 400_000_000);
    rig.send(&ping(VIP))
        .answered(Counter::AnswerEcho, &pong(&ping(VIP)));
    rig.send(&asked).answered(Counter::AnswerArp, &is_at(request));
    thread::sleep(Duration::from_millis(450));
    rig.send(&ping(VIP)).dropped(&[Counter::DropNotOwner]);
    rig.send(&asked).dropped(&[Counter::DropNotOwner]);
    rig.plane.set_lease(LEASE, monotonic_ns() + 60_000_000_000);
    rig.send(&asked).answered(Counter::AnswerArp, &is_at(request));
    Ok(())
}

#[test]
fn forwarding_goes_on_without_a_lease() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.plane.set_lease(LEASE, 0);
    let flow = foobar_tests::packets::frame::Flow::new(40_000, foobar_tests::packets::rig::WEB);
    rig.send(&flow.syn()).forwarded_to(1, &[]);
    rig.send(&flow.data()).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn icmp_that_is_no_ping_is_dropped() -> Result<()> {
    let mut rig = Rig::new()?;
    let of = |type_u8, code_u8| Icmpv4Type::Unknown {
        type_u8,
        code_u8,
        bytes5to8: [1, 2, 3, 4],
    };
    for (what, kind) in [
        ("echo reply", of(0, 0)),
        ("unreachable", of(3, 1)),
        ("too big", of(3, 4)),
        ("redirect", of(5, 1)),
        ("echo with a code", of(8, 1)),
        ("time exceeded", of(11, 0)),
        ("timestamp", of(13, 0)),
        ("unassigned", of(255, 255)),
    ] {
        println!("{what}");
        rig.send(&icmp(VIP, kind, |_| ())).dropped(&[Counter::DropIcmp]);
    }
    let cut = foobar_tests::packets::frame::ipv4(
        etherparse::IpNumber::ICMP,
        CLIENT,
        VIP,
        &[8, 0, 0, 0, 0, 1, 0],
        |_| (),
    );
    rig.send(&cut).dropped(&[Counter::DropIcmp]);
    rig.send(&ping(HOST)).passed();
    Ok(())
}

#[test]
fn pings_for_another_mac_or_from_a_balancer_are_not_answered() -> Result<()> {
    let mut rig = Rig::new()?;
    let with = |destination: Mac, source: Mac| ethernet(destination, source, 0x0800, &ping(VIP)[IP..]);
    rig.send(&with(STRANGER, ROUTER))
        .dropped(&[Counter::DropForeignMac]);
    rig.send(&with(BROADCAST, ROUTER))
        .dropped(&[Counter::DropForeignMac]);
    rig.send(&with(OWN, PEER)).dropped(&[Counter::DropLoop]);
    rig.send(&with(OWN, OWN)).dropped(&[Counter::DropLoop]);
    Ok(())
}

#[test]
fn who_asks_for_an_owned_vip_learns_the_balancers_mac() -> Result<()> {
    let mut rig = Rig::new()?;
    for vip in [VIP, OTHER_VIP] {
        let request = who_has(vip);
        rig.send(&request.frame(BROADCAST, ROUTER))
            .answered(Counter::AnswerArp, &is_at(request));
        rig.send(&request.frame(OWN, ROUTER))
            .answered(Counter::AnswerArp, &is_at(request));
    }
    Ok(())
}

/// RFC 5227 section 2.1.1: the sender's address is 0, and so is the target's in the reply.
#[test]
fn an_address_probe_is_answered() -> Result<()> {
    let mut rig = Rig::new()?;
    let probe = Arp {
        sender: Ipv4Addr::UNSPECIFIED,
        ..who_has(VIP)
    };
    rig.send(&probe.frame(BROADCAST, ROUTER))
        .answered(Counter::AnswerArp, &is_at(probe));
    Ok(())
}

/// Ethernet pads a frame to 60 bytes.
#[test]
fn the_padding_of_an_arp_request_comes_back_with_the_reply() -> Result<()> {
    let mut rig = Rig::new()?;
    let pad = |frame: Vec<u8>| [frame, vec![0; 18]].concat();
    let request = who_has(VIP);
    rig.send(&pad(request.frame(BROADCAST, ROUTER)))
        .answered(Counter::AnswerArp, &pad(is_at(request)));
    Ok(())
}

#[test]
fn who_asks_for_a_vip_of_another_balancer_is_not_answered() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.plane.set_lease(OTHER_LEASE, 0);
    rig.send(&who_has(OTHER_VIP).frame(BROADCAST, ROUTER))
        .dropped(&[Counter::DropNotOwner]);
    let announced = Arp {
        sender: OTHER_VIP,
        sender_mac: PEER,
        ..who_has(OTHER_VIP)
    };
    rig.send(&announced.frame(BROADCAST, PEER))
        .dropped(&[Counter::DropNotOwner]);
    Ok(())
}

#[test]
fn somebody_else_who_announces_an_owned_vip_is_a_conflict() -> Result<()> {
    let mut rig = Rig::new()?;
    let claim = Arp {
        sender: VIP,
        sender_mac: STRANGER,
        ..who_has(VIP)
    };
    rig.send(&claim.frame(BROADCAST, STRANGER))
        .dropped(&[Counter::DropConflict]);
    Ok(())
}

#[test]
fn other_arp_is_the_kernels() -> Result<()> {
    let mut rig = Rig::new()?;
    let request = who_has(VIP);
    let host = who_has(HOST).frame(BROADCAST, ROUTER);
    rig.send(&host).passed();
    rig.send(&request.frame(STRANGER, ROUTER)).passed();
    rig.send(
        &Arp {
            operation: 2,
            ..request
        }
        .frame(OWN, ROUTER),
    )
    .passed();
    rig.send(
        &Arp {
            operation: 3,
            ..request
        }
        .frame(OWN, ROUTER),
    )
    .passed();
    // Hardware type, protocol type, and both lengths.
    for (offset, value) in [(15, 6), (16, 0x86), (17, 1), (18, 8), (19, 16), (20, 1)] {
        let mut frame = request.frame(BROADCAST, ROUTER);
        frame[offset] = value;
        rig.send(&frame).passed();
    }
    let whole = request.frame(BROADCAST, ROUTER);
    for length in 14..whole.len() {
        rig.send(&whole[..length]).passed();
    }
    Ok(())
}
