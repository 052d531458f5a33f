//! What is done to the balancers, scenario by scenario.
//!
//! A scene says when it does something and waits until that has had its effect. It counts nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::noted::Death;
use super::pair::{Foobar, Isolated, Pair, index, isolate, other};
use super::scenario::Scenario;
use super::stage::{Forward, Stage};
use super::timeline::Mark;
use crate::artifacts;
use crate::pattern::Random;
use crate::vrrp::wait_state;
use crate::world::Lb;

/// How long one watches what a fault does: a SYN that is lost is sent again after a second.
const AFTER: Duration = Duration::from_millis(2_000);
/// Faults fall into any part of an advertisement's interval, and of a stream's pause.
const JITTER: Duration = Duration::from_millis(500);
/// A backend is dead so long, and lives so long.
const FLAP: Duration = Duration::from_millis(500);

/// How long a scene waits for what it does not see.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between a return and the next fault, at least.
    pub calm: Duration,
    /// VIPs change their balancer so often while a backend flaps.
    pub swap: Duration,
}

impl Pace {
    /// What the command keeps.
    pub const FULL: Self = Self {
        calm: Duration::from_secs(1),
        swap: Duration::from_secs(20),
    };
    /// A test's.
    pub const SLICE: Self = Self {
        calm: Duration::from_millis(300),
        swap: Duration::from_secs(2),
    };
}

/// How often, and for how long.
pub struct Plan<'a> {
    /// Rounds; as many as there is time for, if none.
    pub rounds: Option<u32>,
    /// No round begins after this.
    pub length: Option<Duration>,
    /// How long one waits.
    pub pace: Pace,
    /// What is left to chance.
    pub random: Random,
    /// Is told of each round, and may end the run by an error.
    pub progress: &'a mut dyn FnMut(&str) -> Result<()>,
    started: Instant,
    round: u32,
}

impl<'a> Plan<'a> {
    /// A plan that begins now.
    pub fn new(
        rounds: Option<u32>,
        length: Option<Duration>,
        pace: Pace,
        seed: u64,
        progress: &'a mut dyn FnMut(&str) -> Result<()>,
    ) -> Self {
        Self {
            rounds,
            length,
            pace,
            random: Random::new(seed, u64::MAX),
            progress,
            started: Instant::now(),
            round: 0,
        }
    }

    /// Whether there is another round; if so, it has begun.
    fn goes_on(&mut self) -> Result<bool> {
        let is_over = self.rounds.is_some_and(|rounds| self.round >= rounds)
            || self.length.is_some_and(|length| self.started.elapsed() >= length);
        if !is_over {
            self.round += 1;
            let of = self
                .rounds
                .map_or(String::new(), |rounds| format!(" of {rounds}"));
            (self.progress)(&format!("round {}{of}", self.round))?;
        }
        Ok(!is_over)
    }

    /// Waits until nobody could have foretold.
    fn wait_some_time(&mut self) {
        sleep(self.pace.calm + self.random.duration(Duration::ZERO, JITTER));
    }
}

/// Plays a scenario of two foobar balancers.
///
/// # Errors
/// Where what has to come about does not.
pub fn play(
    scenario: Scenario,
    stage: &mut Stage<'_>,
    pair: &mut Foobar<'_>,
    plan: &mut Plan<'_>,
) -> Result<()> {
    match scenario {
        Scenario::LbKill | Scenario::LbKillClassic | Scenario::LbKillBgp => hosts_die(stage, pair, plan),
        Scenario::DaemonKill => daemons_die(stage, pair, plan),
        Scenario::LbCycle => cycle(stage, pair, plan),
        Scenario::FlapAgents | Scenario::Flap => flap(scenario, stage, pair, plan),
        Scenario::CompoundAgents | Scenario::Compound => change_and_die(scenario, stage, pair, plan),
        Scenario::Split => split(stage, pair, plan),
        Scenario::ControlSeed => die_once(stage, pair, plan),
        Scenario::ControlHistory => add_backend(scenario, stage, pair, plan),
    }
}

/// The active one's host dies and returns.
///
/// # Errors
/// As [`play`].
pub fn hosts_die(stage: &mut Stage<'_>, pair: &mut impl Pair, plan: &mut Plan<'_>) -> Result<()> {
    while plan.goes_on()? {
        plan.wait_some_time();
        stage.timeline.mark(Mark::Fault, "lb dies");
        pair.die(Lb::First)?;
        sleep(AFTER);
        stage.timeline.mark(Mark::Return, "lb returns");
        pair.come_back(Lb::First)?;
    }
    sleep(plan.pace.calm);
    Ok(())
}

fn die_once(stage: &mut Stage<'_>, pair: &mut impl Pair, plan: &mut Plan<'_>) -> Result<()> {
    plan.wait_some_time();
    stage.timeline.mark(Mark::Fault, "lb dies");
    pair.die(Lb::First)?;
    // Every stream says something within this time.
    sleep(AFTER);
    Ok(())
}

