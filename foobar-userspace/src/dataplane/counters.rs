//! The data plane's counters, summed over the CPUs.

use std::io;

use aya::Pod;
use aya::maps::PerCpuArray;
use foobar_common::bench::JOB_WORDS;
use foobar_common::counters::Counters;
use foobar_common::slot::Member;
use foobar_common::target::TargetCounters;

use super::load::{DataPlane, Error};

/// A map's value, for aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Value<T>(pub(super) T);

// SAFETY: only u64s, no padding.
unsafe impl Pod for Value<Counters> {}
// SAFETY: only u64s, no padding.
unsafe impl Pod for Value<TargetCounters> {}
// SAFETY: plain integers, no padding: the layout is asserted in foobar-common.
unsafe impl Pod for Value<foobar_common::vip::PortRange> {}

impl DataPlane {
    /// What became of every packet that did not simply go to a target.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn counters(&self) -> io::Result<Counters> {
        let mut sum = Counters::default();
        for cpu in self.counters.get(&0, 0).map_err(io::Error::other)?.iter() {
            sum.add(&cpu.0);
        }
        Ok(sum)
    }

    /// What a target has been sent.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn target_counters(&self, member: Member) -> io::Result<TargetCounters> {
        let mut sum = TargetCounters::default();
        for cpu in self
            .target_counters
            .get(&u32::from(member), 0)
            .map_err(io::Error::other)?
            .iter()
        {
            sum.packets = sum.packets.wrapping_add(cpu.0.packets);
            sum.bytes = sum.bytes.wrapping_add(cpu.0.bytes);
            sum.connections = sum.connections.wrapping_add(cpu.0.connections);
        }
        Ok(sum)
    }

    /// Whether any packet so far was not on the common way of plain packets in settled slots. Packets on both ways
    /// are counted alike; this is for the bench, which has to know which one it measures.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn was_rare(&self) -> Result<bool, Error> {
        let map = self.object.map("JOBS").ok_or(Error::Missing("JOBS"))?;
        let jobs = PerCpuArray::<_, [u64; JOB_WORDS]>::try_from(map).map_err(io::Error::other)?;
        let jobs = jobs.get(&0, 0).map_err(io::Error::other)?;
        Ok(jobs.iter().any(|job| *job != [0; JOB_WORDS]))
    }

    /// Sets a target's counters to zero: its index begins a new life.
    ///
    /// # Errors
    /// Where the map can't be written.
    pub fn clear_target_counters(&mut self, member: Member) -> io::Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let zero = aya::maps::PerCpuValues::try_from(vec![Value(TargetCounters::default()); cpus])?;
        self.target_counters
            .set(u32::from(member), zero, 0)
            .map_err(io::Error::other)
    }
}
