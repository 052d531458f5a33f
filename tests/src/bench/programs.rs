//! The bench's own programs: loaded, told what to send and whom to call, and run.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use foobar_common::bench::{BLOCK, LANES, STAMPS, TRAFFIC_WORDS, Traffic};

use super::traffic::bytes;
use crate::artifacts;

const FLOOR_TARGETS: u16 = 256;
const FLOOR_SLOTS: u32 = 65_536;

/// Programs beside the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// The one that does nothing.
    Null,
    /// The one that only changes the frame's length.
    Resizing,
    /// The floor.
    Floor,
}

impl Beside {
    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Resizing => "resizing",
            Self::Floor => "floor",
        }
    }
}

/// Whom the wrapper calls.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// The program under test.
    Tested(&'a ProgramFd),
    /// One of the bench's own.
    Beside(Beside),
}

/// What a run of the wrapper gave back.
#[derive(Clone, Debug)]
pub struct Run {
    /// Nanoseconds a packet: the median block's, whatever else the CPU did during a few others.
    pub ns: f64,
    /// The last packet's verdict.
    pub action: u32,
    /// The last packet's length afterwards.
    pub length: u64,
}

/// The bench's programs and their maps.
pub struct Programs {
    object: Ebpf,
    subject: ProgramArray<MapData>,
    traffic: Array<MapData, [u64; TRAFFIC_WORDS]>,
    progress: Array<MapData, [u64; 3]>,
    times: Array<MapData, u64>,
    floor_counters: PerCpuArray<MapData, [u64; 3]>,
    /// Blocks that each lane has sent.
    sent: [u64; LANES as usize],
}

impl Programs {
    /// Loads the programs and fills the floor's tables.
    pub fn load() -> Result<Self> {
        let mut object = EbpfLoader::new().load(&fs::read(artifacts::object("bench")?)?)?;
        for (_, program) in object.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
        }
        fill_floor(&mut object)?;
        Ok(Self {
            subject: map(&mut object, "SUBJECT")?.try_into()?,
            traffic: map(&mut object, "TRAFFIC")?.try_into()?,
            progress: map(&mut object, "PROGRESS")?.try_into()?,
            times: map(&mut object, "TIMES")?.try_into()?,
            floor_counters: map(&mut object, "FLOOR_COUNTERS")?.try_into()?,
            sent: [0; LANES as usize],
            object,
        })
    }

    /// Begins with the first flow again.
    pub fn rewind(&mut self) -> Result<()> {
        self.sent = [0; LANES as usize];
        for lane in 0..LANES {
            self.progress.set(lane, [0; 3], 0)?;
        }
        Ok(())
    }

    /// Sends so many blocks of packets to a program.
    pub fn run(&mut self, subject: Subject<'_>, traffic: &Traffic, blocks: u32) -> Result<Run> {
        ensure!(
            (2..=STAMPS).contains(&blocks),
            "a run has 2 to {STAMPS} blocks, not {blocks}"
        );
        let lane = traffic.lane as usize;
        let first = self.sent[lane];
        let (action, frame) = self.send(subject, traffic, &bytes(traffic), blocks * BLOCK as u32)?;
        self.sent[lane] += u64::from(blocks);
        let times = (first..first + u64::from(blocks))
            .map(|block| self.times.get(&(block as u32 % STAMPS), 0))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ns: Vec<_> = times
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]) as f64 / BLOCK as f64)
            .collect();
        ns.sort_by(f64::total_cmp);
        Ok(Run {
            ns: ns[ns.len() / 2],
            action,
            length: frame.len() as u64,
        })
    }

    /// The packet that the wrapper makes of the one before it.
    pub fn next(&mut self, traffic: &Traffic, before: &[u8]) -> Result<Vec<u8>> {
        let (_, frame) = self.send(Subject::Beside(Beside::Null), traffic, before, 1)?;
        Ok(frame)
    }

    /// Has the wrapper make packets of a frame and send them to a program; returns the last one's verdict and
    /// what is left of it.
    fn send(
        &mut self,
        subject: Subject<'_>,
        traffic: &Traffic,
        frame: &[u8],
        packets: u32,
    ) -> Result<(u32, Vec<u8>)> {
        self.traffic.set(0, traffic.words(), 0)?;
        let called = match subject {
            Subject::Tested(program) => program,
            Subject::Beside(beside) => program(&self.object, beside.name())?.fd()?,
        };
        self.subject.set(0, called, 0)?;
        let mut after = vec![0; frame.len() + 256];
        let result = program(&self.object, "wrapper")?.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            repeat: packets,
            ..TestRunOptions::default()
        })?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }

    /// Packets that the floor has sent to its targets.
    pub fn floor_packets(&self) -> Result<u64> {
        let mut packets = 0;
        for member in 1..=u32::from(FLOOR_TARGETS) {
            let counters = self.floor_counters.get(&member, 0)?;
            packets += counters.iter().map(|&[packets, ..]| packets).sum::<u64>();
        }
        Ok(packets)
    }
}

/// Takes a map out of the bench's object.
pub(crate) fn map(object: &mut Ebpf, name: &str) -> Result<Map> {
    object
        .take_map(name)
        .with_context(|| format!("the bench's object has no map {name}"))
}

fn program<'a>(object: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    Ok(object
        .program(name)
        .with_context(|| format!("the bench's object has no program {name}"))?
        .try_into()?)
}

fn fill_floor(object: &mut Ebpf) -> Result<()> {
    let mut slots: Array<_, [u16; 4]> = map(object, "FLOOR_SLOTS")?.try_into()?;
    let member = |slot: u32| (slot.wrapping_mul(0x9e37_79b1) >> 16) as u16 % FLOOR_TARGETS + 1;
    for four in 0..FLOOR_SLOTS / 4 {
        let lanes = [0, 1, 2, 3].map(|lane| member(four * 4 + lane));
        slots.set(four, lanes, 0)?;
    }
    let mut targets: Array<_, [u64; 8]> = map(object, "FLOOR_TARGETS")?.try_into()?;
    for member in 1..=FLOOR_TARGETS {
        let mac = u64::from_ne_bytes([0x02, 0xbe, 0xc0, 0xde, 0, member as u8, 0x02, 0xba]);
        targets.set(u32::from(member), [mac, 0x0100_001a, 0, 0, 0, 0, 0, 0], 0)?;
    }
    Ok(())
}
