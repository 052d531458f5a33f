//! The data plane from user space: the only module that knows aya.
//!
//! It loads, attaches and pins the programs, and writes the maps so that a packet never sees anything half
//! written. It knows layouts (foobar-common), not policy: which member a slot gets is decided elsewhere.

mod admission;
mod agent;
mod attach;
mod batch;
mod checks;
mod counters;
mod direct;
mod fragments;
mod heard;
mod load;
#[cfg(feature = "bpf-log")]
mod log;
mod note_events;
mod notes;
mod objects;
mod pins;
mod region;
mod server_ids;
mod slots;
mod targets;
mod translation;
mod tunnels;
mod vips;

pub use admission::{ListEntry, SourceTrie};
pub use agent::AgentPlane;
pub use attach::{Attachment, Mode, Verdict};
pub use checks::{CanaryExit, CheckProgram};
pub use direct::DirectMaps;
pub use heard::{Heard, HeardNote, Hearing, NotedFlow};
pub use load::{DataPlane, Error, GRACE, Sizes};
pub use note_events::{GATHER, NoteEvent, NoteEvents, NoteStage};
pub use notes::{NoteEntry, Notes, Sweep};
pub use pins::{Claim, Pins};
pub use server_ids::ServerIds;
pub use translation::Translation;
pub use tunnels::OuterSource;
pub use vips::{Leases, Services, VipEntries, VipTableFull};

use std::time::Duration;

/// CLOCK_MONOTONIC in nanoseconds, the clock of leases, notes and slots.
pub fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|time| Duration::from(time).as_nanos() as u64)
        .unwrap_or_default()
}
