//! A rolling restart under flows that never pause: no flow leaves its backend, and everything settles again; and flows
//! that are moved are noticed. Needs root; how long anything takes is not asserted.

use std::time::Duration;

use anyhow::{Context as _, Result};
use foobar_tests::bench::restart::report;
use foobar_tests::bench::restart::run::{Outcome, Request, Sample, Stage, Tracking, run};

const REQUEST: Request = Request {
    flows: 20_000,
    backends: 4,
    slots: 4_096,
    idle: Duration::from_secs(8),
    pause: Duration::from_millis(500),
    interval: Duration::from_millis(500),
    tracking: Tracking::Transitions,
};

fn restart(request: Request) -> Result<Outcome> {
    let outcome = run(request, || Ok(()), |_| Ok(()))?;
    println!("{}", report::rendered(&outcome));
    Ok(outcome)
}

#[test]
fn no_flow_leaves_its_backend_and_everything_settles_again() -> Result<()> {
    let outcome = restart(REQUEST)?;
    let flows = outcome.flows;
    assert_eq!((flows.seen, flows.moved, flows.lost), (REQUEST.flows, 0, 0));
    assert!(outcome.settled_after.is_some() && outcome.is_sound());
    assert!(flows.looked_at > REQUEST.flows * outcome.samples.len() as u64);

    let samples = &outcome.samples;
    assert!(
        samples
            .iter()
            .all(|sample| (sample.evicted, sample.full) == (0, 0))
    );
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max();
    assert!(
        most(|sample| sample.notes) > Some(REQUEST.flows / 2),
        "each flow's slot has changed: most have notes"
    );
    assert!(most(|sample| sample.phases.moving.into()) > Some(u64::from(REQUEST.slots) / 2));
    let (first, last) = (
        samples.first().context("a sample")?,
        samples.last().context("a sample")?,
    );
    for quiet in [first, last] {
        assert_eq!(
            (quiet.phases.settled, quiet.notes),
            (REQUEST.slots, 0),
            "{quiet:?}"
        );
    }
    assert_eq!((first.stage, last.stage), (Stage::Before, Stage::Settled));
    Ok(())
}

#[test]
fn flows_that_nobody_notes_are_seen_to_move() -> Result<()> {
    let outcome = restart(Request {
        idle: Duration::from_secs(4),
        tracking: Tracking::None,
        ..REQUEST
    })?;
    let flows = outcome.flows;
    assert_eq!((flows.seen, flows.lost), (REQUEST.flows, 0));
    assert!(flows.moved > REQUEST.flows / 2, "{flows:?}");
    assert!(!outcome.is_sound());
    Ok(())
}
