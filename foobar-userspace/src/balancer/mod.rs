//! Steering as pure values: who owns which slot, and how that changes without moving a flow.
//!
//! Nothing here knows a clock, a socket or a map: times come in as monotonic nanoseconds, and every change
//! goes out as the list of slots to write.

pub mod table;
