//! A run: episodes of packets, each through the program and through the model, until one differs too often.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use foobar_common::admission::Features;
use foobar_common::counters::Counter;
use foobar_common::target::TargetCounters;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::json;

use super::bench::{Bench, Remains};
use super::change::Change;
use super::compare;
use super::dice::Dice;
use super::fault::Fault;
use super::scene::{self, MEMBERS};
use super::traffic::Traffic;
use crate::model::{Age, Moment, World, Written};

/// Packets in an episode.
pub const EPISODE: u64 = 4096;

/// Pending notes tell time in units of a second, and the model tells none: an episode that a busy machine
/// stretched over more than one may differ for that.
const BRISK: Duration = Duration::from_millis(900);

/// How often an episode is tried again that was not [`BRISK`].
const TRIES: usize = 5;

/// Of a hundred packets, how many come after a change.
const CHANGES: usize = 3;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Packets; the last episode may be a part.
    pub packets: u64,
    /// The seed.
    pub seed: u64,
    /// The first packet; its whole episode is run.
    pub from: u64,
    /// What the program is loaded with.
    pub features: Features,
    /// Episodes that may differ before the run ends: each differs once, for after that program and model have
    /// different pasts.
    pub enough: usize,
    /// What is planted.
    pub fault: Option<Fault>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Packets that were compared.
    pub packets: u64,
    /// What differed, in words.
    pub differences: Vec<String>,
    /// Packets that the program sent to somebody whom the model doesn't send them to.
    pub wrong_target: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// What became of how many packets, by the model.
    pub fates: BTreeMap<&'static str, u64>,
    /// How often each counter moved, by the model.
    pub counters: BTreeMap<&'static str, u64>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Packets compared.
    pub packets: u64,
    /// Packets to compare.
    pub of: u64,
    /// Differences.
    pub differences: usize,
}

impl Summary {
    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "packets": self.packets,
            "differences": self.differences.len(),
            "wrong_target": self.wrong_target,
            "seconds": self.elapsed.as_secs_f64(),
            "seed": self.seed,
            "fates": self.fates,
            "counters": self.counters,
            "said": self.differences,
        })
    }
}

/// Runs packets through the program and the model.
///
/// # Errors
/// Where the program can't be loaded or run; a difference is no error.
pub fn run(request: Request, mut progress: impl FnMut(Progress)) -> Result<Summary> {
    stay_on_one_cpu()?;
    let mut bench = Bench::new(request.fault, request.features)?;
    let begin = Instant::now();
    let mut summary = Summary {
        seed: request.seed,
        ..Summary::default()
    };
    let mut episode = request.from / EPISODE;
    while summary.packets < request.packets && summary.differences.len() < request.enough {
        let packets = EPISODE.min(request.packets - summary.packets);
        let mut tries = 0;
        let found = loop {
            let started = Instant::now();
            let found = Episode::new(&mut bench, request.seed, episode)?.run(packets)?;
            tries += 1;
            if found.difference.is_none() || started.elapsed() < BRISK || tries == TRIES {
                break found;
            }
        };
        summary.add(found);
        episode += 1;
        progress(Progress {
            packets: summary.packets,
            of: request.packets,
            differences: summary.differences.len(),
        });
    }
    summary.elapsed = begin.elapsed();
    Ok(summary)
}

/// Free lists of the kernel's maps are per CPU: on one, a map is full when it is full.
fn stay_on_one_cpu() -> Result<()> {
    let mut one = CpuSet::new();
    one.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &one)?;
    Ok(())
}

/// The clock that the program's token buckets go by: CLOCK_MONOTONIC as of the last timer tick.
fn coarse_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(Duration::from(now).as_nanos() as u64)
}

/// What came of an episode.
#[derive(Debug, Default)]
struct Found {
    packets: u64,
    difference: Option<String>,
    wrong_target: u64,
    fates: BTreeMap<&'static str, u64>,
    counters: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn add(&mut self, found: Found) {
        self.packets += found.packets;
        self.wrong_target += found.wrong_target;
        self.differences.extend(found.difference);
        for (fate, count) in found.fates {
            *self.fates.entry(fate).or_default() += count;
        }
        for (counter, count) in found.counters {
            *self.counters.entry(counter).or_default() += count;
        }
    }
}

struct Episode<'a> {
    bench: &'a mut Bench,
    seed: u64,
    number: u64,
    dice: Dice,
    world: World,
    traffic: Traffic,
    sent: Vec<TargetCounters>,
}

