//! Runs a scenario: the world, the balancers, the load, the scene, the figures.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::claims::{Claim, claims};
use super::classic::Classic;
use super::figures::{Figures, figures};
use super::pair::{Foobar, Settings};
use super::scenario::Scenario;
use super::scenes::{Pace, Plan, hosts_die, play};
use super::stage::{Observed, Stage, world};
use crate::world::Family;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Which scenario.
    pub scenario: Scenario,
    /// Held streams, half of them of each family.
    pub streams: usize,
    /// How often something goes wrong; the scenario's own number if neither this nor a length is given.
    pub rounds: Option<u32>,
    /// No round begins after this.
    pub length: Option<Duration>,
    /// How long it waits for what it does not see.
    pub pace: Pace,
    /// What everything is drawn from.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was run.
    pub request: Request,
    /// Everything that was seen.
    pub observed: Observed,
    /// What it comes to.
    pub figures: Figures,
    /// Whether it shows what it must.
    pub claims: Vec<Claim>,
}

/// A length that no plan reaches.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Runs a scenario; `progress` is told of each step, and may end the run by an error.
///
/// # Errors
/// Where the world can't be built, or the balancers don't do what they are told to.
pub fn run(request: Request, progress: &mut dyn FnMut(&str) -> Result<()>) -> Result<Outcome> {
    let Request {
        scenario,
        streams,
        seed,
        ..
    } = request;
    ensure!(
        streams >= Family::BOTH.len() && streams <= 20_000,
        "{streams} streams: 2 to 20000 are possible"
    );
    let rounds = match (request.rounds, request.length) {
        (None, None) => Some(scenario.rounds()),
        (rounds, _) => rounds,
    };
    let at_most = rounds.map_or(LONGEST, |rounds| scenario.round_at_most() * (rounds + 2));
    let limit = request
        .length
        .map_or(at_most, |length| length + scenario.round_at_most());

    progress("the world")?;
    let world = world(scenario.hosts(), scenario.ownership())?;
    let mut stage = Stage::set(&world, scenario.forward())?;
    let load = |stage: &mut Stage<'_>, progress: &mut dyn FnMut(&str) -> Result<()>| {
        progress("the streams")?;
        stage.load(streams, seed, limit)
    };
    let plan = |progress| Plan::new(rounds, request.length, request.pace, seed, progress);
    let observed = if scenario == Scenario::LbKillClassic {
        let mut pair = Classic::start(&world)?;
        load(&mut stage, progress)?;
        hosts_die(&mut stage, &mut pair, &mut plan(progress))?;
        stage.end()?
    } else {
        let mut pair = Foobar::start(&world, settings(scenario, seed))?;
        load(&mut stage, progress)?;
        play(scenario, &mut stage, &mut pair, &mut plan(progress))?;
        stage.end()?
    };
    let figures = figures(&observed, scenario.killed());
    Ok(Outcome {
        request,
        claims: claims(scenario, &figures),
        observed,
        figures,
    })
}

fn settings(scenario: Scenario, seed: u64) -> Settings {
    let mut settings = Settings::new(1..=scenario.backends(), scenario.forward(), seed);
    settings.ownership = scenario.ownership();
    match scenario {
        // A cluster would refuse it.
        Scenario::ControlSeed => {
            settings.seeds[1] = seed.wrapping_add(1);
            settings.clustered = false;
        }
        Scenario::ControlHistory => settings.vip_lines.push("tracking = \"none\""),
        Scenario::FlapAgents | Scenario::Flap => {
            settings.check_lines = vec![
                "interval = \"100ms\"",
                "doubt_interval = \"50ms\"",
                "down_interval = \"100ms\"",
                "timeout = \"5s\"",
            ];
        }
        _ => (),
    }
    settings
}
