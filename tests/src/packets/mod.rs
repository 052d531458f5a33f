//! Harness of the packet tests: the real programs, run on one frame at a time.
//!
//! A test makes a [`rig::Rig`] (the program with its own maps, attached to nothing), builds a frame with
//! [`frame`], sends it, and says of the [`outcome::Outcome`] what it expects: the verdict, every byte, and
//! every counter that moved. Frames and checksums are etherparse's, never the program's own code. It needs
//! root, and no network at all.

pub mod endpoint;
pub mod frame;
pub mod frame_v6;
pub mod outcome;
pub mod quic;
pub mod rig;
pub mod tunnel;
