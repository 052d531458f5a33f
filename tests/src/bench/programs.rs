//! The bench's own programs: loaded, told what to send and whom to call, and run.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use foobar_common::bench::{
    BLOCK, LANES, LIVE_WORDS, Live, SEEN_TOGETHER, STAMPS, Seen, TRAFFIC_WORDS, Traffic,
};

use super::plane::mac;
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

/// Who makes the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// Nobody looks where they go.
    Wrapper,
    /// It sees where each but the last one of a run went.
    Witness,
}

impl Maker {
    const fn name(self) -> &'static str {
        match self {
            Self::Wrapper => "wrapper",
            Self::Witness => "witness",
        }
    }
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
    /// What the witness has seen, some flows together.
    flows: Array<MapData, [u64; SEEN_TOGETHER as usize]>,
    /// Blocks that each lane has sent.
    sent: [u64; LANES as usize],
}

impl Programs {
    /// Loads the programs and fills the floor's tables.
    pub fn load() -> Result<Self> {
        Self::load_for(1)
    }

    /// As [`Self::load`], with room for what [`Self::run_seen`] sees of so many flows.
    pub fn load_for(flows: u64) -> Result<Self> {
        let mut object = EbpfLoader::new()
            .map_max_entries("FLOWS", (flows as u32).div_ceil(SEEN_TOGETHER))
            .load(&fs::read(artifacts::object("bench")?)?)?;
        for (_, program) in object.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
        }
        fill_floor(&mut object)?;
        let [a, b, c, d, ..] = mac(0);
        let live = Live {
            targets: u32::from_ne_bytes([a, b, c, d]).into(),
            ..Live::default()
        };
        let mut told: Array<_, [u64; LIVE_WORDS]> = map(&mut object, "LIVE")?.try_into()?;
        told.set(0, live.words(), 0)?;
        Ok(Self {
            flows: map(&mut object, "FLOWS")?.try_into()?,
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
        let packets = blocks * BLOCK as u32;
        let (action, frame) = self.send(Maker::Wrapper, subject, traffic, &bytes(traffic), packets)?;
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

    /// Sends so many blocks of packets to a program, and sees which target each but the last one goes to. Returns how
    /// many are looked at.
    pub fn run_seen(&mut self, program: &ProgramFd, traffic: &Traffic, blocks: u32) -> Result<u64> {
        let (subject, packets) = (Subject::Tested(program), blocks * BLOCK as u32);
        self.send(Maker::Witness, subject, traffic, &bytes(traffic), packets)?;
        self.sent[traffic.lane as usize] += u64::from(blocks);
        Ok(u64::from(packets) - 1)
    }

    /// What has been seen of the first `flows` flows.
    pub fn seen(&self, flows: u64) -> Result<Vec<Seen>> {
        let mut all = Vec::with_capacity(flows as usize);
        for element in 0..(flows as u32).div_ceil(SEEN_TOGETHER) {
            all.extend(self.flows.get(&element, 0)?.map(Seen::of_word));
        }
        all.truncate(flows as usize);
        Ok(all)
    }

    /// The packet that the wrapper makes of the one before it.
    pub fn next(&mut self, traffic: &Traffic, before: &[u8]) -> Result<Vec<u8>> {
        let (_, frame) = self.send(Maker::Wrapper, Subject::Beside(Beside::Null), traffic, before, 1)?;
        Ok(frame)
    }

    /// Has packets made of a frame and sent to a program; returns the last one's verdict and what is left of it.
    fn send(
        &mut self,
        maker: Maker,
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
        let result = program(&self.object, maker.name())?.test_run(TestRunOptions {
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