impl<'a> Episode<'a> {
    fn new(bench: &'a mut Bench, seed: u64, number: u64) -> Result<Self> {
        let mut dice = Dice::new(seed, number);
        let mut world = scene::world(&mut dice, bench.features());
        let traffic = Traffic::new(&mut dice, &world);
        bench.install(&world)?;
        world.answers = bench.answers;
        plant_notes(&mut dice, &mut world, &traffic, bench)?;
        let sent = (1..=MEMBERS).map(|member| bench.sent(member)).collect();
        Ok(Self {
            bench,
            seed,
            number,
            dice,
            world,
            traffic,
            sent,
        })
    }

    fn run(mut self, packets: u64) -> Result<Found> {
        let mut found = Found::default();
        let mut counters = self.bench.counters()?;
        for place in 0..packets {
            while self.dice.percent(CHANGES) {
                let change = Change::of(&mut self.dice, &self.world);
                change.apply(&mut self.world);
                self.bench.apply(&self.world, &change)?;
            }
            let frame = self.traffic.next(&mut self.dice, &self.world);
            let earliest_ns = coarse_ns()?;
            let verdict = self.bench.run(&frame)?;
            let latest_ns = coarse_ns()?;
            let after = self.bench.counters()?;
            let moved = compare::moved(&counters, &after);
            counters = after;
            self.world.moment = Moment {
                earliest_ns,
                latest_ns,
                dropped: compare::dropped(&verdict, &moved),
            };
            let expected = self.world.receive(&frame);
            self.bench.answers = self.world.answers;
            found.packets += 1;
            *found.fates.entry(expected.name()).or_default() += 1;
            for counter in &expected.counters {
                *found.counters.entry(counter.name()).or_default() += 1;
            }
            if compare::is_wrong_target(&expected, &verdict) {
                found.wrong_target += 1;
            }
            if let Some(said) = compare::difference(&expected, &verdict, &moved) {
                found.difference = Some(self.say(place, &format!("{said}\nframe: {}", compare::hex(&frame))));
                return Ok(found);
            }
            if let Some(sent) = expected.sent {
                let count = &mut self.sent[usize::from(sent.member) - 1];
                count.packets += 1;
                count.bytes += sent.bytes;
                count.connections += sent.connections;
            }
        }
        found.difference = self
            .left_over()?
            .map(|said| self.say(packets.saturating_sub(1), &said));
        Ok(found)
    }

    /// Where members' counters, notes or fragments differ after all.
    fn left_over(&mut self) -> Result<Option<String>> {
        let mut said: Vec<String> = Vec::new();
        for (member, &expected) in (1..).zip(&self.sent) {
            let sent = self.bench.sent(member);
            said.extend(
                compare::sent(member, expected, sent)
                    .map(|said| format!("counted by the program besides what the model counts: {said}")),
            );
        }
        let remains = self.bench.remains()?;
        said.extend(remains.difference(&Remains::expected(&self.world)));
        Ok((!said.is_empty()).then(|| said.join("\n")))
    }

    fn say(&self, place: u64, said: &str) -> String {
        let from = self.number * EPISODE;
        format!(
            "packet {} differs; again: cargo xtask fuzz --seed {} --from {from} --packets {}\n{said}",
            from + place,
            self.seed,
            place + 1,
        )
    }
}

/// Writes notes of some flows, as peers' notes and former lives leave them; some are past their time.
fn plant_notes(dice: &mut Dice, world: &mut World, traffic: &Traffic, bench: &mut Bench) -> Result<()> {
    for flow in traffic.flows() {
        if !dice.percent(10) {
            continue;
        }
        let Some(service) = world.service(flow.vip, flow.port, flow.protocol) else {
            continue;
        };
        let id = world.flow_id(service, flow.client, flow.client_port, flow.port);
        let note = Written {
            member: scene::member(dice, 0),
            pending: dice.percent(20),
            ended: dice.percent(20),
            age: dice.pick(&[Age::Fresh, Age::Fresh, Age::Expired]),
        };
        if world.notes.insert(&id, note) {
            bench.insert_note(&id, note)?;
        }
    }
    Ok(())
}

/// The counters that packets of a run can move: all but the one of what must not be, and those of events.
pub fn reachable() -> impl Iterator<Item = Counter> {
    Counter::ALL.iter().copied().filter(|counter| {
        // Events of notes are no feature of a world; what becomes of them is for the packet tests.
        ![
            Counter::DropInternal,
            Counter::NoteUntoldPending,
            Counter::NoteUntold,
        ]
        .contains(counter)
    })
}
