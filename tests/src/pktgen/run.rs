//! A case from its first packet to the last one's arrival.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use foobar::dataplane::{Attachment, Mode};
use foobar_common::bench::{MAX_LIVE_FLOWS, Traffic, switched};
use foobar_common::slot::Member;

use super::counts::{Backend, Counts};
use super::frames::{Fault, Frames};
use super::segment::{BALANCER, Segment, UPLINK, port};
use super::veth::Statistics;
use crate::bench::case::{Case, Met, Row};
use crate::bench::measure::{Invalid, judge};
use crate::bench::plane::Plane;
use crate::bench::traffic::DOCUMENTATION;

/// Packets between two looks at the progress.
const CHUNK: u64 = 1 << 18;
/// After how long without any packet on its way those that are missing are taken for lost.
const STILL: Duration = Duration::from_secs(2);
/// How often every flow may be sent until all of them are noted: what is lost on the way leaves no note.
const PASSES: u32 = 8;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The case.
    pub case: Case,
    /// Packets.
    pub packets: u64,
    /// Flows that take turns, at most [`MAX_LIVE_FLOWS`].
    pub flows: u64,
    /// Backends.
    pub backends: u32,
    /// A fault that is planted.
    pub fault: Option<Fault>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was sent.
    pub request: Request,
    /// What was counted, of packets that made notes before as well.
    pub counts: Counts,
    /// How long the generator ran.
    pub took: Duration,
    /// Why the packets did not take the way that the case claims.
    pub misled: Option<String>,
}

impl Outcome {
    /// Whether every packet is accounted for, and arrived where it should.
    pub fn is_sound(&self) -> bool {
        self.counts.unaccounted() == 0 && self.counts.astray().is_empty() && self.misled.is_none()
    }

    /// Packets a second.
    pub fn rate(&self) -> f64 {
        self.request.packets as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Runs a case. `progress` is told how many packets were sent since it was told last; its error ends the run.
///
/// # Errors
/// Where the kernel refuses something.
pub fn run(request: Request, mut progress: impl FnMut(u64) -> Result<()>) -> Result<Outcome> {
    ensure!(
        (1..=MAX_LIVE_FLOWS).contains(&request.flows),
        "there can be 1 to {MAX_LIVE_FLOWS} flows, not {}",
        request.flows
    );
    let mut way = Way::new(request)?;
    if let Met::Noted(phase) = request.case.met {
        way.note_all()?;
        way.plane.set_slots(phase);
    }
    let before = (way.counts()?.balancer.xdp_packets, way.plane.counted()?);
    let begin = Instant::now();
    way.send(request.packets, &mut progress)?;
    let took = begin.elapsed();
    let counts = way.arrived()?;
    // A flood's claims are about flows that come once.
    let misled = if request.case.is_flood() && request.packets > request.flows {
        None
    } else {
        let taken = counts.balancer.xdp_packets - before.0;
        let judged = judge(
            &request.case,
            &way.traffic,
            taken,
            &before.1,
            &way.plane.counted()?,
        );
        judged.err().map(|Invalid(why)| why)
    };
    Ok(Outcome {
        request,
        counts,
        took,
        misled,
    })
}

/// The segment with everything on it. What is attached goes before the segment does.
struct Way {
    plane: Plane,
    frames: Frames,
    segment: Segment,
    traffic: Traffic,
    asked: u64,
    flows: u64,
}

impl Way {
    fn new(request: Request) -> Result<Self> {
        let row = Row {
            backends: request.backends,
            plan: DOCUMENTATION,
            ..Row::new(request.case, request.flows)
        };
        let traffic = Traffic {
            // The first packet of a flow makes its note, the next one promotes it.
            dwell: match request.case.met {
                Met::Noted(_) => 2,
                Met::Nothing | Met::NoMember | Met::Denied | Met::Slots(_) => 1,
            },
            ..row.plan.traffic(&row.case, row.flows, row.vips)?
        };
        let segment = Segment::new(request.backends)?;
        let mut plane = Plane::new(&row)?;
        let attachment = segment.balancer().run(|| {
            let index = nix::net::if_::if_nametoindex(BALANCER)?;
            Ok(plane.plane.attach(BALANCER, index)?)
        })?;
        ensure!(
            attachment == Attachment::New(Mode::Native),
            "the balancer's program is attached as {attachment:?}"
        );
        Ok(Self {
            plane,
            frames: Frames::start(&segment, &row, traffic, request.fault)?,
            segment,
            traffic,
            asked: 0,
            flows: request.flows,
        })
    }

    fn send(&mut self, packets: u64, mut progress: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let mut left = packets;
        while left > 0 {
            let chunk = left.min(CHUNK);
            self.frames.send(&self.segment, chunk as u32)?;
            self.asked += chunk;
            left -= chunk;
            progress(chunk)?;
        }
        Ok(())
    }

    /// Sends every flow until all of them are noted.
    fn note_all(&mut self) -> Result<()> {
        for _ in 0..PASSES {
            self.send(self.flows * 2, |_| Ok(()))?;
            self.arrived()?;
            if self.plane.counted()?.counters.note_promoted >= self.flows {
                return Ok(());
            }
        }
        anyhow::bail!("not all flows were noted after {PASSES} times")
    }

    /// What was counted when all packets have arrived, or should have.
    fn arrived(&self) -> Result<Counts> {
        let (mut before, mut since) = (Counts::default(), Instant::now());
        loop {
            let mut counts = self.counts()?;
            // Nothing is missing but the flows, which are many and so are read when they are complete.
            let arrived = counts.received();
            counts.flows.packets = arrived;
            if counts.unaccounted() == 0 || since.elapsed() > STILL {
                counts.flows = self.frames.flows()?;
                return Ok(counts);
            }
            if counts != before {
                (before, since) = (counts, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is counted now, without the flows.
    fn counts(&self) -> Result<Counts> {
        let segment = &self.segment;
        let backends = segment
            .backends()
            .map(|number| {
                let port = port(number);
                Ok(Backend {
                    target: self.plane.plane.target_counters(number as Member).packets,
                    switched: self.frames.switched(number)?,
                    port: Statistics::of(segment.segment(), &port)?,
                    interface: Statistics::of(segment.hosts(), &port)?,
                    received: self.frames.received(number)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Counts {
            asked: self.asked,
            generated: self.frames.generated()?,
            uplink: Statistics::of(segment.segment(), UPLINK)?,
            balancer: Statistics::of(segment.balancer(), BALANCER)?,
            counters: self.plane.plane.counters().context("the balancer's counters")?,
            to_router: self.frames.switched(switched::ROUTER)?,
            to_nobody: self.frames.switched(switched::NOBODY)?,
            backends,
            ..Counts::default()
        })
    }
}
