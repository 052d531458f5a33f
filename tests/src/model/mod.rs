//! A reference model of the data plane: what has to become of a packet, by the rules as they are written down
//! and not by the program's code.
//!
//! It parses with etherparse, keeps VIPs, slots, notes and fragments in plain maps, and says of each frame the
//! action, every byte afterwards, every counter and whom it was sent to. It is slow and simple on purpose. It
//! shares with the program what is data (phases, counters' names, members) and nothing that decides: not the
//! parser, not the steering rule, not the hash. It knows no clock: whoever compares it with the program keeps
//! lifetimes away from their ends, or makes notes that are past them.

mod answer;
mod arp;
mod fragment;
mod icmp;
mod ip;
mod link;
mod neighbour;
mod notes;
mod quote;
mod steering;
mod transport;
mod verdict;
mod world;

pub use fragment::Datagram;
pub use notes::{Age, FlowId, Held, Key, Notes, Written};
pub use verdict::{Expected, Fate, Sent};
pub use world::{Backend, Policy, Service, State, Table, Tracking, VipAddress, World};