/// One of the daemons is killed, and started again before or after the other has taken over.
fn daemons_die(stage: &mut Stage<'_>, pair: &mut Foobar<'_>, plan: &mut Plan<'_>) -> Result<()> {
    while plan.goes_on()? {
        // Twice out of three times the active one.
        let which = *plan
            .random
            .choose(&[Lb::First, Lb::First, Lb::Second])
            .context("a place")?;
        sleep(plan.random.duration(Duration::ZERO, JITTER));
        stage
            .timeline
            .mark(Mark::Fault, format!("{}'s daemon dies", which.name()));
        pair.balancer(which).kill()?;
        sleep(plan.random.duration(Duration::ZERO, 2 * JITTER));
        pair.balancer(which).run()?;
        wait_state(pair.balancer(which), ["active", "backup"][index(which)])?;
        stage.timeline.mark(Mark::Return, "it is back");
    }
    sleep(plan.pace.calm);
    Ok(())
}

/// Each in turn is drained, stopped, started as another build and put back.
fn cycle(stage: &mut Stage<'_>, pair: &mut Foobar<'_>, plan: &mut Plan<'_>) -> Result<()> {
    let builds = [artifacts::next_release()?, artifacts::binary()?];
    let mut round = 0;
    while plan.goes_on()? {
        let which = Lb::BOTH[round % Lb::BOTH.len()];
        plan.wait_some_time();
        stage
            .timeline
            .mark(Mark::Fault, format!("{} is drained", which.name()));
        pair.balancer(which).operate_balancer("drain")?;
        if which == Lb::First {
            pair.wait_active(Lb::Second)?;
        }
        wait_state(pair.balancer(which), "backup")?;
        stage.timeline.mark(Mark::Note, "it is stopped");
        pair.balancer(which).stop()?;
        pair.use_binary(which, builds[round / Lb::BOTH.len() % builds.len()].clone());
        sleep(plan.pace.calm / 2);
        stage.timeline.mark(Mark::Note, "it is started");
        pair.balancer(which).run()?;
        pair.balancer(which).operate_balancer("undrain")?;
        wait_state(pair.balancer(which), ["active", "backup"][index(which)])?;
        stage.timeline.mark(Mark::Return, "it is back");
        round += 1;
    }
    sleep(plan.pace.calm);
    Ok(())
}

/// A backend's servers are killed and started once a second, and the VIPs move by draining the active balancer.
fn flap(scenario: Scenario, stage: &mut Stage<'_>, pair: &mut Foobar<'_>, plan: &mut Plan<'_>) -> Result<()> {
    let flapping = *scenario.killed().first().context("a backend that flaps")?;
    let mut active = Lb::First;
    while plan.goes_on()? {
        let next = Instant::now() + plan.pace.swap;
        while Instant::now() < next {
            stage.stop_servers(flapping)?;
            sleep(FLAP);
            stage.start_servers(flapping)?;
            sleep(FLAP);
        }
        let verb = match active {
            Lb::First => "drain",
            Lb::Second => "undrain",
        };
        stage.timeline.mark(Mark::Note, format!("lb: {verb}"));
        pair.balancer(Lb::First).operate_balancer(verb)?;
        active = other(active);
        pair.wait_active(active)?;
    }
    sleep(plan.pace.calm);
    Ok(())
}

/// A backend comes or goes at both, and the active one's host dies within a tenth of a second, and returns.
fn change_and_die(
    scenario: Scenario,
    stage: &mut Stage<'_>,
    pair: &mut Foobar<'_>,
    plan: &mut Plan<'_>,
) -> Result<()> {
    let mut has_all = false;
    while plan.goes_on()? {
        plan.wait_some_time();
        has_all = !has_all;
        let backends = if has_all {
            scenario.hosts()
        } else {
            scenario.backends()
        };
        let what = if has_all { "added" } else { "removed" };
        stage
            .timeline
            .mark(Mark::Note, format!("b{} is {what}", scenario.hosts()));
        pair.set_backends(1..=backends)?;
        sleep(plan.random.duration(Duration::ZERO, Duration::from_millis(90)));
        stage.timeline.mark(Mark::Fault, "lb dies");
        let at = stage.timeline.origin.elapsed();
        pair.die(Lb::First)?;
        if scenario.forward() == Forward::L2 {
            let [dead, survivor] = Lb::BOTH.map(|which| pair.balancer(which).pins());
            stage.deaths.push(Death::of(at, &dead?, &survivor?)?);
        }
        sleep(AFTER);
        stage.timeline.mark(Mark::Return, "lb returns");
        pair.come_back(Lb::First)?;
    }
    sleep(plan.pace.calm);
    Ok(())
}

/// Nothing goes from one balancer to the other, while both reach everybody else; then it does again.
fn split(stage: &mut Stage<'_>, pair: &mut Foobar<'_>, plan: &mut Plan<'_>) -> Result<()> {
    while plan.goes_on()? {
        plan.wait_some_time();
        stage.timeline.mark(Mark::Fault, "split");
        isolate(stage.world, Isolated::Yes)?;
        pair.wait_active(Lb::Second)?;
        sleep(AFTER);
        pair.wait_active(Lb::First)?;
        isolate(stage.world, Isolated::No)?;
        wait_state(pair.balancer(Lb::Second), "backup")?;
        stage.timeline.mark(Mark::Return, "healed");
    }
    sleep(plan.pace.calm);
    Ok(())
}

fn add_backend(
    scenario: Scenario,
    stage: &mut Stage<'_>,
    pair: &mut Foobar<'_>,
    plan: &mut Plan<'_>,
) -> Result<()> {
    plan.wait_some_time();
    stage
        .timeline
        .mark(Mark::Fault, format!("b{} is added", scenario.hosts()));
    pair.set_backends(1..=scenario.hosts())?;
    pair.wait_owners()?;
    sleep(AFTER);
    Ok(())
}
