//! The data plane's counters, summed over the CPUs.

use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::{fs, io};

use aya::Pod;
use aya::maps::PerCpuArray;
use foobar_common::bench::JOB_WORDS;
use foobar_common::counters::Counters;
use foobar_common::settings::Settings;
use foobar_common::slot::Member;
use foobar_common::target::{COUNTER_ROW_STEP, TargetCounters, TargetTraffic};

use super::load::{DataPlane, Error};

/// A map's value, for aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Value<T>(pub(super) T);

// SAFETY: only u64s, no padding.
unsafe impl Pod for Value<Counters> {}
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
    pub fn target_counters(&self, member: Member) -> TargetCounters {
        let mut sum = TargetCounters::default();
        for place in self.counters_of(member) {
            let traffic = self.target_traffic.get(place);
            let connections = self.target_connections.get(place);
            sum.packets = sum.packets.wrapping_add(traffic.packets);
            sum.bytes = sum.bytes.wrapping_add(traffic.bytes);
            sum.connections = sum.connections.wrapping_add(connections);
        }
        sum
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
    pub fn clear_target_counters(&self, member: Member) {
        for place in self.counters_of(member) {
            self.target_traffic.set(place, TargetTraffic::default());
            self.target_connections.set(place, 0);
        }
    }

    /// The places of a target's counters, one a CPU.
    fn counters_of(&self, member: Member) -> impl Iterator<Item = u32> {
        let row = self
            .settings
            .u32(0, offset_of!(Settings, counter_row))
            .load(Ordering::Acquire);
        let all = self.target_traffic.len().min(self.target_connections.len());
        (u32::from(member)..all).step_by(row as usize)
    }

    /// How many elements each CPU has in the targets' counters: those maps may have been made earlier, for another
    /// number of targets than is asked for now.
    pub(super) fn counter_row(&self) -> io::Result<u32> {
        let all = self.target_traffic.len().min(self.target_connections.len());
        let row = all / cpu_numbers()? / COUNTER_ROW_STEP * COUNTER_ROW_STEP;
        if row == 0 {
            return Err(io::Error::other(
                "the targets' counters have no room for every CPU",
            ));
        }
        Ok(row)
    }
}

/// One more than the highest number that a CPU of this machine can have.
pub(super) fn cpu_numbers() -> io::Result<u32> {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    last_number(&possible)
        .map(|last| last + 1)
        .ok_or_else(|| io::Error::other(format!("{possible:?} is no list of CPUs")))
}

/// The last number of a list of ranges, which the kernel writes in their order: `0-3,8-11`.
fn last_number(list: &str) -> Option<u32> {
    list.trim().rsplit(['-', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::last_number;

    #[test]
    fn the_highest_cpu_is_the_last_one_of_the_list() {
        for (list, last) in [("0\n", 0), ("0-1\n", 1), ("0-3,8-11", 11), ("0,2", 2)] {
            assert_eq!(last_number(list), Some(last), "{list:?}");
        }
        assert_eq!(last_number(""), None);
        assert_eq!(last_number("0-"), None);
    }
}
