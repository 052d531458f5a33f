//! The daemon's promises to an operator, each told as a story in a world of two backends: what it refuses, what
//! failures, reloads and removals do to traffic, and what `detach` leaves.
//!
//! It relies on the binary that users get. `streams` has the other half: that changes break no stream.

#[path = "daemon/admission.rs"]
mod admission;
#[path = "daemon/changes.rs"]
mod changes;
#[path = "daemon/checks.rs"]
mod checks;
#[path = "daemon/failures.rs"]
mod failures;
#[path = "daemon/ipv6.rs"]
mod ipv6;
#[path = "daemon/next_hops.rs"]
mod next_hops;
#[path = "daemon/quic.rs"]
mod quic;
#[path = "daemon/ranges.rs"]
mod ranges;
#[path = "daemon/refusals.rs"]
mod refusals;
#[path = "daemon/sharing.rs"]
mod sharing;
#[path = "daemon/story.rs"]
mod story;
