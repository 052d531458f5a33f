//! The programs that make, deliver and receive the frames: loaded, attached, run and read.

use std::fs;

use anyhow::{Context as _, Result};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use foobar_common::bench::{
    LIVE_SURPLUS, LIVE_WORDS, Live, Progress, SEEN_TOGETHER, Seen, TRAFFIC_WORDS, Traffic, received,
};

use super::counts::{FlowCounts, Received};
use super::segment::{Segment, UPLINK, port};
use crate::artifacts;
use crate::bench::case::Row;
use crate::bench::plane::mac;
use crate::bench::programs::map;
use crate::bench::traffic::{bytes, client, outer_length, shape};
use crate::packets::frame::ROUTER;

/// Frames that the generator sends before what is on its way is worked on: as many as a NAPI poll takes.
const BATCH: u32 = 64;

/// A fault that is planted, for the accounting to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The switch drops backend 1's frames after it has counted them.
    Unplugged,
    /// Backend 1's interface is down: the kernel drops what is sent there, and counts it nowhere.
    Dead,
    /// Backend 1's frames go to backend 2.
    Crossed,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unplugged, Self::Dead, Self::Crossed];
}

/// The frames' programs on a segment.
pub struct Frames {
    object: Ebpf,
    traffic: Traffic,
    progress: Array<MapData, [u64; 3]>,
    switched: PerCpuArray<MapData, u64>,
    received: PerCpuArray<MapData, [u64; received::PLACES]>,
    flows: Array<MapData, [u64; SEEN_TOGETHER as usize]>,
}

impl Frames {
    /// Loads the programs and attaches them to the segment's port of the balancer and to the backends'
    /// interfaces.
    ///
    /// # Errors
    /// Where they are not built, or the kernel refuses something.
    pub fn start(segment: &Segment, row: &Row, traffic: Traffic, fault: Option<Fault>) -> Result<Self> {
        let mut object = EbpfLoader::new()
            .map_max_entries("FLOWS", (traffic.flows as u32).div_ceil(SEEN_TOGETHER))
            .load(&fs::read(artifacts::object("bench")?)?)?;
        for name in ["generator", "segment", "receiver"] {
            loaded(&mut object, name)?.load()?;
        }
        let mut sent: Array<_, [u64; TRAFFIC_WORDS]> = map(&mut object, "TRAFFIC")?.try_into()?;
        sent.set(0, traffic.words(), 0)?;
        let mut live: Array<_, [u64; LIVE_WORDS]> = map(&mut object, "LIVE")?.try_into()?;
        live.set(0, self::live(segment, row)?.words(), 0)?;
        connect(segment, map(&mut object, "PORTS")?.try_into()?, fault)?;
        segment.segment().run(|| attach(&mut object, "segment", UPLINK))?;
        for backend in segment.backends() {
            segment
                .hosts()
                .run(|| attach(&mut object, "receiver", &port(backend)))?;
        }
        if fault == Some(Fault::Dead) {
            segment.hosts().ip(&["link", "set", &port(1), "down"])?;
        }
        Ok(Self {
            traffic,
            progress: map(&mut object, "PROGRESS")?.try_into()?,
            switched: map(&mut object, "SWITCHED")?.try_into()?,
            received: map(&mut object, "RECEIVED")?.try_into()?,
            flows: map(&mut object, "FLOWS")?.try_into()?,
            object,
        })
    }

    /// Sends so many packets, and returns when the generator has made the last one; it may still be on its way.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn send(&mut self, segment: &Segment, packets: u32) -> Result<()> {
        let mut frame = bytes(&self.traffic);
        frame.resize(frame.len() + LIVE_SURPLUS as usize, 0);
        let generator = loaded(&mut self.object, "generator")?;
        segment
            .segment()
            .run(|| {
                generator.test_run(TestRunOptions {
                    data_in: Some(&frame),
                    repeat: packets,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                })?;
                Ok(())
            })
            .context("run the generator")
    }

    /// Packets that the generator has made.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn generated(&self) -> Result<u64> {
        Ok(self.progress.get(&0, 0)?[0])
    }

    /// What the switch has counted at a place of [`foobar_common::bench::switched`].
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn switched(&self, place: u32) -> Result<u64> {
        Ok(self.switched.get(&place, 0)?.iter().sum())
    }

    /// What a backend's receiver has counted.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn received(&self, backend: u32) -> Result<Received> {
        let values = self.received.get(&backend, 0)?;
        let sum = |place: usize| values.iter().map(|cpu| cpu[place]).sum();
        Ok(Received {
            of_flows: sum(received::FLOWS),
            foreign: sum(received::FOREIGN),
            unknown: sum(received::UNKNOWN),
        })
    }

    /// What the receivers have seen of the flows, beside what was sent of each.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn flows(&self) -> Result<FlowCounts> {
        let mut sent = vec![0u64; self.traffic.flows as usize];
        let mut progress = Progress::default();
        for _ in 0..self.generated()? {
            sent[progress.turn(self.traffic.flows, self.traffic.dwell) as usize] += 1;
        }
        let mut counts = FlowCounts::default();
        for (element, sent) in (0..).zip(sent.chunks(SEEN_TOGETHER as usize)) {
            for (&sent, word) in sent.iter().zip(self.flows.get(&element, 0)?) {
                counts.add(sent, Seen::of_word(word));
            }
        }
        Ok(counts)
    }
}

fn live(segment: &Segment, row: &Row) -> Result<Live> {
    let outer = outer_length(&row.case);
    let [a, b, c, d, ..] = mac(0);
    let router = ROUTER;
    let (client_at, port_at) = client(shape(&row.case));
    Ok(Live {
        interface: segment.index_of(UPLINK)?.into(),
        targets: u32::from_ne_bytes([a, b, c, d]).into(),
        router: u64::from_ne_bytes([
            router[0], router[1], router[2], router[3], router[4], router[5], 0, 0,
        ]),
        client_at: (outer + client_at) as u64,
        port_at: (outer + port_at) as u64,
    })
}

/// Tells the switch which port leads to which backend.
fn connect(segment: &Segment, mut ports: DevMap<MapData>, fault: Option<Fault>) -> Result<()> {
    for backend in segment.backends() {
        let leads_to = match fault {
            Some(Fault::Unplugged) if backend == 1 => continue,
            Some(Fault::Crossed) if backend == 1 => 2,
            _ => backend,
        };
        let index = segment.index_of(&port(leads_to))?;
        // The kernel takes the index for one of the caller's namespace.
        segment
            .segment()
            .run(|| Ok(ports.set(backend, index, None, 0)?))?;
    }
    Ok(())
}

fn attach(object: &mut Ebpf, name: &str, interface: &str) -> Result<()> {
    loaded(object, name)?
        .attach(interface, XdpMode::Driver)
        .with_context(|| format!("attach {name} to {interface}"))?;
    Ok(())
}

fn loaded<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()?)
}
