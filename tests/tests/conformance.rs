//! The conformance table: bytes in, bytes out, verdict, and exactly the counters that moved.
//!
//! A case is data ([`case::Case`]), one runner runs them all on the real program by BPF_PROG_TEST_RUN, and
//! their names read as the specification of what becomes of a packet. Expected bytes are etherparse's or made
//! by hand, and expected fates are written down here: neither comes from the program's own code. It needs
//! root, and no network.

#[path = "conformance/arp.rs"]
mod arp;
#[path = "conformance/candidates.rs"]
mod candidates;
#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/echo.rs"]
mod echo;
#[path = "conformance/errors.rs"]
mod errors;
#[path = "conformance/ethernet.rs"]
mod ethernet;
#[path = "conformance/family.rs"]
mod family;
#[path = "conformance/fragments.rs"]
mod fragments;
#[path = "conformance/hash.rs"]
mod hash;
#[path = "conformance/interfaces.rs"]
mod interfaces;
#[path = "conformance/ipv4.rs"]
mod ipv4;
#[path = "conformance/ipv6.rs"]
mod ipv6;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/lists.rs"]
mod lists;
#[path = "conformance/macs.rs"]
mod macs;
#[path = "conformance/neighbour.rs"]
mod neighbour;
#[path = "conformance/outer.rs"]
mod outer;
#[path = "conformance/phases.rs"]
mod phases;
#[path = "conformance/ports.rs"]
mod ports;
#[path = "conformance/quic.rs"]
mod quic;
#[path = "conformance/refused.rs"]
mod refused;
#[path = "conformance/run.rs"]
mod run;
#[path = "conformance/services.rs"]
mod services;
#[path = "conformance/tcp.rs"]
mod tcp;
#[path = "conformance/too_big.rs"]
mod too_big;
#[path = "conformance/tracking.rs"]
mod tracking;
#[path = "conformance/tunnels.rs"]
mod tunnels;
#[path = "conformance/udp.rs"]
mod udp;

use std::collections::BTreeSet;

use anyhow::Result;
use case::Case;
use family::{Ends, Family};
use foobar_common::admission::{FEATURES_ALL, Features};
use services::{BY_SOURCE, SPREAD};

/// A table of fewer cases than this has lost some.
const AT_LEAST: usize = 2000;

fn table() -> Vec<Case> {
    [
        ethernet::cases(),
        macs::cases(),
        ipv4::cases(),
        ipv6::cases(),
        tcp::cases(),
        udp::cases(),
        fragments::cases(),
        echo::cases(),
        errors::cases(),
        arp::cases(),
        neighbour::cases(),
        phases::cases(),
        tracking::cases(),
        ports::cases(),
        hash::cases(),
        refused::cases(),
        interfaces::cases(),
        tunnels::cases(),
        too_big::cases(),
        candidates::cases(),
        quic::cases(),
        lists::cases(),
        limits::cases(),
    ]
    .concat()
}

#[test]
fn the_table_has_its_cases_and_each_its_own_name() {
    let table = table();
    assert!(table.len() >= AT_LEAST, "only {} cases", table.len());
    let mut names = BTreeSet::new();
    let twice: Vec<_> = table.iter().filter(|case| !names.insert(&case.name)).collect();
    assert!(twice.is_empty(), "named twice: {twice:#?}");
}

/// Runs cases on a program with these features.
fn agree(cases: &[Case], features: Features) -> Result<()> {
    let failures = run::all(cases, features)?;
    println!("{} cases, {} failed", cases.len(), failures.len());
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
    Ok(())
}

#[test]
fn every_packet_becomes_what_the_table_says() -> Result<()> {
    agree(&table(), FEATURES_ALL)
}

/// Features that no service asks for are left out of the program, which is another one then.
#[test]
fn a_program_without_features_says_the_same_of_all_that_needs_none() -> Result<()> {
    const NEED_SOME: [&str; 7] = [
        "tracking",
        "tunnels",
        "too big",
        "candidates",
        "quic",
        "lists",
        "limits",
    ];
    let needs_none = |case: &Case| {
        let is_about = |subject: &str| case.name.contains(&format!(" / {subject} / "));
        !NEED_SOME.into_iter().any(is_about)
    };
    let cases: Vec<_> = table().into_iter().filter(needs_none).collect();
    agree(&cases, 0)
}

/// Were all flows of these services one member's, it would say nothing that a client's go to the same.
#[test]
fn flows_are_spread_by_ports_and_by_sources() -> Result<()> {
    for &family in Family::BOTH {
        let clients = (1..=64).map(|n| BY_SOURCE.flow(family).from(hash::client(family, n)).data());
        let ports = (1..=64).map(|n| {
            let client_port = 40_000 + n;
            Ends {
                client_port,
                ..SPREAD.flow(family)
            }
            .data()
        });
        for frames in [clients.collect::<Vec<_>>(), ports.collect()] {
            let members = run::members(&frames)?;
            assert!(
                members.len() > 4,
                "{} frames reach only {members:?}",
                frames.len()
            );
        }
    }
    Ok(())
}
