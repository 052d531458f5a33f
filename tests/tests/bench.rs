//! The bench measures what it says: packets are what their case claims, every one is made anew, and a row
//! whose packets took another way doesn't count. Needs root; how long anything takes is not asserted.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use etherparse::{NetSlice, SlicedPacket};
use foobar_common::bench::Traffic;
use foobar_common::slot::Phase;
use foobar_tests::bench::case::{BASE, CASES, Case, Met, Row, SENT, named, rows};
use foobar_tests::bench::measure::{Invalid, check};
use foobar_tests::bench::programs::Programs;
use foobar_tests::bench::traffic::{bytes, traffic};

fn base() -> Result<Case> {
    named(BASE).copied().context("the base is a case")
}

#[test]
fn every_case_takes_the_way_that_it_claims() -> Result<()> {
    let mut programs = Programs::load()?;
    for case in CASES {
        let row = rows(&[*case])[0];
        assert_eq!(check(&mut programs, &row)?, Ok(()), "{}", case.name);
    }
    Ok(())
}

#[test]
fn many_flows_to_many_vips_take_their_way_too() -> Result<()> {
    let mut programs = Programs::load()?;
    let row = Row {
        vips: 1_000,
        slots: 64,
        backends: 7,
        ..Row::new(base()?, 5_000)
    };
    assert_eq!(check(&mut programs, &row)?, Ok(()));
    Ok(())
}

#[test]
fn a_row_whose_packets_take_another_way_is_invalid() -> Result<()> {
    let mut programs = Programs::load()?;
    let met = |met| -> Result<_> { Ok(Row::new(Case { met, ..base()? }, 1)) };
    let Invalid(why) = check(&mut programs, &met(Met::Slots(Phase::Moved))?)?
        .err()
        .context("it is not settled, as the case claims")?;
    assert_eq!(why, "slot_moved has counted 4096 of 4096 packets");
    let Invalid(why) = check(&mut programs, &met(Met::Nothing)?)?
        .err()
        .context("it is for no VIP")?;
    assert!(why.starts_with("the last packet ended with action 2"), "{why}");
    let noted = named("v4-tcp-moved-l2").context("it is a case")?;
    let unnoted = Case {
        met: Met::Slots(Phase::Moved),
        ..*noted
    };
    let Invalid(why) = check(&mut programs, &Row::new(unnoted, 64))?
        .err()
        .context("there is no note to follow")?;
    assert_eq!(why, "note_followed has counted 0 of 4096 packets");
    let opened = Case {
        packet: foobar_tests::bench::case::Packet::Syn,
        claim: SENT,
        ..base()?
    };
    let Invalid(why) = check(&mut programs, &Row::new(opened, 1))?
        .err()
        .context("it opens connections, which is not claimed")?;
    assert!(why.starts_with("targets have counted"), "{why}");
    Ok(())
}

/// The frame with the bits that tell flows apart blanked.
fn without_flow(traffic: &Traffic, frame: &[u8]) -> Vec<u8> {
    let fixed = traffic.fixed.iter().flat_map(|word| word.to_ne_bytes());
    frame
        .iter()
        .zip(fixed)
        .map(|(byte, fixed)| byte & fixed)
        .collect()
}

#[test]
fn every_byte_and_the_length_are_restored() -> Result<()> {
    let mut programs = Programs::load()?;
    for case in CASES {
        let traffic = traffic(case, 1, 1)?;
        let whole = bytes(&traffic);
        let spoiled: Vec<_> = whole.iter().map(|byte| !byte).collect();
        let longer = [&[0xee; 28][..], &spoiled].concat();
        let shorter = &spoiled[..spoiled.len() - 10];
        for before in [&spoiled[..], &longer, shorter] {
            let after = programs.next(&traffic, before)?;
            assert_eq!(after.len(), whole.len(), "{}", case.name);
            assert_eq!(
                without_flow(&traffic, &after),
                without_flow(&traffic, &whole),
                "{}",
                case.name
            );
        }
    }
    Ok(())
}

#[test]
fn packets_of_all_flows_are_sound() -> Result<()> {
    let mut programs = Programs::load()?;
    let traffic = traffic(&base()?, 1_000_000, 1_000)?;
    let mut frame = bytes(&traffic);
    let mut sources = std::collections::HashSet::new();
    for _ in 0..1_000 {
        frame = programs.next(&traffic, &frame)?;
        let sliced = SlicedPacket::from_ethernet(&frame)?;
        let Some(NetSlice::Ipv4(ip)) = sliced.net else {
            anyhow::bail!("no IPv4 packet");
        };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert!(header.source[..2] == [198, 18] && header.destination[..2] == [198, 19]);
        sources.insert(header.source);
    }
    assert!(sources.len() > 900, "{} sources", sources.len());
    Ok(())
}

#[test]
fn the_command_gives_a_list_of_rows() -> Result<()> {
    let saved = std::env::temp_dir().join(format!("foobar-bench-{}.json", std::process::id()));
    let run = |more: &[&str]| -> Result<_> {
        Ok(Command::new(env!("CARGO_BIN_EXE_foobar-bench"))
            .args(["--quick", "--json", "--only", "v4-not-vip"])
            .args(more)
            .output()?)
    };
    let path = saved.to_str().context("the path is text")?;
    let output = run(&["--save", path])?;
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let read = std::fs::read(&saved);
    std::fs::remove_file(&saved)?;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&read?)?, rows);
    let rows = rows.as_array().context("a list")?;
    ensure!(rows.len() == 2, "{rows:?}");
    for (row, flows) in rows.iter().zip([1, 1_000_000]) {
        assert_eq!(row["case"], "v4-not-vip");
        assert_eq!((&row["flows"], &row["vips"]), (&flows.into(), &1.into()));
        assert_eq!(row["backends"], 256);
        for figure in ["net_ns_min", "net_ns_median", "floor_ns_min"] {
            assert!(row.get(figure).is_some(), "{row}");
        }
    }
    Ok(())
}
