//! VIPs as a configuration file has them, by the daemon's own way from the file to the table's entries: ranges
//! of ports, what decides about a flow's slot, and which flows are noted.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::Result;
use foobar::{config, lb};
use foobar_common::address::Address;
use foobar_common::counters::Counter;
use foobar_common::slot::{Member, Phase, Slot};
use foobar_common::vip::Vip;
use foobar_tests::packets::frame::{Flow, VIP};
use foobar_tests::packets::rig::{LEASE, Rig, WIDE_BASE, WIDE_SLOTS, slot};

/// The index of the first VIP's slot; the others' follow.
const FIRST: u32 = 100;

/// A rig with the VIPs of a file, each a line of keys. They have a slot each, settled at target 1, 2 and so on.
fn rig(vips: &[&str]) -> Result<Rig> {
    let mut text = "interface = \"eth0\"\n".to_owned();
    for (n, lines) in vips.iter().enumerate() {
        text += &format!("[[vip]]\nname = \"v{n}\"\naddress = \"{VIP}\"\ncheck.kind = \"none\"\n{lines}\n");
    }
    let config = config::parse("lb.toml", &text).map_err(|report| anyhow::anyhow!("{report}"))?;
    let mut rig = Rig::new()?;
    let mut entries = vec![rig.address(VIP, LEASE)];
    for (index, vip) in (FIRST..).zip(&config.vips) {
        rig.set(index, Slot::settled((index - FIRST + 1) as Member));
        entries.push(Vip {
            id: index,
            slot_base: index,
            slot_mask: 0,
            ..lb::entry::of(vip)
        });
    }
    rig.plane.set_services(&entries)?;
    Ok(rig)
}

/// The same, of one VIP with [`WIDE_SLOTS`] slots, slot n settled at target n % 8 + 1.
fn wide(lines: &str) -> Result<Rig> {
    let mut rig = rig(&[lines])?;
    let mut entries = rig.plane.services();
    for entry in &mut entries {
        if entry.id == FIRST {
            (entry.slot_base, entry.slot_mask) = (WIDE_BASE, WIDE_SLOTS - 1);
        }
    }
    for n in 0..WIDE_SLOTS {
        rig.set(WIDE_BASE + n, Slot::settled((n % 8 + 1) as Member));
    }
    rig.plane.set_services(&entries)?;
    Ok(rig)
}

#[test]
fn a_range_takes_its_ports_and_a_single_port_inside_of_it_is_its_own() -> Result<()> {
    let mut rig = rig(&[
        "ports = \"8000-8999\"",
        "port = 8443",
        "ports = \"9000-9001\"",
        "ports = \"all\"\nprotocol = \"udp\"",
        "port = 53\nprotocol = \"udp\"",
    ])?;
    for (port, member) in [
        (8000, 1),
        (8442, 1),
        (8443, 2),
        (8444, 1),
        (8999, 1),
        (9000, 3),
        (9001, 3),
    ] {
        rig.send(&Flow::new(40_001, port).syn()).forwarded_to(member, &[]);
    }
    for port in [7999, 9002, 80, 1, 65_535] {
        rig.send(&Flow::new(40_001, port).syn())
            .dropped(&[Counter::DropNoService]);
    }
    for (port, member) in [(1, 4), (52, 4), (53, 5), (54, 4), (8443, 4), (65_535, 4)] {
        rig.send(&Flow::new(40_001, port).datagram())
            .forwarded_to(member, &[]);
    }
    rig.send(&Flow::new(40_001, 0).datagram())
        .dropped(&[Counter::DropNoService]);
    Ok(())
}

/// The targets that flows of so many clients from so many ports reach, by client.
fn reached(rig: &mut Rig, clients: u8, ports: u16) -> Vec<BTreeSet<Member>> {
    let mut reached = Vec::new();
    for client in 1..=clients {
        let client = Ipv4Addr::new(203, 0, 113, client);
        let mut members = BTreeSet::new();
        for n in 0..ports {
            let outcome = rig.send(&Flow::new(30_000 + n, 8000 + n % 10).from(client).data());
            assert_eq!(outcome.targets.len(), 1, "port {n} of {client}");
            members.insert(outcome.targets[0].member);
        }
        reached.push(members);
    }
    reached
}

