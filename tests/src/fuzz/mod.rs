//! Random, mutated and adversarial packets through the real program, each compared with the reference
//! [`crate::model`]: action, every byte, every counter.
//!
//! A run is a row of *episodes* of [`EPISODE`] packets. Each begins with a world of its own (VIPs, services,
//! slots in all phases, members in all states, notes of other lives; on some themes also tunnels, candidates, QUIC
//! server ids, source lists, limits) and empty maps, and is made of one seed: the run's and its own number. So any packet can be had again by replaying its episode alone. Within an
//! episode flows and datagrams are used again and again, and the world changes between packets.
//!
//! [`Fault`]s are planted behind the model's back, to show that a difference is found where there is one.

mod admission;
mod bench;
mod change;
mod compare;
mod dice;
mod entries;
mod fault;
mod mutation;
mod quic;
mod run;
mod scene;
mod traffic;

pub use fault::Fault;
pub use run::{EPISODE, Progress, Request, Summary, reachable, run};
