//! What `cargo xtask bench rolling-restart` runs: every backend in turn is taken out and put back, under flows that
//! live through all of it. How long slots stay unsettled, and what that costs the packets and the daemon.
//!
//! The daemon is the real one, in a namespace of its own ([`network`], [`daemon`]): it decides, writes the maps and
//! sweeps the notes as it does for users. Packets are the bench's, through the daemon's own pinned maps ([`run`]), and
//! each is seen where it went: a flow that leaves its backend is found. [`report`] tells people.

pub mod command;
pub mod daemon;
pub mod network;
pub mod report;
pub mod run;
