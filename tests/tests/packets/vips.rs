//! The VIP table and the slots behind it: which service a packet is for, and which of its slots.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::Result;
use foobar_common::address::Address;
use foobar_common::counters::Counter;
use foobar_common::flow::flow_hash;
use foobar_common::slot::{Member, Phase, Slot};
use foobar_tests::packets::frame::{BROADCAST, Flow, OTHER_VIP, ROUTER, VIP, icmp, who_has};
use foobar_tests::packets::rig::{
    DNS, DNS_SLOT, LEASE, OTHER_LEASE, Rig, TCP, UDP, WEB, WEB_ID, WEB_SLOT, WIDE, WIDE_BASE, WIDE_SLOTS,
    slot,
};

const FLOW: Flow = Flow::new(40_001, WEB);

#[test]
fn a_service_is_an_address_a_port_and_a_protocol() -> Result<()> {
    let mut rig = Rig::new()?;
    let mut services = vec![rig.address(VIP, LEASE), rig.address(OTHER_VIP, OTHER_LEASE)];
    let cases = [
        (VIP, WEB, TCP),
        (VIP, WEB, UDP),
        (VIP, WEB + 1, TCP),
        (VIP, WEB.swap_bytes(), TCP),
        (OTHER_VIP, WEB, TCP),
        (OTHER_VIP, DNS, UDP),
    ];
    for (member, &(address, port, protocol)) in (1..).zip(&cases) {
        let index = 100 + u32::from(member);
        rig.set(index, Slot::settled(member));
        services.push(rig.service(address, port, protocol, index, index, 1));
    }
    rig.plane.set_services(&services)?;
    for (member, &(address, port, protocol)) in (1..).zip(&cases) {
        let flow = Flow::new(40_001, port).to(address);
        let frame = if protocol == TCP {
            flow.syn()
        } else {
            flow.datagram()
        };
        rig.send(&frame).forwarded_to(member, &[]);
    }
    for frame in [
        Flow::new(40_001, DNS).to(OTHER_VIP).syn(),
        Flow::new(40_001, WEB).to(OTHER_VIP).datagram(),
        Flow::new(40_001, DNS).datagram(),
        Flow::new(WEB, 40_001).syn(),
        Flow::new(40_001, 0).syn(),
    ] {
        rig.send(&frame).dropped(&[Counter::DropNoService]);
    }
    Ok(())
}

#[test]
fn another_table_is_in_force_from_the_next_packet_on() -> Result<()> {
    let mut rig = Rig::new()?;
    let all = rig.services();
    let without_web: Vec<_> = all.iter().copied().filter(|entry| entry.id != WEB_ID).collect();
    rig.set(WEB_SLOT + 100, Slot::settled(2));
    let elsewhere = [
        rig.service(VIP, WEB, TCP, 99, WEB_SLOT + 100, 1),
        rig.address(VIP, LEASE),
    ];
    for _ in 0..3 {
        rig.plane.set_services(&all)?;
        rig.send(&FLOW.syn()).forwarded_to(1, &[]);
        rig.plane.set_services(&without_web)?;
        rig.send(&FLOW.syn()).dropped(&[Counter::DropNoService]);
        rig.plane.set_services(&elsewhere)?;
        rig.send(&FLOW.syn()).forwarded_to(2, &[]);
        rig.send(&Flow::new(40_001, DNS).datagram())
            .dropped(&[Counter::DropNoService]);
        rig.send(&FLOW.to(OTHER_VIP).syn()).passed();
        rig.plane.set_services(&[])?;
        rig.send(&FLOW.syn()).passed();
        rig.send(&who_has(VIP).frame(BROADCAST, ROUTER)).passed();
        let ping = icmp(
            VIP,
            etherparse::Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 1 }),
            |_| (),
        );
        rig.send(&ping).passed();
    }
    Ok(())
}

#[test]
fn each_of_a_thousand_services_is_found() -> Result<()> {
    const SERVICES: u16 = 1_000;
    let mut rig = Rig::new()?;
    let address = |n: u16| Ipv4Addr::from(u32::from(VIP) + u32::from(n % 50));
    let mut services: Vec<_> = (0..50).map(|n| rig.address(address(n), u32::from(n))).collect();
    for n in 0..SERVICES {
        let index = u32::from(n % 256);
        services.push(rig.service(address(n), 1_000 + n, TCP, u32::from(n), index, 1));
    }
    for index in 0..256 {
        rig.set(index, Slot::settled((index % 8 + 1) as Member));
    }
    rig.plane.set_services(&services)?;
    for n in 0..SERVICES {
        let flow = Flow::new(40_001, 1_000 + n).to(address(n));
        rig.send(&flow.data()).forwarded_to(n % 256 % 8 + 1, &[]);
    }
    Ok(())
}

#[test]
fn a_service_whose_slots_are_not_there_is_an_internal_error() -> Result<()> {
    let mut rig = Rig::new()?;
    let beyond = rig.plane.shared_slots().end;
    let services = [
        rig.service(VIP, WEB, TCP, WEB_ID, beyond, 1),
        rig.address(VIP, LEASE),
    ];
    rig.plane.set_services(&services)?;
    rig.send(&FLOW.syn()).dropped(&[Counter::DropInternal]);
    Ok(())
}

/// The target that a flow's slot names, by the contract's hash, where slot n has target n % 8 + 1.
fn expected(flow: Flow, seed: [u64; 2]) -> Member {
    let [a, b] = flow.client_port.to_be_bytes();
    let [c, d] = flow.port.to_be_bytes();
    let ports = u32::from_ne_bytes([a, b, c, d]);
    let hash = flow_hash(seed, Address::from(flow.client).words(), ports);
    (hash as u32 % WIDE_SLOTS % 8 + 1) as Member
}

#[test]
fn a_flows_slot_is_decided_by_client_ports_and_seed() -> Result<()> {
    let mut rig = Rig::new()?;
    for n in 0..WIDE_SLOTS {
        rig.set(WIDE_BASE + n, Slot::settled((n % 8 + 1) as Member));
    }
    let flows = |n: u16| {
        let client = Ipv4Addr::from(0xcb00_7100 + u32::from(n % 7));
        Flow::new(30_000 + n, WIDE).from(client)
    };
    for seed in [[1, 2], [3, 2], [1, 4]] {
        rig.plane.set_flow_seed(seed);
        let mut met = BTreeSet::new();
        for flow in (0..100).map(flows) {
            let member = expected(flow, seed);
            for segment in [flow.syn(), flow.data(), flow.rst()] {
                rig.send(&segment).forwarded_to(member, &[]);
            }
            met.insert(member);
        }
        assert_eq!(met.len(), 8, "seed {seed:?}");
    }
    let moved = (0..100)
        .map(flows)
        .filter(|&f| expected(f, [1, 2]) != expected(f, [3, 2]));
    assert!(moved.count() > 50, "another seed is another spread");
    Ok(())
}

#[test]
fn a_slot_that_moves_touches_no_other_slot() -> Result<()> {
    let mut rig = Rig::new()?;
    for index in (0..rig.plane.slot_capacity()).filter(|&index| index != WEB_SLOT) {
        rig.set(index, slot(Phase::Moving, 6, 7, 8));
    }
    rig.send(&FLOW.data()).forwarded_to(1, &[]);
    rig.set(WEB_SLOT, slot(Phase::Moving, 1, 2, 3));
    rig.set(DNS_SLOT, Slot::settled(5));
    rig.send(&Flow::new(40_001, DNS).datagram()).forwarded_to(5, &[]);
    Ok(())
}
