//! The restart itself: flows that never pause, an operator who takes out one backend after the other, and somebody
//! who writes down, once a second, how things are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use foobar::dataplane::DataPlane;
use foobar_common::bench::{BLOCK, Seen, Traffic};
use foobar_common::counters::Counters;
use foobar_common::slot::Phase;
use serde::Serialize;

use super::daemon::{Daemon, Told};
use super::network::Network;
use crate::bench::case::{BASE, named};
use crate::bench::measure::{Summary, summary};
use crate::bench::programs::{Beside, Programs, Subject};
use crate::bench::traffic::BENCHMARK;

/// The lanes of the flows' packets and of those that only measure the wrapper.
const FLOWS: u64 = 0;
const WRAPPER: u64 = 1;
/// Timed runs of a sample, and their blocks.
const ROUNDS: u32 = 8;
const BLOCKS: u32 = 16;
/// Blocks of a run in which every packet is seen.
const SEEN_BLOCKS: u64 = 256;
/// Samples before the first backend goes, and after everything is as it was.
const QUIET: usize = 3;
/// How long after T slots may take to settle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which flows are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Those in slots that change, as usual.
    Transitions,
    /// None: each flow in a slot that changes is moved. What the report is tested with.
    None,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Flows that live all the time.
    pub flows: u64,
    /// Backends.
    pub backends: u16,
    /// Slots of the VIP.
    pub slots: u32,
    /// T.
    pub idle: Duration,
    /// How long a backend is out, and how long all are there before the next one goes.
    pub pause: Duration,
    /// From one sample to the next one; each flow sends at least once in it.
    pub interval: Duration,
    /// Which flows are noted.
    pub tracking: Tracking,
}

/// Where in the story a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing has happened yet.
    Before,
    /// Backends go and come.
    Restarting,
    /// All are back, less than T ago.
    Waiting,
    /// T has passed since the last change.
    Settling,
    /// Every slot is settled, and no note is left.
    Settled,
}

/// Slots by their phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Phases {
    /// Settled.
    pub settled: u32,
    /// Open; only where balancers talk to each other.
    pub open: u32,
    /// Moving.
    pub moving: u32,
    /// Fresh.
    pub fresh: u32,
    /// Moved.
    pub moved: u32,
}

impl Phases {
    fn count(&mut self, phase: Phase) {
        match phase {
            Phase::Settled => self.settled += 1,
            Phase::Open => self.open += 1,
            Phase::Moving => self.moving += 1,
            Phase::Fresh => self.fresh += 1,
            // There are no kept slots without second chance.
            Phase::Moved | Phase::Kept => self.moved += 1,
        }
    }

    /// Those that are not settled.
    pub const fn unsettled(&self) -> u32 {
        self.open + self.moving + self.fresh + self.moved
    }
}

/// How things were in an interval, or at its end.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Where in the story.
    pub stage: Stage,
    /// Seconds since the begin.
    pub at_s: f64,
    /// The interval's length, in seconds.
    pub interval_s: f64,
    /// Slots at its end.
    pub phases: Phases,
    /// Nanoseconds a packet, of the fastest of the timed runs.
    pub ns_min: f64,
    /// The median one's.
    pub ns_median: f64,
    /// Notes in use, as of the daemon's last sweep.
    pub notes: u64,
    /// Pending notes, those included that no longer count.
    pub pending: u64,
    /// Pending notes that had to go for others in the interval.
    pub evicted: u64,
    /// Notes that found no room in the interval.
    pub full: u64,
    /// Sweeps that ended in the interval.
    pub sweeps: u64,
    /// The daemon's CPU time in the interval, in seconds; to a hundredth.
    pub daemon_cpu_s: f64,
    /// What of it was for sweeps, in seconds.
    pub sweep_cpu_s: f64,
}

/// What became of the flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flows {
    /// Flows of which packets were seen at a backend.
    pub seen: u64,
    /// Flows that were seen at another backend than before.
    pub moved: u64,
    /// Packets that were looked at.
    pub looked_at: u64,
    /// Packets of them that went to no backend.
    pub lost: u64,
}

impl Flows {
    fn of(seen: &[Seen], looked_at: u64) -> Self {
        let arrived: u64 = seen.iter().map(|seen| u64::from(seen.packets)).sum();
        let count = |is: fn(&Seen) -> bool| seen.iter().filter(|seen| is(seen)).count() as u64;
        Self {
            seen: count(|seen| seen.packets > 0),
            moved: count(|seen| seen.moves > 0),
            looked_at,
            lost: looked_at - arrived,
        }
    }
}

