//! QUIC: a packet follows the server id in its connection id to a member that may have it; else its slot decides.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use foobar::dataplane::{ListEntry, ServerIds, SourceTrie};
use foobar_common::address::Address;
use foobar_common::admission::{FEATURE_QUIC, FEATURES_ALL, LIST_DENY};
use foobar_common::counters::Counter;
use foobar_common::quic::ServerIdKey;
use foobar_common::slot::{Member, Phase, Slot};
use foobar_common::target::{TARGET_CUT, TARGET_DOWN, TARGET_DRAINED, TARGET_GONE, TARGET_REMOVED};
use foobar_common::vip::{VIP_LIST, VIP_QUIC};
use foobar_tests::packets::frame::{CLIENT, Flow, IP, L4, VIP, seal};
use foobar_tests::packets::frame_v6::{CLIENT6, Extension, Flow6, VIP6, chained, ipv6, tagged};
use foobar_tests::packets::quic::{connection_id, long, short};
use foobar_tests::packets::rig::{DNS, DNS_ID, DNS_SLOT, LEASE, Rig, Setup, TCP, UDP, WEB, slot};

/// The configuration's number.
const CONFIG: u8 = 2;
/// The server id of target 3.
const ID: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];
/// Of target 1: the slots lead there.
const SLOTS: Member = 1;
const NAMED: Member = 3;
const FLOW: Flow = Flow::new(40_001, DNS);

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;
const GREASE: u32 = 0x1a2a_3a4a;

fn key(vip: u32, id: &[u8]) -> ServerIdKey {
    let mut key = ServerIdKey {
        vip,
        ..ServerIdKey::default()
    };
    key.id[..id.len()].copy_from_slice(id);
    key
}

/// A rig whose UDP VIP looks at connection ids with server ids of so many bytes.
fn rig_of(length: u8) -> Result<Rig> {
    let mut rig = Rig::new()?;
    let mut services = rig.services();
    for service in &mut services {
        if service.id == DNS_ID {
            service.flags |= VIP_QUIC;
            (service.server_id_length, service.quic_config) = (length, CONFIG);
        }
    }
    rig.plane.set_services(&services)?;
    Ok(rig)
}

fn rig() -> Result<Rig> {
    let mut rig = rig_of(4)?;
    rig.plane
        .set_server_ids(&ServerIds::from([(key(DNS_ID, &ID), NAMED)]))?;
    Ok(rig)
}

fn named() -> Vec<u8> {
    connection_id(CONFIG, &ID)
}

#[test]
fn a_client_that_changes_its_address_keeps_its_server() -> Result<()> {
    let mut rig = rig()?;
    for n in 1..=20u8 {
        let client = Ipv4Addr::new(203, 0, 113, n);
        let flow = Flow::new(30_000 + u16::from(n), DNS).from(client);
        rig.send(&flow.datagram_of(&short(&named())))
            .forwarded_to(NAMED, &[Counter::QuicServerId]);
        rig.send(&flow.datagram_of(&long(V1, 2, &named())))
            .forwarded_to(NAMED, &[Counter::QuicServerId]);
    }
    Ok(())
}

#[test]
fn the_id_counts_in_every_phase_and_leaves_no_note() -> Result<()> {
    let mut rig = rig()?;
    for phase in [
        Phase::Open,
        Phase::Moving,
        Phase::Fresh,
        Phase::Moved,
        Phase::Kept,
    ] {
        rig.set(DNS_SLOT, slot(phase, 1, 2, 4));
        rig.send(&FLOW.datagram_of(&short(&named())))
            .forwarded_to(NAMED, &[Counter::QuicServerId]);
    }
    rig.set(DNS_SLOT, Slot::settled(0));
    rig.send(&FLOW.datagram_of(&short(&named())))
        .forwarded_to(NAMED, &[Counter::QuicServerId]);
    rig.send(&FLOW.datagram()).dropped(&[Counter::DropNoMember]);
    let notes = rig.notes();
    assert!(notes.noted.is_empty() && notes.pending.is_empty());
    Ok(())
}

