//! A bounded slice of each scenario of `cargo xtask chaos`: what breaks is counted, how long anything takes is not
//! asserted.

use anyhow::Result;
use foobar_tests::chaos::claims::About;
use foobar_tests::chaos::figures::{Figures, sum};
use foobar_tests::chaos::report::{Report, rendered};
use foobar_tests::chaos::run::{Request, run};
use foobar_tests::chaos::scenario::Scenario;
use foobar_tests::chaos::scenes::Pace;
use foobar_tests::pattern::seed;

const STREAMS: usize = 1000;

/// Runs so many rounds; whatever the scenario says about counts has to hold, and every stream was there.
fn slice(scenario: Scenario, rounds: u32) -> Result<Figures> {
    let request = Request {
        scenario,
        streams: STREAMS,
        rounds: Some(rounds),
        length: None,
        pace: Pace::SLICE,
        seed: seed(),
    };
    let outcome = run(request, &mut |_| Ok(()))?;
    println!("{}", rendered(&[Report::of(&outcome)]));
    let failed: Vec<_> = outcome
        .claims
        .iter()
        .filter(|claim| claim.about == About::Count && claim.holds != Some(true))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let figures = outcome.figures;
    assert!(figures.held.exchanges > STREAMS as u64, "{figures:#?}");
    assert!(figures.short.opened > 0 && figures.udp.sent > 0, "{figures:#?}");
    assert!(figures.site.visits > 0, "{figures:#?}");
    Ok(figures)
}

#[test]
fn a_balancers_death_and_return_break_nothing() -> Result<()> {
    let figures = slice(Scenario::LbKill, 2)?;
    assert_eq!((figures.faults.len(), figures.held.streams), (2, STREAMS));
    // It did die: nobody forwarded for a while.
    let has_outage = |outage: &f64| *outage > 0.0;
    assert!(
        figures
            .faults
            .iter()
            .all(|fault| fault.outage_ms.len() == 2 && fault.outage_ms.values().all(has_outage)),
        "{figures:#?}"
    );
    Ok(())
}

#[test]
fn a_balancers_death_and_return_break_nothing_where_a_router_decides() -> Result<()> {
    let figures = slice(Scenario::LbKillBgp, 2)?;
    assert_eq!((figures.faults.len(), figures.held.streams), (2, STREAMS));
    let has_outage = |outage: &f64| *outage > 0.0;
    assert!(
        figures
            .faults
            .iter()
            .all(|fault| fault.outage_ms.len() == 2 && fault.outage_ms.values().all(has_outage)),
        "{figures:#?}"
    );
    Ok(())
}

#[test]
fn balancers_that_hear_nothing_of_each_other_break_nothing() -> Result<()> {
    let figures = slice(Scenario::Split, 1)?;
    assert_eq!((figures.faults.len(), figures.held.streams), (1, STREAMS));
    Ok(())
}

/// The classic pair beside it, under the same load: it loses all connections, or the comparison is none.
#[test]
fn two_proxies_lose_every_stream_when_one_dies() -> Result<()> {
    let figures = slice(Scenario::LbKillClassic, 1)?;
    // Nearly: some are opened anew just before the first one dies or takes back.
    assert!(
        figures.held.broken_in_faults > STREAMS as u64 * 9 / 10,
        "{figures:#?}"
    );
    Ok(())
}

#[test]
fn daemons_that_are_killed_lose_no_packet() -> Result<()> {
    let figures = slice(Scenario::DaemonKill, 3)?;
    assert_eq!((figures.faults.len(), figures.held.streams), (3, STREAMS));
    Ok(())
}

#[test]
fn balancers_are_stopped_and_replaced_by_another_build_without_a_lost_request() -> Result<()> {
    let figures = slice(Scenario::LbCycle, 2)?;
    assert_eq!(figures.held.streams, STREAMS);
    Ok(())
}

#[test]
fn a_flapping_backend_breaks_its_own_streams_only_while_vips_move() -> Result<()> {
    let figures = slice(Scenario::FlapAgents, 2)?;
    assert!(sum(&figures.held.of_dead_backends) > 0, "{figures:#?}");
    Ok(())
}

#[test]
fn a_backend_is_added_and_a_balancer_dies_and_agents_keep_every_stream() -> Result<()> {
    let figures = slice(Scenario::CompoundAgents, 2)?;
    assert_eq!((figures.faults.len(), figures.held.streams), (2, STREAMS));
    Ok(())
}

#[test]
fn a_backend_is_added_and_a_balancer_dies_and_notes_keep_every_stream() -> Result<()> {
    let figures = slice(Scenario::Compound, 2)?;
    assert_eq!((figures.faults.len(), figures.held.streams), (2, STREAMS));
    Ok(())
}

#[test]
fn a_flapping_backend_breaks_its_own_streams_only_while_vips_move_and_notes_follow() -> Result<()> {
    let figures = slice(Scenario::Flap, 2)?;
    assert!(sum(&figures.held.of_dead_backends) > 0, "{figures:#?}");
    Ok(())
}

#[test]
fn the_control_balancers_of_different_seeds_are_seen_to_break_half_of_the_streams() -> Result<()> {
    let figures = slice(Scenario::ControlSeed, 1)?;
    assert_eq!(
        sum(&figures.held.broken),
        figures.held.broken["reset"],
        "{figures:#?}"
    );
    Ok(())
}

#[test]
fn the_control_slots_without_notes_are_seen_to_break_the_share_that_moves() -> Result<()> {
    let figures = slice(Scenario::ControlHistory, 1)?;
    assert_eq!(
        sum(&figures.held.broken),
        figures.held.broken["reset"],
        "{figures:#?}"
    );
    Ok(())
}
