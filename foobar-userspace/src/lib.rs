//! The roles of the `foobar` binary, a cargo feature each, and what they share.
//!
//! User space never sits in the packet path: `foobar lb` decides and writes maps. Only `dataplane` names
//! aya, only `network` names netlink; state machines are pure and know neither clock nor socket.

pub mod cli;
#[cfg(feature = "lb")]
pub mod dataplane;
pub mod signals;
pub mod telemetry;

#[cfg(feature = "app")]
pub mod app;
#[cfg(feature = "dns")]
pub mod dns;
#[cfg(feature = "web")]
pub mod web;
