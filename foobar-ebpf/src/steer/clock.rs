//! The time, as of the last timer tick.
//!
//! The kernel's coarse clock moves only with its ticks, so it is asked at the beginning of each, and what it said is
//! kept: the number of the tick is a word that the program reads by itself (`bpf_jiffies64`, which the verifier replaces
//! by a load), a call of the kernel's is not. It is asked more than once, for the kernel counts a tick a moment before
//! it moves the clock.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::maps::CLOCK;

/// How often the clock is asked in a tick.
const TIMES: u64 = 16;

/// What the clock said.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    tick: u64,
    /// How often it was asked in this tick.
    asked: u64,
    now_ns: u64,
}

/// CLOCK_MONOTONIC in nanoseconds, as of the last timer tick, or of the one before where more than 16 packets
/// came within the moment in which the kernel counts it.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no arguments and no preconditions.
    let tick = unsafe { bpf_jiffies64() };
    let Some(clock) = CLOCK.get_ptr_mut(0) else {
        return asked();
    };
    // SAFETY: this CPU's element; a program that interrupts another one there writes the same or a later time.
    unsafe {
        if (*clock).tick != tick {
            (*clock).asked = 0;
            (*clock).tick = tick;
        }
        if (*clock).asked < TIMES {
            (*clock).asked += 1;
            (*clock).now_ns = asked();
        }
        (*clock).now_ns
    }
}

#[inline(always)]
fn asked() -> u64 {
    // SAFETY: the helper has no arguments and no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}