#[test]
fn ids_of_every_length_are_found() -> Result<()> {
    for length in 1..=8u8 {
        let mut rig = rig_of(length)?;
        let id: Vec<u8> = (1..=length).collect();
        let mut ids = ServerIds::from([(key(DNS_ID, &id), NAMED)]);
        // One that differs in its last byte alone.
        let mut other = id.clone();
        other[usize::from(length) - 1] ^= 0x80;
        ids.insert(key(DNS_ID, &other), 5);
        rig.plane.set_server_ids(&ids)?;
        for (id, member) in [(id, NAMED), (other, 5)] {
            for packet in [
                short(&connection_id(CONFIG, &id)),
                long(V1, 0, &connection_id(CONFIG, &id)),
            ] {
                rig.send(&FLOW.datagram_of(&packet))
                    .forwarded_to(member, &[Counter::QuicServerId]);
            }
        }
    }
    Ok(())
}

#[test]
fn an_id_that_names_nobody_is_the_slots() -> Result<()> {
    let mut rig = rig()?;
    let mut unknown = ID;
    unknown[3] ^= 1;
    for id in [
        connection_id(CONFIG, &unknown),
        connection_id(CONFIG + 1, &ID),
        connection_id(0, &ID),
        connection_id(7, &ID),
        vec![0; 9],
    ] {
        rig.send(&FLOW.datagram_of(&short(&id))).forwarded_to(SLOTS, &[]);
        rig.send(&FLOW.datagram_of(&long(V1, 2, &id)))
            .forwarded_to(SLOTS, &[]);
    }
    Ok(())
}

#[test]
fn a_member_that_does_not_live_is_not_followed_to() -> Result<()> {
    let mut rig = rig()?;
    for flag in [TARGET_DOWN, TARGET_GONE, TARGET_CUT, TARGET_DOWN | TARGET_DRAINED] {
        rig.set_target_flags(NAMED, flag);
        for packet in [
            short(&named()),
            long(V1, 0, &named()),
            long(V1, 2, &named()),
            long(GREASE, 2, &named()),
        ] {
            rig.send(&FLOW.datagram_of(&packet)).forwarded_to(SLOTS, &[]);
        }
    }
    rig.set_target_flags(NAMED, 0);
    rig.send(&FLOW.datagram_of(&short(&named())))
        .forwarded_to(NAMED, &[Counter::QuicServerId]);
    Ok(())
}

#[test]
fn a_draining_member_keeps_its_connections_and_gets_no_new_ones() -> Result<()> {
    let mut rig = rig()?;
    for flag in [TARGET_DRAINED, TARGET_REMOVED] {
        rig.set_target_flags(NAMED, flag);
        for (packet, member) in [
            (short(&named()), NAMED),
            // Initial, 0-RTT, Handshake, Retry.
            (long(V1, 0, &named()), SLOTS),
            (long(V1, 1, &named()), SLOTS),
            (long(V1, 2, &named()), NAMED),
            (long(V1, 3, &named()), NAMED),
            // Retry, Initial, 0-RTT, Handshake.
            (long(V2, 0, &named()), NAMED),
            (long(V2, 1, &named()), SLOTS),
            (long(V2, 2, &named()), SLOTS),
            (long(V2, 3, &named()), NAMED),
            // Whatever they are.
            (long(GREASE, 0, &named()), SLOTS),
            (long(GREASE, 2, &named()), SLOTS),
            (long(0, 3, &named()), SLOTS),
        ] {
            let counters: &[Counter] = if member == NAMED {
                &[Counter::QuicServerId]
            } else {
                &[]
            };
            rig.send(&FLOW.datagram_of(&packet))
                .forwarded_to(member, counters);
        }
    }
    Ok(())
}

#[test]
fn the_first_of_coalesced_packets_decides() -> Result<()> {
    let mut rig = rig()?;
    let random = connection_id(7, &[9; 4]);
    for (first, second, member) in [(named(), random.clone(), NAMED), (random, named(), SLOTS)] {
        let datagram = [long(V1, 2, &first), short(&second)].concat();
        let counters: &[Counter] = if member == NAMED {
            &[Counter::QuicServerId]
        } else {
            &[]
        };
        rig.send(&FLOW.datagram_of(&datagram))
            .forwarded_to(member, counters);
    }
    Ok(())
}

