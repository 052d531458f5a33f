//! The contract between foobar's eBPF programs and its daemon: every map's key and value, the flow hash,
//! the counters, and the pure rule by which a packet is steered (the data plane runs it, the daemon's
//! simulation and `foobar flow` explain with it). No I/O, no allocation, no clock.
//!
//! Byte order: fields named `*_be`, ports and addresses are kept as they stand in the packet (network byte
//! order in memory); everything else is native. Layouts are asserted below: a change of any of them changes
//! [`layout::HASH`], and with it the pin directory, so that a new layout never meets an old map.
#![no_std]

pub mod address;
pub mod admission;
pub mod agent;
pub mod answers;
pub mod bench;
pub mod check;
pub mod counters;
pub mod direct;
pub mod flow;
pub mod fragment;
pub mod gue;
pub mod layout;
pub mod note;
pub mod note_event;
pub mod quic;
pub mod settings;
pub mod slot;
pub mod steering;
pub mod target;
pub mod time;
pub mod vip;
