//! The agent's program and its maps.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use foobar_common::address::Address;
use foobar_common::agent::{AgentCounters, AgentSettings, NextHop};

use super::attach::{self, Attachment, Verdict};
use super::counters::Value;
use super::load::{Error, take};
use super::objects;
use super::pins::Pins;

const MAPS: [&str; 7] = [
    "AGENT_SETTINGS",
    "AGENT_ACTIVE",
    "AGENT_VIPS",
    "NEIGHBOURS",
    "WANTED",
    "AGENT_COUNTERS",
    "AGENT_TX_PORTS",
];

// SAFETY: 16 bytes.
unsafe impl Pod for Value<Address> {}
// SAFETY: no padding: 6 + 6 + 4 bytes.
unsafe impl Pod for Value<NextHop> {}
// SAFETY: u64s, then 4 + 4 + 2 + 6 bytes: no padding.
unsafe impl Pod for Value<AgentSettings> {}
// SAFETY: only u64s, no padding.
unsafe impl Pod for Value<AgentCounters> {}

/// The agent's program and its maps.
pub struct AgentPlane {
    object: Ebpf,
    pins: Option<Pins>,
    settings: Array<MapData, Value<AgentSettings>>,
    active: Array<MapData, u32>,
    vips: HashMap<MapData, Value<Address>, u32>,
    neighbours: HashMap<MapData, Value<Address>, Value<NextHop>>,
    wanted: HashMap<MapData, Value<Address>, u32>,
    counters: PerCpuArray<MapData, Value<AgentCounters>>,
    tx_ports: DevMapHash<MapData>,
}

impl AgentPlane {
    /// Loads the program. Maps that are pinned already are adopted; the others are made and, where there are
    /// `pins`, pinned. Nothing is attached.
    ///
    /// # Errors
    /// Where the object is not in the binary, the kernel refuses it, or the pins can't be used.
    pub fn open(pins: Option<Pins>) -> Result<Self, Error> {
        let bytes = objects::AGENT.ok_or(Error::NotBuilt)?;
        let mut loader = EbpfLoader::new();
        if let Some(pins) = &pins {
            pins.create()?;
            for name in MAPS {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let mut object = loader.load(bytes)?;
        program(&mut object)?.load()?;
        let mut map = |name| take(&mut object, name);
        Ok(Self {
            settings: map("AGENT_SETTINGS")?.try_into().map_err(io::Error::other)?,
            active: map("AGENT_ACTIVE")?.try_into().map_err(io::Error::other)?,
            vips: map("AGENT_VIPS")?.try_into().map_err(io::Error::other)?,
            neighbours: map("NEIGHBOURS")?.try_into().map_err(io::Error::other)?,
            wanted: map("WANTED")?.try_into().map_err(io::Error::other)?,
            counters: map("AGENT_COUNTERS")?.try_into().map_err(io::Error::other)?,
            tx_ports: map("AGENT_TX_PORTS")?.try_into().map_err(io::Error::other)?,
            object,
            pins,
        })
    }

    /// Attaches the program to the interface, or puts it in the place of the one that is pinned there. The
    /// link is pinned: it outlives the daemon.
    ///
    /// # Errors
    /// Where a foreign program is attached, or the kernel refuses.
    pub fn attach(&mut self, interface: &str, ifindex: u32) -> Result<Attachment, Error> {
        attach::attach(program(&mut self.object)?, self.pins.as_ref(), interface, ifindex)
    }

    /// Runs the program on a frame (BPF_PROG_TEST_RUN); the socket table is that of the calling thread's
    /// network namespace.
    ///
    /// # Errors
    /// Where the kernel refuses, for example a frame shorter than an Ethernet header.
    pub fn test_run(&mut self, frame: &[u8]) -> Result<Verdict, Error> {
        attach::test_run(program(&mut self.object)?, frame)
    }

    /// Puts settings in force, from one packet to the next.
    ///
    /// # Errors
    /// Where the maps can't be written.
    pub fn set_settings(&mut self, settings: &AgentSettings) -> io::Result<()> {
        let active = self.active.get(&0, 0).map_err(io::Error::other)?;
        let other = u32::from(active == 0);
        self.settings
            .set(other, Value(*settings), 0)
            .map_err(io::Error::other)?;
        self.active.set(0, other, 0).map_err(io::Error::other)
    }

    /// Makes these the VIPs that packets are decapsulated for.
    ///
    /// # Errors
    /// Where the map can't be written, or is full.
    pub fn set_vips(&mut self, vips: &BTreeSet<IpAddr>) -> io::Result<()> {
        let have: Vec<Value<Address>> = self
            .vips
            .keys()
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        for &vip in vips {
            self.vips
                .insert(Value(vip.into()), 0, 0)
                .map_err(io::Error::other)?;
        }
        for address in have {
            if !vips.contains(&address.0.into()) {
                gone(self.vips.remove(&address))?;
            }
        }
        Ok(())
    }

    /// Sets the way to another backend.
    ///
    /// # Errors
    /// Where the map can't be written, or is full.
    pub fn set_next_hop(&mut self, address: IpAddr, hop: NextHop) -> io::Result<()> {
        self.neighbours
            .insert(Value(address.into()), Value(hop), 0)
            .map_err(io::Error::other)
    }

    /// Forgets the way to another backend.
    ///
    /// # Errors
    /// Where the map can't be written.
    pub fn clear_next_hop(&mut self, address: IpAddr) -> io::Result<()> {
        gone(self.neighbours.remove(&Value(address.into())))
    }

    /// The backends that there is a way to.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn neighbours(&self) -> io::Result<BTreeSet<IpAddr>> {
        addresses(self.neighbours.keys())
    }

    /// The backends that packets were to go to while there was no way to them, since they were last taken.
    ///
    /// # Errors
    /// Where the map can't be read or written.
    pub fn take_wanted(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        let wanted = addresses(self.wanted.keys())?;
        for &address in &wanted {
            gone(self.wanted.remove(&Value(address.into())))?;
        }
        Ok(wanted)
    }

    /// Lets backends be reached by another interface than the one that packets come in by.
    ///
    /// # Errors
    /// Where the map is full or the interface is not there.
    pub fn add_tx_port(&mut self, ifindex: u32) -> io::Result<()> {
        self.tx_ports
            .insert(ifindex, ifindex, None, 0)
            .map_err(io::Error::other)
    }

    /// What became of every packet, summed over the CPUs.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn counters(&self) -> io::Result<AgentCounters> {
        let mut sum = AgentCounters::default();
        for cpu in self.counters.get(&0, 0).map_err(io::Error::other)?.iter() {
            sum.add(&cpu.0);
        }
        Ok(sum)
    }
}

fn program(object: &mut Ebpf) -> Result<&mut Xdp, Error> {
    Ok(object
        .program_mut("agent")
        .ok_or(Error::Missing("agent"))?
        .try_into()?)
}

fn addresses(keys: impl Iterator<Item = Result<Value<Address>, MapError>>) -> io::Result<BTreeSet<IpAddr>> {
    keys.map(|key| key.map(|key| key.0.into()))
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)
}

/// What is not there any more is gone, too.
fn gone(removed: Result<(), MapError>) -> io::Result<()> {
    match removed {
        Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}
