//! The roles of the `foobar` binary, a cargo feature each, and what they share.
//!
//! User space never sits in the packet path: `foobar lb` decides and writes maps. Only `dataplane` names
//! aya, only `network` names netlink; state machines are pure and know neither clock nor socket.

pub mod cli;
#[cfg(any(feature = "web", feature = "app", feature = "dns"))]
pub mod role;
pub mod signals;
pub mod telemetry;

#[cfg(feature = "lb")]
pub mod admin;
#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "app")]
pub mod app;
#[cfg(feature = "lb")]
pub mod balancer;
#[cfg(feature = "lb")]
pub mod cluster;
#[cfg(feature = "lb")]
pub mod config;
#[cfg(feature = "lb")]
pub mod dataplane;
#[cfg(feature = "dns")]
pub mod dns;
#[cfg(feature = "lb")]
mod files;
#[cfg(feature = "lb")]
pub mod health;
#[cfg(feature = "lb")]
pub mod lb;
#[cfg(feature = "lb")]
pub mod network;
#[cfg(feature = "web")]
pub mod web;