#[test]
fn by_source_all_of_a_clients_flows_go_to_one_member() -> Result<()> {
    let mut rig = wide("ports = \"8000-8009\"\nhash = \"source\"")?;
    let reached = reached(&mut rig, 60, 20);
    assert!(reached.iter().all(|members| members.len() == 1), "{reached:?}");
    assert_eq!(reached.into_iter().flatten().collect::<BTreeSet<_>>().len(), 8);
    Ok(())
}

#[test]
fn by_five_tuple_a_clients_flows_are_spread() -> Result<()> {
    let mut rig = wide("ports = \"8000-8009\"")?;
    let reached = reached(&mut rig, 3, 60);
    assert!(reached.iter().all(|members| members.len() == 8), "{reached:?}");
    Ok(())
}

#[test]
fn by_source_each_flow_of_a_moving_slot_still_has_a_note_of_its_own() -> Result<()> {
    let mut rig = rig(&["port = 443\nhash = \"source\""])?;
    rig.set(FIRST, slot(Phase::Moving, 2, 1, 0));
    let (first, second) = (Flow::new(40_001, 443), Flow::new(40_002, 443));
    for flow in [first, second] {
        rig.send(&flow.syn())
            .forwarded_to(2, &[Counter::SlotMoving, Counter::NotePending]);
    }
    for flow in [first, second] {
        rig.send(&flow.data()).forwarded_to(
            2,
            &[Counter::SlotMoving, Counter::NoteFollowed, Counter::NotePromoted],
        );
    }
    let old = Flow::new(40_003, 443);
    rig.send(&old.data())
        .forwarded_to(1, &[Counter::SlotMoving, Counter::NotePending]);
    Ok(())
}

#[test]
fn tracking_is_what_the_file_says() -> Result<()> {
    let flow = Flow::new(40_001, 443);
    let tracked = |lines: &str| rig(&[&format!("port = 443\n{lines}")]);

    let mut transitions = tracked("")?;
    transitions.send(&flow.syn()).forwarded_to(1, &[]);
    assert!(transitions.notes().pending.is_empty());

    let mut all = tracked("tracking = \"all\"")?;
    all.send(&flow.syn()).forwarded_to(1, &[Counter::NotePending]);
    all.set(FIRST, Slot::settled(2));
    all.send(&flow.data())
        .forwarded_to(1, &[Counter::NoteFollowed, Counter::NotePromoted]);
    all.send(&Flow::new(40_002, 443).data())
        .forwarded_to(2, &[Counter::NotePending]);

    let mut strict = tracked("tracking = \"all\"\nmidstream = \"refuse\"")?;
    strict.send(&flow.data()).dropped(&[Counter::DropNoNote]);
    strict.send(&flow.syn()).forwarded_to(1, &[Counter::NotePending]);
    strict
        .send(&flow.data())
        .forwarded_to(1, &[Counter::NoteFollowed, Counter::NotePromoted]);

    let mut none = tracked("tracking = \"none\"")?;
    none.set(FIRST, slot(Phase::Moving, 2, 1, 0));
    none.send(&flow.data()).forwarded_to(2, &[Counter::SlotMoving]);
    none.send(&flow.syn()).forwarded_to(2, &[Counter::SlotMoving]);
    let notes = none.notes();
    assert!(notes.noted.is_empty() && notes.pending.is_empty());
    Ok(())
}

#[test]
fn an_entry_in_force_is_the_file_s() -> Result<()> {
    let rig = rig(&["ports = \"8000-8999\""])?;
    let entries = rig.plane.services();
    let range = entries.iter().find(|entry| entry.id == FIRST);
    let key = range.map(|entry| entry.key).expect("in force");
    assert_eq!(key.address, Address::from(VIP));
    assert_eq!(
        (u16::from_be(key.port_be), u16::from_be(key.last_port_be)),
        (8000, 8999)
    );
    Ok(())
}
