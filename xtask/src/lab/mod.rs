//! The lab: the whole stack on one machine, each host a network namespace.
//!
//! `topology` says who is there, `configs` what they are told (both pure); `network`, `processes`,
//! `database`, `certificates` and `cluster` make it; `up`, `drain` and `down` are the order of events. Knows the roles
//! by their configuration files and their answers only, never by their code.

mod certificates;
mod cluster;
mod configs;
mod database;
mod down;
mod drain;
mod enter;
mod lb_status;
mod network;
mod processes;
pub(crate) mod publish;
mod readiness;
mod report;
mod roles;
mod state;
mod topology;
mod up;

pub(crate) use down::down;
pub(crate) use enter::enter;
pub(crate) use report::status;
pub(crate) use topology::{Host, Run};
pub(crate) use up::{Prepare, Request, up};

/// The name of a lab that was given none.
pub(crate) const DEFAULT_RUN: &str = "lab";