#[test]
fn a_packet_too_short_for_an_id_is_the_slots() -> Result<()> {
    let mut rig = rig()?;
    // First byte, the connection id's first byte, the server id.
    let whole = &short(&named())[..6];
    for length in 0..whole.len() {
        rig.send(&FLOW.datagram_of(&whole[..length]))
            .forwarded_to(SLOTS, &[]);
    }
    rig.send(&FLOW.datagram_of(whole))
        .forwarded_to(NAMED, &[Counter::QuicServerId]);
    // First byte, version, length, the whole connection id.
    let whole = &long(V1, 2, &named())[..15];
    for length in 0..whole.len() {
        rig.send(&FLOW.datagram_of(&whole[..length]))
            .forwarded_to(SLOTS, &[]);
    }
    rig.send(&FLOW.datagram_of(whole))
        .forwarded_to(NAMED, &[Counter::QuicServerId]);
    // A connection id that is itself too short, with what would be an id behind it.
    for length in 0..=4 {
        let mut packet = long(V1, 2, &named());
        packet[5] = length;
        rig.send(&FLOW.datagram_of(&packet)).forwarded_to(SLOTS, &[]);
    }
    // One that goes on beyond the datagram.
    let mut packet = long(V1, 2, &named());
    packet[5] = 200;
    rig.send(&FLOW.datagram_of(&packet)).forwarded_to(SLOTS, &[]);
    Ok(())
}

#[test]
fn what_is_behind_the_datagram_is_not_looked_at() -> Result<()> {
    let mut rig = rig()?;
    let mut frame = FLOW.datagram_of(&short(&named()));
    // 8 bytes of header and 5 of payload; the frame and the packet are as long as before.
    frame[L4 + 4..L4 + 6].copy_from_slice(&13u16.to_be_bytes());
    rig.send(&frame).forwarded_to(SLOTS, &[]);
    frame[L4 + 4..L4 + 6].copy_from_slice(&14u16.to_be_bytes());
    rig.send(&frame).forwarded_to(NAMED, &[Counter::QuicServerId]);
    Ok(())
}

#[test]
fn an_id_is_its_vips_alone() -> Result<()> {
    let mut rig = rig_of(4)?;
    let mut services = rig.plane.services();
    let mut other = rig.service(VIP, 443, UDP, 99, 150, 1);
    other.flags |= VIP_QUIC;
    (other.server_id_length, other.quic_config) = (4, CONFIG);
    services.push(other);
    rig.plane.set_services(&services)?;
    rig.set(150, Slot::settled(6));
    rig.plane.set_server_ids(&ServerIds::from([
        (key(DNS_ID, &ID), NAMED),
        (key(99, &[1, 2, 3, 4]), 7),
    ]))?;
    let elsewhere = Flow::new(40_001, 443);
    rig.send(&elsewhere.datagram_of(&short(&named())))
        .forwarded_to(6, &[]);
    rig.send(&elsewhere.datagram_of(&short(&connection_id(CONFIG, &[1, 2, 3, 4]))))
        .forwarded_to(7, &[Counter::QuicServerId]);
    rig.send(&FLOW.datagram_of(&short(&connection_id(CONFIG, &[1, 2, 3, 4]))))
        .forwarded_to(SLOTS, &[]);
    Ok(())
}

#[test]
fn other_services_do_not_look_at_ids() -> Result<()> {
    let mut rig = rig()?;
    rig.plane.set_services(&rig.services())?;
    rig.send(&FLOW.datagram_of(&short(&named())))
        .forwarded_to(SLOTS, &[]);

    // TCP, were it to ask for it.
    let mut services = rig.services();
    for service in &mut services {
        service.flags |= VIP_QUIC;
        (service.server_id_length, service.quic_config) = (4, CONFIG);
    }
    let tcp = services
        .iter()
        .find(|service| service.key.protocol == TCP)
        .expect("WEB")
        .id;
    rig.plane.set_services(&services)?;
    rig.plane
        .set_server_ids(&ServerIds::from([(key(tcp, &ID), NAMED)]))?;
    let segment = Flow::new(40_001, WEB).segment(&short(&named()), |tcp, _| tcp.ack = true);
    rig.send(&segment).forwarded_to(1, &[]);
    Ok(())
}

#[test]
fn uncommon_packets_follow_ids_too() -> Result<()> {
    let mut rig = rig()?;
    let frame = FLOW.datagram_of(&short(&named()));
    rig.send(&tagged(&frame, &[(0x8100, 7)]))
        .forwarded_to(NAMED, &[Counter::QuicServerId]);

    // The first fragment has the id; the second one follows it.
    let mut first = frame.clone();
    first[IP + 6] = 0x20;
    seal(&mut first);
    rig.send(&first)
        .forwarded_to(NAMED, &[Counter::QuicServerId, Counter::FragmentNoted]);
    let mut second = frame;
    second[IP + 7] = 3;
    seal(&mut second);
    rig.send(&second)
        .forwarded_to(NAMED, &[Counter::FragmentFollowed]);
    Ok(())
}

