//! How a frame leaves: rewritten for a target, or as an answer to its sender. And the counters.

pub mod answer;
pub mod fragments;
pub mod hot;
pub mod l2;
pub mod plain_tunnel;
pub mod reset;
pub mod too_big;
pub mod tunnel;

use foobar_common::counters::{Counter, Counters};

use crate::maps::COUNTERS;

/// Counts on this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        const { assert!(size_of::<Counters>() == Counter::ALL.len() * 8) };
        // SAFETY: `Counters` is one u64 a counter, in the counters' order; this CPU's element is ours.
        unsafe { *counters.cast::<u64>().add(counter as usize) += 1 }
    }
}
