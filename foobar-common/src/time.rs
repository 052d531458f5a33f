//! Time as notes and leases hold it, all of it CLOCK_MONOTONIC.

/// Nanoseconds a tick has, as a shift: 2^20 ns, about 1.05 ms.
pub const TICK_SHIFT: u32 = 20;

/// A moment in ticks, modulo 2^32 (it wraps after 52 days; only differences count).
pub type Ticks = u32;

/// The tick that a monotonic time falls into.
#[inline(always)]
pub const fn ticks(monotonic_ns: u64) -> Ticks {
    (monotonic_ns >> TICK_SHIFT) as Ticks
}

/// How long ago `then` was, in ticks. A moment of the near future (another CPU's clock) counts as now.
#[inline(always)]
pub const fn age(now: Ticks, then: Ticks) -> u32 {
    let age = now.wrapping_sub(then);
    if age > u32::MAX / 2 { 0 } else { age }
}

/// The lifetime of a note, in ticks, for an idle time T: 5/4 T, the quarter being what a peer's copy may lag.
pub const fn note_lifetime(idle_ns: u64) -> u32 {
    let lifetime = (idle_ns / 4).saturating_mul(5) >> TICK_SHIFT;
    if lifetime > (u32::MAX / 4) as u64 {
        u32::MAX / 4
    } else {
        lifetime as u32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_survive_the_wrap() {
        assert_eq!(age(5, u32::MAX - 4), 10);
        assert_eq!(age(100, 101), 0);
        assert_eq!(age(100, 40), 60);
    }

    #[test]
    fn a_lifetime_is_five_quarters_of_the_idle_time() {
        let fifteen_minutes = note_lifetime(900_000_000_000);
        let expected = 1_125_000_000_000u64 >> TICK_SHIFT;
        assert_eq!(u64::from(fifteen_minutes), expected + 1);
    }
}