#[test]
fn by_ipv6_it_is_the_same() -> Result<()> {
    let mut rig = rig()?;
    let mut service = rig.service(IpAddr::from(VIP6), DNS, UDP, DNS_ID, DNS_SLOT, 1);
    service.flags |= VIP_QUIC;
    (service.server_id_length, service.quic_config) = (4, CONFIG);
    let services = [rig.address(IpAddr::from(VIP6), LEASE), service];
    rig.plane.set_services(&services)?;
    let flow = Flow6 {
        client: CLIENT6,
        client_port: 40_001,
        vip: VIP6,
        port: DNS,
    };
    for (packet, member) in [
        (short(&named()), NAMED),
        (long(V1, 2, &named()), NAMED),
        (short(&connection_id(7, &ID)), SLOTS),
    ] {
        let counters: &[Counter] = if member == NAMED {
            &[Counter::QuicServerId]
        } else {
            &[]
        };
        let udp = flow.udp(&packet);
        let plain = rig.send(&ipv6(UDP, CLIENT6, VIP6, &udp, |_| ()));
        assert_eq!(plain.targets.len(), 1);
        assert_eq!(plain.targets[0].member, member);
        plain.forwarded_to(member, counters);
        let (next, payload) = chained(&[Extension::Destination(1)], UDP, &udp);
        rig.send(&ipv6(next, CLIENT6, VIP6, &payload, |_| ()))
            .forwarded_to(member, counters);
    }
    Ok(())
}

#[test]
fn who_is_not_let_in_is_not_led_by_an_id() -> Result<()> {
    let mut rig = rig()?;
    let mut services = rig.plane.services();
    for service in &mut services {
        if service.id == DNS_ID {
            (service.flags, service.list) = (service.flags | VIP_LIST, 7);
        }
    }
    let denied = ListEntry {
        address: Address::from(CLIENT).bytes,
        length: 128,
        verdict: LIST_DENY,
    };
    rig.plane.set_list(7, &SourceTrie::new(&[denied])?)?;
    rig.plane.set_services(&services)?;
    let other = FLOW.from(Ipv4Addr::new(203, 0, 113, 9));
    for datagram in [short(&named()), long(V1, 0, &named())] {
        rig.send(&FLOW.datagram_of(&datagram))
            .dropped(&[Counter::DropDenied]);
        rig.send(&tagged(&FLOW.datagram_of(&datagram), &[(0x8100, 7)]))
            .dropped(&[Counter::DropDenied]);
        rig.send(&other.datagram_of(&datagram))
            .forwarded_to(NAMED, &[Counter::QuicServerId]);
    }
    Ok(())
}

#[test]
fn ids_that_are_set_again_take_the_place_of_all_before() -> Result<()> {
    let mut rig = rig()?;
    rig.plane
        .set_server_ids(&ServerIds::from([(key(DNS_ID, &[7; 4]), 4)]))?;
    rig.send(&FLOW.datagram_of(&short(&named())))
        .forwarded_to(SLOTS, &[]);
    rig.send(&FLOW.datagram_of(&short(&connection_id(CONFIG, &[7; 4]))))
        .forwarded_to(4, &[Counter::QuicServerId]);
    rig.plane
        .set_server_ids(&ServerIds::from([(key(DNS_ID, &[7; 4]), 5)]))?;
    rig.send(&FLOW.datagram_of(&short(&connection_id(CONFIG, &[7; 4]))))
        .forwarded_to(5, &[Counter::QuicServerId]);
    assert_eq!(
        rig.plane.server_ids()?,
        ServerIds::from([(key(DNS_ID, &[7; 4]), 5)])
    );
    Ok(())
}

#[test]
fn a_program_without_the_feature_has_nothing_of_it() -> Result<()> {
    let features = FEATURES_ALL & !FEATURE_QUIC;
    let mut without = Rig::with_features(Setup::default(), features)?;
    let mut services = without.services();
    services.iter_mut().for_each(|service| service.flags |= VIP_QUIC);
    without.plane.set_services(&services)?;
    without
        .send(&FLOW.from(CLIENT).datagram_of(&short(&named())))
        .forwarded_to(SLOTS, &[]);
    let map = "SERVER_IDS";
    assert!(!without.plane.translation()?.maps.contains(map));
    assert!(rig()?.plane.translation()?.maps.contains(map));
    Ok(())
}
