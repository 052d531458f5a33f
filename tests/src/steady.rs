//! The streams' main job: backends change once a second under held streams, and nobody notices.

use std::fmt::{self, Write as _};
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use foobar_common::counters::Counter;

use crate::churn::{Change, next_change};
use crate::lb::{Balancer, Config};
use crate::pattern::Random;
use crate::streams::client::{Client, Load};
use crate::streams::report::Report;
use crate::streams::server::Server;
use crate::watch::{Phases, Watch};
use crate::world::{Backend, VIP, World};

/// The service's port.
pub const PORT: u16 = 7000;
/// The service.
pub const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, PORT);

/// Backends of the world, and how many of them the configuration begins with.
const BACKENDS: Backend = 8;
const FIRST_BACKENDS: Backend = 4;
/// A change a second.
const CHANGE_EVERY: Duration = Duration::from_secs(1);

/// What makes one case differ from another.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// How long backends change.
    pub duration: Duration,
    /// T, and the held streams' longest gap.
    pub idle: Option<(Duration, Duration)>,
    /// The daemon is killed and started again so often.
    pub kill_every: Option<Duration>,
    /// What is done to the slots' history.
    pub history: History,
    /// The seed of everything.
    pub seed: u64,
}

/// What is done to the slots' history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It is left to the product.
    Kept,
    /// The control: every unsettled slot is made a settled one all the time.
    Forgotten,
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// What the client saw.
    pub report: Report,
    /// Bytes that the servers found wrong.
    pub corrupt_at_servers: u64,
    /// Held streams at the end.
    pub held: usize,
    /// Those of them whose slot had another owner than the stream's backend at some time.
    pub changed: usize,
    /// Those of them whose slot has another owner than the stream's backend at the end.
    pub elsewhere: usize,
    /// The most slots that were seen in each phase at a time.
    pub most: Phases,
    /// Slots that were seen moving, then moved, then settled.
    pub settled_again: usize,
    /// How often the daemon was killed.
    pub kills: u32,
    /// Slots whose history was forgotten.
    pub forgotten: u64,
    /// Packets steered by slots that were moving, and moved.
    pub steered: (u64, u64),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.report)?;
        writeln!(
            f,
            "held {}, slots changed owner under {}, owned elsewhere at the end {}; corrupt bytes at servers {}",
            self.held, self.changed, self.elsewhere, self.corrupt_at_servers
        )?;
        write!(
            f,
            "most slots at a time: {:?}; passed all phases {}; packets by moving slots {}, by moved ones {}; \
             kills {}; histories forgotten {}",
            self.most, self.settled_again, self.steered.0, self.steered.1, self.kills, self.forgotten
        )
    }
}

/// Runs a case.
pub fn run(case: Case) -> Result<Outcome> {
    let world = World::new(BACKENDS)?;
    let servers: Vec<Server> = world
        .backends()
        .map(|backend| Server::start(&world, backend, PORT))
        .collect::<Result<_>>()?;
    let mut config = Config::new(PORT, 1..=FIRST_BACKENDS, case.seed);
    config.idle_timeout = case.idle.map(|(idle, _)| idle);
    let mut balancer = Balancer::start(&world, &config)?;
    let mut pins = balancer.pins()?;
    let slots = pins.range_of(SERVICE)?;

    let mut load = Load::new(SERVICE, case.seed);
    if let Some((_, longest)) = case.idle {
        load.longest_gap = longest;
        load.gap.1 = load.gap.1.min(longest);
    }
    load.limit = case.duration * 2 + Duration::from_secs(60);
    let held = load.held;
    let client = Client::start(&world, load)?;
    client.wait_held(held, Duration::from_secs(30))?;

    let mut random = Random::new(case.seed, u64::MAX);
    let mut watch = Watch::new(slots, PORT);
    let (mut kills, mut forgotten) = (0, 0);
    let start = Instant::now();
    let mut next_kill = case.kill_every;
    let mut changes = String::new();
    let mut steps = 0;
    while start.elapsed() < case.duration {
        let change = next_change(&mut random, &config.backends, BACKENDS);
        change.apply(&mut config.backends);
        let _ = write!(changes, " {change}");
        if next_kill.is_some_and(|at| start.elapsed() >= at) {
            next_kill = next_kill.zip(case.kill_every).map(|(at, every)| at + every);
            balancer.kill()?;
            kills += 1;
            // The new daemon finds a file that has changed meanwhile.
            balancer.configure(&config)?;
            balancer.run()?;
        }
        match change {
            Change::Drain(backend) => balancer.drain(backend)?,
            Change::Undrain(backend) => balancer.undrain(backend)?,
            Change::Add(_) | Change::Reweight(..) | Change::Remove(_) => balancer.reload(&config)?,
        }
        steps += 1;
        let next = start + CHANGE_EVERY * steps;
        while Instant::now() < next {
            if case.history == History::Forgotten {
                forgotten += u64::from(pins.forget_history(slots)?);
            }
            std::thread::sleep(
                next.saturating_duration_since(Instant::now())
                    .min(Duration::from_millis(20)),
            );
        }
        watch.look(&pins, &client.held())?;
    }
    println!("changes:{changes}");

    let held = client.held();
    let elsewhere = watch.elsewhere(&pins, &held)?.len();
    let changed = watch.changed(&held);
    let steered = (
        pins.counter(Counter::SlotMoving)?,
        pins.counter(Counter::SlotMoved)?,
    );
    // The last streams close without a daemon.
    balancer.stop()?;
    let report = client.stop()?;
    balancer.detach()?;
    Ok(Outcome {
        report,
        corrupt_at_servers: servers
            .iter()
            .map(|server| server.seen().corrupt.load(Ordering::Relaxed))
            .sum(),
        held: held.len(),
        changed,
        elsewhere,
        most: watch.most(),
        settled_again: watch.settled_again(),
        kills,
        forgotten,
        steered,
    })
}