/// Kernel memory of the notes' maps, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Of the notes.
    pub notes: u64,
    /// Of the pending ones.
    pub pending: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was asked for.
    pub request: Request,
    /// One after the other.
    pub samples: Vec<Sample>,
    /// The flows.
    pub flows: Flows,
    /// What the notes' maps take.
    pub memory: Memory,
    /// The longest that any flow was silent for: from the begin of a round of all flows to the end of the next one.
    pub longest_silence: Duration,
    /// The longest that the operator waited for the daemon.
    pub longest_command: Duration,
    /// From the last change until everything was settled; none where that did not happen in time.
    pub settled_after: Option<Duration>,
}

impl Outcome {
    /// Whether no flow was moved or lost a packet, and everything is settled again.
    pub fn is_sound(&self) -> bool {
        let Flows {
            seen, moved, lost, ..
        } = self.flows;
        (seen, moved, lost) == (self.request.flows, 0, 0) && self.settled_after.is_some()
    }
}

/// Runs the restart. `progress` is called at each sample, and ends it all by an error. `begin` is called when the
/// daemon runs, before anything is measured.
///
/// # Errors
/// Where the daemon or the kernel refuses something, or flows were silent for longer than T: then they may be moved,
/// and nothing can be said.
pub fn run(
    request: Request,
    begin: impl FnOnce() -> Result<()>,
    mut progress: impl FnMut(&Sample) -> Result<()>,
) -> Result<Outcome> {
    let network = Network::new(request.backends)?;
    let daemon = Daemon::start(&network, &request)?;
    let memory = Memory {
        notes: daemon.memory_of("NOTES")?,
        pending: daemon.memory_of("PENDING_NOTES")?,
    };
    begin()?;
    let mut watch = Watch::new(request, &daemon)?;
    let mut samples = Vec::new();
    let mut next = |watch: &mut Watch<'_>, stage| -> Result<Sample> {
        let sample = watch.sample(stage)?;
        progress(&sample)?;
        samples.push(sample);
        Ok(sample)
    };

    for _ in 0..QUIET {
        next(&mut watch, Stage::Before)?;
    }
    let stop = AtomicBool::new(false);
    let operated = std::thread::scope(|scope| -> Result<Operated> {
        let operator = scope.spawn(|| operate(&daemon, network.backends(), request.pause, &stop));
        while !operator.is_finished() {
            if let Err(error) = next(&mut watch, Stage::Restarting) {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        operator
            .join()
            .map_err(|_| anyhow!("the operator has panicked"))?
    })?;

    let settled_after = loop {
        let passed = operated.end.elapsed();
        let stage = if passed < request.idle {
            Stage::Waiting
        } else {
            Stage::Settling
        };
        let sample = next(&mut watch, stage)?;
        if sample.phases.unsettled() == 0 && sample.notes == 0 {
            break Some(operated.end.elapsed());
        }
        if passed > request.idle + PATIENCE {
            break None;
        }
    };
    if settled_after.is_some() {
        for _ in 0..QUIET {
            next(&mut watch, Stage::Settled)?;
        }
    }
    ensure!(
        watch.longest_silence < request.idle,
        "flows were silent for {:?}, and T is {:?}: the machine is too slow for so many of them, or T too short",
        watch.longest_silence,
        request.idle
    );
    Ok(Outcome {
        request,
        samples,
        flows: watch.flows()?,
        memory,
        longest_silence: watch.longest_silence,
        longest_command: operated.longest,
        settled_after,
    })
}

/// What the operator has to tell.
#[derive(Clone, Copy, Debug)]
struct Operated {
    /// The longest that the daemon took to answer.
    longest: Duration,
    /// When the last backend was back.
    end: Instant,
}

/// Takes each backend out and puts it back.
fn operate(
    daemon: &Daemon,
    backends: impl Iterator<Item = u16>,
    pause: Duration,
    stop: &AtomicBool,
) -> Result<Operated> {
    let mut longest = Duration::ZERO;
    for backend in backends {
        for order in [Daemon::drain, Daemon::undrain] {
            std::thread::sleep(pause);
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let begin = Instant::now();
            order(daemon, backend)?;
            longest = longest.max(begin.elapsed());
        }
    }
    Ok(Operated {
        longest,
        end: Instant::now(),
    })
}

/// Who sends the packets and looks at everything.
struct Watch<'a> {
    request: Request,
    daemon: &'a Daemon,
    plane: DataPlane,
    programs: Programs,
    traffic: Traffic,
    wrapper: Traffic,
    looked_at: u64,
    longest_silence: Duration,
    /// When the round before began.
    round: Instant,
    begin: Instant,
    /// The last sample's end, and what counters said then.
    last: Instant,
    counters: Counters,
    told: Told,
}

