//! Second chance end to end: real balancers and real agents, and a VIP that moves between two balancers that have
//! no link, while backends come and go.

use anyhow::Result;
use foobar_tests::pattern::seed;
use foobar_tests::streams::report::Cause;
use foobar_tests::takeover::{self, Case, Chance, Outcome};
use foobar_tests::world::Family;

fn case() -> Case {
    Case {
        vip: Family::V4,
        outer: Family::V4,
        far: None,
        chance: Chance::Second,
        rounds: 12,
        seed: seed(),
    }
}

/// No stream broke, no byte was wrong, and the case was worth it: a twentieth of the streams were those of an
/// earlier owner of their slot after the VIP had moved, both balancers steered, and no change had to wait.
fn assert_nothing_broke(outcome: &Outcome) {
    println!("{outcome}");
    assert_eq!(outcome.report.failed(), 0, "{outcome}");
    assert_eq!(
        outcome.report.corrupt_bytes + outcome.corrupt_at_servers,
        0,
        "{outcome}"
    );
    assert_eq!(outcome.report.spread.len(), 5, "{outcome}");
    assert!(outcome.elsewhere * 20 >= outcome.moved, "{outcome}");
    assert!(outcome.packets.iter().all(|&packets| packets > 1000), "{outcome}");
    assert!(outcome.given_on > 300, "{outcome}");
    assert!(outcome.kept_owned >= outcome.given_on / 2, "{outcome}");
    assert_eq!(outcome.waiting, 0, "{outcome}");
}

#[test]
fn streams_outlive_changes_and_moves_of_the_vip_in_the_same_second() -> Result<()> {
    assert_nothing_broke(&takeover::run(case())?);
    Ok(())
}

#[test]
fn an_ipv6_vips_streams_outlive_them_through_ipv6() -> Result<()> {
    let outcome = takeover::run(Case {
        vip: Family::V6,
        outer: Family::V6,
        rounds: 6,
        ..case()
    })?;
    assert_nothing_broke(&outcome);
    Ok(())
}

#[test]
fn an_ipv4_vips_streams_outlive_them_through_ipv6_and_behind_a_gateway() -> Result<()> {
    let outcome = takeover::run(Case {
        outer: Family::V6,
        far: Some(4),
        rounds: 6,
        ..case()
    })?;
    assert_nothing_broke(&outcome);
    Ok(())
}

#[test]
fn an_ipv6_vips_streams_outlive_them_through_ipv4_and_behind_a_gateway() -> Result<()> {
    let outcome = takeover::run(Case {
        vip: Family::V6,
        far: Some(4),
        rounds: 6,
        ..case()
    })?;
    assert_nothing_broke(&outcome);
    Ok(())
}

/// The control: the same story without candidates breaks streams, and no agent gives a packet on.
#[test]
fn streams_break_without_a_second_chance() -> Result<()> {
    let outcome = takeover::run(Case {
        chance: Chance::OnlyOne,
        ..case()
    })?;
    println!("{outcome}");
    assert!(outcome.report.failed_by(Cause::Reset) >= 10, "{outcome}");
    assert_eq!((outcome.given_on, outcome.kept_owned), (0, 0), "{outcome}");
    assert_eq!(
        outcome.report.corrupt_bytes + outcome.corrupt_at_servers,
        0,
        "{outcome}"
    );
    Ok(())
}
