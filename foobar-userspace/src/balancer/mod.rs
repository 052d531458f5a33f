//! Steering as pure values: who owns which slot, and how that changes without moving a flow.
//!
//! Nothing here knows a clock, a socket or a map: times come in as monotonic nanoseconds, and every change
//! goes out as the list of slots to write.
//!
//! - [`table`]: which member each slot should belong to, a function of names, weights and a seed.
//! - [`plan`]: which members take part, given their health.
//! - [`slots`]: how the owners of slots change, with their history.
//! - [`members`]: which id a member may have.
//! - [`sharing`]: which VIPs' slots can be read in one place.

mod gap;
pub mod members;
pub mod plan;
pub mod sharing;
pub mod slots;
pub mod table;

pub use gap::first_gap;

#[cfg(test)]
mod simulation;

/// The property tests' settings: a fixed seed, so that a failure is everybody's.
#[cfg(test)]
fn fixed(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig {
        cases,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..Default::default()
    }
}