impl<'a> Watch<'a> {
    fn new(request: Request, daemon: &'a Daemon) -> Result<Self> {
        let plane = daemon.plane()?;
        let programs = Programs::load_for(request.flows)?;
        let case = named(BASE).context("the base is a case")?;
        let traffic = Traffic {
            lane: FLOWS,
            ..BENCHMARK.traffic(case, request.flows, 1)?
        };
        let now = Instant::now();
        Ok(Self {
            request,
            daemon,
            counters: plane.counters()?,
            plane,
            programs,
            traffic,
            wrapper: Traffic {
                lane: WRAPPER,
                ..traffic
            },
            looked_at: 0,
            longest_silence: Duration::ZERO,
            round: now,
            begin: now,
            last: now,
            told: daemon.told()?,
        })
    }

    /// Sends the packets of an interval, and says how things are at its end.
    fn sample(&mut self, stage: Stage) -> Result<Sample> {
        let net = self.timed()?;
        self.round()?;
        if let Some(left) = self.request.interval.checked_sub(self.last.elapsed()) {
            std::thread::sleep(left);
        }
        let (counters, told, now) = (self.plane.counters()?, self.daemon.told()?, Instant::now());
        let mut phases = Phases::default();
        for slot in 0..self.request.slots {
            phases.count(self.plane.slot(slot).0.phase());
        }
        let sample = Sample {
            stage,
            at_s: (now - self.begin).as_secs_f64(),
            interval_s: (now - self.last).as_secs_f64(),
            phases,
            ns_min: net.min,
            ns_median: net.median,
            notes: told.notes,
            pending: self.plane.pending_notes() as u64,
            evicted: counters.note_pending_evicted - self.counters.note_pending_evicted,
            full: counters.note_full - self.counters.note_full,
            sweeps: told.sweeps - self.told.sweeps,
            daemon_cpu_s: (told.cpu - self.told.cpu).as_secs_f64(),
            sweep_cpu_s: (told.sweep_cpu - self.told.sweep_cpu).as_secs_f64(),
        };
        (self.counters, self.told, self.last) = (counters, told, now);
        Ok(sample)
    }

    /// Some packets by the clock, without the wrapper's own time.
    fn timed(&mut self) -> Result<Summary> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let null = Subject::Beside(Beside::Null);
            without.push(self.programs.run(null, &self.wrapper, BLOCKS)?.ns);
            let tested = Subject::Tested(self.plane.program_fd()?);
            with.push(self.programs.run(tested, &self.traffic, BLOCKS)?.ns);
        }
        let (with, without) = (summary(&with), summary(&without));
        Ok(Summary {
            min: with.min - without.min,
            median: with.median - without.median,
        })
    }

    /// A packet of each flow at least, and where it goes.
    fn round(&mut self) -> Result<()> {
        let begin = std::mem::replace(&mut self.round, Instant::now());
        let mut left = self.request.flows.div_ceil(BLOCK);
        while left > 0 {
            let blocks = left.clamp(2, SEEN_BLOCKS);
            let program = self.plane.program_fd()?;
            self.looked_at += self.programs.run_seen(program, &self.traffic, blocks as u32)?;
            left = left.saturating_sub(blocks);
        }
        self.longest_silence = self.longest_silence.max(begin.elapsed());
        Ok(())
    }

    fn flows(&self) -> Result<Flows> {
        Ok(Flows::of(
            &self.programs.seen(self.request.flows)?,
            self.looked_at,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_moved_once_however_often_and_lost_packets_are_counted() {
        let seen = |packets, moves| Seen {
            packets,
            backend: 1,
            moves,
        };
        let flows = Flows::of(&[seen(5, 0), seen(4, 3), seen(0, 0)], 10);
        assert_eq!((flows.seen, flows.moved, flows.lost), (2, 1, 1));
    }
}
