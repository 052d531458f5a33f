//! The data plane's counters, summed over the CPUs.

use std::io;

use aya::Pod;
use foobar_common::counters::Counters;
use foobar_common::slot::Member;
use foobar_common::target::TargetCounters;

use super::load::DataPlane;

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
